"""Stars under a known PSF: rendering, its transpose, and the fit of new stars."""

import dataclasses

import numpy as np

from psflib.image import polynomial
from psflib.image.checks import (
    is_positive,
    require_array,
    require_count,
    require_model,
    require_odd_oversample,
    require_weight,
)
from psflib.loops import starfit
from psflib.loops.nuisance import refine_stars
from psflib.loops.render import accumulate_stack
from psflib.psf.flux import require_batch

MAX_SHIFT = 0.5  # px, of one step of `fit_stars`


@dataclasses.dataclass(frozen=True, eq=False)
class Nuisance:
    """What `refine_nuisance` found.

    Parameters
    ----------
    flux, background : ndarray (n,) float64
        NaN where not ok.
    delta : ndarray (n, 2) float64
        Offset (row, col), px; as passed in where not ok.
    ok : ndarray (n,) bool
    """

    flux: np.ndarray
    background: np.ndarray
    delta: np.ndarray
    ok: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class StarFits:
    """What `fit_stars` found.

    Parameters
    ----------
    flux, background : ndarray (n,) float64
        In the unit of the data; NaN where not ok.
    delta : ndarray (n, 2) float64
        Offset (row, col) from the centre pixel, px; as passed in where not ok.
    covariance : ndarray (n, 4, 4) float64
        Of (flux, background, d_row, d_col); NaN where not ok.
    chi2 : ndarray (n,) float64
        Sum of weight·residual²; NaN where not ok.
    dof : ndarray (n,) int64
        Valid pixels less the number of unknowns.
    ok : ndarray (n,) bool
    """

    flux: np.ndarray
    background: np.ndarray
    delta: np.ndarray
    covariance: np.ndarray
    chi2: np.ndarray
    dof: np.ndarray
    ok: np.ndarray


