"""Whitening filters: at one place, over the field, what they do to the noise and to the PSF."""

from psflib.whitening.covariance import CovarianceMaps
from psflib.whitening.field import constant_filter, varying_filter
from psflib.whitening.filters import filter_from_power, score_filter, whitening_filter
from psflib.whitening.propagate import NoiseOfInputs, propagate
from psflib.whitening.psf import DecorrelatedPsf
from psflib.whitening.sky import SkyVariance

__all__ = [
    "CovarianceMaps",
    "DecorrelatedPsf",
    "NoiseOfInputs",
    "SkyVariance",
    "constant_filter",
    "filter_from_power",
    "propagate",
    "score_filter",
    "varying_filter",
    "whitening_filter",
]
