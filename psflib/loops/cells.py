"""Sums over the cells of a grid."""

from psflib.loops._numba import loop


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
