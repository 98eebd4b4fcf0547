"""Slow, readable twins of the loops of the decorrelation."""

import numpy as np


def line_sums(strip):
    """By recursion: a line through a strip is a line through each of its halves."""
    height, width = strip.shape
    if height == 1:
        return strip.copy()
    first, second = (line_sums(half) for half in np.split(strip, 2))
    out = np.zeros((height, width))
    for slope in range(height):
        shift = (slope + 1) // 2
        moved = np.zeros(width)
        moved[: width - shift] = second[slope // 2, shift:] if shift < width else 0
        out[slope] = first[slope // 2] + moved
    return out


def standing_out(sums, scale):
    taps = np.zeros(17)
    taps[[7, 9]], taps[8] = 0.25, 0.5
    taps[:4] = taps[-4:] = -1 / 8
    out = np.zeros(sums.shape)
    for s, row in enumerate(sums):
        out[s, 8:-8] = scale * np.convolve(row, taps, "valid")
    return out


def profile_along(plane, known, start, direction, step, shape):
    sums, counts = np.zeros(shape), np.zeros(shape)
    for row, column in zip(*np.nonzero(known), strict=True):
        dx, dy = column - start[0], row - start[1]
        along = dx * direction[0] + dy * direction[1]
        off = int(np.floor(dy * direction[0] - dx * direction[1] + 0.5)) + shape[1] // 2
        if 0 <= along < shape[0] * step and 0 <= off < shape[1]:
            sums[int(along / step), off] += plane[row, column]
            counts[int(along / step), off] += 1
    return sums, counts
