"""Smoothness prior of an oversampled model, and the solution of its normal equations.

The prior takes every third difference of the coefficients, squared and divided by the light that
is expected there: a bright core may bend more than a faint wing, and a parabola costs nothing.
Its strength comes from the data, by marginal likelihood.
"""

import numpy as np
from scipy.linalg import lapack
from scipy.ndimage import gaussian_filter

from psflib.errors import SingularFit
from psflib.loops.stencil import add_gram, apply_planes, lag

N_PLANES = 25
#: Third differences along an axis, and mixed ones, which come three times in the square of a third
#: derivative taken along a random direction: along rows, along columns, and how often.
POINT, FIRST, SECOND, THIRD = (np.array(v) for v in ([1.0], [-1.0, 1.0], [1.0, -2.0, 1.0],
                                                     [-1.0, 3.0, -3.0, 1.0]))  # fmt: skip
DIFFERENCES = (
    (POINT, THIRD, 1.0), (THIRD, POINT, 1.0), (SECOND, FIRST, 3.0), (FIRST, SECOND, 3.0),
)  # fmt: skip
STEEPNESS = 1.5  # exponent of 1/light in the prior
FREE = 6  # parabolas, which the prior does not see
SMOOTHED = 1.5  # cells: of the light that weighs the prior
FAINTEST = 1e-5  # of the peak
FARTHEST = 40  # quarter decades from the first strength


def expected_light(psi):
    """Light (n, n) > 0 that weighs the prior: a smoothed model, not below half its radial mean."""
    smooth = gaussian_filter(psi, SMOOTHED, mode="nearest")
    axis = np.arange(len(psi)) - (len(psi) - 1) / 2
    radius = np.hypot(axis[:, None], axis).astype(int)
    profile = np.bincount(radius.ravel(), psi.ravel()) / np.bincount(radius.ravel())
    profile = np.minimum.accumulate(profile)  # falls outwards, whatever the noise does
    return np.maximum(np.maximum(smooth, 0.5 * profile[radius]), FAINTEST * psi.max())


def penalty_planes(light, mesh):
    """Stencil planes (25, m, m) of the prior at strength 1, which is that at the peak.

    Parameters
    ----------
    light : ndarray (n, n)
    mesh : Mesh
        Of n nodes and m splines along an axis.
    """
    planes = np.zeros((N_PLANES, *2 * (mesh.spread.shape[1],)))
    strength = (light.max() / light) ** STEEPNESS
    for rows, cols, factor in DIFFERENCES:
        high, wide = len(light) - len(rows) + 1, len(light) - len(cols) + 1
        at = np.mean(
            [
                strength[r : r + high, c : c + wide]
                for r in _middle(len(rows))
                for c in _middle(len(cols))
            ],
            axis=0,
        )
        add_gram(factor * at, *mesh.places(rows), *mesh.places(cols), planes)
    return planes


def _middle(length):
    """The middle cell, or both: a mirrored model has the mirrored prior."""
    return sorted({(length - 1) // 2, length // 2})


def times(planes, image):
    """Matrix in planes times an image (n, n)."""
    out = np.empty_like(image)
    apply_planes(planes, image, out)
    return out


class Factor:
    """Banded Cholesky factor of a symmetric matrix given as stencil planes (25, n, n).

    Half the bandwidth is 3n + 3; the cost n²·(3n + 3)² multiply-adds.  With `rough` in float32,
    which is enough for a preconditioner and half the memory to go through.

    Raises
    ------
    SingularFit
        If the matrix is not positive definite.
    """

    def __init__(self, planes, rough=False):
        self.shape = planes.shape[1:]
        self.band, failed = self._factorise(planes, rough)
        if failed and rough:  # too wide a range of weights for seven digits
            self.band, failed = self._factorise(planes, False)
        if failed:
            raise SingularFit("the normal equations of the ePSF are singular: too few good pixels")

    def _factorise(self, planes, rough):
        n = planes.shape[1]
        band = np.zeros((n * n, 3 * n + 4), np.float32 if rough else np.float64)
        for da in range(4):
            for db in range(-3 if da else 0, 4):
                band[:, da * n + db] = planes[lag(da, db)].ravel()
        factorise = lapack.spbtrf if rough else lapack.dpbtrf
        self._solve = lapack.spbtrs if rough else lapack.dpbtrs
        return factorise(band.T, lower=1, overwrite_ab=1)

    def solve(self, right):
        """Solutions (k, n, n) for right sides (k, n, n)."""
        flat = right.reshape(len(right), -1).astype(self.band.dtype).T
        solution, _ = self._solve(self.band, flat, lower=1, overwrite_b=1)
        return np.array(solution.T, float, order="C").reshape(right.shape)

    def draws(self, n, rng):
        """n random models (n, side, side) whose covariance is the inverse of the matrix."""
        noise = np.asfortranarray(rng.standard_normal((self.band.shape[1], n)))
        solution, _ = lapack.dtbtrs(self.band, noise, uplo="L", trans="T", overwrite_b=1)
        return np.ascontiguousarray(solution.T).reshape(n, *self.shape)

    @property
    def logdet(self):
        return 2 * np.log(self.band[0]).sum()


class Choice:
    """Trials of the prior's strength for G = AᵀWA, prior P, right side AᵀWy and yᵀWy.

    After a search `strength`, `coef` (n, n) and `factor` belong to the best trial.
    """

    def __init__(self, planes, penalty, right, power, start):
        self.planes, self.penalty, self.right = planes, penalty, right
        self.power, self.start = power, start
        self.strength, self.coef, self.factor, self._least = start, None, None, np.inf

    def take_start(self):
        """The first strength, untried."""
        self._try(lambda *_: 0.0, self.start)
        return self

    def likeliest(self):
        """Least -2 log marginal likelihood, yᵀWy - c·R + log|G + λP| - rank·log λ (MacKay 1992).

        In steps of 0.5, then 0.25, of log10 λ.  It leans to a weak prior, which is the safe side
        while offsets are wrong: a blurred core looks like outliers and would be cut away.
        """
        return self._search(self._evidence)

    def _search(self, score):
        scores, at = {}, 0

        def value(step):
            if step not in scores and abs(step) <= FARTHEST:
                scores[step] = self._try(score, self.start * 10.0 ** (step / 4))
            return scores.get(step, np.inf)

        for size in (2, 1):
            ahead = size if value(at + size) < value(at) else -size
            while value(at + ahead) < value(at):
                at += ahead
        return self

    def _try(self, score, strength):
        factor = Factor(self.planes + strength * self.penalty)
        coef = factor.solve(self.right[None])[0]
        value = score(strength, factor, coef)
        if value < self._least:
            self._least, self.strength, self.coef, self.factor = value, strength, coef, factor
        return value

    def _evidence(self, strength, factor, coef):
        misfit = self.power - np.sum(coef * self.right)
        return misfit + factor.logdet - (coef.size - FREE) * np.log(strength)
