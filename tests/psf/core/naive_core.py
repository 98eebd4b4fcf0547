"""Slow, readable twins of the normal-equation solver: dense matrices, no call into psflib.

A model is flattened row by row; a star's stamp as well.
"""

import numpy as np

from tests.psf import naive_psf as naive


def star_matrix(side, oversample, delta):
    """A (s², side²) of one star: the cubic B-spline at every node seen by every pixel."""
    rows, cols = (naive.axis_matrix(side, oversample, d, naive.b_spline) for d in delta)
    return np.kron(rows, cols)


def whole_pixels(side, oversample, delta):
    """(s, s) True where the nodes floor(k) - 1 ... floor(k) + 2 of a pixel are all on the grid."""
    size = side // oversample
    masks = []
    for d in delta:
        low = np.floor((oversample - 1) / 2 + oversample * (np.arange(size) - d))
        masks.append((low - 1 >= 0) & (low + 2 < side))
    return masks[0][:, None] & masks[1][None, :]


def normal_matrix(weight, scale, delta, oversample):
    """Σ scale²·AᵀWA (side², side²) over the pixels seen by whole splines."""
    side = weight.shape[1] * oversample
    total = np.zeros((side**2, side**2))
    for w, f, d in zip(weight, scale, delta, strict=True):
        if f == 0:
            continue
        a = star_matrix(side, oversample, d)
        w = np.where((w > 0) & whole_pixels(side, oversample, d), w, 0).ravel()
        total += f**2 * a.T @ (w[:, None] * a)
    return total


def dense(planes):
    """Matrix (n², n²) from the planes of its upper neighbours, by the definition of their order."""
    n = planes.shape[1]
    lags = [(0, b) for b in range(4)] + [(a, b) for a in (1, 2, 3) for b in range(-3, 4)]
    matrix = np.zeros((n * n, n * n))
    for plane, (da, db) in zip(planes, lags, strict=True):
        for r in range(n - da):
            for c in range(max(0, -db), min(n, n - db)):
                here, there = r * n + c, (r + da) * n + c + db
                matrix[here, there] = matrix[there, here] = plane[r, c]
    return matrix


def slopes(model, oversample, flux, delta):
    """U (s², 4): slopes of a star by flux, background and both offsets."""
    p, r, c = naive.profile(model, oversample, delta, basis=1)
    return np.stack([p, np.ones_like(p), flux * r, flux * c], axis=-1).reshape(-1, 4)


def remaining_weight(u, w):
    """W - WU·D⁻¹·UᵀW (s², s²) with D = UᵀWU."""
    wu = w[:, None] * u
    return np.diag(w) - wu @ np.linalg.solve(u.T @ wu, wu.T)


def reduced_system(terms, design, oversample, data, weight, flux, background, delta, eliminate):
    """Schur complement of the model and the pull of the residuals on it, all terms in a row.

    Without `eliminate` the stars' own unknowns are held.
    """
    n_terms, side, _ = terms.shape
    matrix = np.zeros((n_terms * side**2,) * 2)
    gradient = np.zeros(n_terms * side**2)
    for n in range(len(data)):
        if flux[n] == 0:
            continue
        a = flux[n] * star_matrix(side, oversample, delta[n])
        model = np.tensordot(design[n], terms, axes=1)
        w = weight[n].ravel()
        left = np.diag(w)
        if eliminate:
            left = remaining_weight(slopes(model, oversample, flux[n], delta[n]), w)
        residual = data[n].ravel() - background[n] - a @ model.ravel()
        residual = np.where(w > 0, residual, 0)
        share = np.kron(design[n], a)
        matrix += share.T @ left @ share
        gradient += share.T @ left @ residual
    return matrix, gradient


def tukey_weights(model, oversample, data, weight, flux, background, delta, noise, error, cap, c):
    """Weights (s, s) and tally (4,) of one star, pixel by pixel."""
    side = len(model)
    p = naive.profile(model, oversample, delta, basis=1)[0]
    whole = whole_pixels(side, oversample, delta)
    out, tally, light, lost = np.zeros(data.shape), np.zeros(4), 0.0, 0.0
    for i, j in np.ndindex(data.shape):
        usable = np.isfinite(data[i, j]) and np.isfinite(weight[i, j]) and weight[i, j] > 0
        if not (usable and whole[i, j]):
            continue
        m = flux * p[i, j]
        variance = noise**2 / weight[i, j]
        z2 = (data[i, j] - background - m) ** 2 / (variance + (error * m) ** 2)
        light += max(m, 0)
        if z2 >= c**2:
            lost += max(m, 0)
            continue
        out[i, j] = (1 - z2 / c**2) ** 2 / (variance + (min(error, cap) * m) ** 2)
        tally[:3] += 1, (data[i, j] - background - m) ** 2 / variance, z2
    tally[3] = lost / light
    return out, tally


def penalty(light, coef, steepness=1.5):
    """Σ strength·(third difference)² of coefficients, place by place; mixed ones count thrice.

    The strength (peak/light)^steepness is that of the middle of the cells a difference takes, the
    mean of two.
    """
    strength = (light.max() / light) ** steepness
    n = len(coef)
    total = 0.0
    for r, c in np.ndindex(n, n):
        if c + 3 < n:
            total += strength[r, c + 1 : c + 3].mean() * np.diff(coef[r, c : c + 4], 3)[0] ** 2
        if r + 3 < n:
            total += strength[r + 1 : r + 3, c].mean() * np.diff(coef[r : r + 4, c], 3)[0] ** 2
        if r + 2 < n and c + 1 < n:
            block = coef[r : r + 3, c : c + 2]
            mixed = np.diff(np.diff(block, 2, axis=0), 1, axis=1)[0, 0]
            total += 3 * strength[r + 1, c : c + 2].mean() * mixed**2
        if r + 1 < n and c + 2 < n:
            block = coef[r : r + 2, c : c + 3]
            mixed = np.diff(np.diff(block, 1, axis=0), 2, axis=1)[0, 0]
            total += 3 * strength[r : r + 2, c + 1].mean() * mixed**2
    return total


def evidence(matrix, penalty_matrix, right, power, strength, free=6):
    """-2 log marginal likelihood of a prior strength, but for a constant."""
    total = matrix + strength * penalty_matrix
    coef = np.linalg.solve(total, right)
    logdet = np.linalg.slogdet(total)[1]
    return power - coef @ right + logdet - (len(right) - free) * np.log(strength)
