"""Gauss-Newton steps of the model and all stars together, the stars' unknowns eliminated."""

import dataclasses

import numpy as np

from psflib.loops import joint
from psflib.psf.conjugate import conjugate, constrained
from psflib.psf.smoothness import times

CG_TOL = 0.1  # of the preconditioned residual; with less the steps converge no faster


def pull(state, terms, slopes, residual, out):
    joint.pull(
        terms, state.design, state.oversample, state.data, state.weight, state.light, state.sky,
        state.delta, slopes, residual, out,
    )  # fmt: skip


@dataclasses.dataclass(eq=False)
class JointSystem:
    """Model and stars together: Gauss-Newton steps by conjugate gradients.

    Parameters
    ----------
    factors : list of Factor
        One for each term of the model, of about its own normal matrix with the prior.
    priors : list of ndarray (25, n, n)
        Prior of each term.
    """

    factors: list
    priors: list
    values: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0))
    vectors: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0))

    def step(self, state):
        """Move the model; returns the relative change.

        The slow directions of the longest solution stay in `values` and `vectors`: there the
        model gives way to the offsets of the stars, and its uncertainty is larger.
        """
        slopes = np.empty((len(state.data), 4, *state.data.shape[1:]), np.float32)
        joint.whiten_slopes(
            state.coef, state.design, state.oversample, state.weight, state.light, state.delta,
            slopes,
        )  # fmt: skip

        def matrix(terms):
            out = np.empty(terms.shape, np.float32)
            pull(state, terms.astype(np.float32), slopes, False, out)
            return out + self.smooth(terms)

        inverse = constrained(self.inverse, free_directions(state.coef))
        right = self._gradient(state, slopes)
        change, values, vectors = conjugate(matrix, right, inverse, CG_TOL)
        if len(values) >= len(self.values):
            self.values, self.vectors = values, vectors
        state.coef = state.coef + change
        return np.linalg.norm(change) / np.linalg.norm(state.coef)

    def _gradient(self, state, slopes):
        out = np.empty_like(state.coef)
        pull(state, state.coef, slopes, True, out)
        return out - self.smooth(state.coef)

    def smooth(self, terms):
        return np.stack([times(p, term) for p, term in zip(self.priors, terms, strict=True)])

    def inverse(self, terms):
        pairs = zip(self.factors, terms, strict=True)
        return np.stack([factor.solve(term[None])[0] for factor, term in pairs])


def free_directions(coef):
    """Changes of the model (4k, k, n, n) that stars can undo: scale, pedestal and both shifts.

    The data do not see them, so that the prior alone would follow them without end.
    """
    k, side, _ = coef.shape
    shapes = [coef[0], np.ones_like(coef[0]), *np.gradient(coef[0])]
    directions = np.zeros((k, len(shapes), k, side, side))
    for term in range(k):
        directions[term, :, term] = shapes
    return directions.reshape(-1, k, side, side)
