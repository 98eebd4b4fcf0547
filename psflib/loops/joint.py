"""The model and all stars at once: normal equations with the stars' own unknowns eliminated.

With U = (ψ, 1, f·∂ψ/∂row, f·∂ψ/∂col) the slopes of a star by flux, background and offset, W its
weights and D = UᵀWU, the reduced matrix of the model is Σ f²·Aᵀ(W - WU·D⁻¹·UᵀW)A (Schur
complement).  WU·D⁻¹·UᵀW = QᵀQ with Q = L⁻¹·UᵀW and D = LLᵀ: four planes a star, made once.

Axes: `terms`, `out` (term, m, m), coefficients of B-splines; `first`, `blocks`: where these stand
(`psflib.psf.core.mesh.Mesh`); `design` (star, term); `data`, `weight` (star, row, col), 0 at
unusable pixels; `delta` (star, 2); `slopes` (star, 4, row, col).  A star of flux 0 is left out.
"""

import numpy as np

from psflib.loops._numba import loop
from psflib.loops.splines import gather, mix, place, spread


@loop
def tukey_weights(
    terms, design, oversample, first, blocks, data, weight, flux, background, delta, noise, error,
    cap, c, out, tally,
):  # fmt: skip
    """Weights of the pixels under the present model: 1/(variance + error²) times Tukey's factor.

    `tally` (star, 4): of the pixels within c sigma their number, chi² by the noise alone, chi² with
    the model's error; and the share of the star's light in the others.

    `noise` scales the given standard deviations; `error` is the model's, relative to the star's
    light: in full where residuals are judged (c sigma), at most `cap` in the weights.  A pixel
    whose taps leave the grid has weight 0: the model is cut off there.
    """
    n_stars, size, _ = data.shape
    side = terms.shape[1]
    grid, line, stamp = np.empty((side, side)), np.empty(side), np.empty((size, size))
    row_start, col_start = np.empty(size, np.int64), np.empty(size, np.int64)
    row_taps, col_taps, slope = np.empty((size, 4)), np.empty((size, 4)), np.empty((size, 4))
    capped = min(error, cap)
    for n in range(n_stars):
        out[n], tally[n] = 0.0, 0.0
        lost, light = 0.0, 1e-300
        if not flux[n] > 0:
            continue
        mix(terms, design[n], grid)
        top, bottom = place(oversample, delta[n, 0], first, blocks, row_start, row_taps, slope)
        left, right = place(oversample, delta[n, 1], first, blocks, col_start, col_taps, slope)
        gather(grid, row_start, row_taps, col_start, col_taps, line, stamp)
        for i in range(top, bottom):
            for j in range(left, right):
                d, w = np.float64(data[n, i, j]), np.float64(weight[n, i, j])
                if not (np.isfinite(d) and np.isfinite(w) and w > 0):
                    continue
                m = flux[n] * stamp[i, j]
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
def whiten_slopes(terms, design, oversample, first, blocks, weight, flux, delta, slopes):
    """Q = L⁻¹·UᵀW of every star; 0 for a star whose D is singular."""
    n_stars, size, _ = weight.shape
    side = terms.shape[1]
    grid, line = np.empty((side, side)), np.empty(side)
    row_start, col_start = np.empty(size, np.int64), np.empty(size, np.int64)
    row_taps, row_slope = np.empty((size, 4)), np.empty((size, 4))
    col_taps, col_slope = np.empty((size, 4)), np.empty((size, 4))
    u, d = np.empty((4, size, size)), np.empty((4, 4))
    for n in range(n_stars):
        slopes[n] = 0.0
        if not flux[n] > 0:
            continue
        mix(terms, design[n], grid)
        place(oversample, delta[n, 0], first, blocks, row_start, row_taps, row_slope)
        place(oversample, delta[n, 1], first, blocks, col_start, col_taps, col_slope)
        gather(grid, row_start, row_taps, col_start, col_taps, line, u[0])
        gather(grid, row_start, row_slope, col_start, col_taps, line, u[2])
        gather(grid, row_start, row_taps, col_start, col_slope, line, u[3])
        for i in range(size):
            for j in range(size):
                u[1, i, j] = 1.0
                u[2, i, j] *= flux[n]
                u[3, i, j] *= flux[n]
        gram(u, weight[n], d)
        if not factorise(d):
            continue
        for a in range(4):  # rows of L⁻¹UᵀW by forward substitution
            for i in range(size):
                for b in range(a):
                    for j in range(size):
                        u[a, i, j] -= d[a, b] * u[b, i, j]
                for j in range(size):
                    u[a, i, j] /= d[a, a]
                    slopes[n, a, i, j] = weight[n, i, j] * u[a, i, j]


