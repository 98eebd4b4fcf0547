"""The fit: weights, assembly, solution, and pixels that do not fit thrown out."""

import dataclasses
import logging

import numpy as np
from scipy import ndimage

from psflib.errors import SingularFit
from psflib.image.convolve import convolve_by_tiles
from psflib.image.noise import robust_std
from psflib.matching.misfit import MEDIAN
from psflib.subtraction.sfft import normal
from psflib.subtraction.sfft.fourier import by_transforms
from psflib.subtraction.sfft.model import Model
from psflib.subtraction.sfft.solver import Penalties, Solver

log = logging.getLogger(__name__)

ASSEMBLIES = ("auto", "fourier", "tiles", "gram")
STIFF = 0  # degree of the first kernel
START = 60_000  # pixels whose fit tells the first kernel
TOP_RANK = 100  # brightest pixels that are judged by their own scatter
BLATANT = 5.0  # sigma ...
UNLIKE = 0.25  # ... and share of the light nearby, beyond which no kernel explains a pixel
FLOOR = 0.1  # model error at the start, relative to the light
TILE = 64  # px, tiles with one squared kernel each
SPARSE = 0.25  # share of pixels below which the model is made at those only
SETTLED = 5e-3  # share of pixels newly thrown out below which it is the last round
CORRECTIONS = 4  # terms of the series against the noise of the template
REFINEMENTS = 20  # most corrections of what tiles neglect ...
SMALL = 0.2  # ... until one gains less than this share of what noise makes of the unknowns
ASTRAY = 1e-3  # error of chi-square, relative, above which they come before the rejection
MARGIN = 10  # pixels that a fit must have beyond its unknowns


@dataclasses.dataclass(frozen=True)
class Planes:
    """What is fitted: (ny, nx) planes without holes, and the pixels that count.

    variance : of target and template, ADU²;  use : bool; the template is 0 beyond the border
    """

    target: np.ndarray
    template: np.ndarray
    variance: tuple[np.ndarray, np.ndarray]
    use: np.ndarray


