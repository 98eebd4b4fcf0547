"""First guess of an ePSF and its stars, from the stamps alone."""

import warnings

import numpy as np
from scipy.ndimage import maximum_filter, spline_filter, zoom
from scipy.special import erf

from psflib.loops.starfit import CATMULL_ROM, fit_stars, render_stars
from psflib.psf.core.state import FIRST_ERROR, State

TEMPLATE_STARS = 300
TEMPLATE_ROUNDS = 3
CHUNK = 256  # stars at a time where copies are needed
MAD_TO_SIGMA = 1.4826
WRONG = 4.0  # factor within which given standard deviations are believed at the start
OUTLIER = 5.0  # sigma above the median star
UNDERSAMPLED = 2.6  # px of FWHM (2.52 are five pixels): below, its phase decides a star's look
WIDTHS = np.geomspace(0.5, 2.0, 9)  # px of FWHM, of the profiles that are tried there
HALOES = 0.0, 0.1, 0.25  # shares of their second Gaussian
HALO_WIDTH = 2.5  # over the first
RINGS = 0.03  # of the peak, that such a profile knows nothing of
NARROW_STARS = 60
NARROW_STEPS = 8
MOST_LOST = 0.25  # of the cores' pixels, by the median star
FEWEST_NARROW = 10  # stars
HOT = 12.0  # times the third of the pixels: no star of any phase is so sharp


