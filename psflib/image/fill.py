"""Filling of masked pixels from their surroundings, before a convolution or a resampling.

Filled values only keep damage local: their variance is raised so that pixels that see them lose
weight by themselves, and the mask is never cleared.
"""

import numpy as np
from scipy import ndimage

from psflib.image.exposure import Exposure, MaskBit, has_bits
from psflib.image.where import true_pixels
from psflib.loops.fill import local_averages
from psflib.loops.footprints import grow

#: Cap on a filled pixel's variance: more would drown the sky's variance in float32 transforms.
LARGEST = 1e4
STEP = 7  # every so many pixels tell the typical variance
REACH = 4.0  # sigma, of the averages
LEAST = 0.1  # of their weight that must fall on good pixels
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
    if bad.all() or not bad.any():
        return image, variance
    fwhm = exposure.meta.get("fwhm") or 3.0
    typical = float(np.median(variance[~bad][::STEP]))
    labels, count = ndimage.label(bad, structure=np.ones((3, 3)))
    boxes = ndimage.find_objects(labels, count)
    rows, columns = true_pixels(bad)
    value = _averages(image, bad, (rows, columns), labels[rows, columns] - 1, boxes, fwhm)
    image[rows, columns] = value
    saturated = has_bits(exposure.mask, MaskBit.SAT) & bad
    for number in np.unique(labels[saturated]):
        window = _window(boxes[number - 1], fwhm)
        core = (labels[window] == number) & saturated[window]
        profile = _profile(image[window], ~bad[window], core, fwhm)
        image[window][core] = np.maximum(image[window][core], profile[core])
    doubt = 2 * typical + np.square(0.5 * image[rows, columns])
    variance[rows, columns] = np.minimum(doubt, LARGEST * typical)
    return image, variance


def _window(box, fwhm):
    """What a hole is filled from: its box and 4 FWHM around it."""
    margin = int(4 * fwhm) + 1
    return tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in box)


def _averages(image, bad, places, hole, boxes, fwhm):
    """Local averages of good pixels at the places (row, column), each in the window of its hole."""
    windows = np.array([[(s.start, s.stop) for s in _window(box, fwhm)] for box in boxes])
    sigmas = np.array([1, 2, 4]) * fwhm / 2.355
    value, widest = np.zeros(len(hole)), int(REACH * sigmas[-1] + 0.5)
    seen = np.arange(len(hole))
    if any(min(s.stop - s.start for s in box) > widest for box in boxes):
        # what is further inside a large hole than any of the averages reaches is left out
        near = np.empty(bad.shape, bool)
        grow(~bad, widest, near)
        seen = np.flatnonzero(near[places])
    rows, columns = (axis[seen] for axis in places)
    found = np.zeros(len(seen))
    local_averages(image, bad, rows, columns, windows[hole[seen]], sigmas, REACH, LEAST, found)
    value[seen] = found
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
