"""Loops of the search for streaks: sums along all lines of a strip, profiles across one line."""

import math

import numpy as np

from psflib.loops._numba import loop


@loop
def line_sums(planes):
    """Sums along lines through a strip: the dyadic Radon transform (Brady 1998).

    planes (2, h, w) float32, h a power of two; the strip is planes[0], changed.  The plane whose
    index is returned holds at [s, x] the sum along the line from x in the first row to x + s in
    the last; beyond the strip there is nothing.
    """
    height, width = planes.shape[1:]
    now, n = 0, 1
    while n < height:
        for top in range(0, height, 2 * n):
            for slope in range(2 * n):
                first, second = top + slope // 2, top + n + slope // 2
                shift = (slope + 1) // 2
                here = planes[now, first]
                there = planes[now, second]
                out = planes[1 - now, top + slope]
                inside = max(width - shift, 0)
                for x in range(inside):
                    out[x] = here[x] + there[x + shift]
                for x in range(inside, width):
                    out[x] = here[x]
        now, n = 1 - now, 2 * n
    return now


@loop
def standing_out(sums, scale, out):
    """Each line of `line_sums` against those to both sides of it.

    sums, out (h, w) float32: a line (1/4, 1/2, 1/4) minus the mean of those from 5 to 8 px on both
    sides, times scale (float32); 0 within 8 px of the borders.
    """
    height, width = sums.shape
    quarter, half, eighth = np.float32(0.25), np.float32(0.5), np.float32(0.125)
    for s in range(height):
        row, line = sums[s], out[s]
        line[:] = 0
        for x in range(8, width - 8):
            near = row[x - 5] + row[x + 5] + row[x - 6] + row[x + 6]
            far = row[x - 7] + row[x + 7] + row[x - 8] + row[x + 8]
            middle = quarter * (row[x - 1] + row[x + 1]) + half * row[x]
            line[x] = scale * (middle - eighth * (near + far))


@loop
def profile_along(plane, known, x0, y0, ux, uy, step, sums, counts):
    """Sums and numbers of the known pixels along a line, by distance along and across it.

    plane (ny, nx) float32; known (ny, nx) bool; (x0, y0) where the line begins, px; (ux, uy) its
    direction, a unit vector; step : px along it.  sums, counts (n, 2 half + 1): of each step, by
    the rounded distance to the left of the line.
    """
    ny, nx = plane.shape
    n, half = sums.shape[0], sums.shape[1] // 2
    sums[:] = 0.0
    counts[:] = 0.0
    length = n * step
    steep = abs(uy) > abs(ux)
    major0, minor0 = (y0, x0) if steep else (x0, y0)
    rise = ux / uy if steep else uy / ux
    end = major0 + length * (uy if steep else ux)
    reach = (half + 1) / max(abs(ux), abs(uy))
    lines, across = (ny, nx) if steep else (nx, ny)
    low = max(math.floor(min(major0, end) - reach), 0)
    for major in range(low, min(math.ceil(max(major0, end) + reach), lines - 1) + 1):
        middle = minor0 + (major - major0) * rise
        first = max(math.floor(middle - reach), 0)
        for minor in range(first, min(math.ceil(middle + reach), across - 1) + 1):
            row, column = (major, minor) if steep else (minor, major)
            if not known[row, column]:
                continue
            dx, dy = column - x0, row - y0
            along = dx * ux + dy * uy
            off = math.floor(dy * ux - dx * uy + 0.5) + half
            if along < 0 or along >= length or off < 0 or off > 2 * half:
                continue
            part = min(int(along / step), n - 1)
            sums[part, off] += plane[row, column]
            counts[part, off] += 1
