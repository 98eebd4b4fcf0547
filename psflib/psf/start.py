"""First guess of an ePSF and its stars, from the stamps alone."""

import warnings

import numpy as np
from scipy.ndimage import maximum_filter, spline_filter, zoom

from psflib.psf.state import FIRST_ERROR, State

TEMPLATE_STARS = 300
MAD_TO_SIGMA = 1.4826
OUTLIER = 5.0  # sigma above the median star


def start(data, weight, delta, oversample, psi=None):
    """First `State`: border median, aperture flux, and the median of the normalised stars.

    Offsets do not enter the median; they enter the first solution of the model.  Pixels that
    stand out from it get no weight in that solution.
    """
    n, size, _ = data.shape
    use = np.isfinite(data) & np.isfinite(weight) & (weight > 0)
    given = np.where(use, weight, 0)
    values = np.where(use, data, np.nan).astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a median of nothing is NaN: not ok
        background = np.nanmedian(values[:, border(size)], axis=1)
        values -= np.nan_to_num(background)[:, None, None]
        template, flux, good = median_star(values, given)
    ok = (flux > 0) & (np.abs(delta) <= 1).all(axis=1)
    model = np.where(ok, flux, 0)[:, None, None] * template
    variance = 1 / np.where(use, weight, 1.0) + (FIRST_ERROR * model) ** 2
    first = np.where(good & ok[:, None, None], 1 / variance, 0.0)
    if psi is None or not (np.isfinite(psi).all() and psi.sum() > 0):
        psi = zoom(template, oversample, order=1, grid_mode=True, mode="nearest")
        psi = np.maximum(psi, 1e-6 * psi.max())
    coef = spline_filter(psi, order=3, mode="nearest")[None]
    return State(
        np.where(use, data, 0), given, oversample, coef, np.ones((n, 1)), delta.copy(),
        np.where(ok, flux, np.nan), np.where(ok, np.nan_to_num(background), np.nan), ok, first,
    )  # fmt: skip


def border(size):
    """Boolean plane of the outermost pixels."""
    plane = np.ones((size, size), bool)
    plane[1:-1, 1:-1] = False
    return plane


def median_star(values, weight):
    """Median of the normalised stars (s, s), the stars' fluxes under it, and their good pixels."""
    size = values.shape[1]
    axis = np.arange(size) - size // 2
    near = np.hypot(axis[:, None], axis) <= size / 4
    flux = np.nansum(values[:, near], axis=1)
    brightest = np.argsort(-flux)[:TEMPLATE_STARS]
    brightest = brightest[flux[brightest] > 0]
    good = np.isfinite(values)
    template = np.zeros((size, size))
    if not brightest.size:
        return template, flux, good
    sigma = 1 / np.sqrt(np.where(weight > 0, weight, 1.0))
    for _ in range(3):
        some = np.where(good[brightest], values[brightest], np.nan)
        template = np.nan_to_num(np.nanmedian(some / flux[brightest, None, None], axis=0))
        scale = np.maximum(flux, 0)[:, None, None]
        room = OUTLIER * sigma + scale * maximum_filter(template, 3)
        good = np.isfinite(values) & (values - scale * template <= room)
        w = np.where(good, 1 / (sigma**2 + (FIRST_ERROR * scale * template) ** 2), 0.0)
        power = np.einsum("nij,ij->n", w, template**2)
        flux = np.einsum("nij,ij,nij->n", w, template, np.nan_to_num(values))
        flux /= np.maximum(power, 1e-300)
    return template, flux, good


def uniform_weight(data):
    """One inverse variance for all pixels (n, s, s), from the scatter along the stamps' borders."""
    ring = data[:, border(data.shape[1])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        scatter = ring - np.nanmedian(ring, axis=1)[:, None]
        spread = MAD_TO_SIGMA * np.nanmedian(np.abs(scatter), axis=1)
        sigma = np.nanmedian(np.where(spread > 0, spread, np.nan))  # some stamps may be blank
    return np.full(data.shape, 1 / sigma**2 if sigma > 0 else 1.0)
