"""Core PSF that varies over the field: one joint solution for all terms and all stars."""

import dataclasses
import logging
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from psflib.errors import NotEnoughStars, SingularFit
from psflib.image import polynomial
from psflib.psf.core.normal import Solution, normal_matrix, settle, solve_constant
from psflib.psf.core.smoothness import Factor
from psflib.psf.core.state import State
from psflib.psf.core.system import JointSystem

log = logging.getLogger(__name__)

STARS_PER_TERM = 3
FEWEST_HELD_OUT = 5
VARIATION = 0.6  # of the light, expected over the field: sets the prior of the higher terms
JUDGE_STEPS = 10
LAST_REWEIGHED = 3  # of the steps of the model that is taken, which has its weights already
#: Relative change of a model of 100 stars that is only compared: below what they tell; less by
#: the root of their number: with 1e-3 for 1000 stars too, order 2 gained on an unsettled order 1.
LOOSE = 1e-3


@dataclasses.dataclass(eq=False)
class Sample:
    """Stars: data, weight (n, s, s), delta (n, 2) px, x, y (n,) px.

    `refine`, if given, makes better weights from the expected light of the stars (n, s, s).
    """

    data: np.ndarray
    weight: np.ndarray
    delta: np.ndarray
    x: np.ndarray
    y: np.ndarray
    refine: Callable[[np.ndarray], np.ndarray] | None = None

    def terms(self, order, shape):
        """Polynomial terms (n, k) at the stars."""
        return np.ascontiguousarray(polynomial.evaluate(order, self.x, self.y, shape).T)


@dataclasses.dataclass(eq=False)
class FieldSolution:
    """A solution and how its order was found; the polynomial's terms are mix·state.coef."""

    order: int
    mix: np.ndarray
    constant: Solution
    state: State
    system: JointSystem
    scores: dict[int, float]
    notes: list[str]
    iterations: int
    converged: bool


@threadpool_limits.wrap(limits=1, user_api="blas")
def solve_field(sample, held_out, shape, oversample, *, order=None, most=3, max_iter=50, tol=1e-4):
    """Solve the constant model, then one order after the other as far as held-out stars gain.

    Parameters
    ----------
    sample, held_out : Sample
        Stars that are fitted, and those that judge.
    shape : (ny, nx)
        Of the image.
    oversample : int
    order : int, optional
        Degree to take; by default chosen, at most `most`.
    max_iter, tol : int, float
        Of each solution.

    Returns
    -------
    FieldSolution
        `scores`: mean χ² per degree of freedom of the held-out stars, by order.
    """
    loose = max(tol, LOOSE * min(1.0, np.sqrt(100 / max(len(sample.data), 1))))
    constant = solve_constant(
        sample.data, sample.weight, sample.delta, oversample, max_iter=max_iter, tol=loose
    )
    if sample.refine is not None:
        usable = constant.state.given > 0
        constant.state.given = np.where(usable, sample.refine(constant.state.expected()), 0)
        constant.iterations, constant.converged = settle(
            constant.state, constant.system, max_iter, loose
        )
    best = FieldSolution(0, np.eye(1), constant, constant.state, constant.system, {}, [],
                         constant.iterations, constant.converged)  # fmt: skip
    best.notes, wanted = lowered(constant.state, held_out, order, most)
    if wanted:
        best = _raised_as_far(best, sample, held_out, shape, wanted, order, max_iter, loose)
    if tol < loose:
        steps, best.converged = settle(
            best.state, best.system, max_iter, tol, LAST_REWEIGHED, judged=True
        )
        best.iterations += steps
    return best


def _raised_as_far(best, sample, held_out, shape, wanted, order, max_iter, tol):
    """The best of orders up to `wanted`; that one if `order` is told."""
    before = judged(best.state, held_out, shape, 0, best.mix).chi2
    best.scores[0] = mean_known(before)
    last = best
    for degree in range(1, wanted + 1):
        try:
            last = raised(last, sample, shape, degree, max_iter, tol)
        except (SingularFit, NotEnoughStars) as problem:
            best.notes.append(f"order at most {degree - 1}: {problem}")
            break
        after = judged(last.state, held_out, shape, degree, last.mix).chi2
        last.scores[degree] = mean_known(after)
        log.debug("order %d: held-out chi2 %.4f", degree, last.scores[degree])
        if order is not None or better(before, after):
            best, before = last, after
        elif degree > 1:
            break  # only from a constant is it worth to look further: a PSF can vary symmetrically
    return best


