"""Matching of one image's PSF to another's by a convolution kernel that varies over the field."""

from psflib.lazy import lazy_names

_HOMES = {
    "MatchingKernel": "psflib.matching.kernel",
    "fit_kernel": "psflib.matching.fit",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
