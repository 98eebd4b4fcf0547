"""Loops of the dipole fit: PSFs moved by a fraction of a pixel, their slopes, normal equations.

Axes as in `psflib.loops.candidates`: a PSF is (k, k), its coefficients of cubic B-splines (m, m).
"""

import numpy as np

from psflib.loops._numba import loop
from psflib.loops.candidates import spline_taps


@loop
def taps_and_slopes(shift, taps):
    """Fill taps (2, 4) of what is moved by `shift` px, and their change; offset of the first."""
    low = int(np.floor(-shift))
    fraction = -shift - low
    spline_taps(fraction, False, taps[0])
    spline_taps(fraction, True, taps[1])
    for a in range(4):
        taps[1, a] = -taps[1, a]
    return low - 1


@loop
def moved(coefficients, shift, out):
    """The PSF moved by shift (2: dy, dx), out (3, k, k): values, changes with dy and with dx.

    coefficients (m, m).
    Beyond the coefficients their last row or column counts.
    """
    m, k = coefficients.shape[0], out.shape[1]
    pad = (m - k) // 2
    rows, taps = np.zeros((2, k, m)), np.empty((2, 4))
    out[:] = 0.0
    first = taps_and_slopes(shift[0], taps)
    for i in range(k):
        for a in range(4):
            source = coefficients[min(max(pad + i + first + a, 0), m - 1)]
            for j in range(m):
                rows[0, i, j] += taps[0, a] * source[j]
                rows[1, i, j] += taps[1, a] * source[j]
    first = taps_and_slopes(shift[1], taps)
    for a in range(4):
        for j in range(k):
            column = min(max(pad + j + first + a, 0), m - 1)
            for i in range(k):
                out[0, i, j] += taps[0, a] * rows[0, i, column]
                out[1, i, j] += taps[0, a] * rows[1, i, column]
                out[2, i, j] += taps[1, a] * rows[0, i, column]


@loop
def dipole_sums(splines, seen, weight, share, state, matrix, vector, chi2):
    """Normal equations of each pair at its present parameters.

    splines (n, 2, m, m); seen, weight (n, 2, k, k): difference and mean of the images; share (n):
    of the science image in the mean; state (n, 9): flux, dy, dx of the positive and of the
    negative source, and a plane of the mean: value, slopes along y and x (over k px).
    matrix (n, 9, 9), vector (n, 9): Σ w t t, Σ w t rest;  chi2 (n, 2): Σ w rest² of each plane.
    """
    k = seen.shape[2]
    lobes, terms = np.empty((2, 3, k, k)), np.empty(9)
    for p in range(len(state)):
        matrix[p] = 0.0
        vector[p] = 0.0
        for plane in range(2):
            for lobe in range(2):
                moved(splines[p, plane], state[p, 3 * lobe + 1 : 3 * lobe + 3], lobes[lobe])
            plus = share[p] if plane else 1.0
            minus = 1 - share[p] if plane else -1.0
            last = 9 if plane else 6
            total = 0.0
            for i in range(k):
                for j in range(k):
                    w = weight[p, plane, i, j]
                    if w == 0:
                        continue
                    terms[0] = plus * lobes[0, 0, i, j]
                    terms[1] = plus * state[p, 0] * lobes[0, 1, i, j]
                    terms[2] = plus * state[p, 0] * lobes[0, 2, i, j]
                    terms[3] = minus * lobes[1, 0, i, j]
                    terms[4] = minus * state[p, 3] * lobes[1, 1, i, j]
                    terms[5] = minus * state[p, 3] * lobes[1, 2, i, j]
                    rest = seen[p, plane, i, j] - state[p, 0] * terms[0] - state[p, 3] * terms[3]
                    if plane:
                        terms[6], terms[7], terms[8] = 1.0, (i - k // 2) / k, (j - k // 2) / k
                        rest -= state[p, 6] + state[p, 7] * terms[7] + state[p, 8] * terms[8]
                    total += w * rest * rest
                    for a in range(last):
                        weighted = w * terms[a]
                        vector[p, a] += weighted * rest
                        for b in range(a, last):
                            matrix[p, a, b] += weighted * terms[b]
            chi2[p, plane] = total
        for a in range(9):
            for b in range(a):
                matrix[p, a, b] = matrix[p, b, a]


@loop
def moved_all(coefficients, shift, out):
    """PSFs (n, k, k) moved by shift (n, 2); coefficients (n, m, m)."""
    with_slopes = np.empty((3, out.shape[1], out.shape[2]))
    for p in range(len(out)):
        moved(coefficients[p], shift[p], with_slopes)
        out[p] = with_slopes[0]
