"""The Alard-Lupton fit: rounds of weights, rejection and solution.

Model: target = K conv b + background, K varying over the field as Chebyshev polynomials, fitted
to all source footprints at once with inverse-variance weights (Alard & Lupton 1998; Alard 2000,
A&AS 144, 363), corrected for the noise of b, with variable sources left out.
"""

import dataclasses
import logging
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from psflib.image import polynomial
from psflib.image.convolve import node_grid
from psflib.matching import bounds, heldout, misfit, selection, sharpening, solve
from psflib.matching import prior as priors
from psflib.matching.accuracy import kernel_error
from psflib.matching.kernel import MatchingKernel
from psflib.matching.leverage import MOST, leverage
from psflib.matching.problem import START_ORDER, State, enlarged, prepare
from psflib.settings.subtract import MOST_FLUX_RANGE

log = logging.getLogger(__name__)

FLOORS = (0.1, 0.03, 0.002, 0.002)  # model-error floor of each round, fraction of the model
TOLERANCES = (0.10, 0.05, 0.03, 0.02)  # flux change of a source that is tolerated, by round
CHOICE = 2  # round before which held-out cells choose the degrees
NODES = 9  # an axis, at which the kernel is asked whether it sharpens
BRIGHT = 10.0  # sigma of a pixel; where stars are as bright, they show what the basis lacks
FEWEST = 100  # such pixels
MISFIT = 1.1  # times the chi-square of all pixels there, above which a larger basis is tried
WORSE = 1.05  # times the chi-square before it, at which a round has not converged
NOISE_FREE = 1e-3  # chi-square of a pixel below which the images are simulated ones without noise
CLIP = 6.0  # sigma of the noise, beyond which a pixel is left out ...
OF_ITS_LIKE = 8.0  # ... and of the scatter of equally bright pixels, where that is larger
AMPLIFIES = 1.5  # times the noise, that a kernel makes of it before its weak modes are shrunk


@threadpool_limits.wrap(limits=1, user_api="blas")  # the same bits whatever the threads
def fit_kernel(
    target, convolved, fwhms, *, orders, convolved_name="template", flux_range=MOST_FLUX_RANGE
) -> MatchingKernel:
    """Fit the kernel that turns `convolved` into `target`.

    A target that is the sharper image is broadened for the fit, see `sharpening`; `broadened` in
    the kernel's `meta` is the sigma (px), 0 if it was not.

    Parameters
    ----------
    target, convolved : tuple (image, variance, usable)
        Planes (ny, nx); `convolved` has its bad pixels filled.
    fwhms : (float, float)
        FWHM of target and convolved in px.
    orders : (int, int, int)
        Highest degrees of the kernel, its sum, and the background; lowered for few sources, and
        until the kernel is sane, see `bounds`.
    flux_range : float
        See `psflib.settings.subtract.FluxRange`.

    Raises
    ------
    NotEnoughStars, SingularFit, BadImage
    """
    sigma = sharpening.broadening(fwhms)
    if fwhms[0] < fwhms[1]:
        log.warning("the kernel is to sharpen: FWHM %.2f px from %.2f px", *fwhms)
    if sigma:
        target = sharpening.broadened(target, sigma)
        fwhms = float(np.hypot(fwhms[0], 2.355 * sigma)), fwhms[1]

    def fit(order, flux_order):
        highest = order, flux_order, orders[2]
        fitted = _fit(target, convolved, fwhms, highest, convolved_name)
        if not sigma:
            return fitted
        return dataclasses.replace(fitted, kernel=sharpening.brought_back(fitted.kernel, sigma))

    kernel = bounds.within_bounds(fit, orders[0], orders[1], flux_range)
    kernel.meta["deconvolved"] = _deconvolved(kernel)
    if kernel.meta["deconvolved"] > 0 and not sigma:
        log.warning(
            "the kernel sharpens the %s over %.0f %% of the field: neither image is the sharper "
            "one everywhere", convolved_name, 100 * kernel.meta["deconvolved"],
        )  # fmt: skip
    log.info("kernel: %s", kernel.meta)
    return kernel


