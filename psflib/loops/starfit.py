"""Flux, background and offset of each star under a model of several terms, and its rendering.

Axes: `terms` (term, k_row, k_col) of side os·s; `design` (star, term); `data`, `weight`, `out`
(star, row, col) of side s; `delta` (star, 2) as (row, col).  The mapping from a pixel to the
oversampled grid is that of `psflib.loops.render`.

The model is kept padded and interleaved (`psflib.loops.interleaved`).  The sums of a pass over
the pixels of a star do not depend on its flux and background, so both are eliminated exactly at
every offset (variable projection, Golub & Pereyra 1973): a step costs one pass.
"""

import numpy as np

from psflib.loops._numba import loop
from psflib.loops.interleaved import (
    add_terms,
    blocks_needed,
    gather_pixels,
    gather_row,
    gather_row_slope,
    interleave,
    same_rows,
)
from psflib.loops.nuisance import solve_2x2
from psflib.loops.render import catmull_rom, catmull_rom_slope

CATMULL_ROM, B_SPLINE = 0, 1  # `basis`
N_SUMS = 15
MIN_PIXELS = 5  # one more than the unknowns of a star
MAX_HALVINGS = 6
LOST = 1e-12  # of a diagonal element: a smaller pivot is rounding error


@loop
def b_spline(t, taps):
    """Cubic B-spline at the four nodes floor(k)-1 ... floor(k)+2."""
    u = 1 - t
    taps[0] = u * u * u / 6
    taps[1] = (t * t * (3 * t - 6) + 4) / 6
    taps[2] = (t * (3 + t * (3 - 3 * t)) + 1) / 6
    taps[3] = t * t * t / 6


@loop
def b_spline_slope(t, taps):
    """Derivative of `b_spline` with respect to t."""
    u = 1 - t
    taps[0] = -0.5 * u * u
    taps[1] = 0.5 * t * (3 * t - 4)
    taps[2] = 0.5 * (1 + t * (2 - 3 * t))
    taps[3] = 0.5 * t * t


@loop
def place_taps(basis, oversample, delta, pad, taps, slope):
    """First padded sample of pixel 0; fills the taps and their derivative by `delta`."""
    k = 0.5 * (oversample - 1) - oversample * delta + pad
    low = np.floor(k)
    t = k - low
    if basis == B_SPLINE:
        b_spline(t, taps)
        b_spline_slope(t, slope)
    else:
        catmull_rom(t, taps)
        catmull_rom_slope(t, slope)
    for a in range(4):
        slope[a] *= -oversample  # dk/dd = -os
    return int(low) - 1


@loop
def load_star(data, weight, values, weights):
    """Copy one star, unusable pixels with weight 0; their number and the mean taken off.

    Sums of squares about the mean keep their digits where the sky is high.
    """
    size = data.shape[0]
    count, total, mean = 0, 0.0, 0.0
    for i in range(size):
        for j in range(size):
            d, w = np.float64(data[i, j]), np.float64(weight[i, j])
            use = np.isfinite(d) and np.isfinite(w) and w > 0
            values[i, j] = d if use else 0.0
            weights[i, j] = w if use else 0.0
            count += 1 if use else 0
            total += weights[i, j]
            mean += weights[i, j] * values[i, j]
    mean = mean / total if total > 0 else 0.0
    for i in range(size):
        for j in range(size):
            values[i, j] -= mean
    return count, mean


@loop
def add_line(d, w, p, r, c, sums):
    """Add one row of pixels to the 15 sums of products of (p, 1, r, c, d) under w."""
    pp, p1, pr, pc, s1, s_r, s_c = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    rr, rc, cc, pd, sd, rd, cd, dd = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(d.size):
        wp, wr, wc, wd = w[j] * p[j], w[j] * r[j], w[j] * c[j], w[j] * d[j]
        pp += wp * p[j]
        p1 += wp
        pr += wp * r[j]
        pc += wp * c[j]
        s1 += w[j]
        s_r += wr
        s_c += wc
        rr += wr * r[j]
        rc += wr * c[j]
        cc += wc * c[j]
        pd += wp * d[j]
        sd += wd
        rd += wr * d[j]
        cd += wc * d[j]
        dd += wd * d[j]
    # one by one: a loop over a tuple compiles for a second
    sums[0] += pp
    sums[1] += p1
    sums[2] += pr
    sums[3] += pc
    sums[4] += s1
    sums[5] += s_r
    sums[6] += s_c
    sums[7] += rr
    sums[8] += rc
    sums[9] += cc
    sums[10] += pd
    sums[11] += sd
    sums[12] += rd
    sums[13] += cd
    sums[14] += dd


@loop
def add_line_fixed(d, w, p, sums):
    """`add_line` without the slopes: their sums stay 0."""
    pp, p1, s1, pd, sd, dd = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(d.size):
        wp, wd = w[j] * p[j], w[j] * d[j]
        pp += wp * p[j]
        p1 += wp
        s1 += w[j]
        pd += wp * d[j]
        sd += wd
        dd += wd * d[j]
    sums[0] += pp
    sums[1] += p1
    sums[4] += s1
    sums[10] += pd
    sums[11] += sd
    sums[14] += dd


