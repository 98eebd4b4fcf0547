"""Bright places of an image, found on blocks of pixels about as wide as a star."""

import math

import numpy as np

from psflib.loops._numba import loop


@loop
def block_snr(image, variance, mask, unusable, saturated, side, out, full):
    """S/N of the light of each block of side x side pixels, and whether one of them is saturated.

    Only usable pixels count; a block less than half of which is usable has S/N 0.
    """
    # image, variance, mask (ny, nx); out (by, bx) float32; full (by, bx) bool
    ny, nx = image.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            light = noise = 0.0
            count = 0
            full[i, j] = False
            for y in range(i * side, min((i + 1) * side, ny)):
                for x in range(j * side, min((j + 1) * side, nx)):
                    if mask[y, x] & saturated:
                        full[i, j] = True
                    if mask[y, x] & unusable or not variance[y, x] > 0:
                        continue
                    light += image[y, x]
                    noise += variance[y, x]
                    count += 1
            good = 2 * count >= side * side and noise > 0
            out[i, j] = light / math.sqrt(noise) if good else 0.0


@loop
def local_maxima(snr, full, threshold, reach, out):
    """Number of blocks above `threshold` that no block within `reach` surpasses; their places.

    Of equal blocks the first in reading order counts.  Blocks beside a saturated one are edges of
    its star, no stars.
    """
    # snr, full (by, bx); out (n, 2): row, column of the first n of them
    by, bx = snr.shape
    found = 0
    for i in range(by):
        for j in range(bx):
            value = snr[i, j]
            if not value > threshold or found == len(out):
                continue
            best = True
            for k in range(max(0, i - reach), min(by, i + reach + 1)):
                for m in range(max(0, j - reach), min(bx, j + reach + 1)):
                    earlier = k < i or (k == i and m < j)
                    if full[k, m] or snr[k, m] > value or (earlier and snr[k, m] == value):
                        best = False
                        break
                if not best:
                    break
            if best:
                out[found, 0], out[found, 1] = i, j
                found += 1
    return found


@loop
def light_centre(image, y0, y1, x0, x1):
    """Centre (x, y) of the positive light in rows y0 ... y1 - 1 and columns x0 ... x1 - 1."""
    total = cx = cy = 0.0
    for y in range(y0, y1):
        for x in range(x0, x1):
            light = max(np.float64(image[y, x]), 0.0)
            total += light
            cx += light * x
            cy += light * y
    if total <= 0:
        return (x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2
    return cx / total, cy / total
