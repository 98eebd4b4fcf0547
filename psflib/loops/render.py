"""Sampling an oversampled model at the pixels of a star, and the exact transpose of it.

Axes: `model` (k_row, k_col) of side os·s; a stamp (row, col) of side s.  Stamp pixel i of a star
at offset d maps to k = Kc + os·((i - (s-1)/2) - d), Kc = (os·s - 1)/2, which is
(os-1)/2 - os·d + os·i: the fraction of k is the same for every pixel, so four taps serve a star.
Interpolation is Catmull-Rom (Keys 1981, a = -1/2); taps off the grid count as 0.
"""

import numpy as np

from psflib.loops._numba import loop


@loop
def catmull_rom(t, taps):
    """Weights of the four taps floor(k)-1 ... floor(k)+2 at fraction t = k - floor(k)."""
    taps[0] = 0.5 * t * (t * (2 - t) - 1)
    taps[1] = 0.5 * (t * t * (3 * t - 5) + 2)
    taps[2] = 0.5 * t * (t * (4 - 3 * t) + 1)
    taps[3] = 0.5 * t * t * (t - 1)


@loop
def catmull_rom_slope(t, taps):
    """Derivative of `catmull_rom` with respect to t."""
    taps[0] = 0.5 * (t * (4 - 3 * t) - 1)
    taps[1] = 0.5 * t * (9 * t - 10)
    taps[2] = 0.5 * (t * (8 - 9 * t) + 1)
    taps[3] = 0.5 * t * (3 * t - 2)


@loop
def first_tap(oversample, delta, side):
    """Index of the first tap of stamp pixel 0 and the fraction, for an offset `delta`."""
    k = 0.5 * (oversample - 1) - oversample * delta
    k = min(max(k, -4.0 * side - 8), 4.0 * side + 8)  # wholly off the grid either way
    low = np.floor(k)
    return int(low) - 1, k - low


@loop
def gather_rows(model, oversample, first, taps, rows):
    """rows[i, :] = Σ_a taps[a]·model[first + os·i + a, :]."""
    side = model.shape[0]
    for i in range(rows.shape[0]):
        rows[i, :] = 0.0
        for a in range(4):
            k = first + oversample * i + a
            if 0 <= k < side:
                rows[i, :] += taps[a] * model[k, :]


@loop
def gather_cols(rows, oversample, first, taps, out):
    """out[i, j] = Σ_b taps[b]·rows[i, first + os·j + b]."""
    side = rows.shape[1]
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total = 0.0
            for b in range(4):
                k = first + oversample * j + b
                if 0 <= k < side:
                    total += taps[b] * rows[i, k]
            out[i, j] = total


@loop
def sample_model(model, oversample, d_row, d_col, rows, out):
    """Model at the pixels of one stamp; `rows` (s, os·s) is scratch, `out` (s, s)."""
    taps = np.empty(4)
    first, t = first_tap(oversample, d_row, model.shape[0])
    catmull_rom(t, taps)
    gather_rows(model, oversample, first, taps, rows)
    first, t = first_tap(oversample, d_col, model.shape[0])
    catmull_rom(t, taps)
    gather_cols(rows, oversample, first, taps, out)


@loop
def sample_slopes(model, oversample, d_row, d_col, rows, out_row, out_col):
    """Derivatives of `sample_model` with respect to the offsets."""
    taps, slope = np.empty(4), np.empty(4)
    first_r, t = first_tap(oversample, d_row, model.shape[0])
    catmull_rom(t, taps)
    catmull_rom_slope(t, slope)
    first_c, t_col = first_tap(oversample, d_col, model.shape[0])
    gather_rows(model, oversample, first_r, slope, rows)
    catmull_rom(t_col, slope)
    gather_cols(rows, oversample, first_c, slope, out_row)
    gather_rows(model, oversample, first_r, taps, rows)
    catmull_rom_slope(t_col, slope)
    gather_cols(rows, oversample, first_c, slope, out_col)
    out_row *= -oversample  # dk/dd = -os
    out_col *= -oversample


@loop
def spread_stamp(stamp, oversample, d_row, d_col, rows, model):
    """Add the transpose of `sample_model` applied to `stamp` (s, s) to `model`."""
    side = model.shape[0]
    taps = np.empty(4)
    first, t = first_tap(oversample, d_col, side)
    catmull_rom(t, taps)
    rows[:, :] = 0.0
    for i in range(stamp.shape[0]):
        for j in range(stamp.shape[1]):
            for b in range(4):
                k = first + oversample * j + b
                if 0 <= k < side:
                    rows[i, k] += taps[b] * stamp[i, j]
    first, t = first_tap(oversample, d_row, side)
    catmull_rom(t, taps)
    for i in range(stamp.shape[0]):
        for a in range(4):
            k = first + oversample * i + a
            if 0 <= k < side:
                model[k, :] += taps[a] * rows[i, :]


@loop
def render_stack(model, oversample, flux, delta, out):
    """out[n] = flux[n]·(model sampled at delta[n]); zeros where flux is 0."""
    n_stars, size, _ = out.shape
    rows = np.empty((size, model.shape[0]))
    for n in range(n_stars):
        if flux[n] == 0:
            out[n] = 0.0
            continue
        sample_model(model, oversample, delta[n, 0], delta[n, 1], rows, out[n])
        out[n] *= flux[n]


@loop
def accumulate_stack(stack, oversample, flux, delta, model):
    """Transpose of `render_stack`, serial in the order of the stars so that bits repeat."""
    n_stars, size, _ = stack.shape
    rows = np.empty((size, model.shape[0]))
    stamp = np.empty((size, size))
    model[:, :] = 0.0
    for n in range(n_stars):
        if flux[n] == 0:
            continue
        stamp[:, :] = flux[n] * stack[n]
        spread_stamp(stamp, oversample, delta[n, 0], delta[n, 1], rows, model)


@loop
def normal_norm(weight, oversample, flux, delta, side, n_iter):
    """Largest eigenvalue of AᵀWA, by power iterations from a flat probe (0 if degenerate)."""
    probe = np.full((side, side), 1.0 / side)
    image = np.empty((side, side))
    stack = np.empty(weight.shape)
    norm = 0.0
    for _ in range(n_iter):
        render_stack(probe, oversample, flux, delta, stack)
        stack *= weight
        accumulate_stack(stack, oversample, flux, delta, image)
        norm = np.sqrt(np.sum(image * image))
        if not (np.isfinite(norm) and norm > 0):
            return 0.0
        probe = image / norm
    return norm
