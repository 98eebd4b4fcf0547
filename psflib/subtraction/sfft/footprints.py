"""The fit of a field on the footprints of its sources, variable ones left out."""

import dataclasses
import logging

import numpy as np
from threadpoolctl import threadpool_limits

from psflib.errors import NotEnoughStars
from psflib.image import polynomial
from psflib.loops import footprints as loops
from psflib.matching import bounds, misfit, pixels
from psflib.matching.kernel import MatchingKernel
from psflib.settings.subtract import MOST_FLUX_RANGE
from psflib.subtraction.sfft.fit import MARGIN, Fitted, Planes, Rules, fit
from psflib.subtraction.sfft.model import Model
from psflib.subtraction.sfft.result import matching_kernel
from psflib.subtraction.sfft.shapes import mixed_shapes
from psflib.subtraction.sfft.solver import Penalties

log = logging.getLogger(__name__)

BUDGET = 0.07  # largest share of the pixels to fit ...
LEAST_BUDGET = 70_000  # ... but no fewer than this
CLIP = 4.0  # sigma; variable sources are out already
LENIENT = 8.0  # sigma of what bright pixels scatter beyond the noise
REACH = 3.0  # half width of the kernel in FWHM of the broader image
RELIEF = 0.1  # cross-validation asks for more smoothness than the few brightest stars bear
CELLS = 8  # an axis, in which footprints are counted
STARS = (8, 20, 300)  # useful sources from which degree 1, 2, 3 is possible


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Degrees, the kernel's side (0: by the seeing), where its pixels are free, smoothness."""

    order: int
    flux_order: int
    bg_order: int
    size: int
    inner: float
    smooth: float | str
    flux_range: float = MOST_FLUX_RANGE


@threadpool_limits.wrap(limits=1, user_api="blas")  # the same bits whatever the threads
def fit_kernel(target, convolved, fwhms, wanted: Wanted, convolved_name) -> MatchingKernel:
    """Fit the kernel that turns `convolved` into `target`; arguments as of `matching.fit_kernel`.

    Raises
    ------
    NotEnoughStars, SingularFit, BadImage
    """
    (a, var_a, good_a), (b, var_b, good_b) = target, convolved
    good = good_a & good_b
    if not good.any():
        raise NotEnoughStars("matching kernel (no pixel is usable in both images)", 0, 1)
    match_sigma = max(np.sqrt(max(fwhms[0] ** 2 - fwhms[1] ** 2, 0)) / 2.355, 0.7)
    smooth = pixels.smoothed(b, match_sigma)
    sources = pixels.find_sources((a, var_a), (b, var_b), smooth, good, fwhms[0])
    smooth *= polynomial.product_map(sources.trend, sources.order, a.shape)
    half = _half(wanted.size, max(fwhms), a.shape)
    margin = min(half, int(np.ceil(fwhms[0])))
    use = _footprints((a, var_a), var_b, smooth, good, ~good_b, sources, (half, margin))
    use &= ~_variable(sources, smooth, var_a, fwhms[0])
    planes = Planes(np.where(good_a, a, 0), b, (_filled(var_a), _filled(var_b)), use)

    def fit_of(order, flux_order):
        lower = dataclasses.replace(wanted, order=order, flux_order=flux_order)
        return _fitted(sources, planes, half, lower, convolved_name)

    kernel = bounds.within_bounds(fit_of, wanted.order, wanted.flux_order, wanted.flux_range)
    kernel.meta["lowered"] = kernel.order < wanted.order
    log.info("kernel: %s", kernel.meta)
    return kernel


