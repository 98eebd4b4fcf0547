"""Stamps of stars whose effective PSF is known, for tests and benchmarks."""

import dataclasses
import functools

import numpy as np
from scipy import ndimage

from psflib.simulation import telescopes

FINE = 15  # samples a pixel of the grid from which a truth is interpolated
REACH = 44  # px, half the side of that grid; beyond it the PSF counts as 0
SPLINE_ORDER = 5
CELL = np.array([-17, 308, 5178, 308, -17]) / 5760  # samples -> means over cells, fourth order
NEIGHBOUR_DISTANCE = (4.0, 9.0)  # px
NEIGHBOUR_SHARE = (0.01, 0.3)  # of the star's flux
COSMIC_CHARGE = (3e2, 2e4)  # e-, in each pixel of a track
COSMIC_LENGTH = 4  # px, the longest track


def moffat(x, y, beta=3.0):
    """Unit Moffat profile of FWHM 1 (Moffat 1969, A&A 3, 455)."""
    radius2 = 0.25 / (2 ** (1 / beta) - 1)
    return (beta - 1) / (np.pi * radius2) * (1 + (x * x + y * y) / radius2) ** -beta


def gaussian(x, y, sigma=0.424661):
    """Unit Gaussian, by default of FWHM 1."""
    return np.exp(-(x * x + y * y) / (2 * sigma**2)) / (2 * np.pi * sigma**2)


def ring(x, y, width=1 / 4.628):
    """Unit r² exp(-r²/2w²); the diameter at half maximum, outside, is 4.628 w."""
    r2 = x * x + y * y
    return r2 * np.exp(-r2 / (2 * width**2)) / (4 * np.pi * width**4)


def wing(x, y, radius=1.0):
    """Unit (1 + r²/a²)^-5/4, which falls as r^-2.5."""
    return 0.25 / (np.pi * radius**2) * (1 + (x * x + y * y) / radius**2) ** -1.25


def spike(x, y, angle, width=0.35, length=1.5):
    """Unit pair of opposite spikes: Gaussian across, Lorentzian along."""
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    profile = np.exp(-0.5 * (across / width) ** 2) / (np.sqrt(2 * np.pi) * width)
    return profile / (np.pi * length * (1 + (along / length) ** 2))


def _bench(x, y):
    """The bench: core, lopsided blob, power-law wing and two pairs of spikes."""
    blob = gaussian(x - 0.45, y + 0.25, 0.35)
    spikes = spike(x, y, 0.7) + spike(x, y, 0.7 + np.pi / 2)
    return 0.86 * moffat(x, y) + 0.06 * blob + 0.06 * wing(x, y) + 0.01 * spikes


def _donut(x, y):
    return 0.9 * ring(x, y) + 0.1 * gaussian(x, y)


# Profile in units of the FWHM and its shear: (1 - q)/(1 + q) for the axis ratio q.
FAMILIES = {
    "bench": (_bench, 0.031),
    "moffat": (moffat, 0.0),
    "gaussian": (gaussian, 0.0),
    "donut": (_donut, 0.0),
    "elongated": (moffat, 1 / 3),
    "hst": (telescopes.hst, 0.0),
    "jwst": (telescopes.jwst, 0.0),
}
FAMILY_ANGLE = 0.5  # rad, major axis from +x


