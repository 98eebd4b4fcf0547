"""What the methods of `ImagePsfMatchTask` return."""

import dataclasses
import math
from typing import Any, ClassVar

from psflib.image.exposure import Exposure
from psflib.lsst.task import Struct
from psflib.matching import MatchingKernel
from psflib.matching.apply import BackgroundModel
from psflib.matching.cells.grid import SpatialCellSet


@dataclasses.dataclass(frozen=True, eq=False)
class MatchResult(Struct):
    """What the methods of `ImagePsfMatchTask` return; attributes in LSST's spelling too.

    matched_image : Exposure
        The convolved image, in the flux scale of the other one; its sky is removed.
    psf_matching_kernel : MatchingKernel
    background_model : BackgroundModel
        Background in ADU of the image that was not convolved: the differential one of the fit and,
        if that image came with its sky, the sky.
    kernel_cell_set : SpatialCellSet
        All candidates, each with its status and the reason of its rejection.
    subtracted_image : Exposure or None
        The difference in science flux units, of the methods that subtract.
    template : Exposure or None
        The template on the grid of the science image, prepared.
    metadata : dict
        Counts, condition numbers, sizes and orders; plain values, None where one is not known.
    shown : object
        What the task's `show` returned; None if nothing was to be shown.

    Notes
    -----
    ``science - matched_image - background_model = subtracted_image`` to rounding, in all pixels
    with data, of the science image as it was given, with its sky or without.  If the science image
    was convolved, ``-(template - matched_image - background_model) / kernel sum``, with the
    template as it was given or, if it was warped, the result's `template`.
    """

    theirs: ClassVar[dict[str, str]] = {
        "matchedExposure": "matched_image",
        "subtractedExposure": "subtracted_image",
        "subtractedMaskedImage": "subtracted_image",
        "warpedExposure": "template",
    }

    matched_image: Exposure
    psf_matching_kernel: MatchingKernel
    background_model: BackgroundModel | None
    kernel_cell_set: SpatialCellSet
    subtracted_image: Exposure | None = None
    template: Exposure | None = None
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    shown: Any = None


def without_nan(value):
    """The value, a list or a dict of values, with None for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
