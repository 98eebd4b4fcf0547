"""Core effective PSF on an oversampled grid, solved with the flux and position of every star.

The effective PSF is the PSF convolved with the pixel (Anderson & King 2000), so a star is the
ePSF sampled at pixel centres.  `solver="landweber"` iterates psi <- max(0, psi + step·AᵀW(d - Aψ))
with a step normalised by the largest eigenvalue of AᵀWA (Landweber 1951), alternating with the
flux, background and position of every star; `solver="normal"` solves the regularised normal
equations of all of them (`psflib.psf.core.normal`).
"""

import dataclasses

import numpy as np

from psflib.errors import NotEnoughStars
from psflib.image.checks import (
    is_positive,
    require_array,
    require_choice,
    require_count,
    require_odd_oversample,
    require_weight,
)
from psflib.loops.nuisance import refine_stars, solve_stars
from psflib.loops.render import accumulate_stack, normal_norm, render_stack
from psflib.psf.combine import robust_combine
from psflib.psf.core.normal import solve_constant
from psflib.psf.core.start import uniform_weight
from psflib.psf.flux import require_batch

SOLVERS = ("landweber", "normal")
REWEIGHTS = ("none", "huber", "tukey")
N_POWER = 12  # power iterations for the operator norm
MAD_TO_SIGMA = (
    1.482602218505602  # 1 / the third quartile of a Gaussian; rounded, residuals near c differ
)


@dataclasses.dataclass(frozen=True, eq=False)
class BuildEpsf:
    """The solved ePSF and the table of the stars.

    Parameters
    ----------
    epsf : ndarray (os·s, os·s) float64
        Sum is os².
    flux, background : ndarray (n,) float64
        NaN where not ok.
    delta : ndarray (n, 2) float64
        Offset (row, col), px.
    ok : ndarray (n,) bool
        False: the star did not enter the ePSF.
    iterations : int
    converged : bool
    covariance : ndarray (n, 4, 4) float64, optional
        Of (flux, background, d_row, d_col); this and what follows by solver "normal" only.
    chi2 : ndarray (n,) float64, optional
        Per degree of freedom, over the pixels that were not given up.
    reason : ndarray (n,) str, optional
        Why a star did not enter the ePSF; '' if it did.
    error : ndarray (os·s, os·s) float64, optional
        Standard error of the ePSF.
    strength, noise, model_error, phases : float, optional
        Of the smoothness prior; scale found for the given standard deviations; error of the model
        relative to the light; share of the os² sub-pixel phases that have a star.
    """

    epsf: np.ndarray
    flux: np.ndarray
    background: np.ndarray
    delta: np.ndarray
    ok: np.ndarray
    iterations: int
    converged: bool
    covariance: np.ndarray | None = None
    chi2: np.ndarray | None = None
    reason: np.ndarray | None = None
    error: np.ndarray | None = None
    strength: float | None = None
    noise: float | None = None
    model_error: float | None = None
    phases: float | None = None


@dataclasses.dataclass(eq=False)
class _Solve:
    """State of the iteration; the arrays of the stars are updated in place."""

    data: np.ndarray
    oversample: int
    psi: np.ndarray
    delta: np.ndarray
    flux: np.ndarray
    background: np.ndarray
    ok: np.ndarray

    def residual(self):
        """data - model; a star without a solution has model 0."""
        good = np.isfinite(self.flux) & np.isfinite(self.delta).all(axis=1)
        flux = np.where(good, self.flux, 0.0)
        model = np.empty_like(self.data)
        render_stack(self.psi, self.oversample, flux, self.delta, model)
        background = np.where(np.isfinite(self.background), self.background, 0.0)
        return self.data - model - background[:, None, None]

    def landweber(self, residual, weight, step):
        """One projected step; returns the relative change of psi."""
        usable = self.ok[:, None, None] & np.isfinite(residual) & (weight > 0)
        weight = np.where(usable & np.isfinite(weight), weight, 0.0)
        flux = np.where(self.ok, self.flux, 0.0)
        side = len(self.psi)
        norm = normal_norm(weight, self.oversample, flux, self.delta, side, N_POWER)
        pull = weight * np.where(usable, residual, 0.0)
        gradient = np.empty_like(self.psi)
        accumulate_stack(pull, self.oversample, flux, self.delta, gradient)
        old = self.psi
        self.psi = np.maximum(0.0, old + (step / norm if norm > 0 else 0.0) * gradient)
        self.gauge()
        change, size = np.linalg.norm(self.psi - old), np.linalg.norm(old)
        return change / size if size > 1e-300 else change

    def gauge(self):
        """Unit volume; the flux takes up the factor."""
        volume = self.psi.sum() / self.oversample**2
        if is_positive(volume):
            self.psi = self.psi / volume
            self.flux *= volume


