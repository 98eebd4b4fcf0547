"""Matching of one image's PSF to another's by a convolution kernel that varies over the field."""

from psflib.matching.fit import fit_kernel
from psflib.matching.kernel import MatchingKernel

__all__ = ["MatchingKernel", "fit_kernel"]
