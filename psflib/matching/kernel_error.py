"""What the errors of the fitted kernel add to the variance of the difference."""

import dataclasses

import numpy as np

from psflib import polynomial

CELL = 128  # px; the kernel's covariance is one over a cell of this size
TELLING = 0.03  # of the noise's variance; sources less touched by the kernel's errors say nothing
FEWEST = 5  # sources that tell how far the model is from the truth


@dataclasses.dataclass(frozen=True, eq=False)
class KernelError:
    """Variance of K conv b from the errors of K, at the pixels of the fit (elsewhere it is none).

    y, x : ndarray (n,) int32;  variance : ndarray (n,) float32, ADU²
    """

    y: np.ndarray
    x: np.ndarray
    variance: np.ndarray

    def add_to(self, plane, times=1.0) -> None:
        """Add the variance, so many times, to a plane (ny, nx)."""
        plane[self.y, self.x] += np.float32(times) * self.variance


def at_fit_pixels(problem, state, noise) -> KernelError:
    """Sum over i, j of cov_ij (B_i conv b)(B_j conv b), cov the local covariance of coefficients.

    Enlarged where the model misses more than noise explains: the covariance knows the errors of
    the coefficients, not the terms that are missing.

    noise : ndarray (n,), variance of target minus model
    """
    at, columns = problem.at, problem.design.columns
    covariance, cell = _covariances(problem, state)
    variance = np.empty(len(at.y), np.float32)
    for number, matrix in enumerate(covariance.astype(np.float32)):
        inside = np.flatnonzero(cell == number)
        part = columns[:, inside]
        variance[inside] = np.einsum("ip,ip->p", part, matrix @ part)
    np.maximum(variance, 0, out=variance)
    return KernelError(at.y, at.x, variance * np.float32(_misfit(problem, state, noise, variance)))


def _misfit(problem, state, noise, variance):
    """How many times larger the errors are than `variance`: median over bright sources, >= 1.

    In the sample the residuals are smaller by `variance` than the noise.
    """
    source, count = problem.at.source, len(problem.sources.x)
    inside = (source >= 0) & ~problem.excluded
    source, share = source[inside], (variance / noise)[inside]
    rest = (np.square(problem.a - state.model) / noise)[inside]
    pixels = np.maximum(np.bincount(source, minlength=count), 1)
    expected = np.bincount(source, share, count) / pixels
    found = np.bincount(source, rest + share - 1, count) / pixels
    telling = expected > TELLING
    if telling.sum() < FEWEST:
        return 1.0
    return max(1.0, float(np.median(found[telling] / expected[telling])))


def _covariances(problem, state):
    """Covariance (cells, nb, nb) of the basis images' coefficients, and the cell of each pixel."""
    at, layout, shape = problem.at, problem.layout, problem.design.shape
    across = -(-shape[1] // CELL)
    numbers, cell = np.unique(at.y // CELL * across + at.x // CELL, return_inverse=True)
    middle = (CELL - 1) / 2
    terms = polynomial.evaluate(
        layout.top, numbers % across * CELL + middle, numbers // across * CELL + middle, shape
    )
    n, full = layout.n_kernel, polynomial.n_terms(layout.top)
    result = np.empty((len(numbers), layout.n_basis, layout.n_basis))
    grid = np.zeros(((layout.n_basis + 1) * full, n))
    grid[layout.index[:n]] = state.spread
    grid = grid.reshape(-1, full, n)[: layout.n_basis]
    for one, term in zip(result, terms.T, strict=True):
        local = np.tensordot(term, grid, (0, 1))
        one[:] = local @ local.T
    return result, cell
