"""Cosmic rays: pixels, and short runs of pixels, that no sum of stars can be.

Take `width` pixels in a row (one to three, along a line, a column or a diagonal) and the two
pixels at their ends.  A star of Gaussian profile, wherever it sits, gives the ends at least the
share `bound` of the mean of the run; so does any sum of stars, galaxies and haloes, as both sides
are linear in the light.  Over a local background b,

    evidence = factor·bound·(mean of the run - b) - (mean of the ends - b)

is therefore below zero but for noise where there is only sky, and above it across a cosmic ray.
"""

import math

import numpy as np

from psflib.loops._numba import loop

RAY, EDGE, TRIED = np.uint8(1), np.uint8(2), np.uint8(3)
DEAD = 5.0  # sigma below the background; such a pixel says nothing about its neighbours
WORTH = 0.3  # share of the mean of a run that a pixel must hold to belong to the ray
FAINTER = 0.5  # an edge pixel holds at most this share of the ray's pixel beside it
RING = 16  # pixels of the ring of the background
RANK = 4  # of the ring's pixels from below that is the background: neighbours only brighten it


@loop
def contrast(z, row, out):
    """out[col] = the largest contrast of any run that begins or is centred at (row, col).

    In units of the noise of one pixel with equal noise everywhere; NaN neighbours are passed over.
    """
    # z (ny, nx) float32, NaN outside; out (nx)
    nx = z.shape[1]
    one, three, four = np.float32(1.5**-0.5), np.float32((5 / 6) ** -0.5), np.float32(1.25**-0.5)
    half, third, quarter = np.float32(0.5), np.float32(1 / 3), np.float32(0.25)
    middle = z[row]
    for col in range(2, nx - 2):
        p = middle[col]
        around = z[row - 1, col] + z[row + 1, col] + middle[col - 1] + middle[col + 1]
        best = (p - quarter * around) * four
        out[col] = best if best > 0 else np.float32(0)
    for direction in range(4):
        dy = 0 if direction == 0 else 1
        dx = 1 if direction == 0 else direction - 2
        before2, before = z[row - 2 * dy], z[row - dy]
        after, after2 = z[row + dy], z[row + 2 * dy]
        for col in range(2, nx - 2):
            p, best = middle[col], out[col]
            a, b = before[col - dx], after[col + dx]
            a2, b2 = before2[col - 2 * dx], after2[col + 2 * dx]
            first = (p - half * (a + b)) * one
            best = first if first > best else best
            second = half * (p + b - a - b2)
            best = second if second > best else best
            third_run = (third * (a + p + b) - half * (a2 + b2)) * three
            best = third_run if third_run > best else best
            out[col] = best