@loop
def gather_sums(grid, basis, pad, d_row, d_col, move, values, weights, taps, line, cut, sums):
    """All sums of one star at one offset; `taps` (4, 4), `line` (2, os, cols), `cut` (3, s)."""
    os = grid.shape[1]
    first_r = place_taps(basis, os, d_row, pad, taps[0], taps[1])
    first_c = place_taps(basis, os, d_col, pad, taps[2], taps[3])
    for k in range(N_SUMS):
        sums[k] = 0.0
    for i in range(values.shape[0]):
        if move:
            gather_row_slope(grid, first_r + os * i, taps[0], taps[1], line)
            gather_pixels(line[0], first_c, taps[2], cut[0])
            gather_pixels(line[1], first_c, taps[2], cut[1])
            gather_pixels(line[0], first_c, taps[3], cut[2])
            add_line(values[i], weights[i], cut[0], cut[1], cut[2], sums)
        else:
            gather_row(grid, first_r + os * i, taps[0], line[0])
            gather_pixels(line[0], first_c, taps[2], cut[0])
            add_line_fixed(values[i], weights[i], cut[0], sums)


@loop
def solve_linear(sums):
    """Best flux and background for the sums, their chi², and whether there is one."""
    flux, background, ok = solve_2x2(sums[0], sums[1], sums[4], sums[10], sums[11])
    if not ok:
        return np.nan, np.nan, np.nan, False
    chi2 = sums[14] - flux * sums[10] - background * sums[11]
    return flux, background, max(chi2, 0.0), True


@loop
def fill_normal(sums, flux, a):
    """Normal matrix (4, 4) of (flux, background, d_row, d_col)."""
    a[0, 0], a[0, 1], a[0, 2], a[0, 3] = sums[0], sums[1], flux * sums[2], flux * sums[3]
    a[1, 1], a[1, 2], a[1, 3] = sums[4], flux * sums[5], flux * sums[6]
    a[2, 2], a[2, 3] = flux * flux * sums[7], flux * flux * sums[8]
    a[3, 3] = flux * flux * sums[9]
    for i in range(4):
        for j in range(i):
            a[i, j] = a[j, i]


@loop
def invert(a, n, inverse):
    """Inverse of the leading n × n block, positive definite, by Cholesky; False if singular.

    The factor overwrites the lower half of `a`.
    """
    for j in range(n):
        pivot = a[j, j]
        for k in range(j):
            pivot -= a[j, k] * a[j, k]
        if not (np.isfinite(pivot) and pivot > LOST * a[j, j]):
            return False
        a[j, j] = np.sqrt(pivot)
        for i in range(j + 1, n):
            for k in range(j):
                a[i, j] -= a[i, k] * a[j, k]
            a[i, j] /= a[j, j]
    for col in range(n):
        for i in range(n):
            value = 1.0 if i == col else 0.0
            for k in range(i):
                value -= a[i, k] * inverse[k, col]
            inverse[i, col] = value / a[i, i]
        for i in range(n - 1, -1, -1):
            value = inverse[i, col]
            for k in range(i + 1, n):
                value -= a[k, i] * inverse[k, col]
            inverse[i, col] = value / a[i, i]
    return True


@loop
def propose(sums, flux, background, inverse, max_shift):
    """Gauss-Newton step of the offset, at most `max_shift` px; `inverse` is the covariance."""
    pull_r = flux * (sums[12] - flux * sums[2] - background * sums[5])
    pull_c = flux * (sums[13] - flux * sums[3] - background * sums[6])
    # The pulls of flux and background are 0: both are at their optimum.
    step_r = inverse[2, 2] * pull_r + inverse[2, 3] * pull_c
    step_c = inverse[3, 2] * pull_r + inverse[3, 3] * pull_c
    return min(max(step_r, -max_shift), max_shift), min(max(step_c, -max_shift), max_shift)


