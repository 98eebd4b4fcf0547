"""Core effective PSF by its exact, regularised normal equations.

Unknowns are the cubic B-spline coefficients of the oversampled ePSF and the flux, background and
offset of every star.  Rounds of (weights, model, stars) bring both near; then Gauss-Newton steps
solve for all of them at once, the stars' unknowns eliminated, until the model stands still.
"""

import dataclasses
import logging

import numpy as np
from scipy.ndimage import gaussian_filter
from threadpoolctl import threadpool_limits

from psflib.errors import NotEnoughStars, SingularFit
from psflib.loops.stencil import normal_planes
from psflib.psf.core.flux_error import relative_flux_error
from psflib.psf.core.smoothness import N_PLANES, Choice, Factor, expected_light, penalty_planes
from psflib.psf.core.start import start
from psflib.psf.core.state import State, nodes
from psflib.psf.core.system import JointSystem, pull

log = logging.getLogger(__name__)

SETTLED = 1e-2  # relative change below which outlying stars are judged
REWEIGHED = 10  # steps with new weights: few stars can trade pixels at the limit without end
MOST_RATE = 0.95  # of a change over the one before it, in the estimate of what is left
MANY, FEW = 800, 400  # with more stars than that, the brightest few do for the first rounds
ROUNDS = 3  # of alternation, before all unknowns are solved together
#: The likeliest strength is below the best by 0.3 to 0.7 of log10 on every simulated family: the
#: prior says nothing of the stars, whose errors look like structure.
FINAL = 10**0.5
FIRST_STRENGTH = 4e-3
MOST_BLIND = 0.5  # of the core's nodes without a pixel
DRAWS = 32
CHUNK = 256  # stars at a time where a copy is needed


@dataclasses.dataclass(eq=False)
class Solution:
    """Where a solution ended, with the equations of its constant model."""

    state: State
    system: JointSystem
    choice: Choice
    iterations: int
    converged: bool

    @threadpool_limits.wrap(limits=1, user_api="blas")
    def uncertainty(self, seed=1):
        """Standard error (n, n) of the constant model at its nodes, and of fluxes.

        The latter are the two numbers of `relative_flux_error`.

        From random draws of the posterior, with the slow directions in which the model follows
        the offsets of the stars.  Neighbouring nodes share their estimate: 32 draws alone would
        scatter by 12 %.
        """
        state, choice = self.state, self.choice
        factor = Factor(normal_matrix(state) + choice.strength * choice.penalty)
        draws = state.mesh.extend(factor.draws(DRAWS, np.random.default_rng(seed)))
        draws = np.array([nodes(draw) for draw in draws])
        variance = np.mean(draws**2, axis=0)
        slow = [
            (1 / value - 1, nodes(state.mesh.extend(vector[0])))
            for value, vector in zip(self.system.values, self.system.vectors, strict=True)
        ]
        for more, pattern in slow:
            variance += more * pattern**2
        error = np.sqrt(gaussian_filter(variance, 1.0, mode="nearest"))
        return error, relative_flux_error(state, draws, slow)


# One BLAS thread: with two the bits differ, and the caller's pool of processes would starve.
@threadpool_limits.wrap(limits=1, user_api="blas")
def solve_constant(data, weight, delta, oversample, *, psi=None, max_iter=50, tol=1e-4):
    """Constant ePSF of all stars.

    Parameters
    ----------
    data, weight : ndarray (n, s, s)
        Pixels and inverse variances; NaN or weight 0 where unusable.
    delta : ndarray (n, 2)
        First offsets, px.
    oversample : int
    psi : ndarray (os·s, os·s), optional
        First model.
    max_iter, tol : int, float
        Cap on the joint steps, and the relative change of the model that ends them.

    Returns
    -------
    Solution

    Raises
    ------
    NotEnoughStars
        If no star has light.
    SingularFit
        If the pixels do not determine a model.
    """
    inputs = data, weight, delta, oversample, psi
    found = _solved(inputs, max_iter, tol)
    if not found.converged and found.state.phases_free:
        # stars of some skies do not hold the phases (one of four of 120 stars ended 24 % off)
        again = _solved(inputs, max_iter, tol, may_fix=False)
        found = again if again.converged else found
    return found


