"""Loops of the Alard-Lupton fit."""

import numpy as np

from psflib.loops._numba import loop


@loop
def convolve_at(  # noqa: C901
    image, y, x, tile_start, tile_y, tile_x, tile, factors, reach, pair_x, pair_y, own, first, out
):  # fmt: skip
    """Convolve `image` with each basis image, at the listed pixels only.

    The pixels y, x (n,) are sorted by tile; tile t holds pixels tile_start[t]:tile_start[t + 1]
    and begins at (tile_y[t], tile_x[t]).  factors (f, k) float32, zero beyond reach (f,) of their
    centres; basis image b is own[b] times raw term b plus first[b] times raw term 0; out (nb, n)
    float32.  All pixels lie at least k // 2 from the border.
    """
    n_factors, k = factors.shape
    half = k // 2
    columns = np.empty((n_factors, tile, tile + 2 * half), np.float32)
    line, line0 = np.empty(tile, np.float32), np.empty(tile, np.float32)
    index = np.empty((tile, tile), np.int64)
    low, high = np.empty(tile, np.int64), np.empty(tile, np.int64)
    for t in range(len(tile_y)):
        index[:] = -1
        low[:], high[:] = tile, -1
        for p in range(tile_start[t], tile_start[t + 1]):
            r, c = y[p] - tile_y[t], x[p] - tile_x[t]
            index[r, c] = p
            low[r], high[r] = min(low[r], c), max(high[r], c)
        for r in range(tile):
            if high[r] < 0:
                continue
            # down the columns first, so that the second pass reads along contiguous memory
            left, width = tile_x[t] + low[r] - half, high[r] - low[r] + 1
            for f in range(n_factors):
                column = columns[f, r]
                column[: width + 2 * half] = 0
                for s in range(-reach[f], reach[f] + 1):
                    row, weight = image[tile_y[t] + r - s, left:], factors[f, half + s]
                    for c in range(width + 2 * half):
                        column[c] += weight * row[c]
            for b in range(len(pair_x)):
                column, factor = columns[pair_y[b], r], factors[pair_x[b]]
                line[:width] = 0
                for s in range(-reach[pair_x[b]], reach[pair_x[b]] + 1):
                    weight, moved = factor[half + s], column[half - s :]
                    for c in range(width):
                        line[c] += weight * moved[c]
                if b == 0:
                    line0[:width] = line[:width]
                    line[:width] = 0
                for c in range(width):
                    p = index[r, low[r] + c]
                    if p >= 0:
                        out[b, p] = own[b] * line[c] + first[b] * line0[c]


@loop
def _products(rows, i, n, out):
    """Scalar products of row i with itself and all later ones, over the first n pixels.

    Four at a time, so that each pixel is loaded once for them.
    """
    row, j = rows[i], i
    while j + 3 < len(rows):
        other0, other1, other2, other3 = rows[j], rows[j + 1], rows[j + 2], rows[j + 3]
        total0, total1, total2, total3 = 0.0, 0.0, 0.0, 0.0
        for q in range(n):
            value = row[q]
            total0 += value * other0[q]
            total1 += value * other1[q]
            total2 += value * other2[q]
            total3 += value * other3[q]
        k = j - i
        out[k], out[k + 1], out[k + 2], out[k + 3] = total0, total1, total2, total3
        j += 4
    while j < len(rows):
        other = rows[j]
        total = 0.0
        for q in range(n):
            total += row[q] * other[q]
        out[j - i] = total
        j += 1


@loop
def block_gram(design, residual, weight, start, gram, right):
    """Weighted normal equations of each block; the last column of the model is a constant.

    design (nb, n) float32, residual and weight (n,), start (blocks + 1,);
    gram (blocks, (nb + 1) (nb + 2) / 2), the upper halves row by row; right (blocks, nb + 1).
    """
    nb = design.shape[0]
    most = 0
    for t in range(len(start) - 1):
        most = max(most, start[t + 1] - start[t])
    rows = np.empty((nb + 1, most))
    rest = np.empty(most)
    keep = np.empty(most, np.int64)
    for t in range(len(start) - 1):
        n = 0
        for p in range(start[t], start[t + 1]):
            if weight[p] > 0:
                root = np.sqrt(weight[p])
                rows[nb, n] = root
                rest[n] = root * residual[p]
                keep[n] = p
                n += 1
        roots = rows[nb]
        for i in range(nb):
            row, column = rows[i], design[i]
            for q in range(n):
                row[q] = column[keep[q]] * roots[q]
        for i in range(nb + 1):
            row = rows[i]
            total = 0.0
            for q in range(n):
                total += row[q] * rest[q]
            right[t, i] = total
            _products(rows, i, n, gram[t, i * (2 * nb + 3 - i) // 2 :])


@loop
def model_at(design, y, x, coef, tx, ty, power_x, power_y, out):
    """Sum over b of design[b] times its polynomial coef[b] at the pixel.

    design (nb, n) float32; coef (nb, nq); tx (degree + 1, nx) and ty (degree + 1, ny) the
    one-dimensional polynomials, term q being tx[power_x[q]] * ty[power_y[q]]; out (n,).
    """
    nb, n = design.shape
    chunk = 256
    terms = np.empty((len(power_x), chunk))
    local = np.empty(chunk)
    for p0 in range(0, n, chunk):
        size = min(chunk, n - p0)
        columns, rows, result = x[p0:], y[p0:], out[p0:]
        for q in range(len(power_x)):
            term, along, up = terms[q], tx[power_x[q]], ty[power_y[q]]
            for p in range(size):
                term[p] = along[columns[p]] * up[rows[p]]
        result[:size] = 0
        for b in range(nb):
            local[:size] = 0
            for q in range(len(power_x)):
                c, term = coef[b, q], terms[q]
                for p in range(size):
                    local[p] += c * term[p]
            column = design[b, p0:]
            for p in range(size):
                result[p] += local[p] * column[p]


@loop
def lagged_sums(variance, y, x, weight, cell, half, out):
    """out[cell, a, b] += weight * variance[y + half - a, x - half + b], over all pixels."""
    side = 2 * half + 1
    for p in range(len(y)):
        w = np.float32(weight[p])
        if w == 0:
            continue
        for a in range(side):
            row = variance[y[p] + half - a, x[p] - half :]
            total = out[cell[p], a]
            for b in range(side):
                total[b] += w * row[b]


@loop
def sky_sums(rest, variance, select, level, clip2, block, total, weighted):
    """Sums over block x block cells of 1/variance and of rest/variance, where select is true.

    Left out are pixels with (rest - level)² >= clip2 * variance.
    """
    ny, nx = rest.shape
    for y in range(ny):
        i = y // block
        for x in range(nx):
            if select[y, x] and (rest[y, x] - level) ** 2 < clip2 * variance[y, x]:
                w = 1 / variance[y, x]
                total[i, x // block] += w
                weighted[i, x // block] += w * rest[y, x]
