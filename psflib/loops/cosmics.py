"""Cosmic rays: pixels, and short runs of pixels, that no sum of stars can be.

Take one to three pixels in a row, along a line, a column or a diagonal, and the two pixels at
their ends.  A star of Gaussian profile, wherever it sits, gives the ends at least the share `bound`
of the mean of the run; so does any sum of stars, galaxies and haloes, as both are linear in the
light.  Over a local background b,

    evidence = bound (mean of the run - b) - (mean of the ends - b)

is therefore below zero but for noise where there is only sky, and above it across a cosmic ray.
Five pixels alike: a lone one within its four neighbours.  Three or five cuts side by side across a
track prove together what each alone cannot.

All planes are in units of the typical noise, padded by mirrored pixels, NaN where unusable.
"""

import math

import numpy as np

from psflib.loops._numba import loop

RAY, EDGE, TRIED = np.uint8(1), np.uint8(2), np.uint8(4)  # bits of the state
LOWEST = 1.5  # sigma below the background to which the ends of a run are believed
DEAD = 5.0  # sigma below the background; such a pixel says nothing about its neighbours
WORTH = 0.5  # share of the mean of a run that a pixel must hold to belong to the ray
FAINTER = 0.5  # an edge pixel holds at most this share of the ray's pixel beside it
RING = 16  # pixels of the ring of the background
RANK = 4  # from below, of the ring's pixel that is the background: neighbours only brighten it
RISE = 0.5  # sigma by which that pixel is below the sky, about
LIT = 2.0  # sigma above the second of the ring at most: between bright stars, more of it is lit
RANK_VARIANCE = 0.1  # of that pixel, in variances of one pixel


@loop
def mirrored(i, n):
    """Index within 0 ... n - 1 of a pixel mirrored about the first or the last one."""
    if n == 1:
        return 0
    i = abs(i) % (2 * n - 2)
    return i if i < n else 2 * n - 2 - i


@loop
def pad_planes(image, variance, unusable, unit, pad, z, v):
    """z = image/unit and v = variance/unit² with mirrored borders, NaN for what is no datum."""
    # image, variance, unusable (ny, nx); z, v (ny + 2 pad, nx + 2 pad) float32
    ny, nx = image.shape
    for row in range(z.shape[0]):
        y = mirrored(row - pad, ny)
        for col in range(z.shape[1]):
            x = mirrored(col - pad, nx)
            value, noise = np.float32(np.nan), np.float32(np.nan)
            if not unusable[y, x]:
                # twice by the unit, whose square may not exist
                value = np.float32(np.float64(image[y, x]) / unit)
                noise = np.float32(np.float64(variance[y, x]) / unit / unit)
            if not (math.isfinite(value) and math.isfinite(noise) and noise > 0):
                value, noise = np.float32(np.nan), np.float32(np.nan)
            z[row, col], v[row, col] = value, noise


@loop
def contrast(z, row, out):
    """out[col] = largest contrast of a run at (row, col), in units of its own noise.

    With equal noise everywhere; at least 0.  NaN neighbours are passed over.
    """
    # Straight-line code over rows, which is compiled into vector instructions.
    nx = z.shape[1]
    one, three, cross = np.float32(1.5**-0.5), np.float32((5 / 6) ** -0.5), np.float32(1.25**-0.5)
    half, third, quarter = np.float32(0.5), np.float32(1 / 3), np.float32(0.25)
    middle = z[row]
    for col in range(2, nx - 2):
        around = z[row - 1, col] + z[row + 1, col] + middle[col - 1] + middle[col + 1]
        best = (middle[col] - quarter * around) * cross
        out[col] = best if best > 0 else np.float32(0)
    for direction in range(4):
        dy, dx = step(direction)
        before2, before = z[row - 2 * dy], z[row - dy]
        after, after2 = z[row + dy], z[row + 2 * dy]
        for col in range(2, nx - 2):
            p, best = middle[col], out[col]
            a, b = before[col - dx], after[col + dx]
            a2, b2 = before2[col - 2 * dx], after2[col + 2 * dx]
            single = (p - half * (a + b)) * one
            best = single if single > best else best
            pair = half * (p + b - a - b2)
            best = pair if pair > best else best
            triple = (third * (a + p + b) - half * (a2 + b2)) * three
            out[col] = triple if triple > best else best


