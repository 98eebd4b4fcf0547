"""A model of cubic B-splines seen by the pixels of a star, and the transpose of that.

Along an axis the splines need not be those of every node (`psflib.psf.core.mesh`): a pixel sees
four neighbouring ones, whichever their widths.  `start` (s,) is the first of them for each pixel
of a stamp, `taps` (s, 4) their values there; the model is 0 beyond its nodes.

Axes: `terms` (term, m, m), `grid` (m, m) coefficients; `stamp` (row, col) of side s; `first`
(cell,), `blocks` (cell, 4, 4): see `Mesh`.
"""

import numpy as np

from psflib.loops._numba import loop
from psflib.loops.starfit import B_SPLINE, place_taps


@loop
def place(oversample, delta, first, blocks, start, taps, slope):
    """Fill `start`, `taps` and their derivative by `delta` for all pixels along an axis.

    Returns the first pixel that is wholly on the grid and that behind the last.
    """
    fine, change = np.empty(4), np.empty(4)
    low, last = place_taps(B_SPLINE, oversample, delta, 0, fine, change), first.size - 1
    whole, behind = start.size, 0
    for i in range(start.size):
        want = low + oversample * i
        cell = min(max(want, 0), last)  # of one that is partly off, the nodes at the edge
        if want == cell:
            whole, behind = min(whole, i), i + 1
        start[i] = first[cell]
        for a in range(4):
            taps[i, a], slope[i, a] = 0.0, 0.0
            for b in range(4):
                node = cell + b - want  # among the four that are asked for
                if 0 <= node < 4:
                    taps[i, a] += blocks[cell, a, b] * fine[node]
                    slope[i, a] += blocks[cell, a, b] * change[node]
    return whole, behind


@loop
def gather(grid, row_start, row_taps, col_start, col_taps, line, stamp):
    """stamp = rows·grid·colsᵀ with four taps a row and column; `line` (m,) is scratch."""
    for i in range(stamp.shape[0]):
        r = row_start[i]
        t0, t1, t2, t3 = row_taps[i, 0], row_taps[i, 1], row_taps[i, 2], row_taps[i, 3]
        for c in range(line.size):
            g0, g1, g2, g3 = grid[r, c], grid[r + 1, c], grid[r + 2, c], grid[r + 3, c]
            line[c] = t0 * g0 + t1 * g1 + t2 * g2 + t3 * g3
        for j in range(stamp.shape[1]):
            c = col_start[j]
            stamp[i, j] = (
                col_taps[j, 0] * line[c] + col_taps[j, 1] * line[c + 1]
                + col_taps[j, 2] * line[c + 2] + col_taps[j, 3] * line[c + 3]
            )  # fmt: skip


@loop
def spread(stamp, row_start, row_taps, col_start, col_taps, line, grid):
    """grid += rowsᵀ·stamp·cols, the transpose of `gather`."""
    for i in range(stamp.shape[0]):
        for c in range(line.size):
            line[c] = 0.0
        for j in range(stamp.shape[1]):
            c, value = col_start[j], stamp[i, j]
            for b in range(4):
                line[c + b] += col_taps[j, b] * value
        r = row_start[i]
        for a in range(4):
            tap = row_taps[i, a]
            for c in range(line.size):
                grid[r + a, c] += tap * line[c]


@loop
def mix(terms, share, grid):
    """grid = Σ_k share[k]·terms[k]."""
    for i in range(grid.shape[0]):
        for j in range(grid.shape[1]):
            grid[i, j] = share[0] * terms[0, i, j]
        for k in range(1, terms.shape[0]):
            for j in range(grid.shape[1]):
                grid[i, j] += share[k] * terms[k, i, j]