def build_epsf(
    data,
    delta_init,
    oversample,
    *,
    weight=None,
    psi_init=None,
    max_iter=50,
    tol=1e-4,
    step=1.0,
    residual_reweight="none",
    reweight_c=4.0,
    nuisance_max_iter=3,
    nuisance_tol=1e-4,
    solver="landweber",
):
    """Solve the oversampled effective PSF and the flux, background and position of each star.

    Parameters
    ----------
    data : ndarray (n, s, s) float32 or float64
        Stamps as cut by `build_stamp`, never resampled; NaN is left out.
    delta_init : ndarray (n, 2) float64
        First offset (row, col) of each star from the centre pixel, px.
    oversample : int
        os, odd.
    weight : ndarray (n, s, s) of the dtype of `data`, optional
        Inverse variances; never changed.
    psi_init : ndarray (os·s, os·s) float64, optional
        Start; by default the clipped mean of the normalised stamps, each pixel repeated.
    max_iter, tol : int, float
        Cap on the rounds, and the relative change of the ePSF that ends them.
    step : float
        Relaxation, in units of the inverse operator norm.
    residual_reweight : {"none", "huber", "tukey"}
        Down-weighting of large residuals, beyond `reweight_c` sigma.
    nuisance_max_iter, nuisance_tol : int, float
        Cap on the position steps in a round, and the step in px that ends them.
    solver : {"landweber", "normal"}
        "landweber" is the projected iteration of the reference, at which all the options above
        aim.  "normal" solves the regularised normal equations, by default better and faster; it
        takes `psi_init`, `max_iter` and `tol`, is always robust, needs no start and reports more.

    Returns
    -------
    BuildEpsf

    Raises
    ------
    ValueError
        For wrong shapes, dtypes or parameters.
    NotEnoughStars, SingularFit
        By solver "normal", if no star has light or the pixels do not determine an ePSF.
    """
    oversample = require_odd_oversample(oversample)
    stamps = require_array("data", data, 3)
    if stamps.shape[1] % 2 == 0:
        raise ValueError(f"stamp size must be odd; got {stamps.shape[1]}")
    delta = require_array("delta_init", delta_init, 2, (np.float64,))
    require_batch(stamps, delta, stamps.shape[1])
    weights = require_weight(weight, data)
    side = oversample * stamps.shape[1]
    psi = _require_psi(psi_init, side)
    max_iter, nuisance_max_iter = require_count(max_iter), require_count(nuisance_max_iter)
    require_choice("residual_reweight", residual_reweight, REWEIGHTS)
    _require_scalars(max_iter, tol, step, nuisance_max_iter, nuisance_tol)
    if residual_reweight != "none" and not is_positive(reweight_c):
        raise ValueError(f"reweight_c must be finite and > 0; got {reweight_c}")
    require_choice("solver", solver, SOLVERS)
    if solver == "normal":
        _refuse_landweber(residual_reweight, step)
        return _build_normal(stamps, delta, oversample, weight, psi, max_iter, tol)
    if psi is None:
        psi = seed_epsf(stamps, oversample)
    state = _start(stamps, oversample, psi, delta, weights)
    iterations, converged = 0, len(stamps) == 0
    base = None if weight is None else weights
    while iterations < max_iter and not converged:
        iterations += 1
        residual = state.residual()
        factor = residual_factor(residual, base, state.ok, residual_reweight, reweight_c)
        effective = weights * factor
        change = state.landweber(residual, effective, step)
        refine_stars(
            state.psi, oversample, stamps, effective, state.delta,
            nuisance_max_iter, nuisance_tol, state.flux, state.background, state.ok,
        )  # fmt: skip
        if change < tol:
            converged = iterations < max_iter
            break
    return BuildEpsf(
        state.psi, state.flux, state.background, state.delta, state.ok, iterations, converged
    )


