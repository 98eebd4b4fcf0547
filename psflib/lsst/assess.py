"""What each candidate says of a kernel that was fitted without asking it."""

import numpy as np

from psflib.errors import NotEnoughStars
from psflib.image.exposure import UNUSABLE, Exposure, has_bits
from psflib.image.fill import fill_masked
from psflib.matching.cells.candidates import detect_candidates, inner_box, positions, vet_candidates
from psflib.matching.cells.config import PsfMatchConfig
from psflib.matching.cells.grid import KernelCandidate, SpatialCellSet, make_cells
from psflib.matching.cells.single import Pair, stamp_residual, statistics
from psflib.matching.kernel import MatchingKernel

TOLERANCE = 0.03  # change of flux that is no sign of a variable: the flux scale's own error
REACH = 1.5  # FWHM of the broader image, half side of the part of a stamp that is judged


def judge_candidates(
    science: Exposure, template: Exposure, kernel: MatchingKernel, config=None, candidates=None
) -> tuple[SpatialCellSet, Pair]:
    """Candidates of a pair on one grid, vetted, then judged by a kernel that is known.

    Parameters
    ----------
    science, template : Exposure
        Prepared.
    config : PsfMatchConfig, optional
    candidates : table with x and y, or (n, 2), optional
        Detected if not given.

    Returns
    -------
    cells : SpatialCellSet
    pair : Pair
        What was compared: the target, and the other image with its masked pixels filled.

    Raises
    ------
    NotEnoughStars
        There is no position at all.
    """
    config = config or PsfMatchConfig()
    found = find_candidates(science, template, config.detection_config, candidates)
    swapped = kernel.convolved == "science"
    target, convolved = (template, science) if swapped else (science, template)
    half = kernel.basis.shape[-1] // 2
    reach = int(np.ceil(REACH * max(e.meta.get("fwhm") or 3.0 for e in (science, template))))
    vetted = vet_candidates(
        found, template, science, config.detection_config, half + reach, margin=half
    )
    cells = make_cells(science.shape, config.size_cell_x, config.size_cell_y, vetted)
    image, variance = fill_masked(convolved)
    pair = Pair(target, convolved.replace(image=image, variance=variance, mask=None))
    assess_candidates(cells, pair, kernel, config)
    return cells, pair


def find_candidates(science, template, config, candidates=None):
    """The given candidates, or those detected on the image that the settings name.

    Raises
    ------
    NotEnoughStars
        There is none.
    """
    if candidates is None:
        candidates = detect_candidates(template if config.det_on_template else science, config)
    if len(positions(candidates)) == 0:
        raise NotEnoughStars("kernel candidates (none given or detected)", 0, 1)
    return candidates


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
    residual, variance = stamp_residual(one, pair, image, background)
    found = statistics(one, pair, residual, variance, config)
    one.spatial_mean, one.spatial_std = found.mean, found.std
    _, variance = stamp_residual(one, pair.weighing, image, background)
    change, error = flux_change(one, pair, residual, variance, background)
    if abs(change) > np.hypot(5 * error, TOLERANCE):
        one.reject("variable")
    elif not abs(found.mean) <= config.candidate_residual_mean_max:
        one.reject("spatial mean")
    elif not found.std <= config.candidate_residual_std_max:
        one.reject("spatial std")
    else:
        one.accept()


def flux_change(one, pair, residual, variance, background) -> tuple[float, float]:
    """Relative difference of a candidate's flux from the kernel's prediction, and its error.

    The amplitude of the prediction m that fits the residual r best, sum(w r m) / sum(w m²).
    """
    inner = inner_box(one.box, (one.box[0].stop - one.box[0].start - len(residual)) // 2)
    model = pair.target.image[inner] - residual - background
    weight = np.where(has_bits(pair.target.mask[inner], UNUSABLE), 0, 1 / variance)
    power = np.sum(weight * model * model)
    if not power > 0:
        return 0.0, np.inf
    return float(np.sum(weight * residual * model) / power), float(1 / np.sqrt(power))
