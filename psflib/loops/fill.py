"""Averages of the good pixels around masked ones."""

import numpy as np

from psflib.loops._numba import loop


@loop
def local_averages(image, bad, rows, columns, windows, sigmas, reach, least, out):
    """Gaussian average of the good pixels around each place, out (n); untouched without any.

    The first of the `sigmas` (px, cut at `reach` of them) counts that has more than `least` of its
    weight on good pixels of the window.  image (ny, nx) float32; bad (ny, nx) bool; rows, columns
    (n); windows (n, 2, 2): first and last + 1, of rows and columns.
    """
    ny, nx = image.shape
    widest = int(reach * sigmas[-1] + 0.5)
    taps = np.zeros((len(sigmas), widest + 1))
    for s in range(len(sigmas)):
        total = 0.0
        for k in range(int(reach * sigmas[s] + 0.5) + 1):
            taps[s, k] = np.exp(-0.5 * (k / sigmas[s]) ** 2)
            total += taps[s, k] if k == 0 else 2 * taps[s, k]
        taps[s] /= total
    for p in range(len(rows)):
        y, x = rows[p], columns[p]
        (top, low), (left, right) = windows[p]
        top, low, left, right = max(top, 0), min(low, ny), max(left, 0), min(right, nx)
        for s in range(len(sigmas)):
            half = int(reach * sigmas[s] + 0.5)
            weight = light = 0.0
            for j in range(max(y - half, top), min(y + half + 1, low)):
                factor = taps[s, abs(j - y)]
                for i in range(max(x - half, left), min(x + half + 1, right)):
                    if not bad[j, i]:
                        tap = factor * taps[s, abs(i - x)]
                        weight += tap
                        light += tap * image[j, i]
            if weight > least:
                out[p] = light / weight
                break