@loop
def gram(u, weight, d):
    """Lower half of UᵀWU."""
    for a in range(4):
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
def remove_slopes(stamp, weight, slopes):
    """stamp becomes (W - QᵀQ)·stamp."""
    size = stamp.shape[0]
    shares = np.zeros(slopes.shape[0])
    for a in range(shares.size):
        for i in range(size):
            for j in range(size):
                shares[a] += slopes[a, i, j] * stamp[i, j]
    for i in range(size):
        for j in range(size):
            stamp[i, j] *= weight[i, j]
        for a in range(shares.size):
            for j in range(size):
                stamp[i, j] -= shares[a] * slopes[a, i, j]


@loop
def pull(
    terms, design, oversample, first, blocks, data, weight, flux, background, delta, slopes,
    residual, out,
):  # fmt: skip
    """out = Σ f·Aᵀ(W - QᵀQ)·m for each term, with m = data - background - f·A·terms.

    With `residual` False, m = f·A·terms: the reduced matrix applied to `terms`.  With no slopes,
    (star, 0, row, col), the stars' own unknowns are held fixed.
    """
    n_stars, size, _ = weight.shape
    n_terms, side, _ = terms.shape
    grid, image, line = np.empty((side, side)), np.empty((side, side)), np.empty(side)
    row_start, col_start = np.empty(size, np.int64), np.empty(size, np.int64)
    row_taps, col_taps, slope = np.empty((size, 4)), np.empty((size, 4)), np.empty((size, 4))
    stamp = np.empty((size, size))
    for k in range(n_terms):
        blank(out[k])
    blank(image)
    mix(terms, design[0], grid)  # a single term has the same share in all stars
    for n in range(n_stars):
        if not flux[n] > 0:
            continue
        if n_terms > 1:
            mix(terms, design[n], grid)
            blank(image)
        place(oversample, delta[n, 0], first, blocks, row_start, row_taps, slope)
        place(oversample, delta[n, 1], first, blocks, col_start, col_taps, slope)
        for j in range(size):
            for a in range(4):
                col_taps[j, a] *= flux[n]
        gather(grid, row_start, row_taps, col_start, col_taps, line, stamp)
        if residual:
            subtract_from(data[n], weight[n], background[n], stamp)
        remove_slopes(stamp, weight[n], slopes[n])
        spread(stamp, row_start, row_taps, col_start, col_taps, line, image)
        if n_terms > 1:
            deal(image, design[n], out)
    if n_terms == 1:
        deal(image, design[0], out)


@loop
def blank(image):
    """image = 0."""
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            image[i, j] = 0.0


@loop
def deal(image, share, out):
    """out[k] += share[k]·image."""
    for k in range(out.shape[0]):
        for i in range(image.shape[0]):
            for j in range(image.shape[1]):
                out[k, i, j] += share[k] * image[i, j]


@loop
def subtract_from(data, weight, background, stamp):
    """stamp = data - background - stamp; 0 at unusable pixels."""
    for i in range(stamp.shape[0]):
        for j in range(stamp.shape[1]):
            r = np.float64(data[i, j]) - background - stamp[i, j]
            stamp[i, j] = r if weight[i, j] > 0 else 0
