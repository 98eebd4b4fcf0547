"""Filling of masked pixels from their surroundings, before a convolution or a resampling.

Filled values only keep damage local: their variance is raised so that pixels that see them lose
weight by themselves, and the mask is never cleared.
"""

import numpy as np
from scipy import ndimage


def fill_masked(image, variance, bad, fwhm: float):
    """Replace `bad` pixels by a normalised Gaussian average of good ones.

    Parameters
    ----------
    image, variance : ndarray (ny, nx) float32
        Sky-free image in ADU and its variance in ADU².
    bad : ndarray (ny, nx) bool
    fwhm : float
        FWHM of the stars in px; the average starts at that width and doubles twice for holes
        that are larger; what is still empty gets 0, the sky.

    Returns
    -------
    image, variance : ndarray (ny, nx) float32
        New arrays; the variance of a filled pixel is 2 * (local variance) + (0.5 * fill)².
    """
    image, variance = image.copy(), variance.copy()
    labels, count = ndimage.label(bad, structure=np.ones((3, 3)))
    typical = float(np.median(variance[~bad])) if not bad.all() else 1.0
    for number, box in enumerate(ndimage.find_objects(labels, count), 1):
        _fill_region(image, variance, bad, labels, number, box, fwhm, typical)
    return image, variance


def _fill_region(image, variance, bad, labels, number, box, fwhm, typical):
    """Fill one connected region from its own neighbourhood."""
    margin = int(4 * fwhm) + 1
    window = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in box)
    hole = labels[window] == number
    good = ~bad[window]
    value = np.zeros(hole.shape)
    missing = hole.copy()
    for factor in (1, 2, 4):
        sigma = factor * fwhm / 2.355
        weight = ndimage.gaussian_filter(good.astype(float), sigma, mode="constant")
        sums = ndimage.gaussian_filter(np.where(good, image[window], 0.0), sigma, mode="constant")
        known = missing & (weight > 0.1)
        value[known] = sums[known] / weight[known]
        missing &= ~known
        if not missing.any():
            break
    image[window][hole] = value[hole]
    variance[window][hole] = 2 * typical + np.square(0.5 * value[hole])
