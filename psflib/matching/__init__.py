"""Matching of one image's PSF to another's by a convolution kernel that varies over the field."""

import importlib

from psflib.matching.config import ImagePsfMatchConfig
from psflib.matching.kernel import MatchingKernel
from psflib.matching.match import fit_kernel

__all__ = ["ImagePsfMatchConfig", "ImagePsfMatchTask", "MatchingKernel", "fit_kernel"]


def __getattr__(name: str):
    # the task subtracts as well, so it stands above `subtraction`, which imports this package
    if name == "ImagePsfMatchTask":
        return importlib.import_module("psflib.match_task").ImagePsfMatchTask
    raise AttributeError(f"module 'psflib.matching' has no attribute {name!r}")
