"""Elliptical Moffat profiles fitted to many sources, one at a time."""

import math

import numpy as np

from psflib.loops._numba import loop

N_PARAMETERS = 7  # amplitude, x, y, background, a, b, c
MOST_ROUNDS = 60
ENOUGH = 1e-5  # relative change of the sum of squares at which a fit is done
FEWEST = 12  # pixels


@loop
def fit_moffats(image, usable, x, y, fwhm, form, beta, n_free, out):
    """Least squares of A (1 + a dx² + 2 b dx dy + c dy²)^-beta + background to each source.

    All pixels weigh the same: the core, which tells the width, rules bright and faint stars alike.
    Levenberg-Marquardt, on pixels within 1.7 of the first FWHM and at least 3.5 px; of wide
    sources on every second, third ... of them, some 80 in all.
    """
    # image, usable (ny, nx); x, y, fwhm (n): first guesses, px
    # form: (a, b, c) of the first shape, relative; ac - b² = 1
    # n_free: 7, or 4 to keep the shape that `fwhm` and `form` give
    # out (n, 8): amplitude, x, y, background, a, b, c, mean square of residuals (NaN: no fit)
    normal, right = np.empty((n_free, n_free)), np.empty(n_free)
    matrix, step = np.empty((n_free, n_free)), np.empty(n_free)
    now, trial = np.empty(N_PARAMETERS), np.empty(N_PARAMETERS)
    for s in range(x.size):
        out[s] = np.nan
        radius = max(3.5, 1.7 * fwhm[s])
        if not _start(image, usable, x[s], y[s], fwhm[s], form, beta, radius, now):
            continue
        box = x[s], y[s], radius, max(1, int(fwhm[s] / 3))
        squares, count = _sums(image, usable, box, now, beta, normal, right)
        damping = 1e-2
        for _ in range(MOST_ROUNDS):
            matrix[:] = normal
            for i in range(n_free):
                matrix[i, i] += damping * normal[i, i]
            if not _solved(matrix, right, step):
                break
            trial[:] = now
            trial[:n_free] += step
            better = False
            if trial[0] > 0 and trial[4] > 0 and trial[4] * trial[6] > trial[5] * trial[5]:
                better = _squares(image, usable, box, trial, beta) < squares
            if not better:
                damping *= 5
                if damping > 1e8:
                    break
                continue
            now[:] = trial
            before = squares
            squares, count = _sums(image, usable, box, now, beta, normal, right)
            damping = max(damping / 5, 1e-9)
            if before - squares <= ENOUGH * before:
                break
        out[s, :N_PARAMETERS] = now
        out[s, N_PARAMETERS] = squares / count


@loop
def _start(image, usable, x, y, fwhm, form, beta, radius, now):
    """First parameters; False if too few pixels are left or none of them stands out."""
    top, low, count = -np.inf, np.inf, 0
    ny, nx = image.shape
    for row in range(max(0, math.ceil(y - radius)), min(ny, math.floor(y + radius) + 1)):
        for col in range(max(0, math.ceil(x - radius)), min(nx, math.floor(x + radius) + 1)):
            if usable[row, col] and (row - y) ** 2 + (col - x) ** 2 <= radius * radius:
                top, low = max(top, image[row, col]), min(low, image[row, col])
                count += 1
    shape = 4 * (2 ** (1 / beta) - 1) / (fwhm * fwhm)
    now[0], now[1], now[2], now[3] = top - low, x, y, max(low, 0.0)
    now[4], now[5], now[6] = shape * form[0], shape * form[1], shape * form[2]
    return count >= FEWEST and top > low


