"""Matching of one image's PSF to another's by a convolution kernel that varies over the field."""

from psflib.matching.kernel import MatchingKernel
from psflib.matching.match import fit_kernel

__all__ = ["MatchingKernel", "fit_kernel"]
