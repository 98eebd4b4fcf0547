"""Loops over the candidates of a difference: fit of the shifted PSF, and what it leaves.

Axes: a PSF is (k, k), k odd; its cubic B-spline coefficients are (m, m), `m - k` even, as many
rows and columns beyond it on each side.
"""

import numpy as np

from psflib.loops._numba import loop

POWER, SIGNAL, CORE, SEEN, COUNT, REST, WEIGHT, OFF, PEAK = range(9)
MOMENTS = 9  # first of the four moments of the data, after which come those of the PSF
FACTS, FORCED = 17, 6  # columns of `fit_facts` and `forced_sums`


@loop
def spline_taps(fraction, slope, taps):
    """Cubic B-spline, or its slope, at 1 + fraction, fraction, 1 - fraction, 2 - fraction.

    fraction in [0, 1); slope: of the sum of coefficients times taps along the axis.
    """
    rest = 1 - fraction
    if slope:
        taps[0] = -rest * rest / 2
        taps[1] = fraction * (3 * fraction - 4) / 2
        taps[2] = rest * (4 - 3 * rest) / 2
        taps[3] = fraction * fraction / 2
        return
    taps[0] = rest * rest * rest / 6
    taps[1] = (4 - 6 * fraction * fraction + 3 * fraction * fraction * fraction) / 6
    taps[2] = (4 - 6 * rest * rest + 3 * rest * rest * rest) / 6
    taps[3] = fraction * fraction * fraction / 6


@loop
def shifted(coefficients, dy, dx, axis, rows, out):
    """The PSF moved by (dy, dx) px; beyond the coefficients their last row or column counts.

    axis: -1, or 0 or 1 for its slope along y or x; rows (k, m): scratch; out (k, k).
    """
    m, k = coefficients.shape[0], out.shape[0]
    pad = (m - k) // 2
    taps = np.empty(4)
    low = int(np.floor(-dy))
    spline_taps(-dy - low, axis == 0, taps)
    rows[:, :] = 0.0
    for i in range(k):
        for a in range(4):
            source = coefficients[min(max(pad + i + low - 1 + a, 0), m - 1)]
            for j in range(m):
                rows[i, j] += taps[a] * source[j]
    low = int(np.floor(-dx))
    spline_taps(-dx - low, axis == 1, taps)
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
    psf, rows = np.empty((3, size, size)), np.empty((size, coefficients.shape[1]))
    terms = np.empty(3)
    for p in range(len(y)):
        for a in range(3):
            shifted(coefficients[p], shift[p, 0], shift[p, 1], a - 1, rows, psf[a])
        matrix[p] = 0.0
        vector[p] = 0.0
        for i in range(size):
            row = y[p] - half + i
            if row < 0 or row >= ny:
                continue
            for j in range(size):
                column = x[p] - half + j
                if column < 0 or column >= nx or not usable[row, column]:
                    continue
                terms[0], terms[1], terms[2] = psf[0, i, j], -psf[1, i, j], -psf[2, i, j]
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
def add_moments(image, usable, y, x, psf, shift, width, moments):
    """Sum, yy, xx and xy of the usable data in the box of the PSF (k, k), then of the PSF there.

    About the fitted place, under a Gaussian of `width` px; moments (8,).
    """
    ny, nx = image.shape
    size = psf.shape[0]
    half = size // 2
    for i in range(max(half - y, 0), min(half - y + ny, size)):
        dy = i - half - shift[0]
        for j in range(max(half - x, 0), min(half - x + nx, size)):
            if not usable[y - half + i, x - half + j]:
                continue
            dx = j - half - shift[1]
            bell = np.exp(-0.5 * (dy * dy + dx * dx) / (width * width))
            for k in range(2):
                light = bell * (psf[i, j] if k else image[y - half + i, x - half + j])
                moments[4 * k] += light
                moments[4 * k + 1] += light * dy * dy
                moments[4 * k + 2] += light * dx * dx
                moments[4 * k + 3] += light * dy * dx


