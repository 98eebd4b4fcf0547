"""The matching kernel that two PSFs imply, as `MatchingKernel`.

Proper subtraction convolves both images.  Its science filter c_n takes the part of the whitening
filter of an Alard-Lupton difference:  D = c_n (N - kappa R)  with  kappa = c_r / c_n = P_n / P_r,
times the flux scale.  So `whitening` of a proper difference is c_n, and its kernel is kappa, from
which everything that looks at a kernel learns what it wants to know.
"""

import numpy as np
from scipy import fft

from psflib.image import polynomial
from psflib.matching.kernel import MatchingKernel
from psflib.subtraction.zogy.filters import psf_spectrum
from psflib.subtraction.zogy.pair import MatchedPair

SMALLEST = 3e-3  # amplitude of the template's PSF below which it is not divided by
TERMS = 4  # images that vary, at most
ORDER = 2  # of their variation
KEPT = 1e-3  # of the kernel's change over the field, that a further image must add


def implied_kernel(matched: MatchedPair, nodes, support: int, meta: dict) -> MatchingKernel:
    """The kernel that would turn the template into the science image.

    Parameters
    ----------
    nodes : (x, y)
        Where the PSFs are compared; with fewer than 3 an axis the kernel does not vary.
    support : int
        Its width, px, odd.
    """
    x, y = nodes
    kernels = [_ratio(matched.pair.psfs(i, j), support) for j in y for i in x]
    basis, amplitudes = _principal(np.array(kernels))
    order = ORDER if min(len(x), len(y)) > ORDER else 0
    shape = matched.bad.shape
    terms = polynomial.evaluate(order, np.tile(x, len(y)), np.repeat(y, len(x)), shape)
    top = max(order, matched.scale_order)
    coef = np.zeros((len(basis), polynomial.n_terms(top)))
    coef[0, : len(matched.scale)] = matched.scale
    if len(basis) > 1:
        fitted = np.linalg.lstsq(terms.T, amplitudes.T, rcond=1e-10)[0].T
        centre = (shape[1] - 1) / 2, (shape[0] - 1) / 2
        coef[1:, : fitted.shape[1]] = fitted * matched.scale_at(*centre)
    return MatchingKernel(
        basis, coef, order, matched.scale_order, matched.background, matched.background_order,
        shape, "template", meta,
    )  # fmt: skip


def _ratio(psfs, support):
    """P_n / P_r, displaced as the template is; (support, support) of unit sum."""
    side = fft.next_fast_len(2 * support, real=True)
    p_n, p_r = (psf_spectrum(p, (side, side), float) for p in psfs)
    power = np.square(np.abs(p_r))
    plane = fft.irfft2(p_n * np.conj(p_r) / (power + SMALLEST**2), (side, side))
    half = support // 2
    index = np.arange(-half, half + 1) % side
    kernel = plane[np.ix_(index, index)]
    return kernel / kernel.sum()


def _principal(kernels):
    """Their mean, and the few images that tell how they differ, with amplitudes (terms, n)."""
    mean = kernels.mean(0)
    flat = (kernels - mean).reshape(len(kernels), -1)
    left, values, right = np.linalg.svd(flat, full_matrices=False)
    count = min(TERMS, int(np.sum(values > KEPT * np.linalg.norm(mean) * np.sqrt(len(kernels)))))
    images = right[:count].reshape(count, *mean.shape)
    return np.concatenate([mean[None], images]), (left[:, :count] * values[:count]).T
