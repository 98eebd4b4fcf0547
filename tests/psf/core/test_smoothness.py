"""The smoothness prior, its strength, and the solvers of its equations, against dense matrices."""

import numpy as np
import pytest

from psflib.errors import SingularFit
from psflib.loops.stencil import normal_planes
from psflib.psf.core.conjugate import conjugate, constrained
from psflib.psf.core.mesh import coarse_mesh, whole_mesh
from psflib.psf.core.smoothness import Choice, Factor, expected_light, penalty_planes, times
from tests.psf.core import naive_core as naive

ROUNDING = 1e-12
FINEST_STEP = 0.25  # of log10 of the strength


def light(side=12, seed=1):
    """A bright core on a faint, uneven wing."""
    axis = np.arange(side) - (side - 1) / 2
    core = np.exp(-(axis[:, None] ** 2 + axis**2) / 8)
    return core + np.random.default_rng(seed).uniform(0.01, 0.03, core.shape)


def penalty_of(glow):
    return penalty_planes(glow, whole_mesh(len(glow)))


def problem(noise=1.0, n=30, size=5, oversample=3, seed=2):
    """Normal matrix (planes), penalty (planes), right side and power of noisy stars."""
    rng = np.random.default_rng(seed)
    side = size * oversample
    truth = light(side, seed=3)
    weight = np.full((n, size, size), 1 / noise**2)
    delta, scale = rng.uniform(-0.5, 0.5, (n, 2)), rng.uniform(20, 50, n)
    planes, right, power = np.zeros((25, side, side)), np.zeros(side**2), 0.0
    mesh = whole_mesh(side)
    normal_planes(weight, scale, delta, oversample, mesh.first, mesh.blocks, planes)
    for f, d in zip(scale, delta, strict=True):
        use = naive.whole_pixels(side, oversample, d).ravel()
        a = f * naive.star_matrix(side, oversample, d)[use]
        data = a @ truth.ravel() + noise * rng.normal(size=use.sum())
        right += a.T @ data / noise**2
        power += data @ data / noise**2
    return planes, penalty_of(truth), right.reshape(side, side), power


def test_penalty_is_the_sum_of_squared_third_differences():
    glow, rng = light(), np.random.default_rng(4)
    planes = penalty_of(glow)
    matrix = naive.dense(planes)
    for coef in rng.normal(size=(3, *glow.shape)):
        expected = naive.penalty(glow, coef)
        np.testing.assert_allclose(coef.ravel() @ matrix @ coef.ravel(), expected, rtol=1e-11)
        np.testing.assert_allclose(np.sum(coef * times(planes, coef)), expected, rtol=1e-11)


def test_penalty_on_a_mesh_is_that_of_its_splines_on_the_nodes():
    glow, mesh = light(21), coarse_mesh(21, 3)
    spread = np.kron(mesh.spread, mesh.spread)
    expected = spread.T @ naive.dense(penalty_of(glow)) @ spread
    found = naive.dense(penalty_planes(glow, mesh))
    np.testing.assert_allclose(found, expected, atol=ROUNDING * expected.max())


def test_parabolas_are_free_and_nothing_else():
    glow = light()
    matrix = naive.dense(penalty_of(glow))
    row, col = np.mgrid[: len(glow), : len(glow)] / len(glow)
    for parabola in (np.ones_like(row), row, col, row * col, row**2, col**2):
        pull = matrix @ parabola.ravel()
        assert np.abs(pull).max() < ROUNDING * np.abs(matrix).max()
    values = np.linalg.eigvalsh(matrix)
    assert (values[:6] < 1e-10 * values[-1]).all() and values[6] > 1e-8 * values[-1]


def test_strength_is_1_at_the_peak_and_grows_outwards():
    flat = penalty_of(np.full((12, 12), 7.0))
    np.testing.assert_array_equal(flat, penalty_of(np.full((12, 12), 0.1)))
    assert (penalty_of(light())[0] >= flat[0] * (1 - ROUNDING)).all()


def test_expected_light_is_positive_and_follows_the_model():
    psi = light(21) - 0.015  # noise about 0 in the wing
    glow = expected_light(psi)
    assert (glow >= 1e-5 * psi.max() * (1 - ROUNDING)).all()
    assert np.argmax(glow) == np.argmax(expected_light(light(21)))
    np.testing.assert_allclose(expected_light(3 * psi), 3 * glow, rtol=1e-12)
    assert (expected_light(np.where(psi == psi.max(), psi, 0)) > 0).all()


def test_factor_equals_dense_algebra():
    planes, penalty, right, _ = problem()
    planes = planes + 0.1 * penalty
    matrix, factor = naive.dense(planes), Factor(planes)
    sides = np.stack([right, np.random.default_rng(5).normal(size=right.shape)])
    solution = factor.solve(sides)
    assert solution.shape == sides.shape and solution.flags.c_contiguous
    expected = np.linalg.solve(matrix, sides.reshape(2, -1).T).T
    condition = np.linalg.cond(matrix)
    np.testing.assert_allclose(
        solution.reshape(2, -1), expected, atol=1e-15 * condition * np.abs(expected).max()
    )
    np.testing.assert_allclose(factor.logdet, np.linalg.slogdet(matrix)[1], rtol=1e-11)


