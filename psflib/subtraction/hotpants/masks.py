"""Bits of HOTPANTS's masks, of the images that go in and of the difference."""

import numpy as np
from scipy import ndimage

BAD_VALUE, SATURATED, LOW, NOT_FINITE = 0x01, 0x02, 0x04, 0x08
BAD_CONVOLVED, IN_MASK, OK_CONVOLVED, INPUT_IS_BAD = 0x10, 0x20, 0x40, 0x80
IS_BAD = 0x8000  # the only one that blanks a pixel of the difference


def input_bits(plane, bad, low, high) -> np.ndarray:
    """Why a pixel of an image (ny, nx) is not used, uint16."""
    finite = np.isfinite(plane)
    values = np.where(finite, plane, low)
    bits = np.where(finite, 0, NOT_FINITE | INPUT_IS_BAD)
    bits |= np.where(finite & (values >= high), SATURATED | INPUT_IS_BAD, 0)
    bits |= np.where(finite & (values <= low), LOW | INPUT_IS_BAD, 0)
    if bad is not None:
        bits |= np.where(np.asarray(bad) != 0, IN_MASK | INPUT_IS_BAD, 0)
    return bits.astype(np.uint16)


def output_mask(good, convolved, target, half) -> np.ndarray:
    """Mask of the difference, uint16: 0 where no pixel under the kernel's box is bad.

    Parameters
    ----------
    good : ndarray (ny, nx) bool
        Where the difference means something.
    convolved, target : Exposure
        meta has `bits`.
    half : int
        Half width of the kernel, px.
    """
    mask = convolved.meta["bits"] | target.meta["bits"]
    bad = ~convolved.usable
    seen = ndimage.maximum_filter(bad, 2 * half + 1, mode="constant", cval=1)
    mask |= np.where(seen & good, OK_CONVOLVED, 0).astype(np.uint16)
    mask |= np.where(seen & ~good, BAD_CONVOLVED, 0).astype(np.uint16)
    mask |= np.where(good, 0, IS_BAD).astype(np.uint16)
    return mask
