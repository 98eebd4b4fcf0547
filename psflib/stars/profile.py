"""Mean profile of an image's stars: a smooth guess of what a star's light should be.

Good to some 10 %, which is enough to say how large the photon noise is and how far a neighbour
reaches.  The profile runs along elliptical radii; its values are medians over many stars, so that
no pixel's own noise is in it.
"""

import dataclasses
import itertools

import numpy as np

from psflib.loops.lines import stamp_medians

FALL = 3.0  # power of the radius with which it falls beyond its last value
STEP = 0.1  # FWHM, between its values
FEWEST = 12  # pixels behind each value
ROUNDS = 3  # of profile and fluxes in turn
TINY = 1e-6  # of the brightest star: no light
ALIKE = 8  # stars that can show what the profile lacks
MODEL_ERROR = 0.2  # of the profile, relative, where there are fewer; a tenth of it where not


@dataclasses.dataclass(frozen=True, eq=False)
class StarProfile:
    """Light of a star of unit flux.

    Parameters
    ----------
    radius, value : ndarray (m,) float64
        px; flux per px², falling.
    shape : (float, float, float)
        Weights of dy², dy·dx and dx² in the square of the elliptical radius.
    """

    radius: np.ndarray
    value: np.ndarray
    shape: tuple[float, float, float] = (1.0, 0.0, 1.0)

    def at(self, dy, dx) -> np.ndarray:
        """Values at offsets in px; arrays broadcast."""
        return self.at_radius(elliptical_radius(self.shape, dy, dx))

    def at_radius(self, r) -> np.ndarray:
        """Values at elliptical radii, px."""
        last = self.radius[-1]
        beyond = (last / np.maximum(r, last)) ** FALL
        return np.interp(r, self.radius, self.value) * beyond


def elliptical_radius(shape, dy, dx):
    """Radius, px, of offsets under `StarProfile.shape`."""
    yy, yx, xx = shape
    return np.sqrt(np.maximum(yy * dy**2 + yx * dy * dx + xx * dx**2, 0.0))


def offsets(delta, size):
    """dy (n, s, 1) and dx (n, 1, s) of every pixel of a stamp from its star."""
    axis = np.arange(size) - size // 2
    return axis[None, :, None] - delta[:, 0, None, None], axis[None, None, :] - delta[
        :, 1, None, None
    ]


def fit_profile(data, good, delta, fwhm):
    """Profile of these stars, and the flux and sky of each.

    Parameters
    ----------
    data : ndarray (n, s, s)
        Free of sky.
    good : ndarray (n, s, s) bool
    delta : ndarray (n, 2)
        Offset (row, col) of each star from the centre pixel, px.
    fwhm : float
        px.

    Returns
    -------
    profile : StarProfile
    flux, sky : ndarray (n,) float64
        The sky is the median of what is left away from the star.
    light : ndarray (n, s, s) float64
        The profile at each pixel.
    """
    dy, dx = offsets(np.asarray(delta, float), data.shape[1])
    data = np.where(good, data, 0.0)
    sigma = fwhm / 2.3548
    gaussian = np.exp(-0.5 * (dy**2 + dx**2) / sigma**2) / (2 * np.pi * sigma**2)
    near = good & (np.hypot(dy, dx) <= 1.5 * fwhm)
    flux = _scale(data, gaussian, near)
    bright = np.flatnonzero(brighter_half(flux))
    if not bright.size:  # no light at all: the profile is not needed
        profile = _gaussian_profile(sigma)
        return profile, np.zeros(len(data)), np.zeros(len(data)), profile.at(dy, dx)
    shape = _shape(data[bright], good[bright], dy[bright], dx[bright], 1.5 * sigma)
    r = elliptical_radius(shape, dy, dx)
    rings = _Rings(r[bright], good[bright], STEP * fwhm)
    for _ in range(ROUNDS):
        # The sky is gone already; one fitted here would take the wings of bright stars with it.
        norm = np.maximum(flux[bright], TINY * flux.max())[:, None, None]
        ratio = data[bright] / np.where(norm > 0, norm, 1.0)
        profile = rings.profile(ratio, shape)
        light = profile.at_radius(r)
        flux = np.maximum(_scale(data, light, near), 0.0)
    sky = masked_medians(data - flux[:, None, None] * light, good & ~near)
    return profile, flux, np.nan_to_num(sky), light


