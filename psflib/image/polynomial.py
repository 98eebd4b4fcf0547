"""Products of Chebyshev polynomials over an image: the one spatial model of psflib.

Coordinates are mapped to u, v in [-1, 1] over the image, so that coefficients of all orders have
the scale of the values and the normal equations stay well conditioned.
Term order: 1, u, v, u², uv, v², u³ ... (total degree, then falling power of u).
"""

import itertools

import numpy as np


def n_terms(order: int) -> int:
    """Number of terms with total degree <= `order`."""
    return (order + 1) * (order + 2) // 2


def degrees(order: int) -> list[tuple[int, int]]:
    """Powers (of u, of v) of each term."""
    return [(d - j, j) for d in range(order + 1) for j in range(d + 1)]


def unit(position, length: int):
    """Pixel position mapped to [-1, 1] over an axis of `length` pixels."""
    half = max(length - 1, 1) / 2
    return (np.asarray(position, float) - half) / half


def evaluate(order: int, x, y, shape: tuple[int, int]) -> np.ndarray:
    """All terms at positions (x, y).

    Parameters
    ----------
    order : int
        Total degree.
    x, y : array_like
        Pixel positions; they broadcast together (a row and a column make a grid).
    shape : (ny, nx)
        Shape of the image that [-1, 1] spans.

    Returns
    -------
    ndarray (n_terms, ...) float64
    """
    tu = _chebyshev(order, unit(x, shape[1]))
    tv = _chebyshev(order, unit(y, shape[0]))
    return np.stack([tu[i] * tv[j] for i, j in degrees(order)])


def axes(order: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One-dimensional polynomials along x (order + 1, nx) and y (order + 1, ny)."""
    tx = _chebyshev(order, unit(np.arange(shape[1]), shape[1]))
    ty = _chebyshev(order, unit(np.arange(shape[0]), shape[0]))
    return np.array(tx[: order + 1]), np.array(ty[: order + 1])


def product_map(coefficients, order: int, shape: tuple[int, int], dtype=np.float32) -> np.ndarray:
    """A polynomial over the image, (ny, nx), as a product of two thin matrices."""
    matrix = np.zeros((order + 1, order + 1))
    for (i, j), value in zip(degrees(order), coefficients, strict=True):
        matrix[j, i] = value
    tx, ty = axes(order, shape)
    return (ty.T @ matrix).astype(dtype) @ tx.astype(dtype)


def to_powers(coefficients, order: int) -> np.ndarray:
    """Coefficients (..., n_terms) of u^i v^j, in the order of `degrees`, of the same polynomial."""
    change = np.zeros((n_terms(order), n_terms(order)))
    rank = {pair: k for k, pair in enumerate(degrees(order))}
    powers = [np.polynomial.chebyshev.cheb2poly(np.eye(order + 1)[i]) for i in range(order + 1)]
    for (i, j), row in zip(degrees(order), change, strict=True):
        for (a, x), (b, y) in itertools.product(enumerate(powers[i]), enumerate(powers[j])):
            row[rank[a, b]] += x * y
    return np.asarray(coefficients) @ change


def _chebyshev(order, u):
    values = [np.ones_like(u), u]
    while len(values) <= order:
        values.append(2 * u * values[-1] - values[-2])
    return values


def fit_robust(order, x, y, values, errors, shape, rounds=5, scale=3.0):
    """Polynomial through scattered values with Cauchy weights against outliers.

    Returns
    -------
    coefficients : ndarray (n_terms,)
    residual : ndarray, in sigma (of `errors`, or of the scatter if that is larger)
    """
    return solve_robust(evaluate(order, x, y, shape).T, values, errors, rounds, scale)


def solve_robust(design, values, errors, rounds=5, scale=3.0):
    """As `fit_robust`, of any linear terms: `design` (n, terms)."""
    weight = 1 / np.square(errors)
    for _ in range(rounds):
        root = np.sqrt(weight)
        coefficients = np.linalg.lstsq(design * root[:, None], values * root, rcond=1e-10)[0]
        residual = (values - design @ coefficients) / errors
        spread = max(1.0, 1.4826 * np.median(np.abs(residual)))
        weight = 1 / np.square(errors) / (1 + np.square(residual / (scale * spread)))
    return coefficients, residual
