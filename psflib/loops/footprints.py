"""Loops that choose the pixels of a fit: smoothing, peaks, growth, order by tile and block."""

import numpy as np

from psflib.loops._numba import loop


@loop
def smooth(image, taps, out):
    """Convolve with the symmetric taps in both directions, zeros outside.

    image, out (ny, nx) float32; taps (half + 1,) float32, the central one first.
    """
    ny, nx = image.shape
    half = len(taps) - 1
    line = np.zeros(nx + 2 * half, np.float32)
    # slices, not indices that may be negative: only so does the compiler use vectors
    centre = line[half : half + nx]
    nothing = np.zeros(nx, np.float32)
    for y in range(ny):
        row, tap = image[y], taps[0]
        for x in range(nx):
            centre[x] = tap * row[x]
        for k in range(1, half + 1):
            above = image[y - k] if y >= k else nothing
            below = image[y + k] if y + k < ny else nothing
            tap = taps[k]
            for x in range(nx):
                centre[x] += tap * (above[x] + below[x])
        result, tap = out[y], taps[0]
        for x in range(nx):
            result[x] = tap * centre[x]
        for k in range(1, half + 1):
            left, right, tap = line[half - k :], line[half + k :], taps[k]
            for x in range(nx):
                result[x] += tap * (left[x] + right[x])


@loop
def mark_peaks(plane, limit, good, radius, found):
    """Set found where plane > limit, good, and nothing within radius px (a box) is higher."""
    ny, nx = plane.shape
    for y in range(ny):
        for x in range(nx):
            value = plane[y, x]
            if value <= limit or not good[y, x]:
                continue
            highest = True
            for j in range(max(y - radius, 0), min(y + radius + 1, ny)):
                for i in range(max(x - radius, 0), min(x + radius + 1, nx)):
                    if plane[j, i] > value:
                        highest = False
                        break
                if not highest:
                    break
            if highest:
                found[y, x] = True


@loop
def grow_diamond(mask, radius, out):
    """Set out where mask is true within radius px, counted along rows and columns."""
    ny, nx = mask.shape
    far = np.int32(radius + 1)
    above = np.full(nx, far, np.int32)
    distance = np.empty((ny, nx), np.int32)
    for y in range(ny):
        left = far
        for x in range(nx):
            left = np.int32(0) if mask[y, x] else np.int32(min(left, above[x]) + 1)
            above[x] = left
            distance[y, x] = left
    above[:] = far
    for y in range(ny - 1, -1, -1):
        right = far
        for x in range(nx - 1, -1, -1):
            right = np.int32(min(distance[y, x], min(right, above[x]) + 1))
            above[x] = right
            out[y, x] = right <= radius


@loop
def grow(mask, radius, out):
    """Set out where mask is true within a box of radius px."""
    ny, nx = mask.shape
    wide = np.zeros((ny, nx), np.bool_)
    for y in range(ny):
        last = -radius - 1
        for x in range(nx + radius):
            if x < nx and mask[y, x]:
                last = x
            if x >= radius:
                wide[y, x - radius] = last >= x - 2 * radius
    last_row = np.full(nx, -radius - 1)
    for y in range(ny + radius):
        if y < ny:
            for x in range(nx):
                if wide[y, x]:
                    last_row[x] = y
        if y >= radius:
            for x in range(nx):
                out[y - radius, x] = last_row[x] >= y - 2 * radius


@loop
def opened(mask, side, out):
    """Set out wherever a side x side box of marked pixels lies; the rest stays as it is.

    mask, out (ny, nx) bool.
    """
    ny, nx = mask.shape
    deep = np.zeros(nx, np.int64)  # rows above, this one included, whose run to the left is long
    for y in range(ny):
        run = 0
        for x in range(nx):
            run = run + 1 if mask[y, x] else 0
            deep[x] = deep[x] + 1 if run >= side else 0
            if deep[x] < side:
                continue
            # only what the boxes that end a pixel above or to the left have not marked
            first = x if x > 0 and deep[x - 1] >= side else x - side + 1
            top = y if deep[x] > side else y - side + 1
            for j in range(top, y + 1):
                for i in range(first, x + 1):
                    out[j, i] = True


