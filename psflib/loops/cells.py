"""Sums and robust means over the cells of a grid."""

import math

import numpy as np

from psflib.loops._numba import loop
from psflib.loops.select import median


@loop
def cell_sums(plane, row_cell, col_cell, out):
    """Sum of the pixels of each cell, added to `out`."""
    # plane (ny, nx); row_cell (ny), col_cell (nx): the cell that each row and column belongs to
    # out (cells y, cells x) float64
    ny, nx = plane.shape
    for y in range(ny):
        total = out[row_cell[y]]
        for x in range(nx):
            total[col_cell[x]] += plane[y, x]


@loop
def tukey_mean(values, weight, cut, passes, level_error):
    """Mean with Tukey's weights, `cut` robust sigma wide, and its error, into `level_error` (2,).

    `values`, `weight` (n,) float64.
    """
    n = values.size
    work = values.copy()
    level, scale, total = median(work), 1.0, 0.0
    for _ in range(passes):
        for i in range(n):
            work[i] = abs(values[i] - level) * math.sqrt(weight[i])
        scale = max(1.0, 1.4826 * median(work))
        total, moment = 0.0, 0.0
        for i in range(n):
            z = abs(values[i] - level) * math.sqrt(weight[i]) / (cut * scale)
            if z < 1:
                robust = weight[i] * (1 - z * z) ** 2
                total += robust
                moment += robust * values[i]
        if not total > 0:  # more than half of the values are one value
            total = 0.0
            for i in range(n):
                total += weight[i]
            break
        level = moment / total
    level_error[0], level_error[1] = level, scale / math.sqrt(total)


@loop
def robust_cells(plane, weight, use, others, box, stride, least, cut, passes, out):
    """Places, Tukey means, their errors and the means of `others` over square cells.

    Every `stride`-th pixel that is in `use` counts; a cell with less than the share `least` of
    them is NaN.
    """
    # plane, weight (ny, nx) float32; use (ny, nx) bool; others (k, ny, nx) float32
    # out (cells, 4 + k) float64: x, y, mean, error, others; cells along rows first
    ny, nx = plane.shape
    values, weights = np.empty(box * box), np.empty(box * box)
    cell = 0
    for top in range(0, ny, box):
        for left in range(0, nx, box):
            row = out[cell]
            row[:] = 0.0
            cell += 1
            n, seen = 0, 0
            for y in range(top, min(top + box, ny), stride):
                for x in range(left, min(left + box, nx), stride):
                    seen += 1
                    if use[y, x]:
                        values[n], weights[n] = plane[y, x], weight[y, x]
                        row[0] += x
                        row[1] += y
                        for k in range(others.shape[0]):
                            row[4 + k] += others[k, y, x]
                        n += 1
            if n == 0 or n < least * seen:
                row[:] = np.nan
                continue
            row /= n
            tukey_mean(values[:n], weights[:n], cut, passes, row[2:4])
