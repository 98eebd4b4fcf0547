"""Slow, plain twins of the loops that measure sources."""

import numpy as np


def adaptive_moments(image, usable, x, y, sigma, rounds=50, narrowest=1.0):
    """x, y and the covariance matrix of the Gaussian that matches the source."""
    row, col = np.indices(image.shape)
    covariance, centre = np.eye(2) * sigma**2, np.array([x, y], float)
    for _ in range(rounds):
        offset, light, weight = _seen(image, usable, row, col, centre, covariance, narrowest)
        mean = (offset * light).sum((1, 2)) / light.sum()
        second = np.einsum("iyx,jyx,yx->ij", offset, offset, light) / light.sum()
        second -= np.outer(mean, mean)
        new = np.linalg.inv(np.linalg.inv(second) - np.linalg.inv(weight))
        centre = centre + min(2, np.trace(new) / np.trace(second)) * mean
        change, covariance = np.abs(new - covariance).sum(), new
        if change < 1e-3 * np.trace(covariance) and np.abs(mean).sum() < 1e-3:
            break
    return centre, covariance


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
