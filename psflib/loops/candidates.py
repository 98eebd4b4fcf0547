"""Loops over the candidates of a difference: fit of the shifted PSF, and what it leaves.

Axes: a PSF is (k, k), k odd; its cubic B-spline coefficients are (m, m), `m - k` even, as many
rows and columns beyond it on each side.
"""

import numpy as np

from psflib.loops._numba import loop

POWER, SIGNAL, CORE, SEEN, COUNT, REST, WEIGHT, OFF, PEAK = range(9)


@loop
def spline_taps(fraction, taps):
    """Cubic B-spline at 1 + fraction, fraction, 1 - fraction, 2 - fraction; fraction in [0, 1)."""
    rest = 1 - fraction
    taps[0] = rest * rest * rest / 6
    taps[1] = (4 - 6 * fraction * fraction + 3 * fraction * fraction * fraction) / 6
    taps[2] = (4 - 6 * rest * rest + 3 * rest * rest * rest) / 6
    taps[3] = fraction * fraction * fraction / 6


@loop
def shifted(coefficients, dy, dx, rows, out):
    """The PSF moved by (dy, dx) px; beyond the coefficients their last row or column counts.

    rows (k, m): scratch; out (k, k).
    """
    m, k = coefficients.shape[0], out.shape[0]
    pad = (m - k) // 2
    taps = np.empty(4)
    low = int(np.floor(-dy))
    spline_taps(-dy - low, taps)
    rows[:, :] = 0.0
    for i in range(k):
        for a in range(4):
            source = coefficients[min(max(pad + i + low - 1 + a, 0), m - 1)]
            for j in range(m):
                rows[i, j] += taps[a] * source[j]
    low = int(np.floor(-dx))
    spline_taps(-dx - low, taps)
    out[:, :] = 0.0
    for a in range(4):
        for j in range(k):
            column = min(max(pad + j + low - 1 + a, 0), m - 1)
            for i in range(k):
                out[i, j] += taps[a] * rows[i, column]


@loop
def fit_sums(image, weight_variance, usable, y, x, coefficients, shift, size, matrix, vector):
    """Normal equations of flux and shift (dy, dx) of each candidate, at its present shift.

    image, weight_variance (ny, nx) float32; usable (ny, nx) bool; y, x (n); coefficients
    (n, m, m); shift (n, 2); size: k.  matrix (n, 3, 3), vector (n, 3): sums over the usable pixels
    of the box, of the PSF and minus its slopes.
    """
    ny, nx = image.shape
    half = size // 2
    psf, rows = np.empty((size, size)), np.empty((size, coefficients.shape[1]))
    terms = np.empty(3)
    for p in range(len(y)):
        shifted(coefficients[p], shift[p, 0], shift[p, 1], rows, psf)
        matrix[p] = 0.0
        vector[p] = 0.0
        for i in range(size):
            row = y[p] - half + i
            if row < 0 or row >= ny:
                continue
            above, below = max(i - 1, 0), min(i + 1, size - 1)
            for j in range(size):
                column = x[p] - half + j
                if column < 0 or column >= nx or not usable[row, column]:
                    continue
                left, right = max(j - 1, 0), min(j + 1, size - 1)
                terms[0] = psf[i, j]
                terms[1] = (psf[above, j] - psf[below, j]) / (below - above)
                terms[2] = (psf[i, left] - psf[i, right]) / (right - left)
                weight = 1 / np.float64(weight_variance[row, column])
                for a in range(3):
                    weighted = weight * terms[a]
                    vector[p, a] += weighted * image[row, column]
                    for b in range(a, 3):
                        matrix[p, a, b] += weighted * terms[b]
        for a in range(3):
            for b in range(a):
                matrix[p, a, b] = matrix[p, b, a]


@loop
def fit_facts(image, weight_variance, usable, y, x, coefficients, shift, size, core, facts):
    """What the pixels say of each candidate's PSF at its last shift.

    facts (n, 9) by column: POWER psf² / v and SIGNAL psf d / v of the usable pixels; of the pixels
    above `core` of the peak, on the image: CORE their PSF, SEEN that of the usable ones, COUNT the
    number of these, REST their Σ (d - flux psf)² / v, flux = SIGNAL / POWER; of the central pixel
    WEIGHT (0 if unusable) and OFF = d - flux psf; PEAK of the PSF on the image.
    """
    ny, nx = image.shape
    half = size // 2
    psf, rows = np.empty((size, size)), np.empty((size, coefficients.shape[1]))
    for p in range(len(y)):
        shifted(coefficients[p], shift[p, 0], shift[p, 1], rows, psf)
        facts[p] = 0.0
        top, low = max(half - y[p], 0), min(half - y[p] + ny, size)
        left, right = max(half - x[p], 0), min(half - x[p] + nx, size)
        power = signal = peak = 0.0
        for i in range(top, low):
            row = y[p] - half + i
            for j in range(left, right):
                column = x[p] - half + j
                peak = max(peak, psf[i, j])
                if usable[row, column]:
                    weighted = psf[i, j] / np.float64(weight_variance[row, column])
                    power += weighted * psf[i, j]
                    signal += weighted * image[row, column]
        flux = signal / power
        facts[p, POWER], facts[p, SIGNAL], facts[p, PEAK] = power, signal, peak
        for i in range(top, low):
            row = y[p] - half + i
            for j in range(left, right):
                column = x[p] - half + j
                if not psf[i, j] > core * peak:
                    continue
                facts[p, CORE] += psf[i, j]
                if usable[row, column]:
                    rest = image[row, column] - flux * psf[i, j]
                    facts[p, SEEN] += psf[i, j]
                    facts[p, COUNT] += 1
                    facts[p, REST] += rest * rest / np.float64(weight_variance[row, column])
        if usable[y[p], x[p]]:
            facts[p, WEIGHT] = 1 / np.float64(weight_variance[y[p], x[p]])
            facts[p, OFF] = image[y[p], x[p]] - flux * psf[half, half]


@loop
def strongest_opposite(score, y, x, half, out):
    """Largest value of the other sign within a box of `half` px around each pixel, out (n)."""
    ny, nx = score.shape
    for p in range(len(y)):
        sign = 1.0 if score[y[p], x[p]] > 0 else -1.0
        most = -np.inf
        for j in range(max(y[p] - half, 0), min(y[p] + half + 1, ny)):
            for i in range(max(x[p] - half, 0), min(x[p] + half + 1, nx)):
                most = max(most, -sign * score[j, i])
        out[p] = most