@loop
def _sums(image, usable, box, p, beta, normal, right):
    """Sum of squared residuals, pixels, and the normal equations of a step."""
    x, y, radius, step = box
    ny, nx = image.shape
    d = np.empty(N_PARAMETERS)
    normal[:], right[:] = 0.0, 0.0
    squares, count = 0.0, 0
    for row in range(max(0, math.ceil(y - radius)), min(ny, math.floor(y + radius) + 1), step):
        for col in range(max(0, math.ceil(x - radius)), min(nx, math.floor(x + radius) + 1), step):
            if not usable[row, col] or (row - y) ** 2 + (col - x) ** 2 > radius * radius:
                continue
            dx, dy = col - p[1], row - p[2]
            base = 1 + p[4] * dx * dx + 2 * p[5] * dx * dy + p[6] * dy * dy
            unit = base**-beta
            slope = -beta * p[0] * unit / base
            d[0] = unit
            d[1] = -slope * 2 * (p[4] * dx + p[5] * dy)
            d[2] = -slope * 2 * (p[5] * dx + p[6] * dy)
            d[3], d[4], d[5], d[6] = 1.0, slope * dx * dx, slope * 2 * dx * dy, slope * dy * dy
            residual = image[row, col] - p[0] * unit - p[3]
            squares += residual * residual
            count += 1
            for i in range(len(right)):
                right[i] += d[i] * residual
                for j in range(i + 1):
                    normal[i, j] += d[i] * d[j]
    for i in range(len(right)):
        for j in range(i):
            normal[j, i] = normal[i, j]
    return squares, count


@loop
def _squares(image, usable, box, p, beta):
    """Sum of squared residuals."""
    x, y, radius, step = box
    ny, nx = image.shape
    squares = 0.0
    for row in range(max(0, math.ceil(y - radius)), min(ny, math.floor(y + radius) + 1), step):
        for col in range(max(0, math.ceil(x - radius)), min(nx, math.floor(x + radius) + 1), step):
            if not usable[row, col] or (row - y) ** 2 + (col - x) ** 2 > radius * radius:
                continue
            dx, dy = col - p[1], row - p[2]
            base = 1 + p[4] * dx * dx + 2 * p[5] * dx * dy + p[6] * dy * dy
            residual = image[row, col] - p[0] * base**-beta - p[3]
            squares += residual * residual
    return squares


@loop
def _solved(matrix, right, step):
    """Cholesky in place, `step` the solution; False if the matrix is not positive."""
    n = len(right)
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i == j:
                if not total > 0:
                    return False
                matrix[i, i] = math.sqrt(total)
            else:
                matrix[i, j] = total / matrix[j, j]
    for i in range(n):
        total = right[i]
        for k in range(i):
            total -= matrix[i, k] * step[k]
        step[i] = total / matrix[i, i]
    for i in range(n - 1, -1, -1):
        total = step[i]
        for k in range(i + 1, n):
            total -= matrix[k, i] * step[k]
        step[i] = total / matrix[i, i]
    return True


@loop
def half_widths(smooth, usable, rows, cols, most, out):
    """Rough FWHM (px) of each peak: twice the mean way to half of it, along lines and diagonals.

    Of the unmasked ways, the shorter half counts: a neighbour makes a way longer, nothing shorter.
    """
    # smooth, usable (ny, nx); rows, cols (n); out (n): NaN if no way ends
    ways = np.empty(8)
    for s in range(rows.size):
        count = 0
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                if dy == 0 and dx == 0:
                    continue
                length = _way(smooth, usable, rows[s], cols[s], dy, dx, most)
                if length > 0:
                    ways[count] = length * math.sqrt(dy * dy + dx * dx)
                    count += 1
        out[s] = np.nan
        if count > 1:
            shorter = np.sort(ways[:count])[: (count + 1) // 2 + 1]
            out[s] = 2 * shorter.mean()


@loop
def _way(smooth, usable, row, col, dy, dx, most):
    """Steps until half of the peak, between pixels by a straight line; 0 if it is not seen."""
    ny, nx = smooth.shape
    half = 0.5 * smooth[row, col]
    before = smooth[row, col]
    for k in range(1, most + 1):
        r, c = row + k * dy, col + k * dx
        if not (0 <= r < ny and 0 <= c < nx) or not usable[r, c]:
            return 0.0
        if smooth[r, c] < half:
            return k - 1 + (before - half) / (before - smooth[r, c])
        before = smooth[r, c]
    return 0.0
