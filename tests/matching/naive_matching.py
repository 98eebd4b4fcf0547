"""Slow, readable twins of the loops that choose the pixels of a fit and convolve by tiles."""

import numpy as np
from scipy import ndimage


def smooth(image, taps):
    line = np.concatenate([taps[:0:-1], taps])
    kernel = np.outer(line, line)
    return ndimage.convolve(image.astype(float), kernel, mode="constant")


def peaks(plane, limit, good, radius):
    highest = ndimage.maximum_filter(plane, 2 * radius + 1)
    return (plane > limit) & good & (plane == highest)


def opened(mask, side):
    """All boxes of side x side marked pixels."""
    out = np.zeros_like(mask)
    for y in range(mask.shape[0] - side + 1):
        for x in range(mask.shape[1] - side + 1):
            box = np.s_[y : y + side, x : x + side]
            out[box] |= mask[box].all()
    return out


def grown(mask, radius):
    return ndimage.binary_dilation(mask, np.ones((2 * radius + 1,) * 2))


def nearest_source(x, y, radius, shape):
    rows, cols = np.indices(shape)
    d2 = (rows[..., None] - y) ** 2 + (cols[..., None] - x) ** 2
    nearest = d2.min(-1)
    return np.where(nearest <= radius**2, d2.argmin(-1), -1), nearest


def block_power(signal, variance, select, block):
    shape = [-(-n // block) for n in signal.shape]
    count, power = np.zeros(shape, int), np.zeros(shape)
    for y, x in zip(*np.nonzero(select), strict=True):
        count[y // block, x // block] += 1
        power[y // block, x // block] += signal[y, x] ** 2 / variance[y, x]
    return count, power


def disc_sums(planes, good, x, y, radius):
    """Sums of planes a, b, var_a, var_b over a soft-edged disc, and the share of good pixels."""
    rows, cols = np.indices(good.shape)
    out = []
    wide = np.pad(good, 10)
    j, i = np.indices(wide.shape) - 10
    for cx, cy in zip(x, y, strict=True):
        w = np.clip(radius + 0.5 - np.hypot(rows - cy, cols - cx), 0, 1)
        box = (np.abs(rows - cy) <= np.ceil(radius)) & (np.abs(cols - cx) <= np.ceil(radius))
        w = w * box
        whole = np.clip(radius + 0.5 - np.hypot(j - cy, i - cx), 0, 1)
        whole *= (np.abs(j - cy) <= np.ceil(radius)) & (np.abs(i - cx) <= np.ceil(radius))
        g = w * good
        a, b, var_a, var_b = planes
        sums = [(g * a).sum(), (g * b).sum(), (g * g * var_a).sum(), (g * g * var_b).sum()]
        out.append([*sums, g.sum() / whole.sum()])
    return np.array(out)


def model_at(design, terms, coef):
    """sum_b design[b] sum_q coef[b, q] terms[q] at each pixel."""
    return np.einsum("bn,bq,qn->n", design.astype(float), coef, terms)


def sky_sums(rest, variance, select, level, clip2, block):
    shape = [-(-n // block) for n in rest.shape]
    total, weighted = np.zeros(shape), np.zeros(shape)
    keep = select & ((rest - level) ** 2 < clip2 * variance)
    for y, x in zip(*np.nonzero(keep), strict=True):
        total[y // block, x // block] += 1 / variance[y, x]
        weighted[y // block, x // block] += rest[y, x] / variance[y, x]
    return total, weighted


def spread(y, x, value, kernel, shape):
    plane = np.zeros(shape)
    np.add.at(plane, (y, x), value)
    return ndimage.convolve(plane, kernel, mode="constant")


def convolve_tiles(plane, tile, down, across, rank):
    """Each tile cut out of the whole plane convolved with the tile's kernel."""
    out = np.zeros(plane.shape)
    columns = -(-plane.shape[1] // tile)
    for t, r in enumerate(rank):
        kernel = sum(np.outer(down[t, i], across[t, i]) for i in range(r))
        y0, x0 = t // columns * tile, t % columns * tile
        box = np.s_[y0 : y0 + tile, x0 : x0 + tile]
        out[box] = ndimage.convolve(plane.astype(float), kernel, mode="constant")[box]
    return out
