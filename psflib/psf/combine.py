"""Robust combination of an aligned stack of stamps."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from psflib.image.checks import FLOATS, is_positive, require_choice, require_count
from psflib.loops.combine import clip_pixels, sum_between, sum_squares_between

METHODS = ("clipped_mean", "median")
SCALES = ("rms", "mad")
BLOCK = 1 << 17  # samples at a time: they stay in the processor's cache


@dataclasses.dataclass(frozen=True, eq=False)
class RobustCombined:
    """Planes of shape (h, w).

    Parameters
    ----------
    combined : ndarray float64
        Combined value; NaN where no sample survived.
    weight : ndarray float64
        Sum of the surviving weights (the count if no weights were given); 0 without survivor.
    count : ndarray uint32
        Number of survivors.
    variance : ndarray float64, optional
        Weighted sample variance of the survivors about `combined`, Σw(v - c)²/Σw · n/(n - 1);
        NaN with fewer than two.  Divided by the number of survivors it is the variance of an
        unweighted mean.
    """

    combined: np.ndarray
    weight: np.ndarray
    count: np.ndarray
    variance: np.ndarray | None = None


def robust_combine(
    stack,
    *,
    weight=None,
    method="clipped_mean",
    combine_kappa=3.0,
    combine_max_iter=5,
    clip_scale="rms",
    star_scale=None,
    sample_variance=False,
):
    """Combine an aligned stack along its first axis, rejecting outliers of either sign.

    "clipped_mean" rejects samples farther than `combine_kappa` times the RMS about the median
    from the (unweighted) median of the survivors, until nothing is removed, and returns the
    weighted mean; "median" is the unweighted median of all valid samples.

    Parameters
    ----------
    stack : ndarray (n, h, w) float32 or float64
        Samples that are not finite are left out.  It is not copied.
    weight : ndarray (n, h, w) of the same dtype, optional
        Inverse variances; a sample whose weight is not finite and positive is left out.
    method : {"clipped_mean", "median"}
    combine_kappa : float
        Threshold in RMS, above 0.
    combine_max_iter : int
        Cap on the rounds of clipping, above 0.
    clip_scale : {"rms", "mad"}
        Scale of the clipping: the RMS, or 1.4826 times the median of |v - median|, which the
        outliers themselves do not widen.
    star_scale : ndarray (n,) float64, optional
        Flux by which each stamp was divided: its weights are multiplied by the square.  A star
        whose scale is not finite and positive is left out.
    sample_variance : bool
        Also return the sample variance.

    Returns
    -------
    RobustCombined

    Raises
    ------
    ValueError
        For a wrong dtype, shape, method or clipping parameter.
    """
    _require_stack(stack, weight)
    require_combine(method, combine_kappa, combine_max_iter)
    require_choice("clip_scale", clip_scale, SCALES)
    factor = _star_factor(star_scale, len(stack))
    options = (method, float(combine_kappa), int(combine_max_iter), clip_scale, sample_variance)
    height, width = stack.shape[1:]
    planes = _empty_planes(height, width, sample_variance)
    rows = max(1, BLOCK // max(len(stack) * width, 1))
    for top in range(0, height, rows):
        band = slice(top, min(top + rows, height))
        part = None if weight is None else weight[:, band]
        _combine_band(stack[:, band], part, factor, options, [plane[band] for plane in planes])
    return RobustCombined(*planes)


def combine_chunks(
    chunks: Callable[[], Iterable], *, memory: float = 256.0, star_scale=None, **options
) -> RobustCombined:
    """`robust_combine` of a stack that does not fit into memory, with the identical result.

    A first pass over the chunks learns the size of the stack; every further pass collects a band
    of rows of all stars and combines it.  With enough memory for one band there are two passes.

    Parameters
    ----------
    chunks : callable
        Gives a fresh iterable of (stack, weight) each time it is called, stack (k, h, w) and
        weight of the same shape or None, in the same order: parts of the stack along its first
        axis.
    memory : float
        MB that a band may take.
    star_scale : ndarray (n,) float64, optional
        Of all stars, in the order of the chunks.
    **options
        As in `robust_combine`.

    Raises
    ------
    ValueError
        As `robust_combine`; for chunks that disagree, also between the passes.
    """
    if not is_positive(memory):
        raise ValueError(f"memory must be finite and > 0 MB; got {memory}")
    shapes, weighted, size = [], [], 4
    for stack, weight in chunks():
        _require_stack(stack, weight)
        shapes.append(stack.shape)
        weighted.append(weight is not None)
        size = max(size, stack.dtype.itemsize)
    if len({shape[1:] for shape in shapes}) > 1 or len(set(weighted)) > 1:
        raise ValueError(f"the chunks disagree: shapes {shapes}, with weights {weighted}")
    if not shapes:
        raise ValueError("there are no chunks")
    n, (height, width) = sum(shape[0] for shape in shapes), shapes[0][1:]
    rows = int(memory * 1e6 // max(2 * size * n * width, 1))
    rows = min(max(rows, 1), max(height, 1))
    parts = [
        _combined_band(chunks, shapes, slice(top, top + rows), star_scale, options)
        for top in range(0, max(height, 1), rows)
    ]
    variances: list[np.ndarray] = [p.variance for p in parts if p.variance is not None]
    return RobustCombined(
        np.concatenate([part.combined for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.count for part in parts]),
        np.concatenate(variances) if variances else None,
    )


def _combined_band(chunks, shapes, band, star_scale, options):
    """One band of rows of all chunks, combined."""
    stacks, weights, found = [], [], []
    for stack, weight in chunks():
        found.append(stack.shape)
        stacks.append(stack[:, band])
        weights.append(None if weight is None else weight[:, band])
    if found != shapes:
        raise ValueError(f"the chunks changed between two passes: {shapes}, then {found}")
    known = [part for part in weights if part is not None]
    weight = np.concatenate(known) if known else None
    return robust_combine(np.concatenate(stacks), weight=weight, star_scale=star_scale, **options)


def _empty_planes(height, width, sample_variance):
    planes = [np.empty((height, width)), np.empty((height, width))]
    planes.append(np.empty((height, width), np.uint32))
    return [*planes, np.empty((height, width))] if sample_variance else planes


def _combine_band(stack, weight, factor, options, planes):
    """Combine some rows, float64, and put the result into `planes`."""
    method, kappa, max_iter, clip_scale, sample_variance = options
    n, shape = len(stack), stack.shape[1:]
    values = np.array(stack, dtype=np.float64).reshape(n, shape[0] * shape[1])
    weights = np.ones(values.shape)
    if weight is not None:
        weights = np.array(weight, dtype=np.float64).reshape(values.shape)
    weights *= factor[:, None]
    values[~(np.isfinite(values) & np.isfinite(weights) & (weights > 0))] = np.nan
    low, high, middle, total, sums = (np.empty(values.shape[1]) for _ in range(5))
    count = np.empty(values.shape[1], np.uint32)
    ordered = np.sort(values.T, axis=1)  # NaN last
    median = method == "median"
    clip_pixels(ordered, median, kappa, max_iter, clip_scale == "mad", low, high, middle, count)
    sum_between(values, weights, low, high, total, sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        combined = middle if median else np.where(count > 0, sums / total, np.nan)
        results = [combined, total, count]
        if sample_variance:
            sum_squares_between(values, weights, low, high, combined, sums)
            correction = count / (count.astype(float) - 1)
            results.append(np.where(count > 1, sums / total * correction, np.nan))
    for plane, result in zip(planes, results, strict=True):
        plane[:] = result.reshape(shape)


def _require_stack(stack, weight):
    """The stack and its weights are ndarrays of one native float type; they are not copied."""
    fits = isinstance(stack, np.ndarray) and stack.ndim == 3 and stack.dtype.isnative
    if not fits or stack.dtype not in FLOATS:
        raise ValueError("stack must be a 3-D numpy array of dtype float32 or float64")
    if weight is None:
        return
    fits = isinstance(weight, np.ndarray) and weight.ndim == 3 and weight.dtype.isnative
    if not fits or weight.dtype != stack.dtype:
        raise ValueError(f"weight must be a 3-D numpy array of dtype {stack.dtype.name}")
    if weight.shape != stack.shape:
        raise ValueError(f"weight shape {weight.shape} must equal stack shape {stack.shape}")


def _star_factor(star_scale, n):
    """Squares of the stars' scales (n,), 0 where a scale is not finite and positive."""
    if star_scale is None:
        return np.ones(n)
    scale = np.asarray(star_scale, float)
    if scale.shape != (n,):
        raise ValueError(f"star_scale must have the shape ({n},); got {scale.shape}")
    return np.where(np.isfinite(scale) & (scale > 0), np.square(np.nan_to_num(scale)), 0.0)


def require_combine(method, kappa, max_iter):
    """Check the three parameters of the combination."""
    require_choice("combine", method, METHODS)
    max_iter = require_count(max_iter)
    if method == "clipped_mean" and (kappa <= 0 or max_iter == 0):
        raise ValueError(
            "ClippedMean requires kappa > 0 and max_iter > 0; "
            f"got kappa = {kappa}, max_iter = {max_iter}"
        )
