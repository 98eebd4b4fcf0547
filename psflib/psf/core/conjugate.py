"""Conjugate gradients that tell in which directions the preconditioner was wrong."""

import numpy as np

MOST_STEPS = 60
SLOW = 0.6  # eigenvalues of the preconditioned matrix that are told


def conjugate(matrix, right, precondition, tol):
    """Solve matrix·x = right from x = 0 (Hestenes & Stiefel 1952).

    Parameters
    ----------
    matrix, precondition : callable
        Symmetric and positive definite; array in, array out.
    right : ndarray
    tol : float
        Of the preconditioned norm of the residual, relative.

    Returns
    -------
    x : ndarray
    values : ndarray (m,)
    vectors : ndarray (m, ...)
        Slow Ritz pairs of the preconditioned matrix, the vectors orthonormal in the metric of the
        preconditioner's inverse.
    """
    x, r = np.zeros_like(right), right.copy()
    z = precondition(r)
    p, rz = z, np.sum(r * z)
    goal = tol**2 * rz
    alphas: list[float] = []
    betas: list[float] = []
    basis: list[np.ndarray] = []
    while rz > goal and len(alphas) < MOST_STEPS:
        basis.append(z / np.sqrt(rz))
        ap = matrix(p)
        alpha = rz / np.sum(p * ap)
        x += alpha * p
        r -= alpha * ap
        z = precondition(r)
        last, rz = rz, np.sum(r * z)
        p = z + (rz / last) * p
        alphas.append(alpha)
        betas.append(rz / last)
    return x, *_slow_pairs(np.array(alphas), np.array(betas), np.array(basis))


def _slow_pairs(alphas, betas, basis):
    """Ritz pairs from the Lanczos matrix that is hidden in the steps (Golub & Van Loan, 11.3)."""
    if not (np.isfinite(alphas).all() and np.isfinite(betas).all() and alphas.size):
        return np.empty(0), np.empty((0, *basis.shape[1:]))
    diagonal = 1 / alphas
    diagonal[1:] += betas[:-1] / alphas[:-1]
    # Neighbouring residuals alternate in sign against the Lanczos vectors.
    beside = -np.sqrt(betas[:-1]) / alphas[:-1]
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    slow = (values < SLOW) & (values > 0)
    return values[slow], np.tensordot(vectors[:, slow].T, basis, axes=1)


def constrained(inverse, directions, solved):
    """Preconditioner `inverse` restricted to what is orthogonal to the `directions` (m, ...).

    `solved` (m, ...) are the answers of `inverse` to them.
    """
    flat, flat_solved = (v.reshape(len(directions), -1) for v in (directions, solved))
    small = np.linalg.inv(flat @ flat_solved.T)

    def apply(r):
        z = inverse(r)
        return z - ((small @ (flat @ z.ravel())) @ flat_solved).reshape(z.shape)

    return apply
