"""What each candidate says of a kernel that was fitted without asking it."""

import numpy as np

from psflib.matching.candidates import inner_box
from psflib.matching.cells import KernelCandidate, SpatialCellSet
from psflib.matching.kernel import MatchingKernel
from psflib.matching.single import Pair, residuals, stamp_difference, stamp_variance

TOLERANCE = 0.03  # change of flux that is no sign of a variable: the flux scale's own error


def assess_candidates(cells: SpatialCellSet, pair: Pair, kernel: MatchingKernel, config) -> None:
    """Judge all candidates that have been vetted by the residuals of `kernel`; sets their status.

    A candidate whose flux is not what the kernel predicts, by 5 sigma and 3 %, is "variable"; one
    whose residuals are off by more than the limits in `config` is "spatial mean" or "spatial std".
    """
    for one in cells.candidates:
        if one.status != "bad":
            _assess(one, pair, kernel, config)


def _assess(one: KernelCandidate, pair, kernel, config):
    image = kernel.at(one.x, one.y)
    background = float(kernel.background_at(one.x, one.y))
    found = residuals(one, pair, image, background, config)
    one.spatial_mean, one.spatial_std = found.mean, found.std
    change, error = flux_change(one, pair, image, background)
    if abs(change) > np.hypot(5 * error, TOLERANCE):
        one.reject("variable")
    elif not abs(found.mean) <= config.candidate_residual_mean_max:
        one.reject("spatial mean")
    elif not found.std <= config.candidate_residual_std_max:
        one.reject("spatial std")
    else:
        one.accept()


def flux_change(one, pair, kernel, background) -> tuple[float, float]:
    """Relative difference of a candidate's flux from the kernel's prediction, and its error.

    The amplitude of the prediction m that fits the residual r best, sum(w r m) / sum(w m²).
    """
    inner = inner_box(one.box, kernel.shape[0] // 2)
    residual = stamp_difference(one, pair, kernel, background)
    model = pair.target.image[inner] - residual - background
    weight = 1 / stamp_variance(one, pair, kernel)
    weight[~pair.target.usable[inner]] = 0
    power = np.sum(weight * model * model)
    if not power > 0:
        return 0.0, np.inf
    return float(np.sum(weight * residual * model) / power), float(1 / np.sqrt(power))
