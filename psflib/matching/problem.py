"""What a fit of the kernel starts from: pixels, equations, and degrees that the stars hold up."""

import dataclasses
import logging

import numpy as np

from psflib.errors import NotEnoughStars
from psflib.image import polynomial
from psflib.loops import footprints as loops
from psflib.matching import basis as bases
from psflib.matching import equations, pixels, solve

log = logging.getLogger(__name__)

START_ORDER = 2  # degree of the kernel until held-out cells have their say
BUDGET = 0.07  # largest share of the pixels to fit ...
LEAST_BUDGET, MOST_BUDGET = 70_000, 200_000  # ... but no fewer and no more than this


@dataclasses.dataclass
class Problem:
    """All that stays the same during the rounds.

    a, var_a, var_b : target and variances at the fit pixels, (n,) float64; var_b is spread as by
    the kernel;  smooth : first guess of K conv b there;  excluded : pixels of variable sources;
    plane_b, plane_var_b : the convolved image and its variance, (ny, nx) float32;  noise : of the
    regressors, in the normal matrix;  claimed : part of the variance that the residuals show.
    """

    a: np.ndarray
    var_a: np.ndarray
    var_b: np.ndarray
    plane_b: np.ndarray
    plane_var_b: np.ndarray
    smooth: np.ndarray
    excluded: np.ndarray
    sources: pixels.Sources
    design: equations.Design
    sky: equations.Sky
    fwhms: tuple[float, float]
    sharpens: bool
    noise: np.ndarray | None = None
    claimed: float | None = None

    @property
    def at(self):
        return self.design.at

    @property
    def layout(self):
        return self.design.layout

    @property
    def sigma(self):
        """Of the target's PSF, px."""
        return self.fwhms[0] / 2.355

    @property
    def match_sigma(self):
        """Of the Gaussian that about matches the two images, px."""
        return bases.match_sigma(self.fwhms[1], self.fwhms[0])

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


def enlarged(problem: Problem, state: State) -> tuple[Problem, State]:
    """The same with the larger basis, whose further images do not contribute yet."""
    basis = bases.sized_for(problem.fwhms[1], problem.fwhms[0], bases.LARGER)
    layout = dataclasses.replace(problem.layout, n_basis=len(basis.pair_x))
    design = equations.make_design(problem.plane_b, problem.at, basis, layout)
    known = bases.members(bases.DEGREES, bases.LARGER)
    old, background = problem.layout.split(state.solution)
    coef = np.zeros((len(known), old.shape[1]))
    coef[known] = old
    return (
        dataclasses.replace(
            problem, design=design, noise=None, sharpens=problem.fwhms[0] < problem.fwhms[1]
        ),
        dataclasses.replace(state, solution=layout.join(coef, background)),
    )


def prepare(target, convolved, fwhms, orders) -> Problem:
    """What the fit of the two images starts from; parameters as of `fit_kernel`."""
    a, var_a, good_a = target
    b, var_b, good_b = convolved
    good = good_a & good_b
    if not good.any():
        raise NotEnoughStars("matching kernel (no pixel is usable in both images)", 0, 1)
    basis = bases.sized_for(fwhms[1], fwhms[0])
    match_sigma = bases.match_sigma(fwhms[1], fwhms[0])
    smooth = pixels.smoothed(b, match_sigma)
    sources = pixels.find_sources((a, var_a), (b, var_b), smooth, good, fwhms[0])
    smooth *= polynomial.product_map(sources.trend, sources.order, a.shape)
    at, sky = _regions((a, var_a), var_b, smooth, good, ~good_b, sources, basis.half, fwhms[0])
    sharpens = fwhms[0] < fwhms[1]
    if sharpens:
        orders = (min(orders[0], START_ORDER), *orders[1:])
    layout = _layout(sources, at, orders, len(basis.pair_x))
    design = equations.make_design(b, at, basis, layout)
    change = np.where(sources.variable, sources.ratio / sources.scale - 1, 0.0)
    change = np.append(np.nan_to_num(change), 0.0)[at.near]
    at_fit = at.y, at.x
    excluded = np.abs(change * smooth[at_fit]) > 0.3 * np.sqrt(var_a[at_fit])
    return Problem(
        a[at_fit].astype(float), var_a[at_fit].astype(float),
        pixels.smoothed(var_b, match_sigma / np.sqrt(2))[at_fit].astype(float), b, var_b,
        smooth[at_fit].astype(float), excluded, sources, design,
        equations.sky_sums(np.subtract(a, smooth, out=smooth), var_a, sky),
        fwhms, sharpens,
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
    count = sources.count_useful()
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
