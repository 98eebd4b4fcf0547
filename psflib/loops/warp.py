"""Loops of the Lanczos warp."""

import numpy as np

from psflib.loops._numba import loop


@loop
def lanczos_taps(fraction, radius, out):
    """Lanczos weights of the 2*radius taps around `fraction` in [0, 1), exact for linear images.

    Raw Lanczos weights do not sum to one, which would put a ripple on the sky; nor is their mean
    position `fraction`, which would move stars by up to 0.008 px (radius 4).  The sum is divided
    out, and the two middle taps take up the rest.
    """
    total = 0.0
    for i in range(2 * radius):
        t = fraction + radius - 1 - i
        if abs(t) < 1e-8:
            out[i] = 1.0
        elif abs(t) >= radius:
            out[i] = 0.0
        else:
            pt = np.pi * t
            out[i] = radius * np.sin(pt) * np.sin(pt / radius) / (pt * pt)
        total += out[i]
    mean = 0.0
    for i in range(2 * radius):
        out[i] /= total
        mean += out[i] * (i - radius + 1)
    out[radius - 1] += mean - fraction
    out[radius] -= mean - fraction


@loop
def phase_table(n_phases, radius):
    """Taps at n_phases + 1 equally spaced fractions of a pixel, (n_phases + 1, 2 * radius)."""
    table = np.empty((n_phases + 1, 2 * radius))
    for p in range(n_phases + 1):
        lanczos_taps(min(p / n_phases, 1 - 1e-12), radius, table[p])
    return table


@loop
def warp(
    image,
    variance,
    mask,
    node_x,
    node_y,
    step,
    area,
    radius,
    table,
    first,
    out_image,
    out_variance,
    out_mask,
):
    """Gather `image`, `variance` and `mask` at positions interpolated from a coarse grid.

    node_x, node_y (n_i, n_j): source position of output pixel (i * step, j * step);
    area: output pixel area in source pixels; table: `phase_table`; first: row of the first row of
    the output planes.
    A pixel whose taps leave the source keeps mask 1 (NO_DATA) and image, variance 0.
    """
    ny, nx = out_image.shape
    sy, sx = image.shape
    phases = table.shape[0] - 1
    for y in range(ny):
        i = (first + y) // step
        fy = (first + y - i * step) / step
        for x in range(nx):
            j = x // step
            fx = (x - j * step) / step
            px = (node_x[i, j] * (1 - fx) + node_x[i, j + 1] * fx) * (1 - fy) + (
                node_x[i + 1, j] * (1 - fx) + node_x[i + 1, j + 1] * fx
            ) * fy
            py = (node_y[i, j] * (1 - fx) + node_y[i, j + 1] * fx) * (1 - fy) + (
                node_y[i + 1, j] * (1 - fx) + node_y[i + 1, j + 1] * fx
            ) * fy
            x0 = int(np.floor(px))
            y0 = int(np.floor(py))
            kx = int((px - x0) * phases + 0.5)
            ky = int((py - y0) * phases + 0.5)
            left = x0 - radius + 1
            low = y0 - radius + 1
            out_image[y, x] = 0
            out_variance[y, x] = 0
            out_mask[y, x] = 1
            if x0 < 0 or y0 < 0 or x0 > sx - 1 or y0 > sy - 1:
                continue
            value = 0.0
            noise = 0.0
            covered = 0.0
            bits = 0
            for a in range(2 * radius):
                r = low + a
                if r < 0 or r >= sy:
                    continue
                wy = table[ky, a]
                for b in range(2 * radius):
                    c = left + b
                    if c < 0 or c >= sx:
                        continue
                    w = wy * table[kx, b]
                    value += w * image[r, c]
                    noise += w * w * variance[r, c]
                    covered += w
                    # a bad pixel was filled in before: it only spoils what it dominates
                    if mask[r, c] != 0 and abs(w) > 0.1:
                        bits |= mask[r, c]
            if abs(covered - 1) > 0.02:
                continue  # too much of the support lies outside
            out_image[y, x] = value * area / covered
            out_variance[y, x] = noise * area * area
            out_mask[y, x] = bits