@loop
def step(direction):
    """(dy, dx) along a row, one diagonal, a column, the other diagonal."""
    return (0, 1) if direction == 0 else (1, direction - 2)


@loop
def ranked(values, count, rank, total):
    """The value of `rank` out of `total`, scaled to the `count` that there are; NaN of none.

    Sorts the first `count` values in place.
    """
    for i in range(1, count):
        value, place = values[i], i
        while place > 0 and values[place - 1] > value:
            values[place] = values[place - 1]
            place -= 1
        values[place] = value
    return values[count * rank // total] if count else np.nan


@loop
def surroundings(z, v, row, col, ring, work):
    """(background, level of dead pixels, variance of one pixel) around (row, col).

    Without the ray's own counts: of the pixels on the ring a low rank, raised to the sky; of the
    variances of the 8 pixels at distance 2, of which a ray crosses few, a middle one.
    """
    # ring (RING, 2): offsets; work (RING)
    count = 0
    for j in range(-2, 3, 2):
        for i in range(-2, 3, 2):
            value = v[row + j, col + i]
            if (j != 0 or i != 0) and math.isfinite(value):
                work[count] = value
                count += 1
    typical = ranked(work, count, 4, 8) if count else np.float64(v[row, col])
    quiet = math.sqrt(work[0] if count else typical)
    count = 0
    for k in range(ring.shape[0]):
        value = z[row + ring[k, 0], col + ring[k, 1]]
        if math.isfinite(value):
            work[count] = value
            count += 1
    high = ranked(work, count, RANK, RING) + RISE * quiet
    low = work[min(1, count - 1)] + LIT * quiet if count else np.nan
    return min(high, low), high - DEAD * math.sqrt(typical), typical


@loop
def is_ray(mean, ends, spread, variance, both, bound, b, typical, limits):
    """True if a run stands out and no sum of stars explains how faint its ends are.

    spread, variance: of the mean and of the ends as the variance plane says, the ray's counts in
    it; both: 1/(pixels of the run) + 1/(pixels at its ends), for the contrast, which `typical`
    judges.
    """
    high = mean - ends
    if not (high > 0 and high * high > limits[0] * limits[0] * typical * both):
        return False
    evidence = bound * (mean - b) - (ends - b)
    error = bound * bound * spread + variance + (1 - bound) ** 2 * RANK_VARIANCE * typical
    return evidence > 0 and evidence * evidence > limits[1] * limits[1] * error


@loop
def end_of_run(value, variance, b, dead):
    """A pixel at the end of a run as it counts; NaN if it says nothing.

    Noise below the background is believed to LOWEST only: it speaks against faint stars as often
    as for rays.
    """
    if not value > dead:
        return np.nan
    return max(value, b - LOWEST * math.sqrt(variance))


@loop
def outside(z, pad, row, col):
    """True if (row, col) is in the mirrored border."""
    return min(row, col) < pad or row >= z.shape[0] - pad or col >= z.shape[1] - pad


@loop
def judge_run(z, v, row, col, pad, dy, dx, width, bound, limits, b, dead, typical):
    """True if the run of `width` pixels is a ray; it begins at (row, col), 3 are centred there."""
    low = -2 if width == 3 else -1
    high = low + width + 1
    j0, i0, j1, i1 = row + low * dy, col + low * dx, row + high * dy, col + high * dx
    first, last = z[j0, i0], z[j1, i1]
    mean = 0.0
    for k in range(low + 1, high):
        mean += z[row + k * dy, col + k * dx]
    mean /= width
    # most runs are parts of stars, and fail here
    if not bound * (mean - b) > 0.5 * (first + last) - b:
        return False
    first, last = end_of_run(first, v[j0, i0], b, dead), end_of_run(last, v[j1, i1], b, dead)
    spread = 0.0
    for k in range(low + 1, high):
        spread += v[row + k * dy, col + k * dx]
    spread /= width * width
    ends, variance, both = 0.5 * (first + last), 0.25 * (v[j0, i0] + v[j1, i1]), 1 / width + 0.5
    if outside(z, pad, j0, i0) or outside(z, pad, j1, i1):
        # both ends may be one pixel, and a star may stand up to a pixel outside the image
        bound, variance, both = bound * bound, 2 * variance, 1 / width + 1
    return is_ray(mean, ends, spread, variance, both, bound, b, typical, limits)


@loop
def judge_lone(z, v, row, col, pad, bound, limits, b, dead, typical):
    """True if the pixel (row, col) is a ray beside its four neighbours."""
    ends, variance = 0.0, 0.0
    for direction in (0, 2):
        dy, dx = step(direction)
        for side in (-1, 1):
            j, i = row + side * dy, col + side * dx
            if outside(z, pad, j, i):
                return False
            ends += end_of_run(z[j, i], v[j, i], b, dead) / 4
            variance += v[j, i] / 16
    return is_ray(z[row, col], ends, v[row, col], variance, 1.25, bound, b, typical, limits)


@loop
def across(dy, dx):
    """The step at right angles to a step along a line, a column or a diagonal."""
    return (dx, -dy) if dx > 0 else (-dx, dy)


@loop
def judge_strip(z, v, row, col, pad, dy, dx, bound, limits, b, dead, typical):
    """Length of a strip, one pixel wide and centred at (row, col), that is a track; else 0.

    The strip lies across the step (dy, dx), on both sides of which are its ends.
    """
    ends = 0.5 * (z[row - dy, col - dx] + z[row + dy, col + dx])
    if not bound * (z[row, col] - b) > ends - b:
        return 0
    sy, sx = across(dy, dx)
    if outside(z, pad + 3, row, col):
        return 0
    for half in range(1, 3):
        mean, ends, spread, variance = 0.0, 0.0, 0.0, 0.0
        for k in range(-half, half + 1):
            j, i = row + k * sy, col + k * sx
            mean += z[j, i]
            spread += v[j, i]
            for side in (-1, 1):
                q, p = j + side * dy, i + side * dx
                ends += end_of_run(z[q, p], v[q, p], b, dead)
                variance += v[q, p]
        n = 2 * half + 1
        mean, ends, spread, variance = mean / n, ends / (2 * n), spread / n**2, variance / n**2 / 4
        if is_ray(mean, ends, spread, variance, 1.5 / n, bound, b, typical, limits):
            return n
    return 0


@loop
def hopeless(z, row, col, bounds, b):
    """True if no run at (row, col) has any evidence: nearly all pixels of stars, and quickly."""
    p = z[row, col] - b
    for direction in range(4):
        dy, dx = step(direction)
        before, after = z[row - dy, col - dx] - b, z[row + dy, col + dx] - b
        before2, after2 = z[row - 2 * dy, col - 2 * dx] - b, z[row + 2 * dy, col + 2 * dx] - b
        one, two, three = bounds[abs(dy * dx), 0], bounds[abs(dy * dx), 1], bounds[abs(dy * dx), 2]
        # twice the evidence
        single = 2 * one * p - before - after
        pair = two * (p + after) - before - after2
        triple = 2 / 3 * three * (before + p + after) - before2 - after2
        if single > 0 or pair > 0 or triple > 0:
            return False
    return True


@loop
def judge(z, v, row, col, pad, bounds, limits, b, dead, typical, strips, hit):
    """Length of a run at (row, col) that is a ray, 0 if none is; its step is written to `hit`."""
    # bounds (2, 4): line or diagonal; runs of 1, 2, 3 pixels; hit (2): dy, dx
    if hopeless(z, row, col, bounds, b):
        return 0
    for direction in range(4):
        dy, dx = step(direction)
        hit[0], hit[1] = dy, dx
        share = bounds[abs(dy * dx)]
        for width in range(1, 4):
            bound = share[width - 1]
            if judge_run(z, v, row, col, pad, dy, dx, width, bound, limits, b, dead, typical):
                return width
        if not strips:
            continue
        length = judge_strip(z, v, row, col, pad, dy, dx, share[0], limits, b, dead, typical)
        if length:
            hit[0], hit[1] = across(dy, dx)
            return length
    hit[:] = 0
    return int(judge_lone(z, v, row, col, pad, bounds[0, 0], limits, b, dead, typical))


@loop
def mark_run(z, row, col, width, hit, b, least, pad, state, queue, count):
    """Mark the bright pixels of a run as RAY and queue the new ones; the queue's new length.

    least: square of what a pixel must have above the background.
    """
    low = -((width - 1) // 2)
    mean = 0.0
    for k in range(low, low + width):
        mean += (z[row + k * hit[0], col + k * hit[1]] - b) / width
    for k in range(low, low + width):
        j, i = row + k * hit[0], col + k * hit[1]
        high = z[j, i] - b
        if outside(z, pad, j, i) or not (high > WORTH * mean and high * high > least):
            continue
        if not state[j - pad, i - pad] & RAY:
            state[j - pad, i - pad] |= RAY
            queue[count] = (j - pad) * state.shape[1] + i - pad
            count += 1
    return count


@loop
def seed_rays(z, v, pad, ring, bounds, limits, least, state, queue):
    """Mark all runs that are rays; the number of their pixels in the queue."""
    # state (ny, nx) uint8; queue (ny nx) flat indices; limits (2): contrast, evidence, sigma
    ny, nx = state.shape
    out, work, hit = np.zeros(z.shape[1], z.dtype), np.empty(RING), np.zeros(2, np.int64)
    count = 0
    for row in range(pad, pad + ny):
        contrast(z, row, out)
        for col in range(pad, pad + nx):
            # never above the variance that will judge, unless one is missing
            low = min(v[row, col - 2], v[row, col + 2], v[row - 2, col], v[row + 2, col])
            if out[col] == 0 or out[col] * out[col] < limits[0] * limits[0] * low:
                continue
            place = row, col, pad, True
            count = examine(
                z, v, place, ring, bounds, limits, least, work, hit, state, queue, count
            )
    return count


@loop
def examine(z, v, place, ring, bounds, limits, least, work, hit, state, queue, count):
    """Mark the run at one pixel if it is a ray; the number of pixels in the queue."""
    # place: row, col, pad, and whether it is a first look; work (RING), hit (2): scratch
    row, col, pad, first = place
    b, dead, typical = surroundings(z, v, row, col, ring, work)
    width = judge(z, v, row, col, pad, bounds, limits, b, dead, typical, first, hit)
    if width:
        floor = least * least * typical
        count = mark_run(z, row, col, width, hit, b, floor, pad, state, queue, count)
    return count


@loop
def follow_rays(z, v, pad, ring, bounds, limits, least, state, queue, count):
    """Go from each pixel of a ray to its neighbours, with lower limits; the queue's new length."""
    ny, nx = state.shape
    work, hit = np.empty(RING), np.zeros(2, np.int64)
    done = 0
    while done < count:
        y, x = queue[done] // nx, queue[done] % nx
        done += 1
        for q in range(max(y - 1, 0), min(y + 2, ny)):
            for p in range(max(x - 1, 0), min(x + 2, nx)):
                row, col = q + pad, p + pad
                if state[q, p] & TRIED or not math.isfinite(z[row, col]):
                    continue
                state[q, p] |= TRIED
                place = row, col, pad, False
                count = examine(
                    z, v, place, ring, bounds, limits, least, work, hit, state, queue, count
                )
    return count


@loop
def add_edges(z, v, pad, ring, bounds, least, state, queue, count):
    """Mark the faint pixels beside rays that fall off outwards faster than a star does."""
    nx = state.shape[1]
    work = np.empty(RING)
    for k in range(count):
        row, col = queue[k] // nx + pad, queue[k] % nx + pad
        b, _, typical = surroundings(z, v, row, col, ring, work)
        bright = FAINTER * (z[row, col] - b)
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                j, i = row + dy, col + dx
                if outside(z, pad, j, i) or state[j - pad, i - pad] & RAY:
                    continue
                high, beyond = z[j, i] - b, z[j + dy, i + dx] - b
                fall = high - beyond
                clear = min(high, fall) > least * math.sqrt(typical)
                if clear and high <= bright and beyond < bounds[abs(dy * dx), 3] * high:
                    state[j - pad, i - pad] |= EDGE
