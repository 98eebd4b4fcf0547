"""Filling of masked pixels from their surroundings, before a convolution or a resampling.

Filled values only keep damage local: their variance is raised so that pixels that see them lose
weight by themselves, and the mask is never cleared.
"""

import numpy as np
from scipy import ndimage

from psflib.image.exposure import Exposure, MaskBit, has_bits

#: Cap on a filled pixel's variance: more would drown the sky's variance in float32 transforms.
LARGEST = 1e4
MOFFAT_BETA = 3.0  # of the profile that fills saturated cores


def fill_masked(exposure: Exposure) -> tuple[np.ndarray, np.ndarray]:
    """Replace unusable pixels: saturated cores by a star profile, others by a local average.

    The average is Gaussian and normalised over good pixels; its width starts at the seeing and
    doubles twice for larger holes; what is still empty gets 0, the sky.  A saturated core is
    filled by a Moffat profile that fits the ring around it: an average would miss nine tenths of
    the light, and the error would be spread over the width of the matching kernel.

    Returns
    -------
    image, variance : ndarray (ny, nx) float32
        New arrays (ADU, ADU²); the variance of a filled pixel is
        2 * (typical variance) + (0.5 * fill)², up to `LARGEST` typical variances.
    """
    image, variance = exposure.image.copy(), exposure.variance.copy()
    # what was filled by a model of its own, as the cores of removed stars, is left as it is
    bad = ~exposure.usable & ~has_bits(exposure.mask, MaskBit.INTERP)
    if bad.all():
        return image, variance
    saturated = has_bits(exposure.mask, MaskBit.SAT)
    fwhm = exposure.meta.get("fwhm") or 3.0
    typical = float(np.median(variance[~bad]))
    labels, count = ndimage.label(bad, structure=np.ones((3, 3)))
    for number, box in enumerate(ndimage.find_objects(labels, count), 1):
        window = tuple(
            slice(max(s.start - int(4 * fwhm) - 1, 0), s.stop + int(4 * fwhm) + 1) for s in box
        )
        hole = labels[window] == number
        value = _average(image[window], ~bad[window], hole, fwhm)
        if saturated[window][hole].any():
            core = hole & saturated[window]
            value = np.where(
                core, np.maximum(value, _profile(image[window], ~bad[window], core, fwhm)), value
            )
        image[window][hole] = value[hole]
        doubt = 2 * typical + np.square(0.5 * value[hole])
        variance[window][hole] = np.minimum(doubt, LARGEST * typical)
    return image, variance


def _average(image, good, hole, fwhm):
    """Local average of good pixels, at the pixels of the hole."""
    value = np.zeros(hole.shape)
    missing = hole.copy()
    for factor in (1, 2, 4):
        sigma = factor * fwhm / 2.355
        weight = ndimage.gaussian_filter(good.astype(float), sigma, mode="constant")
        sums = ndimage.gaussian_filter(np.where(good, image, 0.0), sigma, mode="constant")
        known = missing & (weight > 0.1)
        value[known] = sums[known] / weight[known]
        missing &= ~known
        if not missing.any():
            break
    return value


def _profile(image, good, core, fwhm):
    """Moffat profile through the ring of good pixels around each saturated core."""
    total = np.zeros(core.shape)
    labels, count = ndimage.label(core, structure=np.ones((3, 3)))
    reach = max(2, int(fwhm))
    for number, box in enumerate(ndimage.find_objects(labels, count), 1):
        # its own window: a border without data can join stars of the whole image in one hole
        window = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in box)
        own, light = labels[window] == number, image[window]
        ring = good[window] & ndimage.binary_dilation(own, iterations=reach)
        if ring.sum() < 5:
            continue
        profile = _moffat(own, np.where(ring, np.maximum(light, 0), 0), fwhm)
        total[window] += np.where(own, np.median(light[ring] / profile[ring]) * profile, 0)
    return total


def _moffat(own, ring_light, fwhm):
    """Moffat profile of unit peak, centred on a core and on the light around it."""
    cy, cx = ndimage.center_of_mass(own)
    if ring_light.sum() > 0:  # the ring is brighter on the side to which the star is off centre
        cy, cx = np.mean([(cy, cx), ndimage.center_of_mass(ring_light)], axis=0)
    y, x = np.indices(own.shape)
    scale = 4 * (2 ** (1 / MOFFAT_BETA) - 1) / fwhm**2
    return (1 + scale * (np.square(y - cy) + np.square(x - cx))) ** -MOFFAT_BETA
