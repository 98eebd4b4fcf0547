"""Gauss-Newton steps of the model and all stars together, the stars' unknowns eliminated."""

import dataclasses

import numpy as np

from psflib.loops import joint
from psflib.psf.core import phases
from psflib.psf.core.conjugate import conjugate, constrained
from psflib.psf.core.smoothness import times

MOVED = 1e-2  # relative change of a model, above which its free directions are taken anew
CG_TOL = 0.1  # of the preconditioned residual; with less the steps converge no faster


def pull(state, terms, slopes, residual, out):
    joint.pull(
        terms, state.design, state.oversample, state.mesh.first, state.mesh.blocks, state.data,
        state.weight, state.light, state.sky, state.delta, slopes, residual, out,
    )  # fmt: skip


@dataclasses.dataclass(eq=False)
class JointSystem:
    """Model and stars together: Gauss-Newton steps by conjugate gradients.

    Parameters
    ----------
    factors : list of Factor
        Of the normal matrix of a term with its prior: of the first term and, if there are more,
        of each of the others, which are orthonormal over the stars.
    priors : list of ndarray (25, n, n)
        Prior of each term.
    """

    factors: list
    priors: list
    values: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0))
    vectors: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0))
    phases: np.ndarray | None = None
    known: tuple | None = None  # free directions and their answers, and the last change
    change: float = np.inf

    def step(self, state):
        """Move the model; returns the relative change.

        The slow directions of the longest solution stay in `values` and `vectors`: there the
        model gives way to the offsets of the stars, and its uncertainty is larger.
        """
        mesh, slopes = state.mesh, np.empty((len(state.data), 4, *state.data.shape[1:]), np.float32)
        coef = mesh.restrict(state.coef)
        joint.whiten_slopes(
            coef, state.design, state.oversample, mesh.first, mesh.blocks, state.weight,
            state.light, state.delta, slopes,
        )  # fmt: skip

        def matrix(terms):
            out = np.empty_like(terms)
            pull(state, terms, slopes, False, out)
            return out + self.smooth(terms)

        if self.known is None or self.change > MOVED:
            self.known = self.free(state)
        inverse = constrained(self.inverse, *self.known)
        right = np.empty_like(coef)
        pull(state, coef, slopes, True, right)
        right -= self.smooth(coef)
        change, values, vectors = conjugate(matrix, right, inverse, CG_TOL)
        if len(values) >= len(self.values):
            self.values, self.vectors = values, vectors
        change = mesh.extend(change)
        state.coef = mesh.extend(coef) + change
        self.change = float(np.linalg.norm(change) / np.linalg.norm(state.coef))
        return self.change

    def smooth(self, terms):
        return np.stack([times(p, term) for p, term in zip(self.priors, terms, strict=True)])

    def inverse(self, terms):
        """Preconditioner of all terms (k, n, n), each by itself."""
        first = self.factors[0].solve(terms[:1])
        if len(terms) == 1:
            return first
        return np.concatenate([first, self.factors[1].solve(terms[1:])])

    def free(self, state):
        """Directions (m, k, n, n) that the stars can undo, and the preconditioner's answers.

        A step has no part of them on the nodes, whatever the splines: hence the adjoint.
        """
        whole, answers = self.solved(state.mesh.adjoint(free_directions(state.coef)))
        if not state.phases_free:
            return whole, answers
        if self.phases is None:
            # They change as little as the model does, and cost a solution each.
            shapes = phases.free_phases(state.coef[0], state.oversample)
            shapes = state.mesh.adjoint(shapes)
            self.phases = np.zeros((2, len(shapes), *whole.shape[1:]))
            self.phases[0, :, 0], self.phases[1, :, 0] = shapes, self.factors[0].solve(shapes)
        # The scale of the first term is the sum of its phases.
        return tuple(
            np.concatenate([v[1:], p]) for v, p in zip((whole, answers), self.phases, strict=True)
        )

    def solved(self, directions):
        """Directions (m, k, n, n), and the preconditioner's answer to each, from shapes (m, n, n).

        A shape in one term is one direction.
        """
        k, m = len(self.priors), len(directions)
        whole = np.zeros((k, m, k, *directions.shape[1:]))
        answers = np.zeros_like(whole)
        by_factor = [factor.solve(directions) for factor in self.factors]
        for term in range(k):
            whole[term, :, term] = directions
            answers[term, :, term] = by_factor[min(term, 1)]
        return whole.reshape(k * m, k, *directions.shape[1:]), answers.reshape(
            k * m, k, *directions.shape[1:]
        )


def free_directions(coef):
    """Changes of a term (4, n, n) that stars can undo: scale, pedestal and both shifts.

    The data do not see them, so that the prior alone would follow them without end.
    """
    return np.stack([coef[0], np.ones_like(coef[0]), *np.gradient(coef[0])])
