"""LSST's tasks by their names: PSF matching of two images, decorrelation of their difference."""

from psflib.lsst.config import ImagePsfMatchConfig
from psflib.lsst.debug import Debug
from psflib.lsst.decorrelate_al_kernel import DecorrelateALKernelTask
from psflib.lsst.decorrelation_values import DecorrelateALKernelConfig
from psflib.lsst.image_psf_match import ImagePsfMatchTask
from psflib.matching.cells.config import PsfMatchConfigAL, PsfMatchConfigDF

__all__ = [
    "Debug",
    "DecorrelateALKernelConfig",
    "DecorrelateALKernelTask",
    "ImagePsfMatchConfig",
    "ImagePsfMatchTask",
    "PsfMatchConfigAL",
    "PsfMatchConfigDF",
]
