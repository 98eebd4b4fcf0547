"""Slow, readable twins of psflib/loops/wings.py."""

import numpy as np


def halo_equations(rest, weight, model, flux, floor, scale, tukey):
    """Normal equations of one halo: matrix (6, 6), vector (6,)."""
    half = (len(rest) - 1) / 2
    y, x = np.mgrid[: len(rest), : len(rest)]
    d_row, d_col = np.zeros(model.shape), np.zeros(model.shape)
    d_row[1:-1] = -0.5 * flux * (model[2:] - model[:-2])
    d_col[:, 1:-1] = -0.5 * flux * (model[:, 2:] - model[:, :-2])
    columns = [model, np.ones(model.shape), (y - half) / half, (x - half) / half, d_row, d_col]
    inner = np.zeros(model.shape, bool)
    inner[1:-1, 1:-1] = True
    use = inner & (weight > 0)
    w = np.where(use, 1 / (1 / np.where(use, weight, 1) + (floor * flux * model) ** 2), 0)
    z = rest * np.sqrt(w) / (tukey * scale)
    w = w * np.where(abs(z) < 1, (1 - z**2) ** 2, 0)
    design = np.array([c.ravel() for c in columns])
    return (design * w.ravel()) @ design.T, design @ (w * rest).ravel()


def combine_pixel(values, weight, kappa, rounds):
    """Value, weight, count and spread of one pixel."""
    use = np.isfinite(values) & (weight > 0)
    v, w = values[use], weight[use]
    if not v.size:
        return np.nan, 0.0, 0, 1.0
    order = np.argsort(v, kind="stable")
    v, w = v[order], w[order]
    centre = v[np.searchsorted(np.cumsum(w), 0.5 * w.sum())]
    scale = 1.0
    for _ in range(rounds):
        z = abs(v - centre) * np.sqrt(w)
        if v.size > 2:
            scale = max(1.0, 1.4826 * np.median(z))
        keep = z <= kappa * scale
        centre = np.average(v[keep], weights=w[keep])
    return centre, w[keep].sum(), keep.sum(), scale


def keys(t):
    """Four taps of Catmull-Rom at the fraction t (Keys 1981, a = -1/2)."""
    d = np.abs(np.array([1 + t, t, 1 - t, 2 - t]))
    return np.where(d < 1, 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2)


def smooth_ray(ratio, weight, i, j, share, start):
    """Mean along the ray through one pixel and its variance."""
    side = len(ratio)
    c = (side - 1) / 2
    dy, dx = i - c, j - c
    r = np.hypot(dy, dx)
    reach = share * min(max(r / start - 1, 0), 1) * r
    if reach < 1:
        return ratio[i, j], 1 / weight[i, j] if weight[i, j] > 0 else 0.0
    step = max(1.0, reach / 8)
    n = int(np.ceil(reach / step)) - 1
    values, weights, triangle = [], [], []
    for k in range(-n, n + 1):
        y, x = c + (1 + k * step / r) * dy, c + (1 + k * step / r) * dx
        row, col = int(np.floor(y)), int(np.floor(x))
        near = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
        if min(row, col) < 1 or max(row, col) + 2 >= side or not weight[near] > 0:
            continue
        block = ratio[row - 1 : row + 3, col - 1 : col + 3]
        values.append(keys(y - row) @ block @ keys(x - col))
        weights.append(weight[near])
        triangle.append(1 - abs(k) * step / reach)
    if not values:
        return ratio[i, j], 0.0
    weights, triangle = np.array(weights), np.array(triangle)
    total = np.sum(triangle * weights)
    return np.sum(triangle * weights * values) / total, np.sum(triangle**2 * weights) / total**2


def ray_power(square, i, j, share, side):
    """Mean of `square` along three parallel rays near one pixel."""
    c = (len(square) - 1) / 2
    dy, dx = i - c, j - c
    r = max(np.hypot(dy, dx), 1.0)
    n = max(1, min(12, int(r * share)))
    found = []
    for lane in (-1, 0, 1):
        for k in range(-n, n + 1):
            y = i + lane * side * dx / r + share * k / n * dy
            x = j - lane * side * dy / r + share * k / n * dx
            row, col = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
            if 0 <= row < len(square) and 0 <= col < len(square):
                found.append(square[row, col])
    return np.mean(found)


def tukey_mean(values, weight, cut, passes):
    """Mean with Tukey's weights, and its error."""
    level = np.median(values)
    for _ in range(passes):
        z = (values - level) * np.sqrt(weight)
        scale = max(1.0, 1.4826 * np.median(np.abs(z)))
        robust = weight * np.maximum(1 - (z / (cut * scale)) ** 2, 0) ** 2
        if not robust.sum() > 0:
            robust = weight
            break
        level = np.sum(robust * values) / robust.sum()
    return level, scale / np.sqrt(robust.sum())


def robust_cells(plane, weight, use, others, box, stride, least, cut, passes):
    """Rows x, y, mean, error and means of the others, cells along rows first."""
    rows = []
    for top in range(0, plane.shape[0], box):
        for left in range(0, plane.shape[1], box):
            part = (slice(top, top + box, stride), slice(left, left + box, stride))
            own = use[part]
            if own.mean() < least:
                rows.append(np.full(4 + len(others), np.nan))
                continue
            y, x = np.argwhere(own).mean(axis=0) * stride + (top, left)
            mean = tukey_mean(plane[part][own].astype(float), weight[part][own].astype(float),
                              cut, passes)  # fmt: skip
            rows.append([x, y, *mean, *(other[part][own].mean(dtype=float) for other in others)])
    return np.array(rows)
