"""Slow, readable twin of `psflib.loops.starfit`: plain NumPy, no call into psflib."""

import naive_psf as naive
import numpy as np


def b_spline(x):
    """Cubic B-spline at distance x."""
    x = np.abs(x)
    near = (3 * x**3 - 6 * x**2 + 4) / 6
    far = (2 - x) ** 3 / 6
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def b_spline_slope(x):
    """Derivative of `b_spline`."""
    a = np.abs(x)
    near = (9 * a**2 - 12 * a) / 6
    far = -((2 - a) ** 2) / 2
    return np.sign(x) * np.where(a < 1, near, np.where(a < 2, far, 0.0))


BASES = [(naive.catmull_rom, naive.catmull_rom_slope), (b_spline, b_spline_slope)]


def profile(model, oversample, delta, basis):
    """Model at the pixels of a stamp, and its derivatives by the two offsets."""
    value, slope = BASES[basis]
    side = len(model)
    rows, cols = (naive.axis_matrix(side, oversample, d, value) for d in delta)
    d_rows, d_cols = (naive.axis_matrix(side, oversample, d, slope) for d in delta)
    p = rows @ model @ cols.T
    return p, -oversample * d_rows @ model @ cols.T, -oversample * rows @ model @ d_cols.T


def linear(data, weight, model, oversample, delta, basis):
    """Design matrix of (1-flux, background, d_row, d_col), with the best flux and background."""
    use = np.isfinite(data) & np.isfinite(weight) & (weight > 0)
    p, r, c = (plane[use] for plane in profile(model, oversample, delta, basis))
    d, root = data[use].astype(float), np.sqrt(weight[use].astype(float))
    matrix = np.column_stack([p, np.ones_like(p)]) * root[:, None]
    flux, background = np.linalg.lstsq(matrix, d * root, rcond=None)[0]
    residual = (d - flux * p - background) * root
    full = np.column_stack([p, np.ones_like(p), flux * r, flux * c]) * root[:, None]
    return flux, background, residual, full


def fit(model, oversample, data, weight, delta, basis, max_steps, tol=1e-12):
    """Plain Gauss-Newton of one star: flux, background, delta, covariance, chi²."""
    delta = np.array(delta, float)
    for _ in range(max_steps):
        flux, background, residual, full = linear(data, weight, model, oversample, delta, basis)
        step = np.linalg.lstsq(full, residual, rcond=None)[0][2:]
        delta = delta + step
        if np.hypot(*step) < tol:
            break
    flux, background, residual, full = linear(data, weight, model, oversample, delta, basis)
    free = 4 if max_steps else 2
    covariance = np.zeros((4, 4))
    covariance[:free, :free] = np.linalg.inv((full.T @ full)[:free, :free])
    return flux, background, delta, covariance, (residual**2).sum()


def render(terms, design, oversample, flux, background, delta, basis):
    """Stars of any number of terms, one by one."""
    stack = []
    for row, f, b, d in zip(design, flux, background, delta, strict=True):
        model = np.tensordot(row, terms, axes=1)
        stack.append(f * profile(model, oversample, d, basis)[0] + b)
    return np.array(stack)
