"""Delta-function kernel basis, and the smoothness that keeps it from fitting noise.

Becker et al. 2012, MNRAS 425, 1341: minimise chi² + lambda aᵀ H a with H = Bᵀ B and B a finite
difference of the kernel's pixels.
"""

import numpy as np
from scipy import linalg

FORWARD = {1: (-1.0, 1.0), 2: (1.0, -2.0, 1.0), 3: (-1.0, 3.0, -3.0, 1.0)}


def delta_basis(size: int) -> np.ndarray:
    """One unit pixel an image, (size², size, size), row by row.

    Raises
    ------
    ValueError
        If `size` is not odd and positive.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"side of a kernel must be odd and positive; got {size}")
    return np.eye(size * size).reshape(-1, size, size)


def zero_sum(coefficients: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The same kernels with all the sum in basis image 0.

    sum_i a_i delta_i = (sum a) delta_c + sum_{i != c} a_i (delta_i - delta_c), c the centre.

    Parameters
    ----------
    coefficients : ndarray (size², ...)

    Returns
    -------
    coefficients : ndarray (size², ...)
    images : ndarray (size², size, size)
    """
    centre = size * size // 2
    others = np.delete(np.arange(size * size), centre)
    images = delta_basis(size)
    middle = images[centre]
    moved = np.concatenate([coefficients.sum(0)[None], coefficients[others]])
    return moved, np.concatenate([middle[None], images[others] - middle])


def regularisation_matrix(
    size: int, kind: str = "centralDifference", stencil: int = 9, orders=(1, 2),
    border: float = 3.0, n_background: int = 0,
) -> np.ndarray:  # fmt: skip
    """H = Bᵀ B of a kernel of `size` x `size` pixels; rows of the background are 0.

    Parameters
    ----------
    kind : "centralDifference" (Laplacian of `stencil` 5 or 9 points; border pixels are penalised
        themselves, by `border`) or "forwardDifference" (of `orders`, along x and along y).

    Returns
    -------
    ndarray (size² + n_background, size² + n_background) float64, symmetric, not negative
    """
    if kind == "centralDifference":
        rows = _central(size, stencil, border)
    elif kind == "forwardDifference":
        rows = np.sum([_forward(size, order, border) for order in orders], axis=0)
    else:
        raise ValueError(f"unknown regularisation {kind!r}: centralDifference, forwardDifference")
    matrix = np.zeros([size * size + n_background] * 2)
    matrix[: size * size, : size * size] = rows.T @ rows
    return matrix


def _central(size, stencil, border):
    if stencil not in (5, 9):
        raise ValueError(f"stencil of the Laplacian has 5 or 9 points; got {stencil}")
    weights = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], float)
    if stencil == 9:
        weights = np.array([[1, 4, 1], [4, -20, 4], [1, 4, 1]]) / 6
    rows = np.zeros((size, size, size, size))
    for y in range(size):
        for x in range(size):
            if 0 < y < size - 1 and 0 < x < size - 1:
                rows[y, x, y - 1 : y + 2, x - 1 : x + 2] = weights
            else:
                rows[y, x, y, x] = border
    return rows.reshape(size * size, -1)


def _forward(size, order, border):
    """Differences along x plus along y; at the far edge of lower order, in the end the value."""
    line = np.zeros((size, size))
    for i in range(size):
        reach = min(order, size - 1 - i)
        line[i, i : i + reach + 1] = FORWARD[reach] if reach else (border,)
    return np.kron(np.eye(size), line) + np.kron(line, np.eye(size))


def choose_lambda(matrix, vector, penalty, config) -> tuple[float, list]:
    """Strength of the regularisation.

    Parameters
    ----------
    matrix, vector : ndarray (n, n), (n,)
        Normal equations of a candidate.
    penalty : ndarray (n, n)
    config : PsfMatchConfigDF

    Returns
    -------
    strength : float
    risks : list of (lambda, risk)
        What was scanned, for the two types that minimise the risk.

    Notes
    -----
    The risk of a linear estimate a(lambda) of Gaussian data is, up to a constant (Stein 1981;
    Becker et al. 2012, eq. 20), R = aᵀ P a + 2 (tr(P (M + lambda H)⁻¹) - aᵀ P M⁺ b) with P the
    projector on the modes that the data see: those above max_condition_number for the biased
    risk, all that are not zero for the unbiased one.
    """
    if config.lambda_type == "absolute":
        return config.lambda_value, []
    if config.lambda_type == "relative":
        return config.lambda_scaling * np.trace(matrix) / np.trace(penalty), []
    values, vectors = linalg.eigh(matrix)
    limit = 1 / config.max_condition_number if "minimizeB" in config.lambda_type else 1e-14
    seen = values > limit * values[-1]
    modes = vectors[:, seen]
    free = (modes / values[seen]) @ (modes.T @ vector)
    risks = []
    for strength in _scan(config):
        inverse = linalg.inv(matrix + strength * penalty)
        fitted = modes.T @ (inverse @ vector)
        trace = np.trace(modes.T @ inverse @ modes)
        risks.append(
            (float(strength), float(fitted @ fitted + 2 * (trace - fitted @ (modes.T @ free))))
        )
    return min(risks, key=lambda row: row[1])[0], risks


def _scan(config):
    steps = np.arange(config.lambda_min, config.lambda_max + config.lambda_step / 2,
                      config.lambda_step)  # fmt: skip
    return 10.0**steps if config.lambda_step_type == "log" else steps[steps > 0]
