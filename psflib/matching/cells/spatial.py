"""The kernel over the field from the normal equations of its candidates.

Alard 2000, A&AS 144, 363: the coefficient of each basis image is a polynomial of position, taken at
the centre of a candidate for all its pixels.
"""

import dataclasses
import logging

import numpy as np

from psflib.image import polynomial
from psflib.matching.cells.delta_basis import zero_sum
from psflib.matching.cells.single import condition_number, solve_symmetric
from psflib.matching.kernel import MatchingKernel
from psflib.matching.solve import unit_diagonal

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class SpatialModel:
    """Degrees of the kernel's shape, of its sum, and of the background (None: none is fitted)."""

    order: int
    flux_order: int
    bg_order: int | None

    def degrees(self, n_basis: int) -> list[int]:
        """Degree of each unknown function: basis images, then the background."""
        background = [] if self.bg_order is None else [self.bg_order]
        return [self.flux_order] + [self.order] * (n_basis - 1) + background

    def n_unknowns(self, n_basis: int) -> int:
        return sum(polynomial.n_terms(d) for d in self.degrees(n_basis))


def model_for(candidates, shape, order, flux_order, bg_order) -> tuple[SpatialModel, list[str]]:
    """The model that the candidates hold up, and sentences on what was lowered.

    Two candidates a term are asked for; candidates within a corner cannot tell what happens in the
    others, so that the degree is also limited by the part of the field that they span.
    """
    count, span = len(candidates), _span(candidates, shape)
    by_count = max([o for o in range(7) if count >= 2 * polynomial.n_terms(o)], default=0)
    by_span = 0 if span < 0.25 else 1 if span < 0.5 else 6
    limit = min(by_count, by_span)
    lowered = SpatialModel(
        min(order, limit),
        min(flux_order, limit),
        None if bg_order is None else min(bg_order, limit),
    )
    notes = []
    for name, wanted, used in (
        ("kernel", order, lowered.order), ("background", bg_order, lowered.bg_order)
    ):  # fmt: skip
        if wanted is not None and used < wanted:
            notes.append(
                f"spatial order of the {name} lowered from {wanted} to {used}: {count} candidates "
                f"that span {span:.0%} of the field's side"
            )
            log.warning("%s", notes[-1])
    return lowered, notes


def _span(candidates, shape):
    """Part of the shorter of the two axes that the candidates span."""
    if not candidates:
        return 0.0
    x, y = np.array([(c.x, c.y) for c in candidates]).T
    return float(min(np.ptp(x) / shape[1], np.ptp(y) / shape[0]))


def solve_spatial(candidates, fits, images, shape, model, config, convolved="template"):
    """Kernel over the field.

    Parameters
    ----------
    candidates : list of KernelCandidate
    fits : list of CandidateFit
        Their normal equations, in the basis `images`.
    images : ndarray (nb, k, k)
        With unit sum in image 0 and zero sums in the others, or delta functions.
    model : SpatialModel
    config : PsfMatchConfig

    Returns
    -------
    kernel : MatchingKernel
    condition : float
        Condition number of the scaled equations, NaN beyond 1500 unknowns.
    """
    matrix, vector = _assemble(candidates, fits, len(images), shape, model)
    condition = np.nan
    if len(matrix) <= 1500:
        condition = condition_number(unit_diagonal(matrix)[0], config.condition_number_type)
    solution, _ = solve_symmetric(matrix, vector, config.max_spatial_condition_number)
    top = max(model.order, model.flux_order)
    coefficients = np.zeros((len(images), polynomial.n_terms(top)))
    start = 0
    for b, degree in enumerate(model.degrees(len(images))[: len(images)]):
        terms = polynomial.n_terms(degree)
        coefficients[b, :terms] = solution[start : start + terms]
        start += terms
    background = solution[start:] if model.bg_order is not None else np.zeros(1)
    if np.ptp(images.sum((1, 2))) == 0:  # delta functions: MatchingKernel wants the sum in one
        coefficients, images = zero_sum(coefficients, images.shape[-1])
    kernel = MatchingKernel(
        images, coefficients, model.order, model.flux_order, background, model.bg_order or 0,
        tuple(shape), convolved,
    )  # fmt: skip
    return kernel, float(condition)


def _assemble(candidates, fits, n_basis, shape, model):
    degrees = model.degrees(n_basis)
    full = polynomial.n_terms(max(degrees))
    index = np.concatenate(
        [i * full + np.arange(polynomial.n_terms(d)) for i, d in enumerate(degrees)]
    )
    x, y = np.array([(c.x, c.y) for c in candidates], float).T
    terms = polynomial.evaluate(max(degrees), x, y, shape)
    unknowns = len(degrees)
    matrix = np.zeros((len(index), len(index)))
    vector = np.zeros(len(index))
    for p, fit in zip(terms.T, fits, strict=True):
        gram = fit.matrix[:unknowns, :unknowns]
        matrix += np.kron(gram, np.outer(p, p))[np.ix_(index, index)]
        vector += np.kron(fit.vector[:unknowns], p)[index]
    return matrix, vector