def _refuse_landweber(residual_reweight, step):
    """Options that the solver would have to ignore."""
    if residual_reweight != "none" or step != 1.0:
        raise ValueError(
            'solver="normal" weighs residuals by itself and takes no step: leave out '
            f"residual_reweight (got {residual_reweight!r}) and step (got {step})"
        )


def _build_normal(stamps, delta, oversample, weight, psi, max_iter, tol):
    """`BuildEpsf` from the solution of the normal equations."""
    if not len(stamps):
        raise NotEnoughStars("core ePSF", 0, 1)
    weight = uniform_weight(stamps) if weight is None else weight
    solution = solve_constant(
        stamps, weight, delta, oversample, psi=psi, max_iter=max_iter, tol=tol
    )
    error, _ = solution.uncertainty()
    state = solution.state
    (epsf,) = state.finish()
    return BuildEpsf(
        epsf, state.flux, state.background, state.delta, state.ok, solution.iterations,
        solution.converged, state.covariance, state.chi2, state.reason, error,
        solution.choice.strength, state.noise, state.error, state.phases,
    )  # fmt: skip


def _start(stamps, oversample, psi, delta, weights):
    """Gauge psi, then the first flux and background at the offsets as given."""
    n = len(stamps)
    state = _Solve(stamps, oversample, psi, delta, np.zeros(n), np.zeros(n), np.zeros(n, bool))
    state.gauge()
    solve_stars(
        state.psi, oversample, stamps, weights, delta, state.flux, state.background, state.ok
    )
    return state


def seed_epsf(data, oversample):
    """First guess: clipped mean of (data - border median)/sum, each pixel repeated os × os.

    Offsets and weights are left aside.  Where nothing is positive the seed is flat.
    """
    side = oversample * data.shape[1]
    normalised = [stamp for stamp in map(_normalise, data) if stamp is not None]
    if normalised:
        seed = robust_combine(np.array(normalised)).combined
        seed = np.where(np.isfinite(seed) & (seed > 0), seed, 0.0)
        if seed.any():
            return np.repeat(np.repeat(seed, oversample, axis=0), oversample, axis=1)
    return np.ones((side, side))


def _normalise(stamp):
    """One stamp less its border median, with unit sum; None if its sum is not positive."""
    border = np.ones(stamp.shape, bool)
    border[1:-1, 1:-1] = False
    ring = stamp[border & np.isfinite(stamp)]
    stamp = stamp - (np.median(ring) if ring.size else 0.0)
    flux = stamp[np.isfinite(stamp)].sum()
    return stamp / flux if flux > 0 else None


def residual_factor(residual, weight, ok, kind, c):
    """M-estimator weights (Huber 1964; Beaton & Tukey 1974) of residuals (n, s, s).

    Sigma is 1/sqrt(weight), or one robust scale of all ok residuals if `weight` is None; a
    residual whose sigma is unknown, and a star that is not ok, keeps factor 1.
    """
    factor = np.ones(residual.shape)
    if kind == "none":
        return factor
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = _robust_sigma(residual[ok]) if weight is None else 1 / np.sqrt(weight)
        z = np.abs(residual) / sigma
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if kind == "huber":
            value = np.where(z > c, c / z, 1.0)
        else:
            value = np.where(z < c, (1 - (z / c) ** 2) ** 2, 0.0)
    known = np.isfinite(z) & np.isfinite(sigma) & (sigma > 0) & ok[:, None, None]
    return np.where(known, value, 1.0)


def _robust_sigma(values):
    values = values[np.isfinite(values)]
    if not values.size:
        return np.nan
    return MAD_TO_SIGMA * np.median(np.abs(values - np.median(values)))


def _require_psi(psi_init, side):
    if psi_init is None:
        return None
    psi = require_array("psi_init", psi_init, 2, (np.float64,))
    if psi.shape != (side, side):
        raise ValueError(f"psi_init shape {psi.shape} must equal ({side}, {side})")
    return psi


def _require_scalars(max_iter, tol, step, nuisance_max_iter, nuisance_tol):
    counts = max_iter > 0 and nuisance_max_iter > 0
    if not (counts and is_positive(tol) and is_positive(step) and is_positive(nuisance_tol)):
        raise ValueError(
            "max_iter and nuisance_max_iter must be > 0, tol, step and nuisance_tol finite and > 0;"
            f" got max_iter = {max_iter}, tol = {tol}, step = {step}, "
            f"nuisance_max_iter = {nuisance_max_iter}, nuisance_tol = {nuisance_tol}"
        )