def _fit(target, convolved, fwhms, orders, convolved_name):
    """The kernel of `fit_kernel` by rounds of weights, rejection and solution."""
    problem = prepare(target, convolved, fwhms, orders)
    highest = problem.layout
    problem.use(dataclasses.replace(highest, order=min(highest.order, START_ORDER)))
    state: Any = None
    for number, (floor, tolerance) in enumerate(zip(FLOORS, TOLERANCES, strict=True)):
        if number == CHOICE:
            state = _choose(problem, state, highest)
        state = _round(problem, state, floor, tolerance)
    problem, state = _choose_basis(problem, state)
    layout = problem.layout
    coef, background = layout.split(state.solution)
    counts = {
        "order": layout.order,
        "n_basis": layout.n_basis,
        "lowered": highest.order < min(orders[0], START_ORDER),
        "n_sources": int(np.isfinite(problem.sources.ratio).sum()),
        "n_variable": int(problem.sources.variable.sum()),
        "n_dropped": state.dropped,
        "n_pixels": len(problem.at.y),
        "n_clipped": int(state.clipped.sum()),
        **_chi2(problem, state),
        **_heldout(problem, state),
        "broadened": 0.0,
    }
    at, sources = problem.at, problem.sources
    kernel = MatchingKernel(
        problem.design.basis.images, coef, layout.order, layout.flux_order, background,
        layout.bg_order, problem.design.shape, convolved_name, counts,
        region=(float(at.x.min()), float(at.x.max()), float(at.y.min()), float(at.y.max())),
    )  # fmt: skip
    share = min(counts["chi2_median"], 1.0)
    counts["kernel_error"] = kernel_error(problem.design, state.matrix, fwhms[1], share)
    useful = sources.useful
    return bounds.Fitted(
        kernel, layout.order, layout.flux_order, sources.x[useful], sources.y[useful],
        sources.scale,
    )  # fmt: skip


def _deconvolved(kernel):
    """Share of the field where the kernel amplifies white noise, as only a deconvolution does."""
    grid = kernel.on_grid(*node_grid(kernel.shape, NODES))
    return float(np.mean(np.square(grid).sum((1, 2)) > np.square(grid.sum((1, 2)))))


def _round(problem, state, floor, tolerance):
    """One round: weights from the current kernel, rejection, solution."""
    first = state is None
    model = problem.smooth if first else state.model
    sigma2 = _variance(problem, state)
    weight = 1 / (sigma2 + np.square(floor * model))
    weight[problem.excluded] = 0
    residual = problem.a - model
    clipped = np.zeros(len(weight), bool)
    dropped = 0
    if not first:
        clipped = _clip_pixels(problem, residual, weight)
        changed = _changed_sources(problem, state, residual, weight * ~clipped, tolerance)
        dropped = len(changed)
        clipped |= _pixels_of(problem, changed, model, sigma2)
        weight[clipped] = 0
    corrected = floor == FLOORS[-1]
    solution, matrix = _solve(problem, state, problem.a if first else residual, weight, corrected)
    model = problem.design.model(*problem.layout.split(solution))
    if not first and weight @ np.square(problem.a - model) > WORSE * (weight @ residual**2):
        # what the blocks' polynomials leave out exceeds the weak modes
        if _chi2(problem, state)["chi2_median"] < NOISE_FREE:
            step = model - state.model
            length = (weight * step) @ residual / (weight @ step**2)
            solution = state.solution + length * (solution - state.solution)
        else:
            solution, matrix = _solve(problem, None, problem.a, weight, corrected, state)
        model = problem.design.model(*problem.layout.split(solution))
    return State(solution, clipped, dropped, model, matrix)


def _heldout(problem, state):
    """What kernels of the other cells leave of the sources of each, see `heldout`."""
    fit = _judged(problem, state)
    floor = solve.SHARPENING if problem.sharpens else solve.EIGEN_FLOOR
    return heldout.residuals(fit, _variance(problem, state), floor)


def _choose(problem, state, highest):
    """State with the unknowns that predict held-out cells best, at most the highest."""
    old = problem.layout
    problem.use(selection.choose(_tempered(problem, state), highest))
    solution = solve.convert(state.solution, old, problem.layout)
    model = problem.design.model(*problem.layout.split(solution))
    return dataclasses.replace(state, solution=solution, model=model)