def _solved(inputs, max_iter, tol, may_fix=True):
    """`solve_constant`, with or without fixing what undersampled stars cannot tell."""
    data, weight, delta, oversample, _ = inputs
    state = start(*inputs)
    state.may_fix = may_fix
    require_stars(state)
    if np.count_nonzero(state.ok) > MANY:
        some = np.argsort(-state.light)[:FEW]
        small = start(data[some], weight[some], delta[some], oversample, state.psi, state.mesh)
        small.may_fix = may_fix
        choice = alternate(small)
        state.coef, state.noise, state.error = small.coef, small.noise, small.error
    else:
        choice = alternate(state)
    state.fit(2)
    state.fix_gauges()
    state.centre()
    state.coef = state.mesh.extend(state.mesh.restrict(state.coef))
    state.fit(1)
    state.reweigh()
    # The model's error was large in the weights so far: they would make a poor inverse from here.
    choice = equations(state, choice.strength * FINAL).take_start()
    system = JointSystem([choice.factor], [choice.strength * choice.penalty])
    steps, converged = settle(state, system, max_iter, tol)
    return Solution(state, system, choice, steps, converged)


def alternate(state):
    """Rounds of weights, model and stars; returns the last choice of the prior."""
    choice = None
    for round_ in range(ROUNDS):
        if round_:
            state.reweigh()
        choice = solve_model(state, choice.strength if choice else None)
        state.fit(2 if round_ else 0)
        require_stars(state)
        state.fix_gauges()
    return choice


def settle(state, system, max_iter, tol, reweighed=REWEIGHED, judged=False):
    """Joint steps until the model stands still, without the stars it does not fit.

    The first `reweighed` steps weigh the pixels anew.  With `judged`, all stars stay.

    Returns
    -------
    steps : int
    converged : bool
        What is left of the way, if steps go on to shrink as the last two did, is below `tol`.
    """
    last, left = np.inf, np.inf
    for step in range(1, max_iter + 1):
        dropped = 0
        if step <= reweighed:
            state.reweigh()
        if not judged and last < SETTLED:
            judged, dropped = True, state.drop_outliers()
        require_stars(state)
        state.fit(1)
        require_stars(state)
        change = system.step(state)
        state.fix_gauges()
        rate = min(change / last, MOST_RATE)
        left, last = change * max(1.0, rate / (1 - rate)), change
        log.debug("joint step %d: change %.1e, %.1e left, %d dropped", step, change, left, dropped)
        if left < tol and judged and not dropped:
            state.fit(2)
            return step, True
    state.fit(2)
    return max_iter, False


def require_stars(state):
    if not state.ok.any():
        raise NotEnoughStars("core ePSF", 0, 1)


def require_core(psi, seen):
    """Refuse a model whose core no pixel sees: the prior would make one up."""
    core = psi > 0.5 * psi.max()
    blind = np.count_nonzero(core & (seen <= 0))
    if blind > MOST_BLIND * np.count_nonzero(core):
        raise SingularFit(
            f"no star has usable pixels at {blind} of the {np.count_nonzero(core)} nodes of the "
            "ePSF's core: they are saturated, masked, or covered by the light of others (a crowd "
            "beyond resolution?); a catalogue, or a smaller build_stamps.neighbor_radius, may help"
        )


def equations(state, strength=None):
    """Normal equations of the model at fixed stars, ready for a choice of the prior's strength."""
    planes = normal_matrix(state)
    require_core(state.psi, state.mesh.extend(planes[0]))
    right = np.empty((1, *planes.shape[1:]))
    none = np.empty((len(state.data), 0, *state.data.shape[1:]), np.float32)
    pull(state, np.zeros_like(right), none, True, right)
    penalty = penalty_planes(expected_light(state.psi), state.mesh)
    power = 0.0
    for part in np.array_split(np.arange(len(state.data)), len(state.data) // CHUNK + 1):
        above = state.data[part] - state.sky[part, None, None]
        power += np.einsum("nij,nij,nij->", state.weight[part], above, above)
    if strength is None:
        strength = first_strength(state.psi)
    return Choice(planes, penalty, right[0], power, strength)


def normal_matrix(state):
    """Planes (25, m, m) of the normal matrix of the constant term at fixed stars, no prior."""
    mesh = state.mesh
    planes = np.zeros((N_PLANES, *2 * (mesh.spread.shape[1],)))
    normal_planes(
        state.weight, state.light, state.delta, state.oversample, mesh.first, mesh.blocks, planes
    )
    return planes


def first_strength(psi):
    """Where the search begins: a third difference in the core is about peak/width³."""
    peak = psi.max()
    width = 2 * np.sqrt(np.count_nonzero(psi > 0.5 * peak) / np.pi)
    return FIRST_STRENGTH * width**6 / peak**2


def solve_model(state, strength):
    """Model at fixed stars; the strength of the prior is chosen too, except the first time."""
    choice = equations(state, strength)
    if strength is None:
        choice.take_start()
    else:
        choice.likeliest()
    state.coef = state.mesh.extend(choice.coef[None])
    return choice
