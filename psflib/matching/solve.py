"""Assembly and solution of the normal equations of the spatially varying kernel."""

import dataclasses

import numpy as np
from scipy import linalg

from psflib.errors import SingularFit
from psflib.image import polynomial

RIDGE = 1e-10  # on the diagonal of matrices that were scaled to 1 there
EIGEN_FLOOR = 0.1  # modes this close to the noise of the regressors stay shrunk ...
SHARPENING = 0.5  # ... and those of kernels that sharpen, whose weak modes amplify noise tenfold


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which polynomial terms each basis image and the background have."""

    n_basis: int
    order: int
    flux_order: int
    bg_order: int

    @property
    def top(self) -> int:
        return max(self.order, self.flux_order, self.bg_order)

    @property
    def index(self) -> np.ndarray:
        """Positions of the unknowns in the full (n_basis + 1) x n_terms(top) grid."""
        return self.index_in(self.top)

    def index_in(self, top: int) -> np.ndarray:
        """The same in a grid of polynomials up to degree `top`."""
        full = polynomial.n_terms(top)
        orders = [self.flux_order] + [self.order] * (self.n_basis - 1) + [self.bg_order]
        return np.concatenate(
            [i * full + np.arange(polynomial.n_terms(o)) for i, o in enumerate(orders)]
        )

    @property
    def n_kernel(self) -> int:
        """Number of unknowns that belong to the kernel."""
        return polynomial.n_terms(self.flux_order) + (self.n_basis - 1) * polynomial.n_terms(
            self.order
        )

    def split(self, solution) -> tuple[np.ndarray, np.ndarray]:
        """Solution as (coef (n_basis, terms of the kernel), background coefficients)."""
        flat = np.zeros((self.n_basis + 1) * polynomial.n_terms(self.top))
        flat[self.index] = solution
        full = flat.reshape(self.n_basis + 1, -1)
        terms = polynomial.n_terms(max(self.order, self.flux_order))
        return full[:-1, :terms], full[-1, : polynomial.n_terms(self.bg_order)]

    def join(self, coef, background) -> np.ndarray:
        """Solution of these coefficients, the inverse of `split`."""
        full = np.zeros((self.n_basis + 1, polynomial.n_terms(self.top)))
        full[:-1, : coef.shape[1]] = coef
        full[-1, : len(background)] = background
        return full.ravel()[self.index]


def positions(part: Layout, whole: Layout) -> np.ndarray:
    """Where the unknowns of `part` stand among those of `whole`, which has them all."""
    top = max(part.top, whole.top)
    return np.searchsorted(whole.index_in(top), part.index_in(top))


def convert(solution, old: Layout, new: Layout) -> np.ndarray:
    """Unknowns of `old` as unknowns of `new`: what it does not have is lost, the rest 0."""
    top = max(old.top, new.top)
    flat = np.zeros((old.n_basis + 1) * polynomial.n_terms(top))
    flat[old.index_in(top)] = solution
    return flat[new.index_in(top)]


def assemble(layout: Layout, gram, right, terms):
    """Normal equations of all unknowns from those of the blocks.

    Parameters
    ----------
    gram : ndarray (blocks, m (m + 1) / 2), right : ndarray (blocks, m)
        With m = n_basis + 1 (background last); upper halves, row by row.
    terms : ndarray (n_terms(top), blocks)
        Polynomials at the block centres, used on both sides of the equation.
    """
    n, m = terms.shape[0], right.shape[1]
    p, q = np.triu_indices(n)  # both the products and the blocks' matrices are symmetric
    half = (terms[p] * terms[q]) @ gram
    which, term = np.divmod(layout.index, n)
    # one gather of what the layout has; filling the whole matrix takes five times as long
    place = _symmetric(n)[np.ix_(term, term)] * half.shape[1] + _symmetric(m)[np.ix_(which, which)]
    return half.ravel()[place], (terms @ right).T.ravel()[layout.index]


def _symmetric(n):
    """Place of entry (i, j) in the upper half of a symmetric matrix, (n, n)."""
    place = np.empty((n, n), np.intp)
    i, j = np.triu_indices(n)
    place[i, j] = place[j, i] = np.arange(len(i))
    return place


def solve(layout: Layout, matrix, vector, noise, floor: float = EIGEN_FLOOR):
    """Solution corrected for the noise of the regressors.

    The convolved image is noisy, so the expected normal matrix is M + N with N the noise of the
    regressors; ignoring N shrinks every mode with M < N, and subtracting it is not safe (M is not
    positive definite any more).  In the eigenbasis of (M + N) v = w N v the corrected solution
    divides by w - 1 instead of w, not below `floor`.

    Parameters
    ----------
    noise : ndarray (n_kernel, n_kernel) or None

    Raises
    ------
    SingularFit
    """
    n = layout.n_kernel
    background = matrix[n:, n:]
    try:
        gain = linalg.solve(background, matrix[n:, :n], assume_a="pos")
        shift = linalg.solve(background, vector[n:], assume_a="pos")
    except linalg.LinAlgError as failure:
        raise SingularFit(
            "the differential background has no solution: too few sky pixels"
        ) from failure
    schur = matrix[:n, :n] - matrix[:n, n:] @ gain
    right = vector[:n] - matrix[:n, n:] @ shift
    kernel = _solve_kernel(schur, right, noise, floor)
    return np.concatenate([kernel, shift - gain @ kernel])


def _solve_kernel(schur, right, noise, floor):
    schur, scale = unit_diagonal(schur)
    right = right * scale
    ridge = RIDGE * np.eye(len(schur))
    if noise is not None:
        ridge = noise * np.outer(scale, scale) + ridge
    # no mode is below the floor: the division by w - 1 is that by (M + N) - N
    if _definite(ridge) and _definite(schur - (1 + floor) * ridge):
        return linalg.solve(schur - ridge, right, assume_a="pos", check_finite=False) * scale
    try:
        values, vectors = linalg.eigh(schur, ridge)
    except linalg.LinAlgError as failure:
        raise SingularFit("the matching kernel has no solution: too few stars") from failure
    amplitude = (vectors.T @ right) / np.maximum(values - 1, floor)
    return vectors @ amplitude * scale


def unit_diagonal(matrix, ridge: float = 0.0):
    """The matrix with rows and columns scaled to ones on its diagonal, plus `ridge`; the scale."""
    scale = 1 / np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    scaled = matrix * np.outer(scale, scale)
    scaled[np.diag_indices_from(scaled)] += ridge
    return scaled, scale


def _definite(matrix):
    """Whether all eigenvalues are positive."""
    return linalg.lapack.dpotrf(matrix)[1] == 0
