"""Degrees of the kernel and of its sum, chosen by how well they predict cells held out.

Held out, the few stars that tell most of a border are missed, which speaks against higher degrees
whatever the truth; so the kernel's degree is raised, too, where the marginal likelihood asks for it
(e.g. MacKay 1992, Neural Computation 4, 415), which makes use of all stars.
"""

import dataclasses
from typing import Any

import numpy as np
from scipy import linalg

from psflib.image import polynomial
from psflib.matching import prior as priors
from psflib.matching import solve

FOLDS = 4
CELL = 128  # px; cells of this size are held out together
FEWEST = 3e-4  # gain in chi-square, relative, below which the simpler model is kept
WORTHWHILE = 0.02  # the same for a larger basis, which costs as much again and knows less of each
CLEARLY = 5.0  # gain in the logarithm of the marginal likelihood that raises a degree


@dataclasses.dataclass(frozen=True)
class Judged:
    """A fit to compare others with.

    problem, state : problem.Problem, problem.State;  weight : of the fit pixels, (n,) float64;
    prior : prior.Prior
    """

    problem: Any
    state: Any
    weight: np.ndarray
    prior: priors.Prior


def choose(fit: Judged, highest: solve.Layout) -> solve.Layout:
    """The best layout between the present one and `highest`, by held-out cells.

    The kernel's degree first, then that of its sum.  All candidates are parts of one set of
    normal equations, so that each costs a small solution a fold.
    """
    folds = _Folds(fit, highest)
    best = fit.problem.layout
    score = folds.score(best)
    for order in range(best.order + 1, highest.order + 1):
        higher = dataclasses.replace(best, order=order)
        if folds.evidence(higher) > folds.evidence(best) + CLEARLY:
            best, score = higher, folds.score(higher)
        else:
            best, score = _better(folds, best, score, higher)
    for flux_order in reversed(range(best.flux_order)):
        simpler = dataclasses.replace(best, flux_order=flux_order)
        before = best
        best, score = _better(folds, best, score, simpler)
        if best is before:
            break
    return best


def predicts_better(first: Judged, second: Judged) -> bool:
    """Whether the second of two bases, the larger one, predicts held-out cells so much better.

    Both states are the same model of the same pixels.
    """
    folds = [_Folds(fit, fit.problem.layout) for fit in (first, second)]
    before, after = (f.score(f.full) for f in folds)
    return before - after > WORTHWHILE * abs(folds[0].total)


def _better(folds, best, score, other):
    """The better of two layouts; the simpler one unless the other gains enough."""
    value = folds.score(other)
    larger = len(other.index) > len(best.index)
    gain = (score - value) / max(abs(folds.total), 1e-300)
    return (other, value) if gain > (FEWEST if larger else -FEWEST) else (best, score)


class _Folds:
    """Normal equations of each fold for corrections to the present solution."""

    def __init__(self, fit, highest):
        self.prior = fit.prior
        problem, state, weight = fit.problem, fit.state, fit.weight
        design = problem.design
        self.full = dataclasses.replace(
            highest, flux_order=max(highest.flux_order, design.layout.flux_order)
        )
        at = design.at
        residual = problem.a - state.model
        gram, right = design.blocks(residual, weight)
        terms = polynomial.evaluate(self.full.top, at.block_x, at.block_y, design.shape)
        fold = (at.block_x // CELL + 2 * (at.block_y // CELL)).astype(int) % FOLDS
        self.parts = [
            solve.assemble(self.full, gram[fold == f], right[fold == f], terms[:, fold == f])
            for f in range(FOLDS)
        ]
        self.total = float(np.sum(weight * np.square(residual)))
        self.start = solve.convert(state.solution, design.layout, self.full)
        self.sky = problem.sky.normal(self.full.bg_order, design.shape)[0]

    def evidence(self, layout):
        """Logarithm of the marginal likelihood, up to what layouts of one flux degree share."""
        select = solve.positions(layout, self.full)
        start = self.start
        matrix = sum(part[0] for part in self.parts)
        matrix[-len(self.sky) :, -len(self.sky) :] += self.sky
        vector = (sum(part[1] for part in self.parts) + matrix @ start)[select]
        matrix = matrix[np.ix_(select, select)]
        priors.add_to(layout, matrix, self.prior)
        scaled, scale = solve.unit_diagonal(matrix)
        factor, failed = linalg.lapack.dpotrf(scaled)
        if failed:
            return -np.inf
        half = linalg.solve_triangular(factor, vector * scale, trans="T")
        log_matrix = 2 * np.sum(np.log(np.diag(factor))) - 2 * np.sum(np.log(scale))
        return 0.5 * (half @ half - log_matrix + priors.log_determinant(layout, self.prior))

    def score(self, layout):
        """Chi-square of the held-out cells, up to a constant."""
        select = solve.positions(layout, self.full)
        n = layout.n_kernel
        start = self.start[select]
        whole = sum(part[0] for part in self.parts)
        vector = sum(part[1] for part in self.parts)
        result = 0.0
        for matrix, right in self.parts:
            train = (whole - matrix)[np.ix_(select, select)]
            train[n:, n:] += self.sky
            before = train @ start
            priors.add_to(layout, train, self.prior)
            # what the prior says of the whole solution, not of its correction
            towards = (vector - right)[select] + before - train @ start
            delta = _solution(train, towards)
            dropped = np.delete(np.arange(len(self.start)), select)
            change = np.zeros(len(self.start))
            change[select] = delta
            change[dropped] = -self.start[dropped]
            result += change @ matrix @ change - 2 * change @ right
        return result


def _solution(matrix, vector):
    scaled, scale = solve.unit_diagonal(matrix, solve.RIDGE)
    try:
        return scale * linalg.solve(scaled, vector * scale, assume_a="pos", check_finite=False)
    except linalg.LinAlgError:
        return np.zeros(len(vector))
