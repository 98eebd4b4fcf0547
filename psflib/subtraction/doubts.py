"""What a difference's variance holds beyond noise: filled values, borders, the kernel's error."""

import numpy as np
from scipy import ndimage

from psflib.image.convolve import bilinear, convolve_sparse, edge_grid
from psflib.image.noise import robust_std

BRIGHT = 100.0  # sigma; filled values above this tell on pixels beyond the kernel's box
TAIL = 4.0  # fall of a kernel beyond its box; between that of the wings of stars and a Moffat's
MOST_DOUBT = 300.0  # times the typical variance; most that doubts add to it
MOST_TAKEN = 0.7  # of a variance that a crowded sky may take away
BRIGHT_BORDER = 5.0  # sigma; light above this at a border is taken to go on beyond it
BORDER = 3  # px, rows that tell it
MOST_GROWTH = 10.0  # of the light beyond these rows
CELL = 16  # px, cells of one error of the kernel
CROWDED = 0.7  # share of sky below which the difference tells the noise of the sky


def doubt_of_fill(kernel, image, bad, variance):
    """One sigma of the error that filled-in values leave in the matched image, ADU (ny, nx).

    Half of the value, through the kernel; around saturated stars also beyond the kernel's box,
    where the wings of the two PSFs differ unseen: the kernel is continued as r^-TAIL.
    """
    ny, nx = image.shape
    centre = np.abs(kernel.at((nx - 1) / 2, (ny - 1) / 2))
    doubt = convolve_sparse(0.5 * np.abs(image), bad, centre)
    bright = bad & (np.abs(image) > np.float32(BRIGHT * np.sqrt(variance)))
    if bright.any():
        doubt += convolve_sparse(np.abs(image), bright, tail(centre))
    doubt_border(doubt, image, centre, np.float32(BRIGHT_BORDER * np.sqrt(variance)))
    return doubt


def doubt_border(doubt, image, kernel, limit):
    """Add what the kernel would take from beyond the borders, where the convolution takes 0.

    A star at the border goes on beyond it: its light there is that of the last rows, and more
    where they get brighter outwards.
    """
    half = len(kernel) // 2
    for turns in range(4):
        plane, into, weight = (np.rot90(a, turns) for a in (image, doubt, kernel))
        light = plane[:BORDER].max(0)
        slope = plane[0] / np.maximum(plane[BORDER - 1], limit)
        light *= np.clip(slope**2, 1, MOST_GROWTH)
        light[light < limit] = 0
        for j in range(min(half, len(plane)) if light.any() else 0):
            into[j] += ndimage.convolve1d(light, weight[half + j + 1 :].sum(0), mode="constant")


def tail(kernel):
    """Continuation of a kernel or filter (k, k) beyond its box, to twice its width."""
    half = len(kernel) // 2
    r = np.hypot(*np.mgrid[-2 * half : 2 * half + 1, -2 * half : 2 * half + 1])
    inner = r[half:-half, half:-half]
    rim = kernel[(inner > 0.8 * half) & (inner <= half)].mean()
    values = rim * (np.maximum(r, half) / (0.9 * half)) ** -TAIL
    values[(r <= half) | (r > 2 * half)] = 0
    return values


def kernel_error(kernel, image, limit):
    """Variance (ny, nx) float32 of the matched light from what the fit does not know; or None."""
    error = kernel.meta.get("kernel_error")
    bright = image > limit
    if error is None or not bright.any():
        return None
    half = len(error["profile"]) - 1
    r = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    spread = np.interp(r, np.arange(half + 1), error["profile"], right=0) ** 2
    out = convolve_sparse(np.square(image), bright, spread)
    (ny, nx), nodes = image.shape, np.array(error["nodes"])[None]
    x, y = edge_grid(image.shape, nodes.shape[1])
    columns = np.arange(0, nx, CELL)
    for row in range(0, ny, CELL):
        factor = bilinear(nodes, x, y, columns[None, :], np.array([[row]]))[0, 0]
        out[row : row + CELL] *= np.repeat(np.float32(factor**2), CELL)[:nx]
    return np.maximum(out, 0, out=out)


def is_crowded(sky, usable):
    """Whether the variance of the sky is better told by the difference, which has no stars.

    Where sources cover most of the image the noise of the sky cannot be told from faint stars on
    one image alone (20 % too high at 9000 stars per Mpx).
    """
    return 3000 <= sky.sum() <= CROWDED * usable.sum()


def sky_offset(difference, noise, sky):
    """What the variance of the sky lacks, ADU² (negative: it holds unresolved stars)."""
    step = max(1, int(sky.sum()) // 100_000)
    noise = noise[sky][::step]
    z = difference[sky][::step] / np.sqrt(noise)
    return np.float32((robust_std(z) ** 2 - 1) * np.median(noise))
