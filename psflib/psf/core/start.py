"""First guess of an ePSF and its stars, from the stamps alone."""

import warnings

import numpy as np
from scipy.ndimage import maximum_filter, spline_filter, zoom

from psflib.psf.core.mesh import mesh_for
from psflib.psf.core.state import FIRST_ERROR, State

TEMPLATE_STARS = 300
TEMPLATE_ROUNDS = 3
CHUNK = 256  # stars at a time where copies are needed
MAD_TO_SIGMA = 1.4826
WRONG = 4.0  # factor within which given standard deviations are believed at the start
OUTLIER = 5.0  # sigma above the median star


def start(data, weight, delta, oversample, psi=None, mesh=None):
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
    first = np.zeros(data.shape, np.float32)
    for part in np.array_split(np.arange(n), n // CHUNK + 1):
        above = np.where(use[part], data[part] - background[part, None, None], np.nan)
        flux[part], first[part] = under(template, above, weight[part] / noise**2, flux[part])
    ok = (flux > 0) & (np.abs(delta) <= 1).all(axis=1)
    first[~ok] = 0.0
    if psi is None or not (np.isfinite(psi).all() and psi.sum() > 0):
        psi = zoom(template, oversample, order=1, grid_mode=True, mode="nearest")
        psi = np.maximum(psi, 1e-6 * psi.max())
    coef = spline_filter(psi, order=3, mode="nearest")[None]
    mesh = mesh or mesh_for(psi, oversample)
    return State(
        data, weight, oversample, coef, np.ones((n, 1)), delta.copy(),
        np.where(ok, flux, np.nan), np.where(ok, background, np.nan), ok, first, mesh, noise=noise,
    )  # fmt: skip


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
