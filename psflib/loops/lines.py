"""What lines of pixels and stamps hold in the middle."""

import numpy as np

from psflib.loops._numba import loop

TOGETHER = 16  # lines that are gathered at a time: columns are read in runs of a cache line


@loop
def line_statistics(image, rms, mask, clip, median, mean, count):
    """Median of image/rms of each column, its mean with values clipped to ±clip, and how many.

    For rows, hand in the transposed planes.
    """
    # image, rms (ny, nx) float32; mask (ny, nx), pixels but 0 are left out
    # median, mean (nx) float64, NaN of an empty line; count (nx) int64
    ny, nx = image.shape
    values = np.empty((TOGETHER, ny), np.float32)
    for x0 in range(0, nx, TOGETHER):
        width = min(TOGETHER, nx - x0)
        count[x0 : x0 + width] = 0
        for y in range(ny):
            for k in range(width):
                x = x0 + k
                if mask[y, x] == 0:
                    values[k, count[x]] = image[y, x] / rms[y, x]
                    count[x] += 1
        for k in range(width):
            x = x0 + k
            found = values[k, : count[x]]
            total = 0.0
            for value in found:
                total += min(max(value, -clip), clip)
            median[x] = np.median(found) if count[x] else np.nan
            mean[x] = total / count[x]


@loop
def line_means(image, rms, mask, clip, columns, rows):
    """Mean of image/rms, clipped to ±clip, of each column and row, and how many pixels it is of.

    For the lines that may stand out; only if some do are the medians worth their time.
    """
    # image, rms (ny, nx) float32; mask (ny, nx), pixels but 0 are left out
    # columns (2, nx), rows (2, ny) float64: mean, NaN of an empty line, and number
    ny, nx = image.shape
    columns[:] = 0.0
    rows[:] = 0.0
    for y in range(ny):
        for x in range(nx):
            if mask[y, x] == 0:
                value = min(max(image[y, x] / rms[y, x], -clip), clip)
                columns[0, x] += value
                columns[1, x] += 1
                rows[0, y] += value
                rows[1, y] += 1
    columns[0] /= columns[1]
    rows[0] /= rows[1]


@loop
def stamp_medians(values, use, out):
    """Median of the values of use in each stamp; NaN without any."""
    # values (n, s, s) float64; use (n, s, s) bool; out (n) float64
    size = values.shape[1]
    some = np.empty(size * size)
    for n in range(len(values)):
        count = 0
        for i in range(size):
            for j in range(size):
                if use[n, i, j]:
                    some[count] = values[n, i, j]
                    count += 1
        out[n] = np.median(some[:count]) if count else np.nan
