"""From normal equations to a kernel: penalties, the constraint of the flux scale, the solution."""

import dataclasses

import numpy as np
from scipy import linalg
from scipy.linalg import lapack

from psflib.errors import SingularFit
from psflib.image import polynomial

GCV_STEPS = 10.0 ** np.arange(-6, 0, 1.0)  # strengths that are tried ...
GCV_FINE = 10.0 ** np.array([-0.7, -0.35, 0.0, 0.35, 0.7])  # ... and factors about the best
UNSURE = 0.05  # relative error of flux ratios in apertures: PSFs of different shape
STEEPNESS = 4.0  # how much more each degree of the variation over the field costs


@dataclasses.dataclass(frozen=True)
class Penalties:
    """What is added to chi-square, in units of the mean diagonal of the kernel's normal matrix.

    ridge : on each coefficient;  flux : on what the kernel sum has beyond `flux_order`;
    constraint : "soft" (that penalty) or "hard" (it has nothing beyond);
    smooth : on the Laplacian of the kernel, or "gcv";  relief : times the strength that "gcv"
    finds;  absolute : the numbers are meant as they are;  expected : coefficients (n_terms,) of the
    kernel's sum that fluxes in apertures tell, to `UNSURE` of the first: few stars with large
    kernels cannot tell its wings, and with them its sum, from noise
    """

    ridge: float = 1e-6
    flux: float = 1e3
    constraint: str = "soft"
    smooth: float | str = 0.0
    relief: float = 1.0
    absolute: bool = False
    expected: np.ndarray | None = None