@dataclasses.dataclass(frozen=True)
class Rules:
    """How it is fitted.

    weighted : by inverse variances, else all alike;  clip : sigma, 0 for none;  corrected : for
    the noise of the template, which shrinks the kernel;  lenient : sigma of the scatter that
    exceeds the noise, for pixels whose errors are known; 0: the clip counts for it as well
    """

    assembly: str = "auto"
    weighted: bool = True
    clip: float = 3.0
    max_iter: int = 5
    penalties: Penalties = dataclasses.field(default_factory=Penalties)
    corrected: bool = False
    lenient: float = 0.0


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Unknowns and how they came about.

    matrix : normal matrix;  variance : of target minus model (ny, nx);  used : bool (ny, nx)
    rms : ADU, of the pixels used;  n_iter : rounds of rejection
    """

    solution: np.ndarray
    matrix: np.ndarray
    solver: Solver
    variance: np.ndarray
    used: np.ndarray
    residual: np.ndarray
    assembly: str
    n_iter: int

    @property
    def rms(self) -> float:
        return float(np.sqrt(np.mean(np.square(self.residual[self.used]))))


def fit(model: Model, planes: Planes, rules: Rules) -> Fitted:
    """Fit the kernel.

    Raises
    ------
    SingularFit
        Fewer pixels than unknowns, or no solution.
    """
    check_count(model, int(planes.use.sum()))
    assembly = choose_assembly(model, planes.use, rules)
    exact = assembly != "tiles"
    plane = np.ascontiguousarray(planes.template, float if exact else np.float32)
    planes = dataclasses.replace(planes, template=plane)
    planes, base, variance, light = _begin(model, planes, rules, exact)
    weight = 1 / variance if rules.weighted else np.ones(model.shape, np.float32)
    rest = planes.target - light
    solver = Solver(model, rules.penalties)
    middles: dict[int, tuple] = {}
    matrix, right = _assemble(assembly, model, planes, planes.use, weight, rest, middles)
    solution, used, n_iter = solver.step(matrix, right, base), planes.use, 0
    light = predict(model, solution, planes, assembly)
    if not exact and _astray(planes, weight, rest, light, (matrix, right), solution - base):
        solution = refined(model, planes, used, weight, (solution, light), solver)
        base, rest = solution, planes.target - predict(model, solution, planes, assembly)
        _, right = normal.by_tiles(model, planes.template, used, weight, rest, matrix=False)
        light = planes.target - rest
    while rules.clip > 0 and n_iter < rules.max_iter:
        rest_now = planes.target - light
        out = outliers(rest_now, variance, light, used, rules.clip, rules.lenient)
        if not out.any():
            break
        n_iter += 1
        used = used & ~out
        check_count(model, int(used.sum()))
        # few pixels: exactly, or with the approximation that the others have
        few = "gram" if assembly == "fourier" else assembly
        less, less_right = _assemble(few, model, planes, out, weight, rest, middles)
        matrix, right = matrix - less, right - less_right
        solution = solver.step(matrix, right, base)
        light = predict(model, solution, planes, assembly)
        if out.sum() <= SETTLED * used.sum():
            break
    if rules.penalties.smooth == "gcv":
        chi2 = float(np.sum((weight * np.square(rest))[used]))
        solver.choose(matrix, right, base, chi2, int(used.sum()))
        solution = solver.step(matrix, right, base)
    if not exact:
        known = solution, None if rules.penalties.smooth == "gcv" else light
        solution = refined(model, planes, used, weight, known, solver)
    if rules.corrected:
        # no more than the residuals show, as `matching.fit` does: exposures in both images (GOTO)
        # had a noise four times too large overcorrected, and 13 sigma left of its bright stars
        share = min(_median_chi2(planes.target - light, variance, used), 1.0)
        noise = normal.noise_by_tiles(model, planes.variance[1], used, weight) * share
        solution = _corrected(model, noise, solution, solver)
    residual = planes.target - predict(model, solution, planes, assembly)
    return Fitted(solution, matrix, solver, variance, used, residual, assembly, n_iter)


def _begin(model, planes, rules, exact):
    """Planes without what no kernel explains, first unknowns, variance and model with them."""
    base = np.zeros(model.n_unknowns)
    if rules.clip or not exact:
        base = _start(model, _stiff(model) if rules.clip else model, planes, rules)
    variance = noise_variance(model, base, planes.variance)
    light = predict(model, base, planes, "tiles")
    if rules.clip:
        use = planes.use & ~_changed(model, planes, variance, light)
        check_count(model, int(use.sum()))
        planes = dataclasses.replace(planes, use=use)
    if not exact:
        return planes, base, variance, light
    base = np.zeros(model.n_unknowns)
    return planes, base, noise_variance(model, base, planes.variance), np.zeros_like(light)


def _astray(planes, weight, rest, light, equations, change) -> bool:
    """Whether chi-square is not what the normal equations of tiles say it is."""
    (matrix, right), use = equations, planes.use
    before = float(weight[use] @ np.square(rest[use]))
    expected = before - 2 * right @ change + change @ matrix @ change
    found = float(weight[use] @ np.square((planes.target - light)[use]))
    return abs(found - expected) > ASTRAY * found


def refined(model, planes, used, weight, known, solver) -> np.ndarray:
    """Solution of the exact equations, by conjugate gradients from that of the tiles'.

    The factors of the tiles' matrix precondition them, so that one or two steps do.

    known : that solution, and the model that it makes, or None
    """

    def seen(unknowns):
        return predict(model, unknowns, planes, "tiles")

    def adjoint(plane):
        return normal.by_tiles(model, planes.template, used, weight, plane, matrix=False)[1]

    penalty = solver.penalties_of
    solution, light = known
    rest = planes.target - (seen(solution) if light is None else light)
    limit = SMALL * model.n_unknowns * float(weight[used] @ np.square(rest[used])) / used.sum()
    gradient = adjoint(rest) + solver.towards(penalty, solution)
    direction = solver.solve(gradient)
    gain = gradient @ direction
    for _ in range(REFINEMENTS):
        if gain < limit:
            return solution + direction
        image = seen(direction)
        product = adjoint(image) + penalty @ direction
        length = gain / (direction @ product)
        solution = solution + length * direction
        gradient = gradient - length * product
        step = solver.solve(gradient)
        gain, before = gradient @ step, gain
        direction = step + gain / before * direction
    return solution


def _corrected(model, noise, solution, solver):
    """Solution without the shrinkage that the noise of the template causes.

    Noise of variance v adds N to the expected normal matrix M; (M + N)⁻¹ is to become M⁻¹.  The
    series of (M + N)⁻¹ N does so where the data say something, and stays finite where not.
    """
    result = solution
    for _ in range(CORRECTIONS):
        more = np.zeros_like(solution)
        kernel = np.einsum("stqr,tr->sq", noise, model.split(result)[0], optimize=True)
        more[: model.n_kernel] = kernel.ravel()
        result = solution + solver.solve(more)
    return result


def _median_chi2(residual, variance, used) -> float:
    """Chi-square per pixel, by its median."""
    return float(np.median(np.square(residual[used]) / variance[used]) / MEDIAN)


def check_count(model, count) -> None:
    """Refuse fewer pixels than the unknowns need."""
    if count < model.n_unknowns + MARGIN:
        raise SingularFit(
            f"{count} usable pixels for {model.n_unknowns} unknowns; "
            f"{model.n_unknowns + MARGIN} are needed"
        )


def choose_assembly(model, use, rules) -> str:
    """The assembly that is asked for, or the cheapest that can do it.

    Transforms are dear where many pixels do not count: those are summed up one by one.
    """
    if rules.assembly not in ASSEMBLIES:
        raise ValueError(f"unknown assembly {rules.assembly!r}; one of {', '.join(ASSEMBLIES)}")
    if rules.assembly == "fourier" and rules.weighted:
        raise ValueError("the assembly fourier has no weights: weighted=False, tiles or gram")
    if rules.assembly == "fourier" and model.spline is not None:
        raise ValueError("the assembly fourier has no B-splines: tiles or gram")
    if rules.assembly != "auto":
        return rules.assembly
    if rules.weighted or model.spline is not None:
        return "tiles"
    border = 2 * model.half[0] * model.shape[1] + 2 * model.half[1] * model.shape[0]
    outside = use.size - use.sum() + border
    return "fourier" if 2 * outside * model.n_terms**2 < use.sum() else "tiles"


def _assemble(assembly, model, planes, use, weight, rest, middles):
    if assembly == "fourier":
        return by_transforms(model, planes.template, use, rest)
    if assembly == "tiles":
        return normal.by_tiles(model, planes.template, use, weight, rest, middles)
    y, x = np.nonzero(use)
    return normal.exactly(model, planes.template, y, x, weight[use].astype(float), rest[use])


def _start(model, stiff, planes, rules):
    """A first kernel from part of the pixels; light that is not in the model yet weighs less.

    stiff : the same model or one of lower degree, which is the one that is fitted
    """
    step = max(1, round(np.sqrt(planes.use.sum() / START)))
    use = np.zeros_like(planes.use)
    use[::step, ::step] = planes.use[::step, ::step]
    if use.sum() < 3 * model.n_unknowns:
        use = planes.use
    variance = planes.variance[0] + np.square(FLOOR * planes.target)
    weight = 1 / variance if rules.weighted else np.ones(model.shape, np.float32)
    base = np.zeros(stiff.n_unknowns)
    matrix, right = normal.by_tiles(
        stiff, planes.template, use, weight, planes.target, coarse=1 + (step > 1)
    )
    first = dataclasses.replace(rules.penalties, smooth=max(rules.penalties.ridge, 1e-3))
    if rules.penalties.absolute:
        first = dataclasses.replace(rules.penalties, smooth=0.0)
    kernel, background = stiff.split(Solver(stiff, first).step(matrix, right, base))
    if model.spline is None:
        kernel = np.pad(kernel, ((0, 0), (0, model.n_terms - stiff.n_terms)))
    return np.concatenate([kernel.ravel(), background])


def _stiff(model) -> Model:
    """The model with a kernel that is the same all over the field, if polynomials vary it."""
    if model.spline is not None:
        return model
    order = min(model.order, STIFF)
    return dataclasses.replace(model, order=order, flux_order=min(model.flux_order, order))


def _changed(model, planes, variance, light) -> np.ndarray:
    """Pixels (ny, nx) that a stiff kernel does not explain, and a third of the kernel around them.

    A flexible one would: in a corner with one bright star it takes a new source beside that star
    for its wing.
    """
    around = [2 * max(1, half // 3) + 1 for half in model.half]
    # of the light nearby: where a PSF gets wider the residual in its wings exceeds these
    floor = np.square(np.float32(UNLIKE) * ndimage.maximum_filter(light, around))
    far = np.square(planes.target - light) > BLATANT**2 * variance + floor
    return ndimage.maximum_filter(far & planes.use, around)


def noise_variance(model, solution, variances) -> np.ndarray:
    """Variance (ny, nx) float32 of target minus convolved template, noise of both white."""
    target, template = variances
    if not solution.any():
        return np.asarray(target, np.float32) + np.float32(0)
    kernels = np.square(model.varying(solution).on_tiles(model.shape, TILE))
    noise = convolve_by_tiles(np.asarray(template, np.float32), kernels, TILE)
    return np.maximum(noise, 0) + np.asarray(target, np.float32)


def is_sparse(use, assembly) -> bool:
    """Whether the model is made at the pixels that count only."""
    return assembly == "tiles" and use.mean() <= SPARSE


def predict(model, solution, planes, assembly):
    """Model (ny, nx); where pixels that count are few, at those only."""
    if not solution.any():
        return np.zeros(model.shape, np.float32)
    if not is_sparse(planes.use, assembly):
        return model.matched(solution, planes.template, exact=assembly != "tiles")
    out = np.zeros(model.shape, np.float32)
    coefficients, background = model.split(solution)
    flat = coefficients.astype(np.float32)
    for _, y, x in normal.tiles_of(planes.use):
        columns = normal.seen(model, planes.template, y, x, np.ones(len(y), np.float32))
        terms, plain = model.both_at(x, y)
        out[y, x] = np.einsum("pq,qp->p", columns[:, :-1] @ flat, terms) + background @ plain
    return out


def outliers(residual, variance, light, use, clip, lenient=0.0) -> np.ndarray:
    """Pixels (ny, nx) off by more than the clip, with their neighbours.

    In sigma of the noise, or of the scatter of equally bright pixels if that is larger: where a
    model is wrong by 1 % of the light, the cores of all bright stars would go.  What a model
    lacks has long tails: of GOTO's few bright stars each round clipped the next 8 % of the pixels,
    until a third was gone; so what exceeds the noise counts `lenient` times, if that is set.
    """
    z = residual[use] / np.sqrt(variance[use])
    level = light[use]
    count = np.array([TOP_RANK * (2**i - 1) for i in range(1, 31)])
    first = len(level) - count[2 * count < len(level)][::-1]
    tops = np.sort(level)[first]  # vectorised, and faster than a partition at many places
    edges = np.unique(tops)
    group = np.searchsorted(edges, level, side="right")
    least = robust_std(z[:: max(1, len(z) // 100_000)])
    spread = np.full(len(edges) + 1, least)
    for i in np.unique(group):
        spread[i] = max(least, 1.4826 * np.median(np.abs(z[group == i])))
    limit = clip * spread
    if lenient:
        limit = clip * max(least, 1.0) + lenient * (spread - least)
    far = np.zeros(use.shape, bool)
    far[use] = np.abs(z) > limit[group]
    return ndimage.binary_dilation(far, np.ones((3, 3))) & use
