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
        for s in range(len(sigmas)):
            half = int(reach * sigmas[s] + 0.5)
            left, right = max(x - half, windows[p, 1, 0]), min(x + half + 1, windows[p, 1, 1], nx)
            weight = light = 0.0
            for j in range(
                max(y - half, windows[p, 0, 0]), min(y + half + 1, windows[p, 0, 1], ny)
            ):
                factor = taps[s, abs(j - y)]
                for i in range(left, right):
                    if not bad[j, i]:
                        tap = factor * taps[s, abs(i - x)]
                        weight += tap
                        light += tap * image[j, i]
            if weight > least:
                out[p] = light / weight
                break