def test_draws_have_the_inverse_for_covariance():
    n = 4000
    planes, penalty, *_ = problem(size=3)
    planes = planes + 0.1 * penalty
    draws = Factor(planes).draws(n, np.random.default_rng(6))
    assert draws.shape == (n, 9, 9)
    covariance = np.linalg.inv(naive.dense(planes))
    root = np.sqrt(np.diag(covariance))
    # A correlation of n pairs is known to 1/√n; the largest of 3321 deviates by 5 of them.
    found = np.cov(draws.reshape(n, -1).T) / np.outer(root, root)
    np.testing.assert_allclose(found, covariance / np.outer(root, root), atol=5 * np.sqrt(2 / n))


def test_a_singular_matrix_is_refused():
    planes, penalty, *_ = problem()
    with pytest.raises(SingularFit, match="too few good pixels"):
        Factor(np.zeros_like(planes))
    with pytest.raises(SingularFit):
        Factor(-penalty)


@pytest.mark.parametrize("noise", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("start", [1e-3, 3e3])
def test_the_likeliest_strength_has_the_least_dense_evidence(noise, start):
    planes, penalty, right, power = problem(noise)
    choice = Choice(planes, penalty, right, power, start).likeliest()
    matrices = naive.dense(planes), naive.dense(penalty)
    grid = start * 10.0 ** (np.arange(-40, 41) * FINEST_STEP)
    grid = grid[(grid > 1e-4) & (grid < 1e5)]  # beyond, dense determinants lose their digits
    scores = [naive.evidence(*matrices, right.ravel(), power, s) for s in grid]
    assert 0 < np.argmin(scores) < len(grid) - 1
    np.testing.assert_allclose(choice.strength, grid[np.argmin(scores)], rtol=1e-12)
    best = np.linalg.solve(matrices[0] + choice.strength * matrices[1], right.ravel())
    np.testing.assert_allclose(choice.coef.ravel(), best, atol=1e-8 * np.abs(best).max())
    np.testing.assert_allclose(choice.factor.solve(right[None])[0], choice.coef, rtol=1e-12)


def test_a_strength_taken_as_told():
    planes, penalty, right, power = problem()
    choice = Choice(planes, penalty, right, power, 0.2).take_start()
    assert choice.strength == 0.2
    expected = Factor(planes + 0.2 * penalty).solve(right[None])[0]
    np.testing.assert_array_equal(choice.coef, expected)


def system(n=40, seed=7):
    """Symmetric matrix with three slow directions under its preconditioner, and a right side."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    values = np.append([0.01, 0.05, 0.2], rng.uniform(0.9, 1.1, n - 3))
    metric = rng.uniform(0.5, 2, n)  # the preconditioner is 1/metric
    root = np.sqrt(metric)
    return root[:, None] * (q * values) @ q.T * root, metric, rng.normal(size=n)


def test_conjugate_gradients_solve():
    matrix, metric, right = system()
    x, _, _ = conjugate(lambda v: matrix @ v, right, lambda r: r / metric, 1e-10)
    expected = np.linalg.solve(matrix, right)
    np.testing.assert_allclose(x, expected, atol=1e-7 * np.abs(expected).max())


def test_slow_directions_are_told():
    matrix, metric, right = system()

    def multiply(v):
        return matrix @ v

    def precondition(r):
        return r / metric

    _, values, vectors = conjugate(multiply, right, precondition, 1e-10)
    root = np.sqrt(metric)
    exact, directions = np.linalg.eigh(matrix / np.outer(root, root))
    np.testing.assert_allclose(values, exact[:3], rtol=1e-6)
    np.testing.assert_allclose(vectors * metric @ vectors.T, np.eye(3), atol=1e-6)
    overlap = np.abs((vectors * root) @ directions[:, :3])
    np.testing.assert_allclose(overlap, np.eye(3), atol=1e-3)


def test_nothing_to_solve():
    x, values, _ = conjugate(lambda v: v, np.zeros(5), lambda r: r, 1e-3)
    assert not x.any() and not len(values)


def test_a_constrained_solution_keeps_to_its_subspace():
    """The minimum over all x orthogonal to the directions, by Lagrange multipliers."""
    matrix, metric, right = system()
    directions = np.random.default_rng(9).normal(size=(2, len(right)))
    inverse = constrained(lambda r: r / metric, directions, directions / metric)
    for r in np.eye(len(right))[:5]:
        assert np.abs(directions @ inverse(r)).max() < 1e-13
    x, _, _ = conjugate(lambda v: matrix @ v, right, inverse, 1e-11)
    assert np.abs(directions @ x).max() < 1e-11 * np.abs(x).max() * len(x)
    whole = np.block([[matrix, directions.T], [directions, np.zeros((2, 2))]])
    expected = np.linalg.solve(whole, np.append(right, [0, 0]))[: len(right)]
    np.testing.assert_allclose(x, expected, atol=1e-7 * np.abs(expected).max())