class Solver:
    """Solves the normal equations of one model and set of penalties."""

    def __init__(self, model, penalties):
        self.model, self.penalties = model, penalties
        self.strength = 0.0 if penalties.smooth == "gcv" else float(penalties.smooth)
        self.ridge = penalties.ridge
        self.factor, self.penalties_of = (np.ones((1, 1)), True), np.zeros((1, 1))

    def choose(self, matrix, right, base, chi2, count) -> None:
        """Strength of the smoothness, by generalised cross-validation, if it is left open.

        Golub, Heath & Wahba 1979: the least chi2 / (n - tr A)², A what makes the model of the data.

        Parameters
        ----------
        right : ndarray (n,)
            Gradient of chi-square at `base`; `chi2` is its value there, of `count` pixels.
        """
        if self.penalties.smooth != "gcv":
            return
        data = matrix, right, base, chi2, count
        self._best(GCV_STEPS, data)
        self._best(self.strength * GCV_FINE, data)
        self.strength *= self.penalties.relief

    def _best(self, values, data):
        """Set the strength to the best of some values."""
        scores = []
        for value in values:
            self.strength = float(value)
            scores.append(self._score(*data))
        self.strength = float(values[int(np.argmin(scores))])

    def _score(self, matrix, right, base, chi2, count):
        penalty = self.penalty(matrix)
        factor = _factor(self._reduced(matrix + penalty))
        if factor is None:
            return np.inf
        change = self._expanded(
            linalg.cho_solve(factor, self._rows(right + self.towards(penalty, base)))
        )
        rest = chi2 - 2 * right @ change + change @ matrix @ change
        inverse, _ = lapack.dpotri(factor[0], lower=1)
        reduced = self._reduced(matrix)
        trace = 2 * np.sum(np.tril(inverse) * reduced) - np.diag(inverse) @ np.diag(reduced)
        return max(rest, 1e-30 * chi2) / (count - trace) ** 2

    def step(self, matrix, right, base) -> np.ndarray:
        """Solution from the gradient `right` of chi-square at `base`, penalties included.

        Raises
        ------
        SingularFit
            Even with a ridge a million times as strong.
        """
        for _ in range(3):
            penalty = self.penalty(matrix)
            factor = _factor(self._reduced(matrix + penalty))
            if factor is not None:
                self.penalties_of, self.factor = penalty, factor
                return base + self.solve(right + self.towards(penalty, base))
            self.ridge = max(self.ridge, 1e-12) * 1e3
        raise SingularFit(
            f"the {self.model.n_unknowns} unknowns of the kernel have no solution: "
            "template or usable pixels carry too little"
        )

    def solve(self, vector) -> np.ndarray:
        """The last `step`'s matrix, penalties included, inverted on a vector (n,)."""
        return self._expanded(linalg.cho_solve(self.factor, self._rows(vector)))

    def covariance(self, matrix) -> np.ndarray:
        """Covariance (n, n) of the unknowns if the weights were inverse variances."""
        factor = _factor(self._reduced(matrix + self.penalty(matrix)))
        if factor is None:
            raise SingularFit("the normal matrix is singular: no covariance")
        inner = linalg.cho_solve(factor, linalg.cho_solve(factor, self._reduced(matrix)).T)
        return self._expanded(self._expanded(inner).T)

    def penalty(self, matrix) -> np.ndarray:
        """Matrix of the penalties (n, n)."""
        model, out, strength = self.model, np.zeros_like(matrix), self.strength
        n, m, p = model.n_shapes, model.n_terms, model.n_kernel
        unit = 1.0 if self.penalties.absolute else np.trace(matrix[:p, :p]) / p
        diagonal = np.arange(p)
        out[diagonal, diagonal] = self.ridge * unit
        kernel = out[:p, :p].reshape(n, m, n, m)
        if self.penalties.constraint == "soft" and self.penalties.flux > 0:
            terms = model.flux_terms
            beyond = np.eye(m) - terms @ terms.T
            sums = self.penalties.flux * unit * np.outer(model.sums, model.sums)
            kernel += sums[:, None, :, None] * beyond[None, :, None, :]
        if self.penalties.expected is not None:
            sums = np.outer(model.sums, model.sums) / (UNSURE * self.penalties.expected[0]) ** 2
            kernel += sums[:, None, :, None] * np.eye(m)[None, :, None, :]
        if strength > 0:
            roughness = laplacian_squared(model.kernel_shape)
            if model.shapes is not None:
                roughness = model.shapes @ roughness @ model.shapes.T
            roughness *= strength * unit
            for q, weight in enumerate(_variation(model)):
                kernel[:, q, :, q] += weight * roughness
        return out

    def towards(self, penalty, at) -> np.ndarray:
        """Minus half the gradient (n,) of what the penalties cost at some unknowns."""
        out = -penalty @ at
        if self.penalties.expected is not None:
            wanted = self.penalties.expected[: self.model.n_terms]
            pull = np.outer(self.model.sums, wanted / (UNSURE * wanted[0]) ** 2)
            out[: self.model.n_kernel] += pull.ravel()
        return out

    def _reduced(self, matrix):
        """Matrix in the unknowns that the hard constraint leaves."""
        return self._rows(self._rows(matrix).T) if self._hard else matrix

    @property
    def _hard(self):
        return self.penalties.constraint == "hard"

    def _rows(self, values):
        """Transposed change of basis, along the first axis.

        Hu et al. 2022, sect. 2.3: the other pixels become differences to the central one, so that
        its own coefficients are those of the kernel sum.
        """
        if not self._hard:
            return values
        model = self.model
        kernel = values[: model.n_kernel].reshape(model.n_shapes, model.n_terms, *values.shape[1:])
        middle, each = model.middle, np.delete(model.sums, model.middle)
        others = np.delete(kernel, middle, 0) - np.multiply.outer(each, kernel[middle])
        sums = np.tensordot(model.flux_terms.T, kernel[middle], 1)
        flat = others.reshape(-1, *values.shape[1:])
        return np.concatenate([sums, flat, values[model.n_kernel :]])

    def _expanded(self, values):
        """The change of basis, along the first axis: all unknowns."""
        if not self._hard:
            return values
        model, rest = self.model, values.shape[1:]
        count = model.flux_terms.shape[1]
        others = values[count : count + model.n_kernel - model.n_terms]
        others = others.reshape(model.n_shapes - 1, model.n_terms, *rest)
        middle, each = model.middle, np.delete(model.sums, model.middle)
        centre = np.tensordot(model.flux_terms, values[:count], 1) - np.tensordot(each, others, 1)
        kernel = np.concatenate([others[:middle], centre[None], others[middle:]])
        background = values[len(values) - model.n_background :]
        return np.concatenate([kernel.reshape(model.n_kernel, *rest), background])


def laplacian_squared(kernel_shape) -> np.ndarray:
    """Squared Laplacian of a kernel that is 0 beyond its box; mean diagonal 1."""
    rows = np.zeros((kernel_shape[0] + 2, kernel_shape[1] + 2, *kernel_shape))
    for y, x in np.ndindex(kernel_shape):
        rows[y + 1, x + 1, y, x] = -4
        for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
            rows[y + dy, x + dx, y, x] = 1
    flat = rows.reshape(-1, int(np.prod(kernel_shape)))
    matrix = flat.T @ flat
    return matrix * len(matrix) / np.trace(matrix)


def _variation(model):
    """How much more smooth each function of the field has to be: by `STEEPNESS` a degree."""
    if model.spline is not None:
        return np.ones(model.n_terms)
    return np.array([STEEPNESS ** (i + j) for i, j in polynomial.degrees(model.order)])


def _factor(matrix):
    """Cholesky factor after a change of units that makes the diagonal 1; None if there is none."""
    scale = np.sqrt(np.diag(matrix))
    if not np.all(np.isfinite(scale)) or np.any(scale <= 0):
        return None
    scaled = np.divide(matrix, scale, order="F")
    scaled /= scale[:, None]
    lower, failed = lapack.dpotrf(scaled, lower=1, overwrite_a=1)  # clean: 0 above the diagonal
    if failed:
        return None
    lower *= scale[:, None]
    return lower, True
