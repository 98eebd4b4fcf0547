"""Slow, plain twins of the loops that measure sources."""

import itertools
import math

import numpy as np
from scipy import optimize


def adaptive_moments(image, usable, x, y, sigma, rounds=50, narrowest=1.0):
    """x, y and the covariance matrix of the Gaussian that matches the source."""
    row, col = np.indices(image.shape)
    covariance, centre = np.eye(2) * sigma**2, np.array([x, y], float)
    for _ in range(rounds):
        offset, light, weight = _seen(image, usable, row, col, centre, covariance, narrowest)
        light += _unseen(light, usable, offset, covariance, weight)
        mean = (offset * light).sum((1, 2)) / light.sum()
        second = np.einsum("iyx,jyx,yx->ij", offset, offset, light) / light.sum()
        second -= np.outer(mean, mean)
        new = np.linalg.inv(np.linalg.inv(second) - np.linalg.inv(weight))
        centre = centre + min(2, np.trace(new) / np.trace(second)) * mean
        change, covariance = np.abs(np.diag(new - covariance)).sum(), new
        if change < 1e-3 * np.trace(covariance) and np.abs(mean).sum() < 1e-3:
            break
    return centre, covariance


def _unseen(light, usable, offset, covariance, weight):
    """Light of the Gaussian under its weight at unusable pixels, scaled to what the others show."""
    q = np.einsum("iyx,ij,jyx->yx", offset, np.linalg.inv(weight), offset)
    own = np.einsum("iyx,ij,jyx->yx", offset, np.linalg.inv(covariance), offset)
    model = np.where(q <= 3.5**2, np.exp(-(q + own) / 2), 0)
    hidden = np.where(usable, 0, model)
    if hidden.sum() > 0.5 * model.sum():
        return 0 * hidden
    return light.sum() / model[usable].sum() * hidden


def fill_holes(image, usable, x, y, covariance, radius):
    """Twin of `loops.moments.fill_holes`, for one source: its light in holes, and the share."""
    row, col = np.indices(image.shape)
    offset = np.array([col - x, row - y])
    own = np.einsum("iyx,ij,jyx->yx", offset, np.linalg.inv(covariance), offset)
    near = np.hypot(*offset) <= radius
    model = np.where(near, np.exp(-own / 2), 0)
    scale = (model * image)[usable].sum() / np.square(model[usable]).sum()
    share = model[~usable].sum() / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))
    return np.where(usable, 0, scale * model), share


def fourth_moments(image, usable, x, y, covariance, narrowest=1.0):
    """Light under the weight, and light times q² with q = d' (C^-1 + W^-1) d / 2."""
    row, col = np.indices(image.shape)
    offset, light, weight = _seen(image, usable, row, col, (x, y), covariance, narrowest)
    inverse = np.linalg.inv(covariance) + np.linalg.inv(weight)
    q = np.einsum("iyx,ij,jyx->yx", offset, inverse, offset) / 2
    return light.sum(), (q**2 * light).sum()


def _seen(image, usable, row, col, centre, covariance, narrowest):
    """Offsets (2, ny, nx), light under the Gaussian weight within 3.5 sigma, and its covariance."""
    minor = np.linalg.eigvalsh(covariance)[0]
    weight = covariance + max(0, narrowest**2 - minor) * np.eye(2)
    offset = np.array([col - centre[0], row - centre[1]])
    q = np.einsum("iyx,ij,jyx->yx", offset, np.linalg.inv(weight), offset)
    return offset, np.where(usable & (q <= 3.5**2), image * np.exp(-q / 2), 0), weight


def fit_moffat(image, usable, x, y, fwhm, form, beta, n_free):
    """Twin of `loops.profiles.fit_moffats`, for one source, by SciPy."""
    row, col = np.indices(image.shape)
    radius, step = max(3.5, 1.7 * fwhm), max(1, int(fwhm / 3))
    near = usable & (np.hypot(row - y, col - x) <= radius)
    grid = np.zeros(image.shape, bool)
    grid[max(0, math.ceil(y - radius)) :: step, max(0, math.ceil(x - radius)) :: step] = True
    near_grid = near & grid
    scale = 4 * (2 ** (1 / beta) - 1) / fwhm**2
    low, top = image[near].min(), image[near].max()
    start = np.array([top - low, x, y, max(low, 0.0), *(scale * form)])

    def residuals(free):
        a, cx, cy, sky, cxx, cxy, cyy = np.r_[free, start[n_free:]]
        dx, dy = col[near_grid] - cx, row[near_grid] - cy
        base = 1 + cxx * dx * dx + 2 * cxy * dx * dy + cyy * dy * dy
        return a * base**-beta + sky - image[near_grid]

    found = optimize.least_squares(residuals, start[:n_free], x_scale=np.abs(start[:n_free]) + 0.1)
    return np.r_[found.x, start[n_free:]]


def half_width(smooth, usable, row, col, most):
    """Twin of `loops.profiles.half_widths`, for one peak."""
    ways = []
    for dy, dx in itertools.product((-1, 0, 1), repeat=2):
        line = [(row + k * dy, col + k * dx) for k in range(most + 1)]
        for k in range(1, most + 1) if (dy, dx) != (0, 0) else ():
            inside = 0 <= line[k][0] < smooth.shape[0] and 0 <= line[k][1] < smooth.shape[1]
            if not inside or not usable[line[k]]:
                break
            if smooth[line[k]] < 0.5 * smooth[row, col]:
                before, after = smooth[line[k - 1]], smooth[line[k]]
                part = (before - 0.5 * smooth[row, col]) / (before - after)
                ways.append((k - 1 + part) * np.hypot(dy, dx))
                break
    if len(ways) < 2:
        return np.nan
    return 2 * np.mean(sorted(ways)[: (len(ways) + 1) // 2 + 1])


def area_moments(image, light, areas, number):
    """Peak, sum of the light, centre and second moments (xx, xy, yy) of one area."""
    y, x = np.nonzero(areas == number)
    weight = light[y, x].astype(float)
    total = weight.sum()
    products = (x, y, x * x, x * y, y * y)
    return image[y, x].max(), total, *((weight * p).sum() for p in products)