@loop
def background(z, row, col, ring, values):
    """A low value of the pixels on a ring around (row, col): the RANK-th from below; else NaN.

    Ranks are of all pixels that there are: with a few missing, a lower one stands for it.
    """
    # ring (RING, 2): offsets; values (RING): work space
    count = 0
    for i in range(ring.shape[0]):
        value = z[row + ring[i, 0], col + ring[i, 1]]
        if not math.isfinite(value):
            continue
        place = count
        while place > 0 and values[place - 1] > value:
            values[place] = values[place - 1]
            place -= 1
        values[place] = value
        count += 1
    return values[(count * RANK) // ring.shape[0]] if count else np.nan


@loop
def typical_variance(v, row, col, values):
    """Median variance of the 5 × 5 pixels around (row, col) without itself: not the ray's own."""
    # values (24): work space
    count = 0
    for j in range(row - 2, row + 3):
        for i in range(col - 2, col + 3):
            value = v[j, i]
            if not math.isfinite(value) or (j == row and i == col):
                continue
            place = count
            while place > 0 and values[place - 1] > value:
                values[place] = values[place - 1]
                place -= 1
            values[place] = value
            count += 1
    return values[count // 2] if count else v[row, col]


@loop
def evidence(mean, ends, bound, b):
    """By how much the ends of a run are fainter than a star's, given the run's mean."""
    return bound * (mean - b) - (ends - b)


@loop
def is_ray(mean, ends, spread, variance, n_run, n_ends, bound, b, typical, limits):
    """True if a run stands out, and no sum of stars explains that its ends do not.

    spread, variance: noise of the run's mean and of that of the ends, as given, squared (the
    ray's own counts in them); typical: of one pixel around, which the contrast is judged by.
    """
    need = limits[0] * limits[0] * typical * (1 / n_run + 1 / n_ends)
    high = mean - ends
    if not (high > 0 and high * high > need):
        return False
    proof = evidence(mean, ends, bound, b)
    rest = (1 - bound) * (1 - bound) * 0.1 * typical  # of the background: a rank of 16
    error = bound * bound * spread + variance + rest
    return proof > 0 and proof * proof > limits[1] * limits[1] * error


@loop
def judge(z, v, row, col, pad, bounds, limits, b, typical, hit):
    """Length of the run at (row, col) that is a cosmic ray, 0 if none is; its step goes to `hit`.

    The run begins at (row, col) if it has two pixels and is centred there if it has one or three.
    """
    # z, v (ny + 2 pad, nx + 2 pad), mirrored outside
    # bounds (2, 4): line or diagonal; length of the run, and one pixel from the one before it
    # hit (2): step dy, dx
    ny, nx = z.shape
    around, spread, dead = 0.0, 0.0, False
    for direction in range(4):
        dy = 0 if direction == 0 else 1
        dx = 1 if direction == 0 else direction - 2
        hit[0], hit[1] = dy, dx
        diagonal = dy * dx != 0
        for width in range(1, 4):
            low = -2 if width == 3 else -1
            high = 1 if width == 1 else 2
            j0, i0, j1, i1 = row + low * dy, col + low * dx, row + high * dy, col + high * dx
            first, last = z[j0, i0], z[j1, i1]
            floor0, floor1 = first - b, last - b
            lost = not (math.isfinite(first) and math.isfinite(last))
            lost = lost or (floor0 < 0 and floor0 * floor0 > DEAD * DEAD * v[j0, i0])
            lost = lost or (floor1 < 0 and floor1 * floor1 > DEAD * DEAD * v[j1, i1])
            if width == 1 and direction in (0, 2):
                dead = dead or lost
                around += 0.25 * (first + last)
                spread += (v[j0, i0] + v[j1, i1]) / 16
            if lost:
                continue
            mean, variance = 0.0, 0.0
            for k in range(low + 1, high):
                mean += z[row + k * dy, col + k * dx] / width
                variance += v[row + k * dy, col + k * dx] / (width * width)
            bound, ends = bounds[int(diagonal), width - 1], 0.5 * (first + last)
            n_ends, ends_variance = 2, 0.25 * (v[j0, i0] + v[j1, i1])
            if min(j0, i0) < pad or j1 >= ny - pad or max(i0, i1) >= nx - pad or i1 < pad:
                # both ends are one pixel, and a star may lie outside the image
                bound, n_ends, ends_variance = bound * bound, 1, v[j1, i1]
            if is_ray(
                mean, ends, variance, ends_variance, width, n_ends, bound, b, typical, limits
            ):
                return width
    border = row <= pad or col <= pad or row >= ny - pad - 1 or col >= nx - pad - 1
    if dead or border:
        return 0
    hit[0], hit[1] = 0, 0
    found = is_ray(
        z[row, col], around, v[row, col], spread, 1, 4, bounds[0, 0], b, typical, limits
    )
    return 1 if found else 0


@loop
def mark_run(z, row, col, width, hit, b, least, pad, state, queue, count):
    """Mark the bright pixels of a run as RAY, put the new ones into the queue; its new length.

    least: square of what a pixel must have above the background.
    """
    ny, nx = state.shape
    low = -1 if width == 3 else 0
    mean = 0.0
    for k in range(low, low + width):
        mean += (z[row + k * hit[0], col + k * hit[1]] - b) / width
    for k in range(low, low + width):
        j, i = row + k * hit[0], col + k * hit[1]
        y, x = j - pad, i - pad
        if y < 0 or x < 0 or y >= ny or x >= nx or state[y, x] == RAY:
            continue
        high = z[j, i] - b
        if high > WORTH * mean and high * high > least:
            state[y, x] = RAY
            queue[count] = y * nx + x
            count += 1
    return count


@loop
def seed_rays(z, v, pad, ring, bounds, limits, least, state, queue):
    """Mark all runs that are cosmic rays; the number of pixels in the queue."""
    ny, nx = state.shape
    out, sorted_ring, sorted_variance = np.zeros(z.shape[1], z.dtype), np.empty(RING), np.empty(24)
    hit = np.zeros(2, np.int64)
    count = 0
    for row in range(pad, pad + ny):
        contrast(z, row, out)
        for col in range(pad, pad + nx):
            if not out[col] > 0:
                continue
            low = min(v[row, col - 2], v[row, col + 2], v[row - 2, col], v[row + 2, col])
            if out[col] * out[col] < limits[0] * limits[0] * low:
                continue
            b = background(z, row, col, ring, sorted_ring)
            if not math.isfinite(b):
                continue
            typical = typical_variance(v, row, col, sorted_variance)
            width = judge(z, v, row, col, pad, bounds, limits, b, typical, hit)
            if width:
                floor = least * least * typical
                count = mark_run(z, row, col, width, hit, b, floor, pad, state, queue, count)
    return count


@loop
def grow_rays(z, v, pad, ring, bounds, limits, least, state, queue, count):
    """Follow the rays from pixel to pixel with lower limits, then add their faint edges."""
    ny, nx = state.shape
    sorted_ring, sorted_variance, hit = np.empty(RING), np.empty(24), np.zeros(2, np.int64)
    done = 0
    while done < count:
        y, x = queue[done] // nx, queue[done] % nx
        done += 1
        for q in range(max(y - 1, 0), min(y + 2, ny)):
            for p in range(max(x - 1, 0), min(x + 2, nx)):
                row, col = q + pad, p + pad
                if state[q, p] != 0 or not math.isfinite(z[row, col]):
                    continue
                state[q, p] = TRIED
                b = background(z, row, col, ring, sorted_ring)
                typical = typical_variance(v, row, col, sorted_variance)
                width = judge(z, v, row, col, pad, bounds, limits, b, typical, hit)
                if width:
                    floor = least * least * typical
                    count = mark_run(z, row, col, width, hit, b, floor, pad, state, queue, count)
    for k in range(count):
        y, x = queue[k] // nx, queue[k] % nx
        row, col = y + pad, x + pad
        b = background(z, row, col, ring, sorted_ring)
        typical = typical_variance(v, row, col, sorted_variance)
        bright = z[row, col] - b
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                q, p = y + dy, x + dx
                if q < 0 or p < 0 or q >= ny or p >= nx or state[q, p] == RAY:
                    continue
                high = z[row + dy, col + dx] - b
                beyond = z[row + 2 * dy, col + 2 * dx] - b
                step, faint = high - beyond, bounds[int(dy * dx != 0), 3] * high
                clear = step > 0 and step * step > least * least * typical and beyond < faint
                if clear and high <= FAINTER * bright:
                    state[q, p] = EDGE
