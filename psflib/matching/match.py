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

from psflib import polynomial
from psflib.convolve import node_grid
from psflib.errors import NotEnoughStars
from psflib.loops import footprints as loops
from psflib.matching import basis as bases
from psflib.matching import equations, pixels, selection, solve
from psflib.matching import prior as priors
from psflib.matching.accuracy import kernel_error
from psflib.matching.kernel import MatchingKernel
from psflib.matching.leverage import MOST, leverage

log = logging.getLogger(__name__)

FLOORS = (0.1, 0.03, 0.002, 0.002)  # model-error floor of each round, fraction of the model
TOLERANCES = (0.10, 0.05, 0.03, 0.02)  # flux change of a source that is tolerated, by round
START_ORDER = 2  # degree of the kernel until held-out cells have their say ...
CHOICE = 2  # ... before this round
NODES = 9  # an axis, at which the kernel is asked whether it sharpens
AMPLIFIES = 1.5  # times the noise, that a kernel makes of it before its weak modes are shrunk
BUDGET = 0.07  # largest share of the pixels to fit ...
LEAST_BUDGET, MOST_BUDGET = 70_000, 200_000  # ... but no fewer and no more than this


@dataclasses.dataclass
class Problem:
    """All that stays the same during the rounds.

    a, var_a, var_b : target and variances at the fit pixels, (n,) float64; var_b is spread as by
    the kernel;  smooth : first guess of K conv b there;  excluded : pixels of variable sources.
    """

    a: np.ndarray
    var_a: np.ndarray
    var_b: np.ndarray
    plane_var_b: np.ndarray
    smooth: np.ndarray
    excluded: np.ndarray
    sources: pixels.Sources
    design: equations.Design
    sky: equations.Sky
    sigma: float
    match_sigma: float
    sharpens: bool
    noise: np.ndarray | None = None

    @property
    def at(self):
        return self.design.at

    @property
    def layout(self):
        return self.design.layout

    def use(self, layout):
        """Fit these unknowns from now on."""
        self.design = dataclasses.replace(self.design, layout=layout)


@dataclasses.dataclass(frozen=True)
class State:
    """Result of a round: unknowns, what was left out, the model at the fit pixels, and the
    normal matrix with its prior."""

    solution: np.ndarray
    clipped: np.ndarray
    dropped: int
    model: np.ndarray
    matrix: np.ndarray


@threadpool_limits.wrap(limits=1, user_api="blas")  # the same bits whatever the threads
def fit_kernel(target, convolved, fwhms, *, orders, convolved_name="template") -> MatchingKernel:
    """Fit the kernel that turns `convolved` into `target`.

    Parameters
    ----------
    target, convolved : tuple (image, variance, usable)
        Planes (ny, nx); `convolved` has its bad pixels filled.
    fwhms : (float, float)
        FWHM of target and convolved in px.
    orders : (int, int, int)
        Highest degrees of the kernel, its sum, and the background; lowered for few sources.

    Raises
    ------
    NotEnoughStars, SingularFit
    """
    problem = _prepare(target, convolved, fwhms, orders)
    highest = problem.layout
    problem.use(dataclasses.replace(highest, order=min(highest.order, START_ORDER)))
    state: Any = None
    for number, (floor, tolerance) in enumerate(zip(FLOORS, TOLERANCES, strict=True)):
        if number == CHOICE:
            state = _choose(problem, state, highest)
        state = _round(problem, state, floor, tolerance)
    layout = problem.layout
    coef, background = layout.split(state.solution)
    counts = {
        "order": layout.order,
        "lowered": highest.order < min(orders[0], START_ORDER),
        "n_sources": int(np.isfinite(problem.sources.ratio).sum()),
        "n_variable": int(problem.sources.variable.sum()),
        "n_dropped": state.dropped,
        "n_pixels": len(problem.at.y),
        "n_clipped": int(state.clipped.sum()),
        **_chi2(problem, state),
    }
    kernel = MatchingKernel(
        problem.design.basis.images, coef, layout.order, layout.flux_order, background,
        layout.bg_order, problem.design.shape, convolved_name, counts,
    )  # fmt: skip
    counts["deconvolved"] = _deconvolved(kernel)
    share = min(counts["chi2_median"], 1.0)
    counts["kernel_error"] = kernel_error(problem.design, state.matrix, fwhms[1], share)
    if counts["deconvolved"] > 0:
        log.warning(
            "the kernel sharpens the %s over %.0f %% of the field: neither image is the sharper "
            "one everywhere", convolved_name, 100 * counts["deconvolved"],
        )  # fmt: skip
    log.info("kernel: %s", counts)
    return kernel


def _deconvolved(kernel):
    """Share of the field where the kernel amplifies white noise, as only a deconvolution does."""
    grid = kernel.on_grid(*node_grid(kernel.shape, NODES))
    return float(np.mean(np.square(grid).sum((1, 2)) > np.square(grid.sum((1, 2)))))


