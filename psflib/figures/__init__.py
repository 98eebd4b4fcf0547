"""Pictures of every stage: values in, a `matplotlib.figure.Figure` out.

Used by the report and by the widgets.  Nothing here computes a result: what is drawn is what
the stages found.  `to_png` turns a figure into bytes.
"""

from psflib.figures.candidates import candidate_gallery, score_map
from psflib.figures.canvas import message, to_png, to_webp
from psflib.figures.comparison import comparison
from psflib.figures.extended import extended_psf, halo
from psflib.figures.image import overview, plane, thumbnail, triplet
from psflib.figures.injection import completeness
from psflib.figures.kernel import blink, kernel
from psflib.figures.lightcurves import light_curve
from psflib.figures.match_debug import debug_figures
from psflib.figures.matching import (
    kernel_basis,
    kernel_candidates,
    kernel_cells,
    kernel_coefficients,
    kernel_fate,
    kernel_mosaic,
)
from psflib.figures.noise import noise, noise_field
from psflib.figures.psf import epsf
from psflib.figures.residuals import epsf_star
from psflib.figures.stamps import one_stamp, stamp_gallery
from psflib.figures.stars import star_selection

__all__ = [
    "blink",
    "candidate_gallery",
    "comparison",
    "completeness",
    "debug_figures",
    "epsf",
    "epsf_star",
    "extended_psf",
    "halo",
    "kernel",
    "kernel_basis",
    "kernel_candidates",
    "kernel_cells",
    "kernel_coefficients",
    "kernel_fate",
    "kernel_mosaic",
    "light_curve",
    "message",
    "noise",
    "noise_field",
    "one_stamp",
    "overview",
    "plane",
    "score_map",
    "stamp_gallery",
    "star_selection",
    "thumbnail",
    "to_png",
    "to_webp",
    "triplet",
]