@loop
def nearest_source(x, y, radius, source, distance2):
    """Index of and squared distance to the nearest of the listed pixels, within radius.

    source (ny, nx) int32 and distance2 (ny, nx) float32 come filled with -1 and a large number.
    """
    ny, nx = source.shape
    reach = int(np.ceil(radius))
    for s in range(len(x)):
        for j in range(max(y[s] - reach, 0), min(y[s] + reach + 1, ny)):
            for i in range(max(x[s] - reach, 0), min(x[s] + reach + 1, nx)):
                d2 = np.float32((j - y[s]) ** 2 + (i - x[s]) ** 2)
                if d2 <= radius * radius and d2 < distance2[j, i]:
                    distance2[j, i] = d2
                    source[j, i] = s


@loop
def block_power(signal, variance, select, block, count, power):
    """Number of selected pixels of each block x block cell, and their sum of signal²/variance."""
    ny, nx = signal.shape
    for y in range(ny):
        for x in range(nx):
            if select[y, x]:
                count[y // block, x // block] += 1
                power[y // block, x // block] += signal[y, x] * signal[y, x] / variance[y, x]


@loop
def collect(inside, chosen, block, tile):  # noqa: C901
    """Pixels that are inside, of the chosen blocks, in the order of tiles and blocks.

    inside (ny, nx), chosen (blocks y, blocks x), both bool; tile is a multiple of block.
    Returns y, x (n,), block_start, block_y, block_x, tile_start, tile_y, tile_x: where each run
    of pixels of one block or tile starts (the end appended), and its corner.
    """
    ny, nx = inside.shape
    n = 0
    for y in range(ny):
        for x in range(nx):
            if inside[y, x] and chosen[y // block, x // block]:
                n += 1
    ys, xs = np.empty(n, np.int32), np.empty(n, np.int32)
    n_blocks = chosen.size
    block_start, tile_start = np.zeros(n_blocks + 1, np.int64), np.zeros(n_blocks + 1, np.int64)
    block_y, block_x = np.zeros(n_blocks, np.int64), np.zeros(n_blocks, np.int64)
    tile_y, tile_x = np.zeros(n_blocks, np.int64), np.zeros(n_blocks, np.int64)
    p = blocks = tiles = 0
    for ty in range(0, ny, tile):
        for tx in range(0, nx, tile):
            before_tile = p
            for by in range(ty, min(ty + tile, ny), block):
                for bx in range(tx, min(tx + tile, nx), block):
                    if not chosen[by // block, bx // block]:
                        continue
                    before = p
                    for y in range(by, min(by + block, ny)):
                        for x in range(bx, min(bx + block, nx)):
                            if inside[y, x]:
                                ys[p] = y
                                xs[p] = x
                                p += 1
                    if p > before:
                        block_y[blocks], block_x[blocks] = by, bx
                        blocks += 1
                        block_start[blocks] = p
            if p > before_tile:
                tile_y[tiles], tile_x[tiles] = ty, tx
                tiles += 1
                tile_start[tiles] = p
    return (
        ys, xs, block_start[: blocks + 1], block_y[:blocks], block_x[:blocks],
        tile_start[: tiles + 1], tile_y[:tiles], tile_x[:tiles],
    )  # fmt: skip


@loop
def disc_sums(a, b, var_a, var_b, good, x, y, radius, out):
    """Sums in a disc around each pixel (x, y): a, b, var_a, var_b of good pixels, and their share.

    A pixel counts by how much of it lies inside, about: radius + 0.5 - distance, within [0, 1];
    out (n, 5) float64.
    """
    ny, nx = a.shape
    reach = int(np.ceil(radius))
    for s in range(len(x)):
        whole = 0.0
        out[s] = 0
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                w = min(1.0, radius + 0.5 - np.sqrt(dy * dy + dx * dx))
                if w <= 0:
                    continue
                whole += w
                j, i = y[s] + dy, x[s] + dx
                if j < 0 or i < 0 or j >= ny or i >= nx or not good[j, i]:
                    continue
                out[s, 0] += w * a[j, i]
                out[s, 1] += w * b[j, i]
                out[s, 2] += w * w * var_a[j, i]
                out[s, 3] += w * w * var_b[j, i]
                out[s, 4] += w
        out[s, 4] /= whole
