"""Exact unweighted normal equations from Fourier transforms.

In the form with f_b(x - s) the sum over all x of the products of two columns depends on the
difference of their shifts only: it is a correlation of f_b template with f_c template, and one
transform of each serves all kernel pixels (Hu et al. 2022, eq. 15).  Real transforms, each pair
once, and only the lags that the kernel has are transformed back.  Pixels that do not count (mask,
borders) are then taken off exactly, and shifts of the polynomials turn it into the form with f(x).
"""

import numpy as np
from scipy import fft

from psflib.image import polynomial
from psflib.subtraction.sfft.normal import exactly


def by_transforms(model, template, use, residual):
    """Exact normal equations with all weights 1; see `normal.exactly`.

    Parameters
    ----------
    template : ndarray (ny, nx) float64
    use : ndarray (ny, nx) bool, off the border by half a kernel
    residual : ndarray (ny, nx)
    """
    (hy, hx), (ny, nx), m = model.half, model.shape, model.n_terms
    side = [
        fft.next_fast_len(n + 2 * h, real=True)
        for n, h in zip(model.shape, model.half, strict=True)
    ]
    x, y = np.arange(nx)[None, :], np.arange(ny)[:, None]
    spectra = [fft.rfft2(term * template, side) for term in model.terms(x, y)]
    moved = _shifts(model)
    kernel = _toeplitz(model, spectra, side)
    kernel = np.einsum("sqb,sbtc,trc->sqtr", moved, kernel, moved, optimize=True)
    kernel = kernel.reshape(model.n_kernel, -1) - _left_out(model, template, use)

    lags = _back(side, hy, hx)
    background = [fft.rfft2(term * use, side) for term in model.background_terms(x, y)]
    cross = np.array([[lags(b * s.conj()) for s in spectra] for b in background])
    cross = np.einsum("sqb,gbs->sqg", moved, cross.reshape(len(background), m, -1))
    plane = fft.rfft2(np.where(use, residual, 0.0), side)
    right = np.array([lags(plane * s.conj()).ravel() for s in spectra])
    right = np.einsum("sqb,bs->sq", moved, right)

    rows, columns = np.nonzero(use)
    values = model.background_terms(columns, rows)
    p = model.n_kernel
    matrix = np.empty((model.n_unknowns,) * 2)
    matrix[:p, :p] = kernel
    matrix[:p, p:] = cross.reshape(p, -1)
    matrix[p:, :p] = matrix[:p, p:].T
    matrix[p:, p:] = values @ values.T
    return matrix, np.concatenate([right.ravel(), values @ residual[use]])


def _toeplitz(model, spectra, side):
    """Sums over all x, (n_shapes, m, n_shapes, m), of the columns with functions of x - s."""
    ky, kx = model.kernel_shape
    lags = _back(side, ky - 1, kx - 1)
    # entry (s, t) is the correlation at lag t - s, counted from the smallest
    row, column = np.divmod(np.arange(model.n_shapes), kx)
    index = row[None, :] - row[:, None] + ky - 1, column[None, :] - column[:, None] + kx - 1
    out = np.empty((model.n_shapes, model.n_terms) * 2)
    for b, first in enumerate(spectra):
        for c in range(b, model.n_terms):
            values = lags(first * spectra[c].conj())[index]
            out[:, b, :, c] = values
            out[:, c, :, b] = values.T
    return out


def _back(side, reach_y, reach_x):
    """Function: inverse real transform (2 reach_y + 1, 2 reach_x + 1) about lag 0 only."""
    ny, nx = side
    y, x = np.arange(-reach_y, reach_y + 1), np.arange(-reach_x, reach_x + 1)
    left = np.exp(2j * np.pi / ny * (y[:, None] * np.arange(ny) % ny)) / (ny * nx)
    half = np.arange(nx // 2 + 1)
    right = np.exp(2j * np.pi / nx * (half[:, None] * x % nx))
    right *= np.where((half == 0) | (2 * half == nx), 1, 2)[:, None]
    return lambda spectrum: (left @ spectrum @ right).real


def _left_out(model, template, use):
    """What pixels that do not count add to the sums over all x, of the kernel's unknowns."""
    hy, hx = model.half
    pad = 2 * hy, 2 * hx
    outside = np.pad(~use, ((hy, hy), (hx, hx)), constant_values=True)
    y, x = np.nonzero(outside)
    y, x = y - hy, x - hx
    wide = np.pad(template, ((pad[0], pad[0]), (pad[1], pad[1])))
    ones = np.ones(len(y))
    matrix, _ = exactly(model, wide, y, x, ones, 0 * ones, pad)
    return matrix[: model.n_kernel, : model.n_kernel]


def _shifts(model):
    """Matrices T (n_shapes, m, m) with f(x) = T f(x - s)."""
    (hy, hx), (ny, nx), m = model.half, model.shape, model.n_terms
    count = model.order + 1
    x, y = np.meshgrid(np.linspace(0, nx - 1, count), np.linspace(0, ny - 1, count))
    inverse = np.linalg.pinv(polynomial.evaluate(model.order, x.ravel(), y.ravel(), model.shape))
    steps = [(dy, dx) for dy in range(-hy, hy + 1) for dx in range(-hx, hx + 1)]
    moved = [
        polynomial.evaluate(model.order, x.ravel() + dx, y.ravel() + dy, model.shape) @ inverse
        for dy, dx in steps
    ]
    return np.array(moved).reshape(model.n_shapes, m, m)
