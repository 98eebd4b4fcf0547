"""Slow, readable twins of the loops and fits of the registration."""

import numpy as np


def block_snr(image, variance, mask, unusable, saturated, side):
    """S/N of each block of side x side pixels, and whether one of its pixels is saturated."""
    ny, nx = image.shape
    shape = -(-ny // side), -(-nx // side)
    snr, full = np.zeros(shape), np.zeros(shape, bool)
    usable = ((mask & unusable) == 0) & (variance > 0)
    for i in range(shape[0]):
        for j in range(shape[1]):
            box = np.s_[i * side : (i + 1) * side, j * side : (j + 1) * side]
            good = usable[box]
            full[i, j] = ((mask[box] & saturated) != 0).any()
            if 2 * good.sum() >= side * side and good.any():
                snr[i, j] = image[box][good].sum() / np.sqrt(variance[box][good].sum())
    return snr, full


def local_maxima(snr, full, threshold, reach):
    """Places (row, column) that are highest in their window; of equal ones the first."""
    found = []
    for i, j in np.argwhere(snr > threshold):
        i0, j0 = max(i - reach, 0), max(j - reach, 0)
        window = np.s_[i0 : i + reach + 1, j0 : j + reach + 1]
        first = np.unravel_index(np.argmax(snr[window]), snr[window].shape)
        if (first[0] + i0, first[1] + j0) == (i, j) and not full[window].any():
            found.append((i, j))
    return np.array(found).reshape(-1, 2)


def light_centre(image, y0, y1, x0, x1):
    """Centre (x, y) of the positive light of a box."""
    light = np.maximum(image[y0:y1, x0:x1].astype(float), 0)
    if light.sum() == 0:
        return (x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2
    y, x = np.mgrid[y0:y1, x0:x1]
    return (light * x).sum() / light.sum(), (light * y).sum() / light.sum()


def mutual_nearest(first, second, radius):
    """Pairs of rows that are each other's nearest, by all distances."""
    distance = np.linalg.norm(first[:, None] - second[None], axis=2)
    pairs = []
    for i in range(len(first)):
        j = int(np.argmin(distance[i]))
        if distance[i, j] <= radius and int(np.argmin(distance[:, j])) == i:
            pairs.append((i, j))
    return np.array(pairs).reshape(-1, 2)


def held_out(design, values, weight):
    """Residual of each pair (both coordinates) in the fit without this coordinate."""
    n, two, p = design.shape
    flat, left = design.reshape(-1, p), np.empty(n * two)
    y, w = values.ravel(), np.repeat(weight, two)
    for k in range(n * two):
        keep = np.arange(n * two) != k
        root = np.sqrt(w[keep])
        fit = np.linalg.lstsq(flat[keep] * root[:, None], y[keep] * root, rcond=None)[0]
        left[k] = y[k] - flat[k] @ fit
    return left.reshape(n, two)