@dataclasses.dataclass(frozen=True)
class EpsfTruth:
    """An effective PSF of unit volume: a point-spread function integrated over the pixel.

    Parameters
    ----------
    family : {"bench", "moffat", "gaussian", "donut", "elongated", "hst", "jwst"}
        "bench" is a Moffat core (beta 3, ellipticity 6 %) with a lopsided blob, a wing ~ r^-2.5
        and two pairs of spikes; "elongated" a Moffat of axis ratio 1/2; for "hst" and "jwst" see
        `psflib.simulation.telescopes`.
    fwhm : float
        Of the core before the integration over the pixel, px; of a donut the diameter at half
        maximum; the geometric mean of both axes.
    g1, g2 : float
        Shear besides that of the family; (major - minor)/(major + minor) = √(g1² + g2²).
    """

    family: str = "bench"
    fwhm: float = 3.0
    g1: float = 0.0
    g2: float = 0.0

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise ValueError(f"family must be one of {sorted(FAMILIES)}; got {self.family!r}")
        if not self.fwhm > 0:
            raise ValueError(f"fwhm must be > 0; got {self.fwhm}")

    def point(self, dy, dx):
        """The PSF itself at offsets dy, dx (px), per px²."""
        profile, shear = FAMILIES[self.family]
        g1 = self.g1 + shear * np.cos(2 * FAMILY_ANGLE)
        g2 = self.g2 + shear * np.sin(2 * FAMILY_ANGLE)
        unit = self.fwhm * np.sqrt(1 - g1 * g1 - g2 * g2)
        x, y = ((1 - g1) * dx - g2 * dy) / unit, ((1 + g1) * dy - g2 * dx) / unit
        return profile(x, y) / self.fwhm**2

    def at(self, dy, dx, x=0.0, y=0.0):
        """The effective PSF at offsets `dy`, `dx` (px, arrays of one shape), anywhere in the field.

        Means over 15 x 15 samples a pixel, corrected to fourth order and joined by a quintic
        spline: right to 1e-6 of the peak.
        """
        rows, cols = np.broadcast_arrays(np.asarray(dy, float), np.asarray(dx, float))
        index = [FINE * (REACH + a.ravel()) for a in (rows, cols)]
        values = ndimage.map_coordinates(
            _spline(self), index, order=SPLINE_ORDER, prefilter=False, mode="constant"
        )
        return values.reshape(rows.shape)

    def integrate(self, dy, dx, order=8, far=3):
        """The same by Gauss-Legendre quadrature, `far` nodes an axis beyond 2.5 FWHM + 1 px."""
        rows, cols = np.broadcast_arrays(np.asarray(dy, float), np.asarray(dx, float))
        near = np.hypot(rows, cols) < 2.5 * self.fwhm + 1
        out = np.empty(rows.shape)
        for where, number in ((near, order), (~near, far)):
            node, weight = np.polynomial.legendre.leggauss(number)
            a, b = rows[where][:, None, None], cols[where][:, None, None]
            values = self.point(a + node[:, None] / 2, b + node / 2)
            out[where] = np.einsum("nij,i,j->n", values, weight / 2, weight / 2)
        return out

    def epsf(self, size, oversample, x=0.0, y=0.0):
        """Values at the nodes of an oversampled model of stamps of side `size`.

        Returns
        -------
        ndarray (os·s, os·s) float64
            Node k lies at (k - (os·s - 1)/2)/os px; the sum is os² times the flux in the stamp.
        """
        node = node_offsets(size, oversample)
        return self.at(node[:, None], node[None, :], x, y)


@dataclasses.dataclass(frozen=True)
class FieldTruth:
    """A truth whose FWHM and shear vary linearly over the field.

    Parameters
    ----------
    base : EpsfTruth
        At the centre.
    shape : (ny, nx)
        Of the field.
    fwhm : float
        Relative change of the FWHM from the centre to the right edge.
    shear : float
        Change of g1 from the centre to the right edge, and of g2 to the upper edge.
    """

    base: EpsfTruth = EpsfTruth()
    shape: tuple[int, int] = (2048, 2048)
    fwhm: float = 0.0
    shear: float = 0.05

    def place(self, x, y):
        """The truth at one place (px) as an `EpsfTruth`."""
        u, v = 2 * x / (self.shape[1] - 1) - 1, 2 * y / (self.shape[0] - 1) - 1
        base = self.base
        return EpsfTruth(
            base.family, base.fwhm * (1 + self.fwhm * u),
            base.g1 + self.shear * u, base.g2 + self.shear * v,
        )  # fmt: skip

    def at(self, dy, dx, x, y):
        """The effective PSF of place (x, y) at offsets `dy`, `dx` (px)."""
        return self.place(x, y).integrate(dy, dx)

    def epsf(self, size, oversample, x, y):
        """Values at the nodes of an oversampled model (`EpsfTruth.epsf`) at place (x, y)."""
        node = node_offsets(size, oversample)
        return self.at(node[:, None], node[None, :], x, y)


@dataclasses.dataclass(frozen=True, eq=False)
class StarStamps:
    """Stamps of n stars of known truth.

    Parameters
    ----------
    data : ndarray (n, s, s)
        Electrons.
    weight : ndarray (n, s, s)
        1/(star + sky + read_noise²), which knows nothing of cosmic rays and neighbours.
    delta, delta_init : ndarray (n, 2) float64
        True and measured offset (row, col) from the centre pixel, px.
    flux, sky : ndarray (n,) float64
        Electrons, and electrons a pixel.
    x, y : ndarray (n,) float64
        Place in the field, px.
    """

    data: np.ndarray
    weight: np.ndarray
    delta: np.ndarray
    delta_init: np.ndarray
    flux: np.ndarray
    sky: np.ndarray
    x: np.ndarray
    y: np.ndarray


