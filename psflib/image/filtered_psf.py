"""The PSF of a filtered image."""

import dataclasses
from typing import Any

import numpy as np
from scipy import fft

from psflib.image.convolve import VaryingKernel


@dataclasses.dataclass(frozen=True)
class DecorrelatedPsf:
    """PSF convolved with the filter that was applied (DMTN-021, eq. 7).

    psf : object with ``at(x, y, size)``
        PSF of the image before the filter.
    whitening : VaryingKernel
        The blend of few terms itself, not the filter that it approximates, and with the weights
        of each pixel of the PSF rather than of its centre: fluxes fitted with it are exact.
    """

    psf: Any
    whitening: VaryingKernel

    def at(self, x: float, y: float, size: int = 41) -> np.ndarray:
        """PSF at (x, y): (size, size) float64, unit sum, centred."""
        if size % 2 == 0:
            raise ValueError(f"size must be odd, so that the PSF has a central pixel; got {size}")
        images = self.whitening.images
        wide = self.psf.at(x, y, size + images.shape[-1] - 1)
        offset = np.arange(size) - size // 2
        weights = self.whitening.weights((x + offset)[None, :], (y + offset)[:, None])
        image = np.sum(weights * _inner(wide, images, size), 0)
        return image / image.sum()


def _inner(wide, images, size):
    """Each image's convolution with `wide`, without the border that it lacks light for."""
    side = fft.next_fast_len(len(wide), real=True)
    product = fft.rfft2(wide, (side, side)) * fft.rfft2(images, (side, side))
    first = images.shape[-1] - 1
    inner = slice(first, first + size)
    return fft.irfft2(product, (side, side))[:, inner, inner]
