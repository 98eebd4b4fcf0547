"""Kernels that have to sharpen: fitted to a broadened target, and brought back.

Asked for the kernel K that turns an image into a sharper one, stars cannot tell the amplified noise
of the one from the detail of the other (flux scales 5 to 40 % off).  The target convolved with a
Gaussian g is no sharper, and its kernel K' = g conv K is well known; K follows by division in
Fourier space, which leaves alone what g has taken away (pre-convolution; DMTN-179 has another use
of it).
"""

import dataclasses

import numpy as np
from scipy import fft

from psflib.image.convolve import constant_kernel
from psflib.matching.basis import alard_lupton
from psflib.matching.kernel import MatchingKernel

SLIGHT = 0.7  # px; quadratic difference of the sigmas up to which the basis sharpens by itself
REST = 0.5  # px; quadratic excess of the broadened target, so that K' is a kernel of some width
PASSED = 0.02  # transfer of g below which it is not divided by; amplitudes grow by up to 25
REACH = 4.0  # sigmas to which g is followed, and by which the brought-back kernel grows
COVERED = 0.999  # share of g that must fall on usable pixels


def broadening(fwhms) -> float:
    """Sigma (px) of the Gaussian that the target is to be convolved with; 0 if it is broad enough.

    fwhms : (float, float), of target and convolved image in px
    """
    lack = np.sqrt(max(fwhms[1] ** 2 - fwhms[0] ** 2, 0)) / 2.355
    return float(np.hypot(lack, REST)) if lack > SLIGHT else 0.0


def broadened(target, sigma: float):
    """Image, variance (of a pixel; neighbours are correlated) and usable pixels after it."""
    image, variance, usable = target
    gauss = _gaussian(sigma)
    typical = np.float32(np.median(variance[usable])) if usable.any() else np.float32(1)
    smooth = constant_kernel(gauss)
    covered = smooth.convolve(usable.astype(np.float32)) > COVERED  # 0 beyond the border
    noise = constant_kernel(gauss**2).convolve(np.where(usable, variance, typical))
    filled = np.where(usable, image, np.float32(0))
    floor = np.float32(1e-3 * np.sum(gauss**2)) * typical  # rounding of the transforms
    return smooth.convolve(filled), np.maximum(noise, floor), covered


def brought_back(kernel: MatchingKernel, sigma: float) -> MatchingKernel:
    """The kernel of the target itself from that of the broadened one; the same flux scale."""
    gauss = _gaussian(sigma)
    half = len(gauss) // 2
    images = np.pad(kernel.basis, ((0, 0), (half, half), (half, half)))
    size = images.shape[-1]
    side = fft.next_fast_len(size + len(gauss), real=True)
    transfer = np.abs(fft.rfft2(gauss, (side, side)))  # of the centred Gaussian: real, positive
    back = transfer / (transfer**2 + PASSED**2)
    images = fft.irfft2(fft.rfft2(images, (side, side)) * back, (side, side))[:, :size, :size]
    images[0] /= images[0].sum()
    images[1:] -= images[1:].sum((1, 2))[:, None, None] * images[0]
    meta = {**kernel.meta, "broadened": round(sigma, 3)}
    return dataclasses.replace(kernel, basis=images, meta=meta)


def _gaussian(sigma):
    """Pixel-integrated, of unit sum, (k, k) float64."""
    return alard_lupton(int(np.ceil(REACH * sigma)), [sigma], [0]).images[0]
