"""Slow, readable twins of the delta-function kernel fit."""

import numpy as np


def gather_patches(image, y, x, half_y, half_x, root):
    rows, image = [], np.pad(image, ((half_y, half_y), (half_x, half_x)))
    for j, i, factor in zip(y, x, root, strict=True):
        box = image[j : j + 2 * half_y + 1, i : i + 2 * half_x + 1]
        rows.append(factor * np.append(box[::-1, ::-1].ravel(), 1))
    return np.array(rows)


def design(model, template, y, x):
    """Each unknown's column at the pixels (y, x), in NumPy's plainest terms."""
    hy, hx = model.half
    columns = []
    terms = model.terms(x, y)
    for dy in range(-hy, hy + 1):
        for dx in range(-hx, hx + 1):
            columns += [term * template[y - dy, x - dx] for term in terms]
    return np.array([*columns, *model.background_terms(x, y)]).T


def normal_equations(model, template, use, weight, residual):
    y, x = np.nonzero(use)
    columns = design(model, template, y, x)
    weighted = columns * weight[use][:, None]
    return weighted.T @ columns, weighted.T @ residual[use]