@loop
def fit_star(
    grid, basis, pad, values, weights, d_row, d_col, max_steps, tol, max_shift,
    taps, line, cut, sums, trial, a, covariance,
):  # fmt: skip
    """One loaded star: flux, background (above its mean), d_row, d_col, chi², ok."""
    move = max_steps > 0
    gather_sums(grid, basis, pad, d_row, d_col, move, values, weights, taps, line, cut, sums)
    flux, background, chi2, ok = solve_linear(sums)
    if ok:
        fill_normal(sums, flux, a)
        ok = invert(a, 4 if move else 2, covariance)
    if not (ok and move):
        return flux, background, d_row, d_col, chi2, ok
    for _ in range(max_steps):
        step_r, step_c = propose(sums, flux, background, covariance, max_shift)
        small = np.hypot(step_r, step_c) < tol
        for _ in range(MAX_HALVINGS):
            row, col = d_row + step_r, d_col + step_c
            if not (abs(row) <= 1 and abs(col) <= 1):
                return flux, background, d_row, d_col, chi2, False
            gather_sums(grid, basis, pad, row, col, True, values, weights, taps, line, cut, trial)
            new_flux, new_background, new_chi2, ok = solve_linear(trial)
            lower = ok and new_chi2 <= chi2 + LOST * trial[14]
            if lower or small:
                break
            step_r, step_c = 0.5 * step_r, 0.5 * step_c
        if not lower:
            break  # no way down from here: the offset before the step stays
        for k in range(N_SUMS):
            sums[k] = trial[k]
        d_row, d_col, flux, background, chi2 = row, col, new_flux, new_background, new_chi2
        fill_normal(sums, flux, a)
        if not invert(a, 4, covariance):
            return flux, background, d_row, d_col, chi2, False
        if small:
            break
    return flux, background, d_row, d_col, chi2, True


@loop
def fit_stars(
    terms, design, basis, oversample, data, weight, delta, flux, background, covariance, chi2, ok,
    max_steps, tol, max_shift,
):  # fmt: skip
    """Fit every star, Σ_k design[n, k]·terms[k] its model; serial over the stars.

    `basis` is CATMULL_ROM or B_SPLINE.  Gauss-Newton in (flux, background, d_row, d_col), at most
    `max_steps` steps of `max_shift` px, halved while chi² rises, until one is below `tol` px;
    0 steps keep the offsets.  `covariance` (star, 4, 4) is the inverse of the normal matrix.
    A star that fails (fewer than 5 pixels, singular, an offset beyond 1 px) keeps its offset and
    has NaN elsewhere.
    """
    n_stars, size, _ = data.shape
    blocks = blocks_needed(oversample, 1.0)
    pad = blocks * oversample
    grids = interleave(terms, oversample, blocks)
    grid = np.empty(grids.shape[1:])
    common = same_rows(design)
    values, weights = np.empty((size, size)), np.empty((size, size))
    taps, cut = np.empty((4, 4)), np.empty((3, size))
    line = np.empty((2, oversample, grids.shape[3]))
    sums, trial = np.empty(N_SUMS), np.empty(N_SUMS)
    a, inverse = np.empty((4, 4)), np.empty((4, 4))
    for n in range(n_stars):
        if n == 0 or not common:
            add_terms(grids, design[n], grid)
        flux[n], background[n], chi2[n], ok[n] = np.nan, np.nan, np.nan, False
        for i in range(4):
            for j in range(4):
                covariance[n, i, j], inverse[i, j] = np.nan, 0.0
        if not (abs(delta[n, 0]) <= 1 and abs(delta[n, 1]) <= 1):  # also if NaN
            continue
        count, mean = load_star(data[n], weight[n], values, weights)
        if count < MIN_PIXELS:
            continue
        f, b, d_row, d_col, misfit, good = fit_star(
            grid, basis, pad, values, weights, delta[n, 0], delta[n, 1], max_steps, tol, max_shift,
            taps, line, cut, sums, trial, a, inverse,
        )  # fmt: skip
        if good:
            flux[n], background[n], chi2[n], ok[n] = f, b + mean, misfit, True
            delta[n, 0], delta[n, 1] = d_row, d_col
            for i in range(4):
                for j in range(4):
                    covariance[n, i, j] = inverse[i, j]


@loop
def render_stars(terms, design, basis, oversample, flux, background, delta, out):
    """out[n] = flux[n]·model + background[n]; NaN where a star with flux has a NaN offset."""
    n_stars, size, _ = out.shape
    reach = 1.0
    for n in range(n_stars):
        for axis in range(2):
            if np.isfinite(delta[n, axis]):
                reach = max(reach, min(abs(delta[n, axis]), size + 1.0))
    blocks = blocks_needed(oversample, reach)
    grids = interleave(terms, oversample, blocks)
    grid = np.empty(grids.shape[1:])
    common = same_rows(design)
    taps, line = np.empty((4, 4)), np.empty((oversample, grids.shape[3]))
    for n in range(n_stars):
        if n == 0 or not common:
            add_terms(grids, design[n], grid)
        if flux[n] == 0:
            out[n] = background[n]
            continue
        if not (np.isfinite(delta[n, 0]) and np.isfinite(delta[n, 1])):
            out[n] = np.nan
            continue
        # An offset beyond `reach` leaves every tap on the padding, which is 0.
        row = min(max(delta[n, 0], -reach), reach)
        col = min(max(delta[n, 1], -reach), reach)
        pad = blocks * oversample
        first_r = place_taps(basis, oversample, row, pad, taps[0], taps[1])
        first_c = place_taps(basis, oversample, col, pad, taps[2], taps[3])
        for i in range(size):
            gather_row(grid, first_r + oversample * i, taps[0], line)
            gather_pixels(line, first_c, taps[2], out[n, i])
            out[n, i] *= flux[n]
            out[n, i] += background[n]
