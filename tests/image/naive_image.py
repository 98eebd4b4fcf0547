"""Slow, readable twins of the compiled loops, written from their formulas.

They share no code with psflib: each is the specification that its loop is tested against.
"""

import itertools

import numpy as np
from scipy import ndimage


def convolve_at(image, y, x, kernels):
    """(K conv image)(y, x) = sum_s K(s) image(p - s) for each kernel, zeros outside: (n, nb)."""
    half = kernels.shape[-1] // 2
    padded = np.pad(np.asarray(image, float), half)
    out = np.empty((len(y), len(kernels)))
    for p, (j, i) in enumerate(zip(y, x, strict=True)):
        box = padded[j : j + 2 * half + 1, i : i + 2 * half + 1]
        for b, kernel in enumerate(kernels):
            out[p, b] = np.sum(kernel[::-1, ::-1] * box)
    return out


def convolve(image, kernel):
    """Full-frame convolution, zeros outside."""
    y, x = np.indices(image.shape)
    return convolve_at(image, y.ravel(), x.ravel(), kernel[None])[:, 0].reshape(image.shape)


def local_average(image, bad, y, x, sigmas, reach, least):
    """Of the whole image's good pixels, by filters of it; NaN without any."""
    for sigma in sigmas:
        weight, light = (
            ndimage.gaussian_filter(plane, sigma, mode="constant", truncate=reach)
            for plane in (np.where(bad, 0.0, 1.0), np.where(bad, 0.0, image))
        )
        if weight[y, x] > least:
            return light[y, x] / weight[y, x]
    return np.nan


def block_gram(design, target, weight, start):
    grams, rights = [], []
    for first, last in itertools.pairwise(start):
        rows, w = np.asarray(design[first:last], float), weight[first:last]
        grams.append(rows.T @ (rows * w[:, None]))
        rights.append(rows.T @ (w * target[first:last]))
    return np.array(grams), np.array(rights)


def lagged_sums(variance, y, x, weight, start, half):
    side = 2 * half + 1
    out = np.zeros((len(start) - 1, side, side))
    for t in range(len(start) - 1):
        for p in range(start[t], start[t + 1]):
            for a in range(side):
                for b in range(side):
                    out[t, a, b] += weight[p] * variance[y[p] + half - a, x[p] + half - b]
    return out


def block_sums(plane, weight, select, block):
    shape = [-(-n // block) for n in plane.shape]
    total, weighted = np.zeros(shape), np.zeros(shape)
    for y, x in zip(*np.nonzero(select), strict=True):
        total[y // block, x // block] += weight[y, x]
        weighted[y // block, x // block] += weight[y, x] * plane[y, x]
    return total, weighted


def lag_products(z, select, max_lag):
    out = np.zeros((max_lag + 1, 2 * max_lag + 1))
    for dy in range(max_lag + 1):
        for dx in range(-max_lag, max_lag + 1):
            products = [
                z[y, x] * z[y + dy, x + dx]
                for y in range(z.shape[0] - dy)
                for x in range(z.shape[1])
                if 0 <= x + dx < z.shape[1] and select[y, x] and select[y + dy, x + dx]
            ]
            out[dy, dx + max_lag] = np.mean(products) if products else 0
    return out


def lanczos(t, radius):
    """Lanczos window function."""
    t = np.asarray(t, float)
    return np.where(np.abs(t) < radius, np.sinc(t) * np.sinc(t / radius), 0)


def taps(position, n, radius):
    """Weights of pixels 0..n-1 for a value at `position`: sum 1, mean position exact."""
    pixel = np.arange(n)
    weight = lanczos(position - pixel, radius)
    weight /= weight.sum()
    error = np.sum(weight * pixel) - position
    left = int(np.floor(position))
    weight[left] += error
    weight[left + 1] -= error
    return weight


def warp_point(image, variance, px, py, radius):
    """Value and variance at one position."""
    weight = np.outer(taps(py, image.shape[0], radius), taps(px, image.shape[1], radius))
    return np.sum(weight * image), np.sum(weight**2 * variance)
