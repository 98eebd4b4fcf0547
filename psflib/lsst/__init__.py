"""LSST's tasks by their names: PSF matching of two images, decorrelation of their difference."""

from psflib.lsst.config import ImagePsfMatchConfig
from psflib.lsst.decorrelate_al_kernel import DecorrelateALKernelTask
from psflib.lsst.image_psf_match import ImagePsfMatchTask

__all__ = ["DecorrelateALKernelTask", "ImagePsfMatchConfig", "ImagePsfMatchTask"]