def _fitted(sources, planes, half, wanted, convolved_name) -> bounds.Fitted:
    """The kernel of these degrees, or of lower ones for few sources."""
    use = planes.use
    covered = dataclasses.replace(wanted, bg_order=_covered(use, wanted.bg_order))
    model = _model(sources, use.shape, half, covered, int(use.sum()))
    expected = np.zeros(model.n_terms)
    known = min(len(expected), len(sources.trend))
    expected[:known] = sources.trend[:known]
    penalties = Penalties(
        constraint="hard", smooth=wanted.smooth, relief=RELIEF, expected=expected
    )  # fmt: skip
    lenient = LENIENT if sources.count_useful() >= misfit.STARS else 0.0
    rules = Rules("tiles", clip=CLIP, penalties=penalties, corrected=True, lenient=lenient)
    fitted = fit(model, planes, rules)
    counts = {
        "order": model.order,
        "n_sources": int(np.isfinite(sources.ratio).sum()),
        "n_variable": int(sources.variable.sum()),
        "n_pixels": int(use.sum()),
        "n_clipped": int(use.sum() - fitted.used.sum()),
        "smoothness": fitted.solver.strength,
        **_chi2(fitted, use),
    }
    kernel = matching_kernel(model, fitted.solution, convolved_name, counts)
    rows, columns = (np.flatnonzero(use.any(axis)) for axis in (1, 0))
    region = float(columns[0]), float(columns[-1]), float(rows[0]), float(rows[-1])
    # the sky tells the rest, see `al`
    lacking = polynomial.n_terms(wanted.bg_order) - len(kernel.background)
    background = np.pad(kernel.background, (0, max(lacking, 0)))
    kernel = dataclasses.replace(
        kernel, region=region, background=background, bg_order=max(wanted.bg_order, kernel.bg_order)
    )
    useful = sources.useful
    return bounds.Fitted(
        kernel, model.order, model.flux_order, sources.x[useful], sources.y[useful],
        sources.scale,
    )  # fmt: skip


def _covered(use, order):
    """Highest degree of the background that footprints hold: they fill cells all over the field.

    Stars in a corner had a background of degree 3 make noise nine times too large elsewhere.
    """
    y, x = np.nonzero(use)
    cells = len(np.unique(CELLS * y // use.shape[0] * CELLS + CELLS * x // use.shape[1]))
    return min(order, 0 if cells < CELLS else 1 if cells < CELLS**2 / 2 else order)


def _filled(variance):
    """Variance with the typical value where there is none."""
    known = variance > 0
    return np.where(known, variance, np.float32(np.median(variance[known])))


def _half(size, fwhm, shape):
    """Half width of the kernel, at most a fifth of the image."""
    half = int(np.ceil(REACH * fwhm)) if size == 0 else size // 2
    return max(1, min(half, (min(shape) - 1) // 5))


def _footprints(target, var_b, signal, good, filled, sources, reach):
    """The most telling pixels with the light of sources, off the border by 1 FWHM."""
    a, var_a = target
    scale = np.float32(sources.scale)
    sigma_a = np.sqrt(np.median(pixels.sample(var_a, good)))
    noise = np.sqrt(sigma_a**2 + scale**2 * np.median(pixels.sample(var_b, good)))
    inside = pixels.footprints(signal, noise, good, filled, *reach)
    budget = max(LEAST_BUDGET, int(BUDGET * a.size))
    chosen = pixels.most_telling(signal, var_a, inside, budget)
    blocks = np.kron(chosen, np.ones((pixels.BLOCK, pixels.BLOCK), bool))
    return inside & blocks[: a.shape[0], : a.shape[1]]


def _variable(sources, signal, variance, fwhm):
    """Pixels that the change of a variable source reaches, (ny, nx) bool."""
    source = np.full(signal.shape, -1, np.int32)
    distance2 = np.full(signal.shape, pixels.FAR, np.float32)
    loops.nearest_source(sources.x, sources.y, 4.0 * fwhm, source, distance2)
    change = np.where(sources.variable, sources.ratio / sources.scale - 1, 0.0)
    change = np.append(np.nan_to_num(change), 0.0).astype(np.float32)[source]
    return np.abs(change * signal) > np.float32(0.3) * np.sqrt(variance)


def _model(sources, shape, half, wanted, count):
    """The model with degrees that sources and pixels hold up."""
    number = sources.count_useful()
    shapes = mixed_shapes(half, wanted.inner if wanted.inner > 0 else 2.0 * half)
    limit = sum(number >= stars for stars in STARS)
    for order in range(min(wanted.order, limit), -1, -1):
        model = Model(
            shape, (2 * half + 1,) * 2, order, min(wanted.bg_order, limit + 1),
            min(wanted.flux_order, order), None, shapes,
        )  # fmt: skip
        if count >= model.n_unknowns + MARGIN:
            break
    else:
        signal = f"{count} pixels with signal off the borders, {model.n_unknowns + MARGIN} needed"
        raise NotEnoughStars(f"matching kernel ({signal})", number, number + 1)
    if order < wanted.order:
        log.warning(
            "only %d sources for the kernel: its degree is %d, not %d", number, order, wanted.order
        )
    return model


def _chi2(fitted: Fitted, use):
    """Chi-square per pixel in the footprints, and its robust twin."""
    z2 = np.square(fitted.residual[use]) / fitted.variance[use]
    return {"chi2": float(z2[z2 < 36].mean()), "chi2_median": float(np.median(z2) / misfit.MEDIAN)}
