"""An oversampled model laid out so that sampling it runs along contiguous memory.

Axes: `grid` (row, phase, col): sample os·c + p of a row of the model, padded with zeros, stands at
[row, p, c].  One tap of all pixels of a stamp's row is then a contiguous run, and no tap can leave
the grid.  `terms` (term, k_row, k_col) of side os·s; `grids` (term, row, phase, col).
"""

import numpy as np

from psflib.loops._numba import loop


@loop
def blocks_needed(oversample, reach):
    """Padding, in native pixels, that holds every tap of offsets up to `reach`."""
    return int(np.ceil(reach - 0.5 + 2.5 / oversample))


@loop
def interleave(terms, oversample, blocks):
    """Terms, padded by `blocks` native pixels: (term, row, phase, col)."""
    n_terms, side, _ = terms.shape
    pad = blocks * oversample
    columns = side // oversample + 2 * blocks
    grids = np.zeros((n_terms, side + 2 * pad, oversample, columns))
    for n in range(n_terms):
        for i in range(side):
            for j in range(side):
                q = j + pad
                grids[n, i + pad, q % oversample, q // oversample] = terms[n, i, j]
    return grids


@loop
def same_rows(design):
    """True if all stars have the same coefficients."""
    for n in range(1, design.shape[0]):
        for k in range(design.shape[1]):
            if design[n, k] != design[0, k]:
                return False
    return True


@loop
def add_terms(grids, coefficients, grid):
    """grid = Σ_k coefficients[k]·grids[k]."""
    flat, total = grids.reshape(grids.shape[0], -1), grid.reshape(-1)
    for i in range(total.size):
        total[i] = coefficients[0] * flat[0, i]
    for k in range(1, flat.shape[0]):
        c, term = coefficients[k], flat[k]
        for i in range(total.size):
            total[i] += c * term[i]


@loop
def gather_row(grid, first, taps, line):
    """line = Σ_a taps[a]·grid[first + a], all phases and columns."""
    t0, t1, t2, t3 = taps[0], taps[1], taps[2], taps[3]
    for p in range(grid.shape[1]):
        for c in range(grid.shape[2]):
            g0, g1 = grid[first, p, c], grid[first + 1, p, c]
            g2, g3 = grid[first + 2, p, c], grid[first + 3, p, c]
            line[p, c] = t0 * g0 + t1 * g1 + t2 * g2 + t3 * g3


@loop
def gather_row_slope(grid, first, taps, slope, lines):
    """`gather_row` with taps into lines[0] and with their derivative into lines[1]."""
    t0, t1, t2, t3 = taps[0], taps[1], taps[2], taps[3]
    s0, s1, s2, s3 = slope[0], slope[1], slope[2], slope[3]
    for p in range(grid.shape[1]):
        value, change = lines[0, p], lines[1, p]
        for c in range(grid.shape[2]):
            g0, g1 = grid[first, p, c], grid[first + 1, p, c]
            g2, g3 = grid[first + 2, p, c], grid[first + 3, p, c]
            value[c] = t0 * g0 + t1 * g1 + t2 * g2 + t3 * g3
            change[c] = s0 * g0 + s1 * g1 + s2 * g2 + s3 * g3


@loop
def gather_pixels(line, first, taps, out):
    """out[j] = Σ_b taps[b]·(padded sample first + os·j + b of the line)."""
    os, size = line.shape[0], out.size
    q0, q1, q2, q3 = first, first + 1, first + 2, first + 3
    l0 = line[q0 % os, q0 // os : q0 // os + size]
    l1 = line[q1 % os, q1 // os : q1 // os + size]
    l2 = line[q2 % os, q2 // os : q2 // os + size]
    l3 = line[q3 % os, q3 // os : q3 // os + size]
    t0, t1, t2, t3 = taps[0], taps[1], taps[2], taps[3]
    for j in range(size):
        out[j] = t0 * l0[j] + t1 * l1[j] + t2 * l2[j] + t3 * l3[j]
