"""Slow, readable twins of the candidate fits, written from their formulas.

They share no code with psflib.
"""

import numpy as np


def convolve_inside(stamp, kernel):
    """(K conv stamp) where the kernel lies wholly on the stamp."""
    k = kernel.shape[0]
    rows, columns = stamp.shape[0] - k + 1, stamp.shape[1] - k + 1
    out = np.empty((rows, columns))
    for y in range(rows):
        for x in range(columns):
            out[y, x] = np.sum(kernel[::-1, ::-1] * stamp[y : y + k, x : x + k])
    return out


def design(stamp, images):
    """A column for each basis image and one of ones."""
    columns = [convolve_inside(stamp, image).ravel() for image in images]
    return np.array([*columns, np.ones(len(columns[0]))]).T


def laplacian_penalty(size, border):
    """H of the nine-point Laplacian, entry by entry."""
    weights = {0: -20 / 6, 1: 4 / 6, 2: 1 / 6}
    rows = np.zeros((size * size, size * size))
    for y in range(size):
        for x in range(size):
            i = y * size + x
            if y in (0, size - 1) or x in (0, size - 1):
                rows[i, i] = border
                continue
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    rows[i, (y + dy) * size + x + dx] = weights[abs(dy) + abs(dx)]
    return rows.T @ rows


def chebyshev_terms(order, x, y, shape):
    """T_i(u) T_j(v), i + j <= order, by falling power of u, u and v in [-1, 1] over the image."""
    u, v = 2 * x / (shape[1] - 1) - 1, 2 * y / (shape[0] - 1) - 1
    return np.array(
        [
            np.cos((d - j) * np.arccos(u)) * np.cos(j * np.arccos(v))
            for d in range(order + 1)
            for j in range(d + 1)
        ]
    )


def spatial_fit(designs, targets, centres, orders, shape, weights):
    """Least squares of all stamps, polynomials constant over a stamp: list of coefficients."""
    rows, values = [], []
    for matrix, target, (x, y), weight in zip(designs, targets, centres, weights, strict=True):
        terms = [chebyshev_terms(order, x, y, shape) for order in orders]
        wide = np.concatenate(
            [np.outer(column, t) for column, t in zip(matrix.T, terms, strict=True)], axis=1
        )
        rows.append(wide * np.sqrt(weight))
        values.append(target.ravel() * np.sqrt(weight))
    solution = np.linalg.lstsq(np.concatenate(rows), np.concatenate(values), rcond=1e-14)[0]
    sizes = [(o + 1) * (o + 2) // 2 for o in orders]
    return np.split(solution, np.cumsum(sizes)[:-1])


def clipped_mean(values, sigma=3.0, iterations=3):
    values = sorted(values)
    for _ in range(iterations):
        mean = sum(values) / len(values)
        if len(values) < 2:
            return mean, 0.0
        std = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
        values = [v for v in values if abs(v - mean) <= sigma * std]
    mean = sum(values) / len(values)
    return mean, (sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1)) ** 0.5


def hotpants_difference(image, template, stamps, images, half):
    """HOTPANTS's own least squares, without weights, constant kernel and background.

    stamps : (x, y) centres in px;  half : half width of a substamp.
    Returns the difference where the kernel is complete, and the kernel's sum.
    """
    r = images.shape[-1] // 2
    matrix = np.zeros((len(images) + 1,) * 2)
    vector = np.zeros(len(images) + 1)
    for x, y in stamps:
        row, column = round(y), round(x)
        outer = np.s_[
            row - half - r : row + half + r + 1, column - half - r : column + half + r + 1
        ]
        inner = np.s_[row - half : row + half + 1, column - half : column + half + 1]
        columns = design(template[outer], images)
        matrix += columns.T @ columns
        vector += columns.T @ image[inner].ravel()
    solution = np.linalg.lstsq(matrix, vector, rcond=1e-13)[0]
    kernel = np.tensordot(solution[:-1], images, 1)
    matched = convolve_inside(template, kernel) + solution[-1]
    return image[r:-r, r:-r] - matched, kernel.sum()
