"""Flux, background and offset of each star under a fixed model.

Axes: `data`, `weight` (star, row, col); `delta` (star, 2) as (row, col).  A pixel counts if its
datum is finite and its weight finite and positive.
"""

import numpy as np

from psflib.loops._numba import loop
from psflib.loops.render import sample_model, sample_slopes


@loop
def solve_2x2(a11, a12, a22, b1, b2):
    """Solution of a symmetric 2×2 system and whether it is regular."""
    det = a11 * a22 - a12 * a12
    if not (a11 > 0 and a22 > 0 and np.isfinite(a11) and np.isfinite(a22)):
        return np.nan, np.nan, False
    if not det > 1e-12 * a11 * a22:
        return np.nan, np.nan, False
    x1 = (a22 * b1 - a12 * b2) / det
    x2 = (a11 * b2 - a12 * b1) / det
    return x1, x2, np.isfinite(x1) and np.isfinite(x2)


@loop
def flux_background(data, weight, profile):
    """Weighted least squares of data = flux·profile + background for one stamp."""
    a11, a12, a22, b1, b2 = 0.0, 0.0, 0.0, 0.0, 0.0
    n = 0
    for i in range(data.shape[0]):
        for j in range(data.shape[1]):
            d, w, p = data[i, j], weight[i, j], profile[i, j]
            if np.isfinite(d) and np.isfinite(w) and w > 0:
                n += 1
                a11 += w * p * p
                a12 += w * p
                a22 += w
                b1 += w * p * d
                b2 += w * d
    if n < 3:
        return np.nan, np.nan, False
    flux, background, ok = solve_2x2(a11, a12, a22, b1, b2)
    if not ok:
        return np.nan, np.nan, False
    return flux, background, True


@loop
def offset_step(data, weight, profile, slope_row, slope_col, flux, background):
    """One Gauss-Newton step of the offset at fixed flux and background."""
    a11, a12, a22, b1, b2 = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(data.shape[0]):
        for j in range(data.shape[1]):
            d, w = data[i, j], weight[i, j]
            if np.isfinite(d) and np.isfinite(w) and w > 0:
                r = d - flux * profile[i, j] - background
                g = flux * slope_row[i, j]
                h = flux * slope_col[i, j]
                a11 += w * g * g
                a12 += w * g * h
                a22 += w * h * h
                b1 += w * g * r
                b2 += w * h * r
    return solve_2x2(a11, a12, a22, b1, b2)


@loop
def solve_stars(model, oversample, data, weight, delta, flux, background, ok):
    """Flux and background of every star at its fixed offset."""
    n_stars, size, _ = data.shape
    rows = np.empty((size, model.shape[0]))
    profile = np.empty((size, size))
    for n in range(n_stars):
        flux[n], background[n], ok[n] = np.nan, np.nan, False
        if np.isfinite(delta[n, 0]) and np.isfinite(delta[n, 1]):
            sample_model(model, oversample, delta[n, 0], delta[n, 1], rows, profile)
            flux[n], background[n], ok[n] = flux_background(data[n], weight[n], profile)


@loop
def refine_star(model, oversample, data, weight, d_row, d_col, max_iter, tol):
    """Alternate (flux, background) and offset steps: flux, background, d_row, d_col, ok."""
    size, side = data.shape[0], model.shape[0]
    rows = np.empty((size, side))
    profile = np.empty((size, size))
    slope_row, slope_col = np.empty((size, size)), np.empty((size, size))
    for _ in range(max_iter):
        sample_model(model, oversample, d_row, d_col, rows, profile)
        flux, background, ok = flux_background(data, weight, profile)
        if not ok:
            return np.nan, np.nan, d_row, d_col, False
        sample_slopes(model, oversample, d_row, d_col, rows, slope_row, slope_col)
        dr, dc, ok = offset_step(data, weight, profile, slope_row, slope_col, flux, background)
        if not ok:
            return np.nan, np.nan, d_row, d_col, False
        dr, dc = min(max(dr, -1.0), 1.0), min(max(dc, -1.0), 1.0)
        d_row, d_col = d_row + dr, d_col + dc
        if not (abs(d_row) <= 1 and abs(d_col) <= 1):
            return np.nan, np.nan, d_row, d_col, False
        if np.sqrt(dr * dr + dc * dc) < tol:
            break
    sample_model(model, oversample, d_row, d_col, rows, profile)
    flux, background, ok = flux_background(data, weight, profile)
    return flux, background, d_row, d_col, ok


@loop
def refine_stars(model, oversample, data, weight, delta, max_iter, tol, flux, background, ok):
    """`refine_star` for all; a star that fails keeps the offset it came with."""
    for n in range(data.shape[0]):
        flux[n], background[n], ok[n] = np.nan, np.nan, False
        if not (np.isfinite(delta[n, 0]) and np.isfinite(delta[n, 1])):
            continue
        f, b, d_row, d_col, good = refine_star(
            model, oversample, data[n], weight[n], delta[n, 0], delta[n, 1], max_iter, tol
        )
        if good:
            flux[n], background[n], ok[n] = f, b, True
            delta[n, 0], delta[n, 1] = d_row, d_col