def simulate_stamps(
    truth, n, size=25, *, seed, flux=(5e3, 5e5), sky=100.0, sky_spread=0.0, read_noise=5.0,
    delta_error=0.05, phase=None, cosmics=0.3, neighbours=0.1, clean=False, dtype=np.float64,
):  # fmt: skip
    """Simulate stamps of stars.

    Parameters
    ----------
    truth : EpsfTruth or FieldTruth
    n, size : int
        Number of stars and side of the stamps, px.
    seed : int
    flux : (low, high) or ndarray (n,)
        Range of the log-uniform fluxes, e-; low = high for equal stars; or the flux of each.
    sky, sky_spread : float
        Sky in e- a pixel, and the half width of its uniform relative scatter between stars.
    read_noise : float
        e-.
    delta_error : float
        Standard error of `delta_init`, px.
    phase : (row, col), optional
        One true offset for all stars; by default uniform over the pixel.
    cosmics, neighbours : float
        Mean number of cosmic rays a stamp; fraction of stamps with a neighbour of 1 to 30 % of the
        flux, 4 to 9 px away.  None of them is masked.
    clean : bool
        No cosmic rays and no neighbours.
    dtype : dtype
        Of `data` and `weight`.

    Returns
    -------
    StarStamps
    """
    rng = np.random.default_rng(seed)
    fluxes = _log_uniform(rng, flux, n) if len(flux) == 2 else np.array(flux, float)
    delta = (
        rng.uniform(-0.5, 0.5, (n, 2)) if phase is None else np.tile(np.array(phase, float), (n, 1))
    )
    skies = sky * (1 + sky_spread * rng.uniform(-1, 1, n))
    height, width = getattr(truth, "shape", (1, 1))
    x, y = rng.uniform(0, width - 1, n), rng.uniform(0, height - 1, n)
    data, weight = np.empty((n, size, size), dtype), np.empty((n, size, size), dtype)
    for k in range(n):
        star = fluxes[k] * _stamp(truth, size, delta[k], x[k], y[k])
        variance = star + skies[k] + read_noise**2
        weight[k] = 1 / variance
        light = star + skies[k]
        if not clean and rng.uniform() < neighbours:
            light += _neighbour(truth, size, delta[k], fluxes[k], x[k], y[k], rng)
        noise = np.sqrt(light + read_noise**2) * rng.normal(size=(size, size))
        data[k] = light + noise
        if not clean:
            _add_cosmics(data[k], rng.poisson(cosmics), rng)
    delta_init = delta + rng.normal(0, delta_error, delta.shape)
    return StarStamps(data, weight, delta, delta_init, fluxes, skies, x, y)


def node_offsets(size, oversample):
    """Offsets (os·s,) of the nodes of an oversampled model from its centre, px."""
    side = size * oversample
    return (np.arange(side) - (side - 1) / 2) / oversample


@functools.lru_cache(maxsize=8)
def _spline(truth):
    """Spline coefficients of the effective PSF on the fine grid."""
    axis = np.arange(-FINE * REACH, FINE * REACH + 1) / FINE
    fine = truth.point(axis[:, None], axis[None, :])
    pixel = np.convolve(np.full(FINE, 1 / FINE), CELL)
    for k in (0, 1):
        fine = ndimage.correlate1d(fine, pixel, axis=k, mode="nearest")
    return ndimage.spline_filter(fine, SPLINE_ORDER)


def _log_uniform(rng, limits, n):
    return limits[0] * (limits[1] / limits[0]) ** rng.uniform(size=n)


def _stamp(truth, size, delta, x, y):
    pixel = np.arange(size) - (size - 1) / 2
    return truth.at(pixel[:, None] - delta[0], pixel[None, :] - delta[1], x, y)


def _neighbour(truth, size, delta, flux, x, y, rng):
    """Stamp (s, s) of one neighbour, e-."""
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(*NEIGHBOUR_DISTANCE)
    share = _log_uniform(rng, NEIGHBOUR_SHARE, None)
    offset = delta + distance * np.array([np.sin(angle), np.cos(angle)])
    return share * flux * _stamp(truth, size, offset, x, y)


def _add_cosmics(stamp, number, rng):
    """Add straight tracks of cosmic rays to a stamp, in place."""
    size = len(stamp)
    for _ in range(number):
        row, col = rng.uniform(0, size, 2)
        angle, length = rng.uniform(0, 2 * np.pi), rng.integers(1, COSMIC_LENGTH + 1)
        charge = _log_uniform(rng, COSMIC_CHARGE, length)
        for step in range(length):
            i = int(row + step * np.sin(angle))
            j = int(col + step * np.cos(angle))
            if 0 <= i < size and 0 <= j < size:
                stamp[i, j] += charge[step]
