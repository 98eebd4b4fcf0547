"""The differential background by all of the sky, where a fit has seen sources above all.

Such a fit puts into its background what its kernel cannot do: wings beyond the kernel's box, the
shrinkage by the noise of the convolved image, faint neighbours (0.3 to 0.5 ADU in a sky of 300).
"""

import math

import numpy as np

from psflib.image.noise import clipped
from psflib.matching import pixels
from psflib.matching.equations import fit_background

LEAST_DARK = 0.05  # share of the pixels away from sources that tells the background


def dark_pixels(matched, usable, fwhm):
    """Pixels away from sources, chosen by no noise of their own: it would offset the background.

    A limit on the pixels themselves about 0, where the level of the matched image is 0.5 ADU, took
    those whose noise is negative: 0.1 ADU, six standard errors of 512 x 512 px.

    Parameters
    ----------
    matched : ndarray (ny, nx) float32
        The convolved image.
    usable : ndarray (ny, nx) bool
        Pixels that tell its level and noise.
    fwhm : float
        Of its stars, px.
    """
    smooth = pixels.smoothed(matched, fwhm / 2.355)
    level, spread = clipped(pixels.sample(smooth, usable))
    smooth -= np.float32(level)
    return ~pixels.grown(np.abs(smooth, out=smooth) > np.float32(5 * spread), math.ceil(2 * fwhm))


def background_of_sky(rest, variance, matched, usable, fwhm, order):
    """Coefficients of the background that is left in a difference; None without enough of sky.

    Parameters
    ----------
    rest, variance : ndarray (ny, nx) float32
        The difference, and the variance that weighs it: made of both images' `weight_variance`.
        What the convolved image's counts add to the difference's own variance follows its noise
        over the width of the kernel, which no regression pixel by pixel takes away.
    matched, usable, fwhm
        As of `dark_pixels`.
    order : int
        Degree of the polynomial.
    """
    dark = dark_pixels(matched, usable, fwhm) & usable & (variance > 0)
    if dark.sum() < LEAST_DARK * usable.sum():
        return None
    return fit_background(rest, variance, dark, order)