def _prepare(target, convolved, fwhms, orders):
    a, var_a, good_a = target
    b, var_b, good_b = convolved
    good = good_a & good_b
    if not good.any():
        raise NotEnoughStars("matching kernel (no pixel is usable in both images)", 0, 1)
    basis = bases.sized_for(fwhms[1], fwhms[0])
    match_sigma = max(np.sqrt(max(fwhms[0] ** 2 - fwhms[1] ** 2, 0)) / 2.355, 0.7)
    smooth = pixels.smoothed(b, match_sigma)
    sources = pixels.find_sources((a, var_a), (b, var_b), smooth, good, fwhms[0])
    smooth *= polynomial.product_map(sources.trend, sources.order, a.shape)
    at, sky = _regions((a, var_a), var_b, smooth, good, ~good_b, sources, basis.half, fwhms[0])
    sharpens = fwhms[0] < fwhms[1]
    if sharpens:
        log.warning("the kernel is to sharpen: FWHM %.2f px from %.2f px", *fwhms)
        orders = (min(orders[0], START_ORDER), *orders[1:])
    layout = _layout(sources, at, orders, len(basis.pair_x))
    design = equations.make_design(b, at, basis, layout)
    change = np.where(sources.variable, sources.ratio / sources.scale - 1, 0.0)
    change = np.append(np.nan_to_num(change), 0.0)[at.near]
    at_fit = at.y, at.x
    excluded = np.abs(change * smooth[at_fit]) > 0.3 * np.sqrt(var_a[at_fit])
    return Problem(
        a[at_fit].astype(float), var_a[at_fit].astype(float),
        pixels.smoothed(var_b, match_sigma / np.sqrt(2))[at_fit].astype(float), var_b,
        smooth[at_fit].astype(float), excluded, sources, design,
        equations.sky_sums(np.subtract(a, smooth, out=smooth), var_a, sky),
        fwhms[0] / 2.355, match_sigma, sharpens,
    )  # fmt: skip


def _regions(target, var_b, signal, good, filled, sources, half, fwhm):
    """Footprints to fit the kernel on, sky to fit the background on."""
    a, var_a = target
    scale = np.float32(sources.scale)
    margin = min(half, int(np.ceil(fwhm)))
    sigma_a = np.sqrt(np.median(pixels.sample(var_a, good)))
    noise = np.sqrt(sigma_a**2 + scale**2 * np.median(pixels.sample(var_b, good)))
    inside = pixels.footprints(signal, noise, good, filled, half, margin)
    budget = int(np.clip(BUDGET * a.size, LEAST_BUDGET, MOST_BUDGET))
    chosen = pixels.most_telling(signal, var_a, inside, budget)
    source = np.full(a.shape, -1, np.int32)
    distance2 = np.full(a.shape, pixels.FAR, np.float32)
    loops.nearest_source(sources.x, sources.y, 4.0 * fwhm, source, distance2)
    at = pixels.sort_pixels(inside, chosen, source, distance2, fwhm)
    sky = pixels.sky(signal, sigma_a, good, distance2, 1.5 * fwhm, inside, margin)
    return at, sky


def _layout(sources, at, orders, n_basis):
    """Degrees that the number of sources holds up."""
    with np.errstate(invalid="ignore"):
        useful = (
            np.isfinite(sources.ratio) & (sources.error < 0.1 * sources.ratio) & ~sources.variable
        )
    count = int(useful.sum())
    if count == 0:
        raise NotEnoughStars("matching kernel", 0, 1)
    if len(at.y) < 2 * n_basis:
        inside = len(np.unique(at.source[at.source >= 0]))
        signal = f"{len(at.y)} pixels with signal off the borders, {2 * n_basis} needed"
        raise NotEnoughStars(f"matching kernel ({signal})", inside, inside + 1)
    limit = 0 if count < 8 else 1 if count < 20 else 2 if count < 100 else 3
    order, flux_order, bg_order = orders
    lowered = solve.Layout(
        n_basis, min(order, limit), min(flux_order, limit), min(bg_order, limit + 1)
    )
    if lowered.order < min(order, START_ORDER):
        log.warning(
            "only %d sources for the kernel: its degree is %d, not %d", count, lowered.order, order
        )
    return lowered


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
    if not first and weight @ np.square(problem.a - model) > 1.05 * (weight @ residual**2):
        # noise-free images: what the blocks' polynomials leave out exceeds all weak modes
        solution, matrix = _solve(problem, None, problem.a, weight, corrected, state)
        model = problem.design.model(*problem.layout.split(solution))
    return State(solution, clipped, dropped, model, matrix)


def _choose(problem, state, highest):
    """State with the unknowns that predict held-out cells best, at most the highest."""
    weight = 1 / _variance(problem, state)
    residual = problem.a - state.model
    weight[problem.excluded | _clip_pixels(problem, residual, weight)] = 0
    old = problem.layout
    prior = _prior(problem, state)
    problem.use(selection.choose(problem, state, weight, prior, highest))
    solution = solve.convert(state.solution, old, problem.layout)
    model = problem.design.model(*problem.layout.split(solution))
    return dataclasses.replace(state, solution=solution, model=model)


def _variance(problem, state):
    """Variance of target minus model, at the fit pixels."""
    return problem.var_a + _kernel_power(problem, state) * problem.var_b


def _kernel_power(problem, state):
    """Sum of the squared kernel at the centre of the field."""
    if state is None:
        return problem.sources.scale**2 * 0.3  # a Gaussian of a pixel's sigma keeps 0.28 of it
    return np.square(_central(problem, state.solution)).sum()


def _clip_pixels(problem, residual, weight):
    """Fit pixels off by more than 6 sigma, with their neighbours."""
    at, (ny, nx) = problem.at, problem.design.shape
    far = np.square(residual) * weight > 36
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
        claimed = _chi2(problem, state)["chi2_median"]
        problem.noise = design.regressor_noise(problem.plane_var_b, weight) * min(claimed, 1.0)
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
    """Inverse covariance of the kernel's variation, see `prior.precision`.

    Weaker where the images have less noise than they claim, for then the stars say more.
    """
    if state is None:
        return priors.precision(problem.design.basis, _guess(problem), problem.sigma)
    expected = priors.precision(
        problem.design.basis, _central(problem, state.solution), problem.sigma
    )
    return expected * min(_chi2(problem, state)["chi2_median"], 1.0)


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
    return {"chi2": float(z2[z2 < 36].mean()), "chi2_median": float(np.median(z2) / 0.4549)}