def _judged(problem, state) -> selection.Judged:
    weight = 1 / _variance(problem, state)
    residual = problem.a - state.model
    weight[problem.excluded | _clip_pixels(problem, residual, weight)] = 0
    return selection.Judged(problem, state, weight, _prior(problem, state))


def _tempered(problem, state):
    """As `_judged`, bright pixels by their own scatter where the model misses more than the noise.

    Else a likelihood that believes in the noise asks for any degree that fits a few bright stars
    (EABA: degree 3, and 2.2 sigma of held-out stars above S/N 300; degree 2 leaves 2.0).
    """
    fit = _judged(problem, state)
    z2 = np.square(problem.a - state.model) * fit.weight
    like = _scatter(problem, z2, state.model * np.sqrt(fit.weight))
    return dataclasses.replace(fit, weight=fit.weight / like)


def _choose_basis(problem, state):
    """Problem and state with the larger basis, if bright stars ask for it and held-out cells too.

    Two images of which neither is the sharper one in all directions need it.
    """
    if _misfit(problem, state) < MISFIT:
        return problem, state
    larger, start = enlarged(problem, state)
    if not selection.predicts_better(_tempered(problem, state), _tempered(larger, start)):
        return problem, state
    for floor, tolerance in list(zip(FLOORS, TOLERANCES, strict=True))[CHOICE:]:
        start = _round(larger, start, floor, tolerance)
    return larger, start


def _misfit(problem, state):
    """Chi-square of a pixel where stars are bright, and relative to that of all pixels if these
    are above 1: variance planes can be too small, and faint crowded stars are noise twice."""
    variance = _variance(problem, state)
    keep = ~(problem.excluded | state.clipped)
    bright = keep & (np.square(state.model) > BRIGHT**2 * variance)
    if bright.sum() < FEWEST:
        return 1.0
    z2 = np.square(problem.a - state.model) / variance
    return z2[bright].mean() / max(z2[keep].mean(), 1.0)


def _variance(problem, state):
    """Variance of target minus model, at the fit pixels, by the kernel of the field's centre."""
    if state is None:
        power = problem.sources.scale**2 * 0.3  # a Gaussian of a pixel's sigma keeps 0.28 of it
    else:
        power = np.square(_central(problem, state.solution)).sum()
    return problem.var_a + power * problem.var_b


def _scatter(problem, z2, level):
    """See `misfit.scatter`; 1 where stars are too few for one that varies to have its like, or
    noise is not what is claimed."""
    claimed = np.median(z2[z2 > 0]) > misfit.CLAIMED * misfit.MEDIAN if z2.any() else False
    if not claimed or problem.sources.count_useful() < misfit.STARS:
        return np.ones(len(z2))
    return misfit.scatter(z2, level)


def _clip_pixels(problem, residual, weight):
    """Fit pixels that are off by more than the noise or their like are, with their neighbours."""
    at, (ny, nx) = problem.at, problem.design.shape
    z2 = np.square(residual) * weight
    like = _scatter(problem, z2, (problem.a - residual) * np.sqrt(weight))
    far = z2 > np.maximum(CLIP**2, np.where(like > 1, OF_ITS_LIKE**2 * like, 0))
    plane = np.zeros((ny + 2, nx + 2), bool)
    y, x = at.y[far] + 1, at.x[far] + 1
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            plane[y + dy, x + dx] = True
    return plane[at.y + 1, at.x + 1]


def _changed_sources(problem, state, residual, weight, tolerance):
    """Sources whose flux differs from the model's beyond noise and tolerance, if held out."""
    source, count, model = problem.at.source, len(problem.sources.x), state.model
    inside = source >= 0
    power = np.bincount(source[inside], (weight * model * model)[inside], count)
    change = np.bincount(source[inside], (weight * model * residual)[inside], count)
    with np.errstate(all="ignore"):
        delta, error = change / power, 1 / np.sqrt(power)
        asked = (5 * error < 2 * tolerance) & (np.abs(delta) > (1 - MOST) * tolerance)
        asked = np.flatnonzero(asked & ~problem.sources.constant)
        if len(asked) and len(state.matrix) == len(problem.layout.index):
            design = problem.design
            left = 1 - leverage(design, state.matrix, source, asked, model, weight)
            delta[asked] /= left
            error[asked] /= np.sqrt(left)
        return np.flatnonzero(
            (np.abs(delta) > np.hypot(5 * error, tolerance)) & ~problem.sources.constant
        )


