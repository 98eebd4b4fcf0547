"""Where a proper difference means nothing: what the holes of both images do to it."""

import numpy as np

from psflib.image.convolve import convolve_sparse
from psflib.image.exposure import MaskBit, has_bits
from psflib.subtraction.doubts import BRIGHT, tail
from psflib.subtraction.zogy.pair import masked_share


def doubt_of_fill(planes, holes, filters, sigma) -> np.ndarray:
    """One sigma of the error that filled-in values leave in D, ADU (ny, nx) float32.

    Half of each filled value, through the image's filter; around saturated stars also beyond the
    box of the PSFs, whose light nobody knows there.

    Parameters
    ----------
    planes, holes : pairs of ndarray (ny, nx)
        Images with their holes filled, on one flux scale (ADU), and where they were filled.
    filters : pair of ndarray (k, k)
        c_n and c_r at the field's centre.
    sigma : pair of float
        Typical noise of the two, ADU.
    """
    total = np.zeros(planes[0].shape, np.float32)
    for plane, hole, filter_, noise in zip(planes, holes, filters, sigma, strict=True):
        size = np.abs(plane)
        total += np.square(convolve_sparse(0.5 * size, hole, np.abs(filter_)))
        bright = hole & (size > BRIGHT * noise)
        if bright.any():
            total += np.square(convolve_sparse(size, bright, tail(np.abs(filter_))))
    return np.sqrt(total)


def proper_mask(science, template, filters, spoiled, bad_fraction) -> np.ndarray:
    """Bits of the science image; EDGE and TEMPLATE where a hole of either image rules.

    Parameters
    ----------
    science, template : Exposure
    filters : pair of ndarray (k, k)
    spoiled : ndarray (ny, nx) bool
        Where filled-in values are in doubt.
    bad_fraction : float
        Share of a filter's weight on masked pixels above which the result is masked.
    """
    mask = science.mask.copy()
    shares = [
        masked_share(~e.usable, f) > bad_fraction
        for e, f in zip((science, template), filters, strict=True)
    ]
    mask[(shares[0] | spoiled) & science.usable] |= np.uint16(MaskBit.EDGE)
    mask[shares[1] | ~template.usable] |= np.uint16(MaskBit.TEMPLATE)
    no_data = has_bits(template.mask, MaskBit.NO_DATA)
    mask[no_data] |= np.uint16(MaskBit.NO_DATA | MaskBit.TEMPLATE)
    return mask