def lowered(state, held_out, order, most):
    """Notes on, and the highest order that the stars allow."""
    n, wanted, notes = np.count_nonzero(state.ok), most if order is None else order, []
    while wanted and n < STARS_PER_TERM * polynomial.n_terms(wanted):
        wanted -= 1
    if order is not None and wanted < order:
        notes.append(f"order lowered from {order} to {wanted}: {n} stars")
    if order is None and wanted < most:
        notes.append(f"order at most {wanted}: {n} stars")
    if order is None and wanted and len(held_out.data) < FEWEST_HELD_OUT:
        notes.append(f"order 0: {len(held_out.data)} held-out stars cannot choose a higher one")
        wanted = 0
    return notes, wanted


def raised(found, sample, shape, order, max_iter, tol):
    """Solution of a higher order, from one of a lower order.

    The terms are mixed so that they are orthonormal over the stars, each as it informs: then a
    term hardly meets another, and one factor of the model does for all.  Stars that the lower
    order lost or dropped may come back.
    """
    terms, state, choice = sample.terms(order, shape), found.state, found.constant.choice
    mix = orthonormal(terms, information(state))
    lower = np.tensordot(found.mix, state.coef, axes=1)
    coef = np.zeros((terms.shape[1], *lower.shape[1:]))
    coef[: len(lower)] = lower
    state = dataclasses.replace(
        state, coef=np.tensordot(np.linalg.inv(mix), coef, axes=1),
        design=np.ascontiguousarray(terms @ mix), delta=state.delta.copy(), flux=state.flux.copy(),
        background=state.background.copy(), ok=state.ok.copy(), weight=state.weight.copy(),
    )  # fmt: skip
    planes = normal_matrix(state)
    priors = [choice.strength * choice.penalty]
    priors += (len(coef) - 1) * [priors[0] / VARIATION**2]
    factors = [Factor(planes + prior, rough=True) for prior in priors[:2]]
    system = JointSystem(factors, priors)
    steps, converged = settle(state, system, max_iter, tol)
    return FieldSolution(
        order, mix, found.constant, state, system, found.scores, found.notes, steps, converged
    )


def information(state):
    """(flux/error)² of each star, 0 for those left out."""
    with np.errstate(invalid="ignore", divide="ignore"):
        worth = state.flux**2 / state.covariance[:, 0, 0]
    return np.where(state.ok & np.isfinite(worth), worth, 0.0)


def orthonormal(terms, weight):
    """Upper triangular (k, k) that makes the columns of `terms` (n, k) orthonormal; 1 stays 1."""
    if not weight.sum() > 0:
        raise NotEnoughStars("core ePSF (none with a flux error)", 0, 1)
    gram = (terms * weight[:, None]).T @ terms / weight.sum()
    try:
        return np.linalg.inv(np.linalg.cholesky(gram)).T
    except np.linalg.LinAlgError:
        raise SingularFit(
            f"{np.count_nonzero(weight)} stars do not tell {terms.shape[1]} terms apart"
        ) from None


def mean_known(values):
    """Mean of the finite values; NaN if there are none."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")


def better(before, after):
    """Whether χ² of the held-out stars fell by more than the error of that change."""
    gain = before - after
    gain = gain[np.isfinite(gain)]
    if gain.size < FEWEST_HELD_OUT:
        return False
    return gain.mean() > gain.std(ddof=1) / np.sqrt(gain.size)


def judged(state, sample, shape, order, mix):
    """State of other stars under the model of `state`: fitted, their bad pixels given up."""
    n = len(sample.data)
    use = np.isfinite(sample.data) & np.isfinite(sample.weight) & (sample.weight > 0)
    given = np.where(use, sample.weight, 0)
    other = State(
        np.where(use, sample.data, 0), given, state.oversample, state.coef,
        np.ascontiguousarray(sample.terms(order, shape) @ mix), sample.delta.copy(),
        np.empty(n), np.empty(n),
        np.ones(n, bool), given.astype(np.float32), state.mesh, state.error, state.noise,
    )  # fmt: skip
    other.fit(JUDGE_STEPS)
    # The noise and the model's error are those of the fit: few stars cannot tell them.
    other.reweigh(state.noise, state.error)
    other.fit(JUDGE_STEPS)
    if sample.refine is not None:
        other.given = np.where(use, sample.refine(other.expected()), 0)
    other.reweigh(state.noise, state.error)
    return other
