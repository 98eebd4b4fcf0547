"""Debug variables of `ImagePsfMatchTask`, and what it lets a callable see of a match.

The task draws nothing: it hands a `MatchView` to the callable it was given, such as
`psflib.figures.debug_figures`.
"""

import dataclasses
from typing import Any

from pydantic import Field

from psflib.image.exposure import Exposure
from psflib.lsst.draft import Draft
from psflib.matching import MatchingKernel
from psflib.matching.cells.grid import SpatialCellSet
from psflib.matching.cells.single import Pair
from psflib.matching.cells.spelling import EitherSpelling


class Debug(EitherSpelling):
    """What is shown of each match; nothing unless `display`."""

    display: bool = Field(False, description="show what the others ask for")
    mask_transparency: float = Field(30.0, ge=0, le=100, description="of masked pixels, percent")
    display_candidates: bool = Field(False, description="stamps of candidates and residuals")
    display_kernel_basis: bool = Field(False, description="images the kernel is a sum of")
    display_kernel_mosaic: bool = Field(False, description="the kernel over the field")
    plot_kernel_spatial_model: bool = Field(False, description="coefficients over the field")
    show_bad_candidates: bool = Field(False, description="the rejected candidates as well")
    display_template: bool = Field(False, description="the template on the science image's grid")
    display_sci_im: bool = Field(False, description="the science image")
    display_spatial_cells: bool = Field(False, description="cells and the candidates in them")
    display_diff_im: bool = Field(False, description="the difference in sigma, if there is one")


@dataclasses.dataclass(frozen=True, eq=False)
class MatchView:
    """A match as its figures need it.

    debug : Debug or a draft of it, what is asked for
    science, template : Exposure, prepared and on one grid
    pair : Pair, the image to be matched and the one to be convolved
    kernel : MatchingKernel
    cells : SpatialCellSet
    difference : Exposure or None
    """

    debug: Any
    science: Exposure
    template: Exposure
    pair: Pair
    kernel: MatchingKernel
    cells: SpatialCellSet
    difference: Exposure | None = None


def debug_of(variables) -> Draft:
    """Debug variables that can still be changed.

    Parameters
    ----------
    variables : Debug, Draft, dict, namespace (an object with attributes) or None

    Raises
    ------
    ValueError
        A variable that there is not, or something else.
    """
    if isinstance(variables, Draft):
        return variables
    if hasattr(variables, "__dict__") and not isinstance(variables, Debug | type):
        variables = {k: v for k, v in vars(variables).items() if not k.startswith("_")}
    if isinstance(variables, dict | None):
        variables = Debug(**(variables or {}))
    if not isinstance(variables, Debug):
        raise ValueError(f"debug is a Debug, a dict or a namespace; got {type(variables).__name__}")
    return Draft(variables)