def _pixels_of(problem, changed, model, sigma2):
    """Fit pixels that belong to the listed sources and carry their light."""
    listed = np.zeros(len(problem.sources.x) + 1, bool)
    listed[changed] = True
    listed[-1] = False
    return listed[problem.at.near] & (np.abs(model) > 0.3 * np.sqrt(sigma2))


def _solve(problem, state, residual, weight, corrected, known=None):
    """All unknowns, and the matrix: the last round's plus a correction; without a state, afresh.

    The right side is made of the residuals of the exact model, so that the normal matrix (its
    polynomials are constant over a block) decides how fast the rounds converge, not to what.
    """
    layout, design = problem.layout, problem.design
    n = layout.n_kernel
    matrix, vector = design.normal(residual, weight)
    sky_matrix, sky_vector = problem.sky.normal(layout.bg_order, design.shape)
    matrix[n:, n:] += sky_matrix
    vector[n:] += sky_vector
    if state is not None:
        vector += matrix @ state.solution
        vector[n:] -= sky_matrix @ state.solution[n:]
    priors.add_to(layout, matrix, _prior(problem, state or known))
    if corrected and problem.noise is None:
        # no more than the residuals show: a variance plane four times too large (GOTO, whose
        # template holds the science image) would have the noise overcorrected
        if problem.claimed is None:
            problem.claimed = min(_chi2(problem, state)["chi2_median"], 1.0)
        problem.noise = design.regressor_noise(problem.plane_var_b, weight) * problem.claimed
    noise = problem.noise if corrected else None
    if not problem.sharpens:
        solution = solve.solve(layout, matrix, vector, noise)
        problem.sharpens = noise is not None and _amplifies(problem, solution)
        if not problem.sharpens:
            return solution, matrix
    return solve.solve(layout, matrix, vector, noise, solve.SHARPENING), matrix


def _amplifies(problem, solution):
    """Whether a kernel is one that sharpens after all, whatever the widths of the images say.

    Images that were resampled have weak modes (EABA: a kernel with 3.6 times the noise).
    """
    kernel = _central(problem, solution)
    return np.square(kernel).sum() > AMPLIFIES * kernel.sum() ** 2


def _prior(problem, state):
    """What the kernel is expected to be, see `prior`.

    Weaker where the images have less noise than they claim, for then the stars say more.
    """
    known = state is not None
    kernel = _central(problem, state.solution) if known else _guess(problem)
    share = min(_chi2(problem, state)["chi2_median"], 1.0) if known else 1.0
    return priors.expected(problem.design.basis, kernel, problem.sigma) * share


def _guess(problem):
    """Gaussian that about matches the two images, (k, k)."""
    half = problem.design.basis.half
    profile = np.exp(-0.5 * np.square(np.arange(-half, half + 1) / problem.match_sigma))
    profile /= profile.sum()
    return problem.sources.scale * np.outer(profile, profile)


def _central(problem, solution):
    """The kernel at the centre of the field, (k, k)."""
    layout, (ny, nx) = problem.layout, problem.design.shape
    order = max(layout.order, layout.flux_order)
    centre = polynomial.evaluate(order, (nx - 1) / 2, (ny - 1) / 2, (ny, nx))
    coef, _ = layout.split(solution)
    return np.tensordot(coef @ centre, problem.design.basis.images, 1)


def _chi2(problem, state):
    """Chi-square per pixel in the footprints, of what was not excluded, and its robust twin."""
    keep = ~problem.excluded
    z2 = (np.square(problem.a - state.model) / _variance(problem, state))[keep]
    if not len(z2):
        return {"chi2": float("nan"), "chi2_median": 1.0}
    return {"chi2": float(z2[z2 < 36].mean()), "chi2_median": float(np.median(z2) / misfit.MEDIAN)}
