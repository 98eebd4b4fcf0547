"""Step 3, the filter applied: image, variance, covariance and mask of what comes out."""

import numpy as np

from psflib.decorrelation.noise_model import scale_by_kernel_sum
from psflib.decorrelation.propagate import NoiseOfInputs, propagate
from psflib.image.convolve import VaryingKernel
from psflib.image.covariance import CovarianceMaps
from psflib.image.difference import Difference
from psflib.image.exposure import MaskBit, has_bits


def filtered_noise(
    difference: Difference, inputs: NoiseOfInputs, whitening: VaryingKernel
) -> tuple[np.ndarray, CovarianceMaps]:
    """Variance and covariance after the filter, in the units of the difference."""
    variance, covariance = propagate(inputs, whitening)
    kernel, (ny, nx) = difference.kernel, difference.shape
    if inputs.kernel is not None and kernel.convolved == "science":
        scale_by_kernel_sum(kernel, variance, -2)
        total = kernel.kernel_sum((nx - 1) / 2, (ny - 1) / 2)
        np.divide(covariance.maps, total**2, out=covariance.maps)
    return variance, covariance


def apply_filter(
    difference: Difference, whitening: VaryingKernel, variance, covariance
) -> Difference:
    """Whitened difference, its variance and mask, blank where there are no data."""
    image = whitening.convolve(np.where(difference.usable, difference.image, np.float32(0)))
    mask = difference.mask.copy()
    half = max(1, whitening.images.shape[-1] // 8)  # nearly all of psi lies in its inner quarter
    for edge in (np.s_[:half], np.s_[-half:], np.s_[:, :half], np.s_[:, -half:]):
        mask[edge] |= np.uint16(MaskBit.EDGE)
    no_data = has_bits(mask, MaskBit.NO_DATA)
    image[no_data] = 0
    variance[no_data] = 0
    np.maximum(variance, 0, out=variance)
    return difference.replace(
        image=image, variance=variance, mask=mask, whitening=whitening, covariance=covariance
    )
