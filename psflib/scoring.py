"""The matched filter: how significant is a point source at each pixel."""

import numpy as np

from psflib.convolve import blend_nodes, node_grid
from psflib.difference import Difference

NODES = 3
COVERED = 0.5  # share of the PSF that must fall on usable pixels


def score(difference: Difference) -> np.ndarray:
    """Significance of a point source centred on each pixel, in sigma.

    The optimal filter for white noise of known variance (e.g. Zackay & Ofek 2017, ApJ 836, 187):
    sum(phi D / V) / sqrt(sum(phi² / V)), with masked pixels left out; 0 where less than half of
    the PSF falls on usable pixels.

    Returns
    -------
    ndarray (ny, nx) float32
    """
    top, bottom = filtered(difference)
    out = np.zeros(difference.shape, np.float32)
    np.divide(
        top, np.sqrt(bottom, where=bottom > 0, out=np.ones_like(bottom)), out=out, where=bottom > 0
    )
    return out


def filtered(difference: Difference) -> tuple[np.ndarray, np.ndarray]:
    """Numerator and squared denominator of the score; their ratio is the PSF flux (ADU).

    Both are 0 where less than half of the PSF falls on usable pixels.
    """
    size = psf_size(difference)
    x, y = node_grid(difference.shape, NODES)
    psfs = np.array([[difference.psf_at(i, j, size)[::-1, ::-1] for i in x] for j in y])
    usable = difference.usable & (difference.variance > 0)
    weight = np.zeros(difference.shape, np.float32)
    np.divide(1, difference.variance, out=weight, where=usable)
    varying = blend_nodes(psfs, x, y)
    top = varying.convolve(difference.image * weight)
    bottom = blend_nodes(np.square(psfs), x, y).convolve(weight)
    covered = varying.convolve(usable.astype(np.float32)) >= COVERED
    covered &= bottom > 1e-6 * np.median(bottom)
    top[~covered] = 0
    bottom[~covered] = 0
    return top, bottom


def psf_size(difference: Difference) -> int:
    """Odd side of the box that the PSF needs: three FWHM to each side."""
    ny, nx = difference.shape
    psf = difference.psf_at((nx - 1) / 2, (ny - 1) / 2, 31)
    area = 1 / np.square(psf).sum()  # noise area of a Gaussian: 4 pi sigma²
    fwhm = 2.355 * np.sqrt(area / (4 * np.pi))
    return 2 * int(np.ceil(2.5 * fwhm)) + 1
