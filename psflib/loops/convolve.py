"""Loops of convolutions with kernels that vary over the image."""

import numpy as np

from psflib.loops._numba import loop


@loop
def add_product(total, weight, part, row0, col0):
    """total (ny, nx) += weight (ny, nx) times the part of `part` that begins at (row0, col0)."""
    ny, nx = total.shape
    for y in range(ny):
        row, factor, result = part[row0 + y, col0:], weight[y], total[y]
        for x in range(nx):
            result[x] += factor[x] * row[x]


@loop
def convolve_tiles(plane, tile, first, last, down, across, rank, out):
    """Convolve each tile x tile cell of `plane` with its own sum of separable kernels.

    Cells that begin in rows first ... last - 1, first a multiple of `tile`.

    plane, out (ny, nx) float32; cell t, in row order, has the kernel
    sum_r down[t, r] (rows) x across[t, r] (columns), (cells, ranks, k) float32, of which the
    first rank[t] count; zeros outside the image.
    """
    ny, nx = plane.shape
    k = down.shape[2]
    half = k // 2
    columns = -(-nx // tile)
    line = np.zeros(tile + 2 * half, np.float32)
    for t in range(first // tile * columns, -(-last // tile) * columns):
        y0, x0 = t // columns * tile, t % columns * tile
        width = min(tile, nx - x0)
        left, right = max(x0 - half, 0), min(x0 + width + half, nx)
        inside = line[left - x0 + half :]
        for y in range(y0, min(y0 + tile, ny)):
            result = out[y, x0:]
            result[:width] = 0
            for r in range(rank[t]):
                line[:] = 0
                for s in range(-half, half + 1):
                    if y - s < 0 or y - s >= ny:
                        continue
                    weight, row = down[t, r, half + s], plane[y - s, left:right]
                    for x in range(right - left):
                        inside[x] += weight * row[x]
                for s in range(-half, half + 1):
                    weight, moved = across[t, r, half + s], line[half - s :]
                    for x in range(width):
                        result[x] += weight * moved[x]


@loop
def spread(y, x, value, kernel, out):
    """Add value[p] times the kernel (k, k), centred on pixel (y[p], x[p]), to `out`."""
    ny, nx = out.shape
    half = kernel.shape[0] // 2
    for p in range(len(y)):
        first, last = max(x[p] - half, 0), min(x[p] + half + 1, nx)
        for j in range(max(y[p] - half, 0), min(y[p] + half + 1, ny)):
            row, result = kernel[j - y[p] + half, first - x[p] + half :], out[j, first:]
            for i in range(last - first):
                result[i] += value[p] * row[i]
