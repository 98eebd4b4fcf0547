"""Loops of the Alard-Lupton fit."""

import numpy as np

from psflib.loops._numba import loop


@loop
def convolve_at(image, y, x, tile_start, tile_y, tile_x, tile, factors, pair_x, pair_y, out):
    """Convolve `image` with each raw basis term, at the listed pixels only.

    The pixels y, x (n,) are sorted by tile; tile t holds pixels tile_start[t]:tile_start[t + 1]
    and begins at (tile_y[t], tile_x[t]).  factors (f, k); out (n, nb).
    All pixels lie at least k // 2 from the border.
    """
    ny, nx = image.shape
    n_factors, k = factors.shape
    half = k // 2
    wide = tile + 2 * half
    columns = np.empty((n_factors, tile, wide))
    for t in range(len(tile_y)):
        y0 = tile_y[t]
        x0 = tile_x[t] - half
        columns[:] = 0
        c0 = max(0, -x0)
        c1 = min(wide, nx - x0)
        # down the columns first, so that the second pass reads along contiguous memory
        for f in range(n_factors):
            for r in range(tile):
                for s in range(k):
                    source = y0 + r + half - s
                    if source < 0 or source >= ny:
                        continue
                    weight = factors[f, s]
                    for c in range(c0, c1):
                        columns[f, r, c] += weight * image[source, x0 + c]
        for p in range(tile_start[t], tile_start[t + 1]):
            r = y[p] - y0
            right = x[p] - x0 + half
            for b in range(len(pair_x)):
                total = 0.0
                for s in range(k):
                    total += factors[pair_x[b], s] * columns[pair_y[b], r, right - s]
                out[p, b] = total


@loop
def block_gram(design, target, weight, start, gram, right):
    """Weighted normal equations of each block.

    design (n, m), target and weight (n,), start (blocks + 1,); gram (blocks, m, m), upper and
    lower half; right (blocks, m).
    """
    m = design.shape[1]
    row = np.empty(m)
    for t in range(len(start) - 1):
        gram[t] = 0
        right[t] = 0
        for p in range(start[t], start[t + 1]):
            w = weight[p]
            if w == 0:
                continue
            for i in range(m):
                row[i] = design[p, i]
            for i in range(m):
                wi = w * row[i]
                right[t, i] += wi * target[p]
                for j in range(i, m):
                    gram[t, i, j] += wi * row[j]
        for i in range(m):
            for j in range(i):
                gram[t, i, j] = gram[t, j, i]


@loop
def lagged_sums(variance, y, x, weight, start, half, out):
    """out[t, a, b]: sum over block t of weight * variance[y + half - a, x + half - b]."""
    side = 2 * half + 1
    for t in range(len(start) - 1):
        out[t] = 0
        for p in range(start[t], start[t + 1]):
            w = weight[p]
            if w == 0:
                continue
            for a in range(side):
                for b in range(side):
                    out[t, a, b] += w * variance[y[p] + half - a, x[p] + half - b]


@loop
def block_sums(plane, weight, select, block, total, weighted):
    """Sums over block x block cells of weight and of weight * plane, where select is true."""
    ny, nx = plane.shape
    for y in range(ny):
        i = y // block
        for x in range(nx):
            if select[y, x]:
                w = weight[y, x]
                total[i, x // block] += w
                weighted[i, x // block] += w * plane[y, x]
