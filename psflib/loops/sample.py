"""Point samples of a grid by Catmull-Rom interpolation."""

import numpy as np

from psflib.loops._numba import loop
from psflib.loops.render import catmull_rom


@loop
def sample_grid(grid, k_row, k_col, out):
    """out[i] = `grid` (row, col) at the real indices k_row[i], k_col[i]; 0 off the grid."""
    rows, cols = grid.shape
    tap_row, tap_col = np.empty(4), np.empty(4)
    for i in range(out.size):
        low_row, low_col = np.floor(k_row[i]), np.floor(k_col[i])
        catmull_rom(k_row[i] - low_row, tap_row)
        catmull_rom(k_col[i] - low_col, tap_col)
        total = 0.0
        for a in range(4):
            row = int(low_row) - 1 + a
            if not 0 <= row < rows:
                continue
            for b in range(4):
                col = int(low_col) - 1 + b
                weight = tap_row[a] * tap_col[b]
                # A NaN under a zero weight is not touched.
                if 0 <= col < cols and weight != 0:
                    total += weight * grid[row, col]
        out[i] = total