def render(epsf, oversample, flux, background, delta, size=None):
    """Stamps of stars: flux·PSF + background, the PSF sampled at the centre of each pixel.

    Interpolation is Catmull-Rom (Keys 1981, a = -1/2); off its grid the PSF is 0.

    Parameters
    ----------
    epsf : ndarray (os·s, os·s) float64
        Oversampled effective PSF.
    oversample : int
        os, odd.
    flux, background : ndarray (n,) float64
        A non-finite value counts as 0.
    delta : ndarray (n, 2) float64
        Offset (row, col) of each star from the centre pixel, px; if not finite, there is no star.
    size : int, optional
        Side of the stamps, odd; by default s.

    Returns
    -------
    ndarray (n, size, size) float64

    Raises
    ------
    ValueError
        For wrong shapes, dtypes, an even `oversample` or `size`.
    """
    epsf, oversample, own = require_model("epsf", epsf, oversample)
    size = own if size is None else require_count(size)
    if size % 2 == 0:
        raise ValueError(f"size must be odd; got {size}")
    flux, delta = _require_stars(flux, delta)
    background = _require_column("background", background, len(flux))
    beyond = max(size - own, 0) // 2  # native pixels of padding; a smaller stamp is cut instead
    model = np.pad(epsf, beyond * oversample)
    out = np.empty((len(flux), own + 2 * beyond, own + 2 * beyond))
    starfit.render_stars(
        model[None], np.ones((len(flux), 1)), starfit.CATMULL_ROM, oversample,
        flux, np.where(np.isfinite(background), background, 0.0), delta, out,
    )  # fmt: skip
    cut = slice((out.shape[1] - size) // 2, (out.shape[1] + size) // 2)
    return np.ascontiguousarray(out[:, cut, cut])


def accumulate(stack, oversample, flux, delta, *, weight=None):
    """Transpose of the PSF part of `render`, applied to weight·stack.

    With ⟨a, b⟩ = Σ a·b: ⟨render(epsf), stack⟩ = ⟨epsf, accumulate(stack)⟩ without background.

    Parameters
    ----------
    stack : ndarray (n, s, s) float32 or float64
        s odd; a non-finite pixel counts as 0.
    oversample : int
        os, odd.
    flux : ndarray (n,) float64
        A non-finite value counts as 0.
    delta : ndarray (n, 2) float64
        Offset (row, col), px; a star without a finite one is left out.
    weight : ndarray (n, s, s) of the dtype of `stack`, optional
        A pixel whose weight is not finite and positive counts as 0.

    Returns
    -------
    ndarray (os·s, os·s) float64

    Raises
    ------
    ValueError
        For wrong shapes, dtypes or an even `oversample`.
    """
    oversample = require_odd_oversample(oversample)
    values = require_array("stack", stack, 3)
    size = values.shape[1]
    if size % 2 == 0:
        raise ValueError(f"stamp size must be odd; got {size}")
    weights = require_weight(weight, stack, against="stack")
    flux, delta = _require_stars(flux, delta)
    require_batch(values, delta, size)
    use = np.isfinite(values) & np.isfinite(weights) & (weights > 0)
    values = np.where(use, values, 0.0) * np.where(use, weights, 0.0)
    out = np.empty((oversample * size, oversample * size))
    accumulate_stack(values, oversample, flux, np.nan_to_num(delta), out)
    return out


def refine_nuisance(epsf, oversample, data, delta, *, weight=None, max_iter=3, tol=1e-4):
    """Flux, background and position of every star by alternating steps, as `build_epsf` does.

    Each pass solves flux and background at the present offset and then takes one Gauss-Newton
    step, at most 1 px an axis, of the offset alone; `fit_stars` converges faster and gives
    covariances.

    Parameters
    ----------
    epsf : ndarray (os·s, os·s) float64
    oversample : int
        os, odd.
    data : ndarray (n, s, s) float32 or float64
        NaN is left out.
    delta : ndarray (n, 2) float64
        First offset (row, col), px.
    weight : ndarray (n, s, s) of the dtype of `data`, optional
        Inverse variances.
    max_iter, tol : int, float
        Cap on the passes, and the step in px that ends them.

    Returns
    -------
    Nuisance
        A star fails if an offset leaves [-1, 1] px or a system is singular.

    Raises
    ------
    ValueError
        For wrong shapes, dtypes or parameters.
    """
    epsf, oversample, size = require_model("epsf", epsf, oversample)
    stamps, weights, delta = _require_data(data, weight, delta, size)
    max_iter = require_count(max_iter)
    if max_iter == 0 or not is_positive(tol):
        raise ValueError(
            f"max_iter must be > 0, tol finite and > 0; got max_iter = {max_iter}, tol = {tol}"
        )
    n = len(stamps)
    flux, background, ok = np.empty(n), np.empty(n), np.empty(n, bool)
    refine_stars(epsf, oversample, stamps, weights, delta, max_iter, tol, flux, background, ok)
    return Nuisance(flux, background, delta, ok)


def fit_stars(
    psf, data, delta, *, oversample=None, weight=None, x=None, y=None, max_iter=20, tol=1e-4
):
    """Fit flux, background and position of stars with a known PSF.

    Damped Gauss-Newton in all four unknowns; with `max_iter` 0 the positions are held.

    Parameters
    ----------
    psf : ndarray (os·s, os·s) float64, or PsfField
        Of unit sum in native pixels, that is Σ psf = os².
    data : ndarray (n, s, s) float32 or float64
        NaN is left out.
    delta : ndarray (n, 2) float64
        First offset (row, col) from the centre pixel, within 1 px.
    oversample : int, optional
        os, odd; of an array.
    weight : ndarray (n, s, s) of the dtype of `data`, optional
        Inverse variances.  Without them all pixels are alike, and the covariance is scaled by
        the scatter of the residuals, chi2 / dof.
    x, y : array_like (n,), optional
        Positions in the image, px; of stars under a `PsfField`.
    max_iter, tol : int, float
        Cap on the steps, and the step in px that ends them.

    Returns
    -------
    StarFits
        A star fails if it has fewer than 5 valid pixels, its system is singular or its offset
        leaves [-1, 1] px.

    Raises
    ------
    ValueError
        For wrong shapes, dtypes or parameters.
    """
    stamps = require_array("data", data, 3)
    terms, oversample, design = _require_psf(psf, oversample, x, y, len(stamps))
    stamps, weights, delta = _require_data(data, weight, delta, terms.shape[1] // oversample)
    max_iter = require_count(max_iter)
    if not is_positive(tol):
        raise ValueError(f"tol must be finite and > 0; got {tol}")
    n = len(stamps)
    flux, background, chi2, ok = np.empty(n), np.empty(n), np.empty(n), np.empty(n, bool)
    covariance = np.empty((n, 4, 4))
    starfit.fit_stars(
        terms, design, starfit.CATMULL_ROM, oversample, stamps, weights, delta,
        flux, background, covariance, chi2, ok, max_iter, tol, MAX_SHIFT,
    )  # fmt: skip
    valid = np.isfinite(stamps) & np.isfinite(weights) & (weights > 0)
    dof = valid.sum(axis=(1, 2)) - (4 if max_iter else 2)
    if weight is None:
        covariance *= (chi2 / np.maximum(dof, 1))[:, None, None]
    return StarFits(flux, background, delta, covariance, chi2, dof, ok)


def _require_psf(psf, oversample, x, y, n):
    """Terms (k, os·s, os·s), os and the coefficients (n, k) of every star."""
    if isinstance(psf, np.ndarray):
        if oversample is None:
            raise ValueError("oversample is needed with an array")
        epsf, oversample, _ = require_model("psf", psf, oversample)
        return epsf[None], oversample, np.ones((n, 1))
    if oversample not in (None, psf.oversample):
        raise ValueError(f"oversample {oversample} is not that of the PSF, {psf.oversample}")
    if x is None or y is None:
        raise ValueError("x and y of the stars are needed with a PsfField")
    x, y = (np.array(values, float) for values in (x, y))
    if x.shape != (n,) or y.shape != (n,):
        raise ValueError(f"x {x.shape} and y {y.shape} must have one value a star, ({n},)")
    design = np.array(polynomial.evaluate(psf.order, x, y, psf.shape)).T.reshape(n, -1)
    volume = design @ psf.terms.sum(axis=(1, 2)) / psf.oversample**2
    terms = np.ascontiguousarray(psf.terms, dtype=float)
    return terms, psf.oversample, np.ascontiguousarray(design / volume[:, None])


def _require_data(data, weight, delta, size):
    """Stamps, weights and offsets as float64 copies that fit together."""
    stamps = require_array("data", data, 3)
    delta = require_array("delta", delta, 2, (np.float64,))
    require_batch(stamps, delta, size)
    return stamps, require_weight(weight, data), delta


def _require_stars(flux, delta):
    """Fluxes, 0 where there is no star, and offsets."""
    delta = require_array("delta", delta, 2, (np.float64,))
    flux = _require_column("flux", flux, len(delta))
    if delta.shape[1] != 2:
        raise ValueError(f"delta must be (n, 2); got {delta.shape}")
    return np.where(np.isfinite(flux) & np.isfinite(delta).all(axis=1), flux, 0.0), delta


def _require_column(name, values, n):
    values = require_array(name, values, 1, (np.float64,))
    if values.shape != (n,):
        raise ValueError(f"batch dimensions disagree: {name} {values.shape}, expected ({n},)")
    return values
