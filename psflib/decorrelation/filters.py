"""The whitening filter of one kernel and two noise powers.

Convolving the template with kappa correlates the noise of the difference.  A filter psi makes it
white (Reiss & Lupton 2016, DMTN-021, eq. 6):

    psi(k)² = [s² + t² K²] / [s² + t² |kappa(k)|²],      K = kappa(0),

here with the noise power of both images in place of the plain variances, so that noise that was
correlated before (by warping or stacking) is whitened too.  psi(0) = 1 keeps fluxes.
"""

import numpy as np
from scipy import fft

from psflib.image import noise

REACH = 3  # half widths of the kernel that a filter may reach
FAINT = 1e-5  # power that a pre-convolution lets pass, below which nothing is left to weight
CROPPED = 1e-3  # share of a filter's absolute sum that may be cut off


def whitening_filter(kappa, svar, tvar, rho_s=None, rho_t=None, crop=None):
    """The filter psi for one kernel, (2 * crop + 1, 2 * crop + 1) float64 of unit sum.

    Parameters
    ----------
    kappa : ndarray (k, k)
        Matching kernel, k odd.
    svar, tvar : float
        Variance (ADU²) of the image that was not convolved, and of the one that was.
    rho_s, rho_t : ndarray (odd, odd), optional
        Noise correlation of each image; None means white.
    crop : int, optional
        Half width of the result, px; default the kernel's width less one.
    """
    crop = kappa.shape[0] - 1 if crop is None else crop
    side = transform_side(crop)
    power = svar * _power(rho_s, side)
    power = power + tvar * _power(rho_t, side) * np.abs(spectrum(kappa, side)) ** 2
    return filter_from_power(power, crop)


def score_filter(kappa, pre, svar, tvar, rho_s=None, rho_t=None, crop=None):
    """The filter that makes a pre-convolved difference a likelihood of point sources.

    The difference is  pre * S - kappa * T; with `pre` the PSF of S turned by 180 degrees the
    result is proportional to the matched filter's output on the whitened difference (Zackay,
    Ofek & Gal-Yam 2016, eq. 12; DMTN-179):

        corr(k) = [s² + t² K²] / [s² + t² |kappa(k)|² / |pre(k)|²],

    the quotient of the two powers going to 0 where both are rounding.

    Parameters
    ----------
    pre : ndarray (p, p)
        Kernel of unit sum that the science image was convolved with; other parameters as of
        `whitening_filter`.
    """
    crop = kappa.shape[0] - 1 if crop is None else crop
    side = transform_side(max(crop, pre.shape[0]))
    passed = np.abs(spectrum(pre, side)) ** 2
    ratio = np.abs(spectrum(kappa, side)) ** 2 * passed / (passed**2 + FAINT**2)
    power = svar * _power(rho_s, side) + tvar * _power(rho_t, side) * ratio
    return _cropped(power.flat[0] / power, crop, side)


def filter_from_power(power: np.ndarray, crop: int) -> np.ndarray:
    """Filter that whitens noise of this power, cropped to 2 * crop + 1 px, of unit sum.

    power : ndarray on an rfft2 grid of a square image.
    """
    return _cropped(np.sqrt(power.flat[0] / power), crop, power.shape[0])


def transform_side(crop: int) -> int:
    """Side of the transforms, px: wide enough that a filter of this reach does not wrap."""
    return fft.next_fast_len(max(4 * crop, 64), real=True)


def spectrum(image: np.ndarray, side: int) -> np.ndarray:
    """rfft2 of one image (k, k) or of several (..., k, k), k odd, the central pixel at 0."""
    k = image.shape[-1]
    plane = np.zeros((*image.shape[:-2], side, side))
    plane[..., :k, :k] = image
    return fft.rfft2(np.roll(plane, (-(k // 2), -(k // 2)), (-2, -1)))


def reach(filters: np.ndarray, lost: float = CROPPED) -> int:
    """Smallest half width that holds all but `lost` of each filter's (n, k, k) absolute sum."""
    middle = filters.shape[-1] // 2
    size = np.abs(filters)
    total = size.sum((1, 2))
    for half in range(middle):
        box = slice(middle - half, middle + half + 1)
        if np.all(size[:, box, box].sum((1, 2)) >= (1 - lost) * total):
            return half
    return middle


def cut(filters: np.ndarray, half: int) -> np.ndarray:
    """Filters (..., k, k) cut to 2 * half + 1 px, of unit sum."""
    middle = filters.shape[-1] // 2
    inner = filters[..., middle - half : middle + half + 1, middle - half : middle + half + 1]
    return inner / inner.sum((-2, -1), keepdims=True)


def _cropped(transfer, crop, side):
    plane = fft.fftshift(fft.irfft2(transfer, (side, side)))
    middle = side // 2
    plane = plane[middle - crop : middle + crop + 1, middle - crop : middle + crop + 1]
    return plane / plane.sum()


def _power(rho, side):
    return 1.0 if rho is None else noise.power_spectrum(rho, (side, side))
