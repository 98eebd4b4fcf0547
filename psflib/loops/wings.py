"""Wings of stars: fit of one halo, robust stack of many, smoothing along rays.

Axes: planes (row, col), the star on the centre pixel; a stack (star, pixel).
"""

import math

import numpy as np

from psflib.loops._numba import loop
from psflib.loops.render import catmull_rom
from psflib.loops.select import median


@loop
def halo_equations(rest, weight, model, flux, floor, scale, tukey, matrix, vector):
    """Normal equations of the increments (flux, sky, slopes along row and col, offsets).

    `rest` is what the present fit leaves; the variance is 1/weight + (floor·flux·model)², and a
    pixel more than `tukey`·`scale` sigma off does not count.  Derivatives with respect to the
    offsets are central differences of the model.  The slopes are per half side.
    """
    rows, cols = rest.shape
    matrix[:], vector[:] = 0.0, 0.0
    half = 0.5 * (rows - 1)
    column = np.empty(6)
    for i in range(1, rows - 1):
        for j in range(1, cols - 1):
            w = weight[i, j]
            if not w > 0:
                continue
            w /= 1 + w * (floor * flux * model[i, j]) ** 2
            z = rest[i, j] * math.sqrt(w) / (tukey * scale)
            if abs(z) >= 1:
                continue
            w *= (1 - z * z) ** 2
            column[0], column[1] = model[i, j], 1.0
            column[2], column[3] = (i - half) / half, (j - half) / half
            column[4] = -0.5 * flux * (model[i + 1, j] - model[i - 1, j])
            column[5] = -0.5 * flux * (model[i, j + 1] - model[i, j - 1])
            for a in range(6):
                vector[a] += w * column[a] * rest[i, j]
                for b in range(a + 1):
                    matrix[a, b] += w * column[a] * column[b]
    for a in range(6):
        for b in range(a):
            matrix[b, a] = matrix[a, b]


@loop
def sort_together(values, weights, n):
    """Sort the first n `values` in place, carrying `weights` along (insertion, n is small)."""
    for i in range(1, n):
        v, w = values[i], weights[i]
        k = i - 1
        while k >= 0 and values[k] > v:
            values[k + 1], weights[k + 1] = values[k], weights[k]
            k -= 1
        values[k + 1], weights[k + 1] = v, w


@loop
def weighted_median(values, weights, n):
    """Value at which half of the weight of the n sorted samples is reached."""
    total = 0.0
    for k in range(n):
        total += weights[k]
    reached = 0.0
    for k in range(n):
        reached += weights[k]
        if reached >= 0.5 * total:
            return values[k]
    return values[n - 1]


@loop
def combine_halos(stack, weight, kappa, rounds, value, total, count, spread):
    """Weighted mean of each pixel, clipped at `kappa`·max(1, 1.4826·MAD(z)), z = (v - c)·√w.

    `stack`, `weight` (star, pixel); `total` is the surviving weight, `spread` the scale of z.
    """
    n_stars, n_pixels = stack.shape
    v, w, z = np.empty(n_stars), np.empty(n_stars), np.empty(n_stars)
    for p in range(n_pixels):
        n = 0
        for s in range(n_stars):
            if weight[s, p] > 0 and np.isfinite(stack[s, p]):
                v[n], w[n] = stack[s, p], weight[s, p]
                n += 1
        value[p], total[p], count[p], spread[p] = np.nan, 0.0, 0, 1.0
        if n == 0:
            continue
        sort_together(v, w, n)
        centre, scale = weighted_median(v, w, n), 1.0
        sum_w, kept = 0.0, 0
        for _ in range(rounds):
            if n > 2:
                for k in range(n):
                    z[k] = abs(v[k] - centre) * math.sqrt(w[k])
                scale = max(1.0, 1.4826 * median(z[:n]))
            sum_w, sum_wv, kept = 0.0, 0.0, 0
            for k in range(n):
                if abs(v[k] - centre) * math.sqrt(w[k]) <= kappa * scale:
                    sum_w += w[k]
                    sum_wv += w[k] * v[k]
                    kept += 1
            if kept == 0:
                break
            centre = sum_wv / sum_w
        value[p], total[p], count[p], spread[p] = centre, sum_w, kept, scale


@loop
def ray_step(radius, share, start):
    """Half length of the smoothing window at `radius`, px: 0 to `start`, then share·radius."""
    ramp = min(max(radius / start - 1, 0.0), 1.0)
    return share * ramp * radius


@loop
def smooth_rays(ratio, weight, share, start, out, variance):
    """Means of `ratio` along the ray through each pixel, triangular over r(1 ± share).

    Sampled by Catmull-Rom; samples weigh by `weight` (inverse variance) of their pixel.
    `variance` is that of the mean, 0 where nothing was known.
    """
    rows, cols = ratio.shape
    cy, cx = 0.5 * (rows - 1), 0.5 * (cols - 1)
    tap_row, tap_col = np.empty(4), np.empty(4)
    for i in range(rows):
        for j in range(cols):
            dy, dx = i - cy, j - cx
            r = math.sqrt(dy * dy + dx * dx)
            reach = ray_step(r, share, start)
            if reach < 1:
                out[i, j] = ratio[i, j]
                variance[i, j] = 1 / weight[i, j] if weight[i, j] > 0 else 0.0
                continue
            step = max(1.0, reach / 8)
            n = math.ceil(reach / step) - 1
            total, sum_w, sum_w2 = 0.0, 0.0, 0.0
            for k in range(-n, n + 1):
                f = 1 + k * step / r
                y, x = cy + f * dy, cx + f * dx
                row, col = math.floor(y), math.floor(x)
                near_row, near_col = math.floor(y + 0.5), math.floor(x + 0.5)
                if row < 1 or col < 1 or row + 2 >= rows or col + 2 >= cols:
                    continue
                known = weight[near_row, near_col]
                if not known > 0:
                    continue
                tri = 1 - abs(k) * step / reach
                catmull_rom(y - row, tap_row)
                catmull_rom(x - col, tap_col)
                value = 0.0
                for a in range(4):
                    for b in range(4):
                        value += tap_row[a] * tap_col[b] * ratio[row - 1 + a, col - 1 + b]
                total += tri * known * value
                sum_w += tri * known
                sum_w2 += tri * tri * known
            if sum_w > 0:
                out[i, j] = total / sum_w
                variance[i, j] = sum_w2 / sum_w**2
            else:
                out[i, j], variance[i, j] = ratio[i, j], 0.0


@loop
def ray_power(square, share, side, out):
    """Mean of `square` (row, col) along three parallel rays, `side` px apart, over r(1 ± share)."""
    rows, cols = square.shape
    cy, cx = 0.5 * (rows - 1), 0.5 * (cols - 1)
    for i in range(rows):
        for j in range(cols):
            dy, dx = i - cy, j - cx
            r = max(math.sqrt(dy * dy + dx * dx), 1.0)
            n = max(1, min(12, int(r * share)))
            total, number = 0.0, 0
            for lane in range(-1, 2):
                y0, x0 = i + lane * side * dx / r, j - lane * side * dy / r
                for k in range(-n, n + 1):
                    f = share * k / n
                    row = math.floor(y0 + f * dy + 0.5)
                    col = math.floor(x0 + f * dx + 0.5)
                    if 0 <= row < rows and 0 <= col < cols:
                        total += square[row, col]
                        number += 1
            out[i, j] = total / max(number, 1)