def start(data, weight, delta, oversample, psi=None):
    """First `State`: border median, aperture flux, and the median of the normalised stars.

    Offsets do not enter the median; they enter the first solution of the model.  Pixels that
    stand out from it get no weight in that solution.
    """
    n, size, _ = data.shape
    use = np.isfinite(data) & np.isfinite(weight) & (weight > 0)
    if not use.all():
        data, weight = np.where(use, data, 0), np.where(use, weight, 0)
    ring = border(size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a median of nothing is NaN: not ok
        edge = np.where(use[:, ring], data[:, ring], np.nan).astype(float)
        background = np.nan_to_num(np.nanmedian(edge, axis=1))
        noise = noise_scale(edge - background[:, None], weight[:, ring])
        axis = np.arange(size) - size // 2
        near = np.hypot(axis[:, None], axis) <= size / 4
        flux = np.sum(data[:, near] - background[:, None] * use[:, near], axis=1, dtype=float)
        some = np.argsort(-flux)[:TEMPLATE_STARS]
        some = some[flux[some] > 0]
        values = np.where(use[some], data[some] - background[some, None, None], np.nan)
        template = median_star(values, weight[some] / noise**2, flux[some])
    aperture = flux.copy()
    first = np.zeros(data.shape, np.float32)
    for part in np.array_split(np.arange(n), n // CHUNK + 1):
        above = np.where(use[part], data[part] - background[part, None, None], np.nan)
        flux[part], first[part] = under(template, above, weight[part] / noise**2, flux[part])
    ok = (flux > 0) & (np.abs(delta) <= 1).all(axis=1)
    first[~ok] = 0.0
    middle = slice(size // 2 - 1, size // 2 + 2)
    lost = np.mean(first[:, middle, middle] == 0) if len(data) else 0.0
    width = 2 * np.sqrt(np.count_nonzero(template > 0.5 * template.max()) / np.pi)
    if psi is not None and not (np.isfinite(psi).all() and psi.sum() > 0):
        psi = None
    if psi is None and width < UNDERSAMPLED and lost > MOST_LOST and len(data) >= FEWEST_NARROW:
        # The median star spoils the fluxes too.
        ok = (aperture > 0) & (np.abs(delta) <= 1).all(axis=1)
        narrow = Narrow(oversample, size)
        some = some[ok[some]]
        given = np.where(ok[:, None], delta, 0.0)
        moved = narrow.fit(data, weight / noise**2, given, aperture, background, some, ok)
        narrow.ok &= ok
        delta = np.where(narrow.ok[:, None], moved, delta)
        psi, first = narrow.psi, narrow.weight
        flux, background = narrow.flux, narrow.background
        ok = narrow.ok
    if psi is None:
        psi = zoom(template, oversample, order=1, grid_mode=True, mode="nearest")
        psi = np.maximum(psi, 1e-6 * psi.max())
    coef = spline_filter(psi, order=3, mode="nearest")[None]
    return State(
        data, weight, oversample, coef, np.ones((n, 1)), delta.copy(),
        np.where(ok, flux, np.nan), np.where(ok, background, np.nan), ok, first, noise=noise,
    )  # fmt: skip


class Narrow:
    """First model, stars and weights where the median of unshifted stars says nothing.

    Two Gaussians integrated over the pixel, of the width that leaves least of the bright stars.
    """

    def __init__(self, oversample, size):
        self.oversample, self.size = oversample, size

    def fit(self, data, weight, delta, flux, background, bright, ok):
        """Offsets (n, 2) of all stars; `psi`, `flux`, `background`, `weight` and `ok` are kept."""
        bright = bright[:NARROW_STARS]
        # The third of the pixels is no hot one, and half the peak or less.
        third = np.partition(data.reshape(len(data), -1), -3, axis=1)[:, -3] - background
        third = np.clip(third, 0, None)[:, None, None]
        above = data - background[:, None, None]
        weight = np.where(above > HOT * third, 0, weight)
        above = np.where(weight > 0, np.clip(above, 0, None), 0)
        near = np.array([maximum_filter(star, 3) for star in above])
        # The core tells the width: diffraction rings are no Gaussian's wing.
        error = np.hypot(FIRST_ERROR * near, 2 * RINGS * third)
        trust = np.where(weight > 0, 1 / (1 / np.where(weight > 0, weight, 1) + error**2), 0)
        stars = data, trust, delta, flux, background, ok
        some = [np.ascontiguousarray(a[bright]) for a in stars]
        profiles = [self.profile(width, halo) for width in WIDTHS for halo in HALOES]
        left = [np.median(self._fitted(psi, *some)[1]) for psi in profiles]
        self.psi = profiles[int(np.argmin(left))]
        fits, _ = self._fitted(self.psi, *stars)
        moved, self.flux, self.background, self.ok = fits
        self.ok &= (np.nan_to_num(self.flux) > 0) & (np.abs(moved) <= 1.5).all(axis=1)
        moved[~self.ok] = delta[~self.ok]
        model = np.empty(data.shape)
        render_stars(
            self.psi[None], np.ones((len(data), 1)), CATMULL_ROM, self.oversample,
            np.where(self.ok, self.flux, 0), np.where(self.ok, self.background, 0), moved, model,
        )  # fmt: skip
        room = OUTLIER / np.sqrt(np.where(trust > 0, trust, 1))
        self.weight = np.where(self.ok[:, None, None] & (data - model < room), trust, 0)
        self.weight = self.weight.astype(np.float32)
        return moved

    def profile(self, fwhm, halo):
        """ePSF at the nodes, of volume os²."""
        node = (np.arange(self.size * self.oversample) + 0.5) / self.oversample - self.size / 2
        psi = 0.0
        for share, width in ((1 - halo, fwhm), (halo, HALO_WIDTH * fwhm)):
            sigma = width / 2.3548
            edge = (erf((node + s) / (np.sqrt(2) * sigma)) for s in (0.5, -0.5))
            line = 0.5 * np.subtract(*edge)
            psi = psi + share * np.outer(line, line)
        return psi

    def _fitted(self, psi, data, weight, delta, flux, background, ok):
        """(offsets, flux, background, ok) of stars under a profile, and their misfit."""
        found = delta.copy(), flux.copy(), background.copy(), ok.copy()
        covariance, left = np.empty((len(data), 4, 4)), np.empty(len(data))
        fit_stars(
            psi[None], np.ones((len(data), 1)), CATMULL_ROM, self.oversample, data, weight,
            *found[:3], covariance, left, found[3], NARROW_STEPS, 1e-3, 0.3,
        )  # fmt: skip
        return found, np.where(found[3], left, np.inf)  # not fitted: not told


def noise_scale(edge, weight):
    """Scale of the given standard deviations by the scatter along the borders; 1 if it is near 1.

    A border holds wings of stars, so that weights are believed within a factor of WRONG.
    """
    z = np.where(weight > 0, edge * np.sqrt(weight), np.nan)
    spread = MAD_TO_SIGMA * np.nanmedian(np.abs(z), axis=1)
    scale = np.nanmedian(np.where(spread > 0, spread, np.nan))
    return scale if np.isfinite(scale) and not 1 / WRONG < scale < WRONG else 1.0


def border(size):
    """Boolean plane of the outermost pixels."""
    plane = np.ones((size, size), bool)
    plane[1:-1, 1:-1] = False
    return plane


def median_star(values, weight, flux):
    """Median (s, s) of the stars over their fluxes, pixels that stand out from it left out."""
    template = np.zeros(values.shape[1:])
    if not len(values):
        return template
    usable = np.isfinite(values)
    for _ in range(TEMPLATE_ROUNDS):
        some = np.where(usable, values, np.nan) / np.where(flux > 0, flux, np.nan)[:, None, None]
        template = np.nan_to_num(np.nanmedian(some, axis=0))
        flux, first = under(template, values, weight, flux)
        usable = first > 0
    return template


def under(template, values, weight, flux):
    """Fluxes of stars under a template and first weights, 0 where a pixel stands out from it."""
    sigma = 1 / np.sqrt(np.where(weight > 0, weight, 1.0))
    scale = np.maximum(flux, 0)[:, None, None]
    room = OUTLIER * sigma + scale * maximum_filter(template, 3)
    good = np.isfinite(values) & (values - scale * template <= room)
    w = np.where(good, 1 / (sigma**2 + (FIRST_ERROR * scale * template) ** 2), 0.0)
    power = np.einsum("nij,ij->n", w, template**2)
    flux = np.einsum("nij,ij,nij->n", w, template, np.nan_to_num(values))
    flux = flux / np.maximum(power, 1e-300)
    model = np.maximum(flux, 0)[:, None, None] * template
    return flux, np.where(good, 1 / (sigma**2 + (FIRST_ERROR * model) ** 2), 0.0)


def uniform_weight(data):
    """One inverse variance for all pixels (n, s, s), from the scatter along the stamps' borders."""
    ring = data[:, border(data.shape[1])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        scatter = ring - np.nanmedian(ring, axis=1)[:, None]
        spread = MAD_TO_SIGMA * np.nanmedian(np.abs(scatter), axis=1)
        sigma = np.nanmedian(np.where(spread > 0, spread, np.nan))  # some stamps may be blank
    return np.full(data.shape, 1 / sigma**2 if sigma > 0 else 1.0)
