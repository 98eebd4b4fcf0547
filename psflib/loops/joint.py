"""The model and all stars at once: normal equations with the stars' own unknowns eliminated.

With U = (ψ, 1, f·∂ψ/∂row, f·∂ψ/∂col) the slopes of a star by flux, background and offset, W its
weights and D = UᵀWU, the reduced matrix of the model is Σ f²·Aᵀ(W - WU·D⁻¹·UᵀW)A (Schur
complement).  WU·D⁻¹·UᵀW = QᵀQ with Q = L⁻¹·UᵀW and D = LLᵀ: four planes a star, made once.

Axes: `terms`, `out` (term, k_row, k_col), B-spline coefficients; `design` (star, term); `data`,
`weight` (star, row, col), 0 at unusable pixels; `delta` (star, 2); `slopes` (star, 4, row, col).
A star of flux 0 is left out.  Models are padded and interleaved (`psflib.loops.interleaved`).
"""

import numpy as np

from psflib.loops._numba import loop
from psflib.loops.interleaved import add_terms, blocks_needed, gather_pixels, gather_row, interleave
from psflib.loops.starfit import B_SPLINE, place_taps


@loop
def spread_pixels(values, first, taps, line):
    """Transpose of `gather_pixels`: add a row of pixels to a line of the model."""
    os, size = line.shape[0], values.size
    for b in range(4):
        q, tap = first + b, taps[b]
        target = line[q % os, q // os : q // os + size]
        for j in range(size):
            target[j] += tap * values[j]


@loop
def spread_row(line, first, taps, grid):
    """Transpose of `gather_row`: add a line to four rows of the model."""
    flat = line.reshape(-1)
    for a in range(4):
        target, tap = grid[first + a].reshape(-1), taps[a]
        for i in range(flat.size):
            target[i] += tap * flat[i]


@loop
def separate(grid, oversample, blocks, image):
    """Inverse of `interleave` for one model; what lies on the padding is lost."""
    side, pad = image.shape[0], blocks * oversample
    for i in range(side):
        for j in range(side):
            q = j + pad
            image[i, j] = grid[i + pad, q % oversample, q // oversample]


@loop
def tukey_weights(
    terms, design, oversample, data, weight, flux, background, delta, noise, error, cap, c,
    out, tally,
):  # fmt: skip
    """Weights of the pixels under the present model: 1/(variance + error²) times Tukey's factor.

    `tally` (star, 4): of the pixels within c sigma their number, chi² by the noise alone, chi² with
    the model's error; and the share of the star's light in the others.

    `noise` scales the given standard deviations; `error` is the model's, relative to the star's
    light: in full where residuals are judged (c sigma), at most `cap` in the weights.  A pixel
    whose taps leave the grid has weight 0: the model is cut off there.
    """
    n_stars, size, _ = data.shape
    side, blocks = terms.shape[1], blocks_needed(oversample, 1.0)
    pad = blocks * oversample
    grids = interleave(terms, oversample, blocks)
    grid = grids[0].copy()
    taps, line, values = np.empty((4, 4)), np.empty(grids.shape[2:]), np.empty(size)
    capped = min(error, cap)
    for n in range(n_stars):
        out[n], tally[n] = 0.0, 0.0
        lost, light = 0.0, 1e-300
        if not flux[n] > 0:
            continue
        if terms.shape[0] > 1:
            add_terms(grids, design[n], grid)
        first_r = place_taps(B_SPLINE, oversample, delta[n, 0], pad, taps[0], taps[1])
        first_c = place_taps(B_SPLINE, oversample, delta[n, 1], pad, taps[2], taps[3])
        for i in range(size):
            row = first_r + oversample * i - pad
            if row < 0 or row + 3 >= side:
                continue
            gather_row(grid, first_r + oversample * i, taps[0], line)
            gather_pixels(line, first_c, taps[2], values)
            for j in range(size):
                col = first_c + oversample * j - pad
                d, w = np.float64(data[n, i, j]), np.float64(weight[n, i, j])
                if col < 0 or col + 3 >= side or not (np.isfinite(d) and np.isfinite(w) and w > 0):
                    continue
                m = flux[n] * values[j]
                variance = noise * noise / w
                r = d - background[n] - m
                z2 = r * r / ((variance + error * error * m * m) * c * c)
                light += max(m, 0.0)
                if z2 < 1:
                    out[n, i, j] = (1 - z2) ** 2 / (variance + capped * capped * m * m)
                    tally[n, 0] += 1
                    tally[n, 1] += r * r / variance
                    tally[n, 2] += z2 * c * c
                else:
                    lost += max(m, 0.0)
        tally[n, 3] = lost / light


@loop
def whiten_slopes(terms, design, oversample, weight, flux, delta, slopes):
    """Q = L⁻¹·UᵀW of every star; 0 for a star whose D is singular."""
    n_stars, size, _ = weight.shape
    blocks = blocks_needed(oversample, 1.0)
    pad = blocks * oversample
    grids = interleave(terms, oversample, blocks)
    grid = grids[0].copy()
    taps, line = np.empty((4, 4)), np.empty((2, *grids.shape[2:]))
    u, d = np.empty((4, size, size)), np.empty((4, 4))
    for n in range(n_stars):
        slopes[n] = 0.0
        if not flux[n] > 0:
            continue
        if terms.shape[0] > 1:
            add_terms(grids, design[n], grid)
        first_r = place_taps(B_SPLINE, oversample, delta[n, 0], pad, taps[0], taps[1])
        first_c = place_taps(B_SPLINE, oversample, delta[n, 1], pad, taps[2], taps[3])
        u[1] = 1.0
        for i in range(size):
            gather_row(grid, first_r + oversample * i, taps[0], line[0])
            gather_row(grid, first_r + oversample * i, flux[n] * taps[1], line[1])
            gather_pixels(line[0], first_c, taps[2], u[0, i])
            gather_pixels(line[1], first_c, taps[2], u[2, i])
            gather_pixels(line[0], first_c, flux[n] * taps[3], u[3, i])
        gram(u, weight[n], d)
        if not factorise(d):
            continue
        for a in range(4):  # rows of L⁻¹UᵀW by forward substitution
            for b in range(a):
                u[a] -= d[a, b] * u[b]
            u[a] /= d[a, a]
            slopes[n, a] = weight[n] * u[a]


@loop
def gram(u, weight, d):
    """Lower half of UᵀWU."""
    for a in range(u.shape[0]):
        for b in range(a + 1):
            total = 0.0
            for i in range(weight.shape[0]):
                for j in range(weight.shape[1]):
                    total += weight[i, j] * u[a, i, j] * u[b, i, j]
            d[a, b] = total


@loop
def factorise(a):
    """Cholesky factor of a symmetric 4 × 4 matrix in its lower half; False if singular."""
    for j in range(4):
        pivot = a[j, j]
        for k in range(j):
            pivot -= a[j, k] * a[j, k]
        if not pivot > 1e-12 * a[j, j]:
            return False
        a[j, j] = np.sqrt(pivot)
        for i in range(j + 1, 4):
            for k in range(j):
                a[i, j] -= a[i, k] * a[j, k]
            a[i, j] /= a[j, j]
    return True


@loop
def project(stamp, weight, slopes, left):
    """left = (W - QᵀQ)·stamp."""
    flat, out = stamp.reshape(-1), left.reshape(-1)
    w = weight.reshape(-1)
    for i in range(flat.size):
        out[i] = w[i] * flat[i]
    for a in range(slopes.shape[0]):
        q, total = slopes[a].reshape(-1), flat[0] * 0
        for i in range(flat.size):
            total += q[i] * flat[i]
        for i in range(flat.size):
            out[i] -= total * q[i]


@loop
def pull(terms, design, oversample, data, weight, flux, background, delta, slopes, residual, out):
    """out = Σ f·Aᵀ(W - QᵀQ)·m for each term, with m = data - background - f·A·terms.

    With `residual` False, m = f·A·terms: the reduced matrix applied to `terms`.  With no slopes,
    (star, 0, row, col), the stars' own unknowns are held fixed.  Arithmetic is in the type of
    `terms`: float32 is enough, and twice as fast, inside an iteration whose gradient is exact.
    """
    n_stars, size, _ = weight.shape
    kind, n_terms, blocks = terms.dtype, terms.shape[0], blocks_needed(oversample, 1.0)
    pad = blocks * oversample
    grids = interleave(terms, oversample, blocks).astype(kind)
    grid, sums = grids[0].copy(), np.zeros(grids.shape, kind)
    image, line = np.zeros(grids.shape[1:], kind), np.empty(grids.shape[2:], kind)
    taps, stamp = np.empty((4, 4), kind), np.empty((size, size), kind)
    left, share = np.empty((size, size), kind), design.astype(kind)
    for n in range(n_stars):
        if not flux[n] > 0:
            continue
        if n_terms > 1:
            add_terms(grids, share[n], grid)
            image[:, :, :] = 0
        first_r = place_taps(B_SPLINE, oversample, delta[n, 0], pad, taps[0], taps[1])
        first_c = place_taps(B_SPLINE, oversample, delta[n, 1], pad, taps[2], taps[3])
        taps[2] *= flux[n]
        for i in range(size):
            gather_row(grid, first_r + oversample * i, taps[0], line)
            gather_pixels(line, first_c, taps[2], stamp[i])
        if residual:
            subtract_from(data[n], weight[n], background[n], stamp)
        project(stamp, weight[n], slopes[n], left)
        for i in range(size):
            line[:, :] = 0
            spread_pixels(left[i], first_c, taps[2], line)
            spread_row(line, first_r + oversample * i, taps[0], image)
        if n_terms > 1:
            for k in range(n_terms):
                add_scaled(image, share[n, k], sums[k])
    if n_terms == 1:
        sums[0] = image
    for k in range(n_terms):
        separate(sums[k], oversample, blocks, out[k])


@loop
def subtract_from(data, weight, background, stamp):
    """stamp = data - background - stamp; 0 at unusable pixels."""
    for i in range(stamp.shape[0]):
        for j in range(stamp.shape[1]):
            r = np.float64(data[i, j]) - background - stamp[i, j]
            stamp[i, j] = r if weight[i, j] > 0 else 0


@loop
def add_scaled(image, factor, total):
    """total += factor·image."""
    source, target = image.reshape(-1), total.reshape(-1)
    for i in range(source.size):
        target[i] += factor * source[i]