@loop
def fit_facts(image, weight_variance, usable, y, x, coefficients, shift, size, core, width, facts):
    """What the pixels say of each candidate's PSF at its last shift.

    facts (n, 17) by column: POWER psf² / v and SIGNAL psf d / v of the usable pixels; of the pixels
    above `core` of the peak, on the image: CORE their PSF, SEEN that of the usable ones, COUNT the
    number of these, REST their Σ (d - flux psf)² / v, flux = SIGNAL / POWER; of the central pixel
    WEIGHT (0 if unusable) and OFF = d - flux psf; PEAK of the PSF on the image; from MOMENTS on
    sum, yy, xx and xy of the usable data, then of the PSF there, about the fitted place and under
    a Gaussian of `width` px.
    """
    ny, nx = image.shape
    half = size // 2
    psf, rows = np.empty((size, size)), np.empty((size, coefficients.shape[1]))
    for p in range(len(y)):
        shifted(coefficients[p], shift[p, 0], shift[p, 1], -1, rows, psf)
        facts[p] = 0.0
        add_moments(image, usable, y[p], x[p], psf, shift[p], width, facts[p, MOMENTS:])
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
def forced_sums(
    weight_variance, usable, still, still_variance, moved, moved_variance, moved_mask, bad,
    y, x, coefficients, shift, size, kernels, sums,
):  # fmt: skip
    """PSF fluxes at given places of an image and of another one that goes through a kernel.

    Planes (ny, nx) float32, usable bool, moved_mask uint16, of which the bits `bad` count; `still`
    stays as it is, `moved` is seen through kernels (n, k, k), one a candidate, turned by 180
    degrees.
    sums (n, 6): power = Σ psf² / v in the box of `size` px, and with c = psf / v / power: Σ c;
    Σ c d and Σ c² var of `still`; the same of `moved`, for which c goes through the kernel first,
    so that the noise that the convolved pixels share is counted right.  Of the light that falls on
    pixels of it that are unusable or off the image, the others stand in.
    """
    ny, nx = usable.shape
    half, side = size // 2, kernels.shape[1]
    margin = side // 2
    psf, rows = np.empty((size, size)), np.empty((size, coefficients.shape[1]))
    wide = np.empty((size + side - 1, size + side - 1))
    for p in range(len(y)):
        shifted(coefficients[p], shift[p, 0], shift[p, 1], -1, rows, psf)
        sums[p] = 0.0
        wide[:, :] = 0.0
        kernel = kernels[p]
        for i in range(size):
            row = y[p] - half + i
            for j in range(size):
                column = x[p] - half + j
                if not (0 <= row < ny and 0 <= column < nx and usable[row, column]):
                    continue
                taken = psf[i, j] / np.float64(weight_variance[row, column])
                sums[p, 0] += taken * psf[i, j]
                sums[p, 1] += taken
                sums[p, 2] += taken * still[row, column]
                sums[p, 3] += taken * taken * still_variance[row, column]
                for a in range(side):
                    line, taps = wide[i + a, j : j + side], kernel[a]
                    for b in range(side):
                        line[b] += taken * taps[b]
        total = seen = 0.0
        for i in range(size + side - 1):
            row = y[p] - half - margin + i
            for j in range(size + side - 1):
                column = x[p] - half - margin + j
                total += wide[i, j]
                if row < 0 or row >= ny or column < 0 or column >= nx:
                    continue
                if moved_mask[row, column] & bad:
                    continue
                seen += wide[i, j]
                sums[p, 4] += wide[i, j] * moved[row, column]
                sums[p, 5] += wide[i, j] * wide[i, j] * moved_variance[row, column]
        for k in range(1, 6):
            sums[p, k] /= sums[p, 0] * sums[p, 0] if k in (3, 5) else sums[p, 0]
        sums[p, 4] *= total / seen
        sums[p, 5] *= (total / seen) ** 2


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