def masked_medians(values, use):
    """Median of the values (n, s, s) that are of use in each stamp, (n,); NaN without any."""
    out = np.empty(len(values))
    stamp_medians(values, use, out)
    return out


def brighter_half(flux):
    """Stars (n,) bool at least as bright as the median, with any light."""
    return (flux >= np.median(flux)) & (flux > TINY * flux.max())


def _gaussian_profile(sigma):
    radius = np.linspace(0, 5, 50) * sigma
    return StarProfile(radius, np.exp(-0.5 * (radius / sigma) ** 2) / (2 * np.pi * sigma**2))


def _scale(data, light, near):
    """Fluxes from the pixels near the stars."""
    use = np.where(near, light, 0.0)
    norm = np.maximum((use * light).sum(axis=(1, 2)), 1e-300)
    return (use * data).sum(axis=(1, 2)) / norm


def _shape(data, good, dy, dx, sigma):
    """Elliptical radius from the median second moments under a Gaussian window.

    The window's part is taken out as between two Gaussians: C⁻¹ = M⁻¹ - W⁻¹.
    """
    weight = np.where(good, data, 0.0) * np.exp(-0.5 * (dy**2 + dx**2) / sigma**2)
    total = weight.sum(axis=(1, 2))
    weight = weight[total > 0] / total[total > 0, None, None]
    if not len(weight):
        return 1.0, 0.0, 1.0
    dy, dx = dy[total > 0], dx[total > 0]
    yy, yx, xx = (np.median((weight * d).sum(axis=(1, 2))) for d in (dy**2, dy * dx, dx**2))
    det = yy * xx - yx**2
    if not (det > 0 and yy > 0):
        return 1.0, 0.0, 1.0
    a, b, c = xx / det - sigma**-2, -yx / det, yy / det - sigma**-2
    if not (a > 0 and a * c > b**2):
        return 1.0, 0.0, 1.0
    unit = np.sqrt(a * c - b**2)
    return float(a / unit), float(2 * b / unit), float(c / unit)


class _Rings:
    """Rings of at least `step` px and `FEWEST` of the good pixels, whose medians make a profile."""

    def __init__(self, r, good, step):
        self._good = good
        r = r[good]
        self._order = np.argsort(r)
        self._r = r = r[self._order]
        self._bounds = [0]
        while self._bounds[-1] < len(r):
            start = self._bounds[-1]
            stop = max(np.searchsorted(r, r[start] + step), start + FEWEST)
            self._bounds.append(len(r) if len(r) - stop < FEWEST else stop)
        self._radius = np.array([np.median(r[ring]) for ring in self._slices()])

    def _slices(self):
        return [slice(*pair) for pair in itertools.pairwise(self._bounds)]

    def profile(self, ratio, shape) -> StarProfile:
        """Of stars of unit flux: medians of the rings, falling, of unit sum."""
        if not len(self._radius):
            return StarProfile(np.ones(1), np.ones(1), shape)
        ratio = ratio[self._good][self._order]
        values = [np.median(ratio[ring]) for ring in self._slices()]
        value = np.minimum.accumulate(np.maximum(values, 0.0))
        edges = np.concatenate([[0.0], (self._radius[1:] + self._radius[:-1]) / 2, [self._r[-1]]])
        total = np.pi * (value * np.diff(edges**2)).sum()
        return StarProfile(self._radius, value / total if total > 0 else value, shape)


def common_residual(rest, flux, light):
    """What the brighter stars have in common beyond the profile, and their scatter.

    Both per unit flux, at native pixels; masked pixels are to be 0.  Lopsided light and spikes
    belong to the PSF, for they stand at the same place in every star.

    Parameters
    ----------
    rest, light : ndarray (n, s, s)
        Data without the star and its sky; the profile of unit flux.
    flux : ndarray (n,)

    Returns
    -------
    usual, spread : ndarray, broadcast to (n, s, s)
    """
    bright = brighter_half(flux)
    if np.count_nonzero(bright) < ALIKE:
        return np.zeros(rest.shape[1:]), MODEL_ERROR * light
    ratio = rest[bright] / flux[bright, None, None]
    usual = np.median(ratio, axis=0)
    spread = 1.4826 * np.median(np.abs(ratio - usual), axis=0)
    return usual, np.hypot(spread, 0.1 * MODEL_ERROR * light)
