"""Robust combination of an aligned stack of stamps."""

import dataclasses

import numpy as np

from psflib.checks import require_array, require_choice, require_count, require_weight
from psflib.loops.combine import combine_stack

METHODS = ("clipped_mean", "median")


@dataclasses.dataclass(frozen=True, eq=False)
class RobustCombined:
    """Three planes of shape (h, w).

    Parameters
    ----------
    combined : ndarray float64
        Combined value; NaN where no sample survived.
    weight : ndarray float64
        Sum of the surviving weights (the count if no weights were given); 0 without survivor.
    count : ndarray uint32
        Number of survivors.
    """

    combined: np.ndarray
    weight: np.ndarray
    count: np.ndarray


def robust_combine(
    stack, *, weight=None, method="clipped_mean", combine_kappa=3.0, combine_max_iter=5
):
    """Combine an aligned stack along its first axis, rejecting outliers of either sign.

    "clipped_mean" rejects samples farther than `combine_kappa` times the RMS about the median
    from the (unweighted) median of the survivors, until nothing is removed, and returns the
    weighted mean; "median" is the unweighted median of all valid samples.

    Parameters
    ----------
    stack : ndarray (n, h, w) float32 or float64
        Samples that are not finite are left out.
    weight : ndarray (n, h, w) of the same dtype, optional
        Inverse variances; a sample whose weight is not finite and positive is left out.
    method : {"clipped_mean", "median"}
    combine_kappa : float
        Threshold in RMS, above 0.
    combine_max_iter : int
        Cap on the rounds of clipping, above 0.

    Returns
    -------
    RobustCombined

    Raises
    ------
    ValueError
        For a wrong dtype, shape, method or clipping parameter.
    """
    samples = require_array("stack", stack, 3)
    weights = require_weight(weight, stack, against="stack")
    require_combine(method, combine_kappa, combine_max_iter)
    n, height, width = stack.shape
    combined, total = np.empty(height * width), np.empty(height * width)
    count = np.empty(height * width, np.uint32)
    combine_stack(
        samples.reshape(n, height * width),
        weights.reshape(n, height * width),
        method == "median",
        float(combine_kappa),
        int(combine_max_iter),
        combined,
        total,
        count,
    )
    return RobustCombined(*(plane.reshape(height, width) for plane in (combined, total, count)))


def require_combine(method, kappa, max_iter):
    """Check the three parameters of the combination."""
    require_choice("combine", method, METHODS)
    max_iter = require_count(max_iter)
    if method == "clipped_mean" and (kappa <= 0 or max_iter == 0):
        raise ValueError(
            "ClippedMean requires kappa > 0 and max_iter > 0; "
            f"got kappa = {kappa}, max_iter = {max_iter}"
        )
