"""Stamps of bright, saturated stars whose wings are known, for tests and benchmarks."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from psflib.psf.wings.sky import tukey_mean
from psflib.psf.wings.stars import sources_in
from psflib.simulation.star_stamps import gaussian, moffat, node_offsets, spike, wing

SATURATION = 6e4  # e-
WING = 0.17  # of the light
BREAK_RADIUS = 60.0  # px
GHOST_RADIUS = 70.0  # px
NEAR = 12.0  # px; farther out the PSF is smooth on the scale of a pixel


def _break(r):
    """1 within 60 px, then a slope steeper by one."""
    return np.minimum(1.0, (np.maximum(r, 1.0) / BREAK_RADIUS) ** -1.0)


def _aureole(r):
    """A flatter slope beyond 30 px: r^-2.0 instead of r^-2.5."""
    return (1 + (r / 30.0) ** 2) ** 0.25


def _ghost(r):
    """A flat disc, as bright as the wing at its rim, that ends within 2 px."""
    level = 0.5 * (GHOST_RADIUS / np.maximum(r, 3.0)) ** -2.5
    return 1 + level / (1 + np.exp(np.minimum((r - GHOST_RADIUS) / 0.5, 50.0)))


#: Factor on the wing at radius r (px); the benchmark's own first, then the held-out ones.
WINGS: dict[str, Callable] = {
    "bench": np.ones_like,
    "break": _break,
    "aureole": _aureole,
    "ghost": _ghost,
}


@dataclasses.dataclass(frozen=True)
class WingTruth:
    """An effective PSF out to hundreds of pixels.

    A Moffat core (beta 3), a lopsided blob, two pairs of spikes (1 px wide) and a wing that
    falls as r^-2.5 and holds 17 % of the light: 4e-7 of it per pixel at 85 px.

    Parameters
    ----------
    family : {"bench", "break", "aureole", "ghost"}
        Wing: the power law; steeper by one beyond 60 px; r^-2 beyond 30 px; with a flat disc of
        70 px on top.
    fwhm : float
        Of the core, px.
    """

    family: str = "bench"
    fwhm: float = 3.0

    def point(self, dy, dx):
        """The PSF itself at offsets dy, dx (px), per px²."""
        x, y = dx / self.fwhm, dy / self.fwhm
        blob = gaussian(x - 0.45, y + 0.25, 0.35)
        spikes = spike(x, y, 0.7) + spike(x, y, 0.7 + np.pi / 2)
        halo = WINGS[self.family](np.hypot(dx, dy)) * wing(x, y)
        light = (0.98 - 0.06 - WING) * moffat(x, y) + 0.06 * blob + WING * halo + 0.01 * spikes
        return light / self.fwhm**2

    def at(self, dy, dx, x=0.0, y=0.0):
        """The effective PSF at offsets (px), anywhere in the field.

        Gauss-Legendre, 6 nodes an axis near, 2 far out.
        """
        rows, cols = np.broadcast_arrays(np.asarray(dy, float), np.asarray(dx, float))
        near = np.hypot(rows, cols) < NEAR
        out = np.empty(rows.shape)
        for where, number in ((near, 6), (~near, 2)):
            node, weight = np.polynomial.legendre.leggauss(number)
            a, b = rows[where], cols[where]
            total = np.zeros(a.shape)
            for u, wu in zip(node / 2, weight / 2, strict=True):
                for v, wv in zip(node / 2, weight / 2, strict=True):
                    total += wu * wv * self.point(a + u, b + v)
            out[where] = total
        return out

    def epsf(self, size, oversample):
        """Values at the nodes of an oversampled core (os·s, os·s)."""
        node = node_offsets(size, oversample)
        return self.at(node[:, None], node[None, :])

    def plane(self, size):
        """The effective PSF (size, size) of a star in the middle of its pixel."""
        return _plane(self, size)


@functools.lru_cache(maxsize=8)
def _plane(truth, size):
    axis = np.arange(size) - size // 2
    plane = truth.at(axis[:, None], axis[None, :])
    plane.setflags(write=False)
    return plane


@dataclasses.dataclass(frozen=True, eq=False)
class WingStamps:
    """Stamps of m bright stars.

    Parameters
    ----------
    data, weight : ndarray (m, s, s) float32
        Electrons; 1/(star + sky + read noise²), 0 in bad, saturated and masked pixels.
    delta, delta_init : ndarray (m, 2) float64
        True and measured offset (row, col), px.
    flux, sky : ndarray (m,) float64
        Electrons; level at the centre.
    outside_sky : ndarray (m,) float64
        What a sky measured outside the haloes says, with an error of `outside_error`; the
        neighbours' diffuse light is in it as in the stamps.
    outside_error : float
    """

    data: np.ndarray
    weight: np.ndarray
    delta: np.ndarray
    delta_init: np.ndarray
    flux: np.ndarray
    sky: np.ndarray
    outside_sky: np.ndarray
    outside_error: float


def simulate_wings(
    truth, m, size=201, *, seed, flux=(1e6, 1e8), sky=100.0, sky_spread=0.2, gradient=0.02,
    read_noise=5.0, neighbours=25, masked=0.6, bad=0.01, delta_error=0.2, outside_error=0.5,
):  # fmt: skip
    """Simulate stamps of bright stars.

    Parameters
    ----------
    truth : WingTruth
    m, size : int
    seed : int
    flux : (low, high)
        Log-uniform, e-.
    sky, sky_spread : float
        e- a pixel, and the half width of its uniform relative scatter between stars.
    gradient : float
        rms of the sky's relative slope, per 100 px, along each axis.
    read_noise : float
        e-.
    neighbours : float
        Mean number in 201 x 201 px, of 1e3 to 1e5 e- (log-uniform).
    masked : float
        Share of the neighbours with a mask of 5 px.
    bad : float
        Share of bad pixels.
    delta_error, outside_error : float
        px, and e-.

    Returns
    -------
    WingStamps
        The weights know nothing of the neighbours.
    """
    rng = np.random.default_rng(seed)
    fluxes = flux[0] * (flux[1] / flux[0]) ** rng.uniform(size=m)
    delta = rng.uniform(-0.5, 0.5, (m, 2))
    skies = sky * (1 + sky_spread * rng.uniform(-1, 1, m))
    data, weight = np.empty((2, m, size, size), np.float32)
    axis = np.arange(size) - size // 2
    for k in range(m):
        slope = sky * gradient / 100 * rng.normal(size=2)
        star = fluxes[k] * truth.at(axis[:, None] - delta[k, 0], axis[None, :] - delta[k, 1])
        smooth = star + skies[k] + slope[0] * axis[:, None] + slope[1] * axis
        others, hidden = _neighbours(truth, size, neighbours, masked, rng)
        light = smooth + others
        data[k] = light + np.sqrt(light + read_noise**2) * rng.normal(size=light.shape)
        lost = hidden | (data[k] > SATURATION) | (rng.uniform(size=light.shape) < bad)
        weight[k] = np.where(lost, 0, 1 / (smooth + read_noise**2))
    blank = _blank_level(truth, sky, read_noise, neighbours, masked, rng)
    outside = skies + blank - sky + rng.normal(0, outside_error, m)
    measured = delta + rng.normal(0, delta_error, delta.shape)
    return WingStamps(data, weight, delta, measured, fluxes, skies, outside, outside_error)


def _blank_level(truth, sky, read_noise, neighbours, masked, rng):
    """Sky that is measured where no bright star is: it holds the neighbours' diffuse light, too."""
    size = 401
    others, hidden = _neighbours(truth, size, neighbours, masked, rng)
    light = sky + others
    data = light + np.sqrt(light + read_noise**2) * rng.normal(size=light.shape)
    weight = np.where(hidden, 0, 1 / (sky + read_noise**2)).astype(np.float32)
    use = (weight > 0) & ~sources_in((data - sky).astype(np.float32), weight, 1.1 * truth.fwhm)
    return tukey_mean(data[use], weight[use])[0]


def _neighbours(truth, size, mean, masked, rng):
    """Light (s, s) of other stars, e-, and the pixels of those that are masked."""
    light, hidden = np.zeros((size, size)), np.zeros((size, size), bool)
    axis = np.arange(size)
    number = rng.poisson(mean * (size / 201) ** 2)
    for y, x in rng.uniform(0, size, (number, 2)):
        box = tuple(slice(max(int(c) - 20, 0), int(c) + 21) for c in (y, x))
        dy, dx = axis[box[0], None] - y, axis[None, box[1]] - x
        light[box] += 1e3 * 100 ** rng.uniform() * truth.at(dy, dx)
        if rng.uniform() < masked:
            hidden[box] |= np.hypot(dy, dx) < 5
    return light, hidden
