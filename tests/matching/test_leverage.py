"""The share of a source's change that a fit absorbs, against a fit that left the source out."""

import dataclasses

import numpy as np
import pytest

from psflib.matching import solve
from psflib.matching.equations import Design
from psflib.matching.leverage import MOST, leverage
from psflib.matching.pixels import sort_pixels

SHAPE = (64, 64)
N_BASIS = 3


@dataclasses.dataclass
class Problem:
    design: Design
    matrix: np.ndarray
    columns: np.ndarray
    weight: np.ndarray
    source: np.ndarray


@pytest.fixture
def problem():
    rng = np.random.default_rng(5)
    at = sort_pixels(np.ones(SHAPE, bool))
    n = len(at.y)
    columns = rng.normal(1, 1, (N_BASIS, n)).astype(np.float32)
    source = np.where(at.x < 8, at.y // 16, -1).astype(np.int64)
    weight = rng.uniform(0.5, 2, n) * np.where(source >= 0, 10.0, 0.1)
    layout = solve.Layout(N_BASIS, 0, 0, 0)
    design = Design(columns, at, None, layout, SHAPE)
    full = np.concatenate([columns, np.ones((1, n))])
    return Problem(design, (full * weight) @ full.T, full, weight, source)


def test_residual_of_a_fit_without_the_source(problem):
    """Exact for a change along the model: (1 - share) of it is left in the fit with the source."""
    model = problem.columns[0].astype(float)  # the truth, without noise
    listed = np.array([2, 0])
    share = leverage(problem.design, problem.matrix, problem.source, listed, model, problem.weight)
    for one, h in zip(listed, share, strict=True):
        own = problem.source == one
        target = model * np.where(own, 1.2, 1.0)
        fit = np.linalg.solve(problem.matrix, problem.columns @ (problem.weight * target))
        rest = target - fit @ problem.columns
        w = (problem.weight * model)[own]
        assert w @ rest[own] / (w @ model[own]) == pytest.approx(0.2 * (1 - h), rel=1e-6)
    assert np.all((share > 0.02) & (share < 0.5))


def test_a_source_that_is_all_there_is(problem):
    weight = np.where(problem.source == 1, problem.weight, 0)
    matrix = (problem.columns * weight) @ problem.columns.T
    model = problem.columns[0].astype(float)
    share = leverage(problem.design, matrix, problem.source, np.array([1, 3]), model, weight)
    np.testing.assert_allclose(share, [MOST, 0])
