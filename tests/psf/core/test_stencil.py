"""The stencil of normal equations against dense matrices."""

import numpy as np
import pytest

from psflib.loops.stencil import add_gram, apply_planes, lag, normal_planes
from psflib.psf.core.mesh import coarse_mesh, whole_mesh
from tests.psf.core import naive_core as naive

SIZE = 7
ROUNDING = 1e-12


def stars(n, oversample, seed=1):
    """Weights with rejected pixels, also at the edges, scales and offsets."""
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.2, 2, (n, SIZE, SIZE))
    weight[rng.random(weight.shape) < 0.1] = 0
    weight[0, :, 0], weight[1 % n, -1], weight[2 % n, 3, 3] = 0, 0, -1
    return weight, rng.uniform(1, 5, n), rng.uniform(-0.6, 0.6, (n, 2))


def planes_of(weight, scale, delta, oversample):
    side = weight.shape[1] * oversample
    planes = np.zeros((25, side, side))
    add_planes(weight, scale, delta, oversample, planes)
    return planes


def add_planes(weight, scale, delta, oversample, planes):
    mesh = whole_mesh(weight.shape[1] * oversample)
    normal_planes(weight, scale, delta, oversample, mesh.first, mesh.blocks, planes)


def test_lags_are_numbered_without_a_gap():
    lags = [(0, b) for b in range(4)] + [(a, b) for a in (1, 2, 3) for b in range(-3, 4)]
    assert [lag(a, b) for a, b in lags] == list(range(25))


@pytest.mark.parametrize("oversample", [1, 2, 3, 5])
def test_planes_are_the_dense_normal_matrix(oversample):
    weight, scale, delta = stars(4, oversample)
    delta[3] = 1, -1
    matrix = naive.normal_matrix(weight, scale, delta, oversample)
    planes = planes_of(weight, scale, delta, oversample)
    np.testing.assert_allclose(naive.dense(planes), matrix, atol=ROUNDING * matrix.max())


def test_planes_are_added_to_what_is_there():
    weight, scale, delta = stars(4, 3)
    whole = planes_of(weight, scale, delta, 3)
    parts = planes_of(weight[:2], scale[:2], delta[:2], 3)
    add_planes(weight[2:], scale[2:], delta[2:], 3, parts)
    np.testing.assert_allclose(parts, whole, atol=ROUNDING * whole.max())


def test_stars_without_light_and_lines_beyond_the_grid_are_left_out():
    weight, scale, delta = stars(5, 3)
    scale[1], scale[2], scale[3] = 0, np.nan, 0
    delta[3] = np.nan  # of a star without light
    delta[4] = 40, 0  # every tap is off the grid
    only = planes_of(weight[:1], scale[:1], delta[:1], 3)
    np.testing.assert_array_equal(planes_of(weight, scale, delta, 3), only)


def test_gram_of_places_with_their_own_taps():
    rng = np.random.default_rng(8)
    weight = rng.uniform(-0.5, 2, (6, 5))
    rows, cols = np.sort(rng.integers(0, 6, 6)), np.sort(rng.integers(0, 6, 5))
    row_taps, col_taps = rng.normal(size=(6, 4)), rng.normal(size=(5, 4))
    planes = np.zeros((25, 9, 9))
    add_gram(weight, rows, row_taps, cols, col_taps, planes)
    matrix = np.zeros((81, 81))
    for i, j in np.argwhere(weight > 0):
        seen = np.zeros((9, 9))
        seen[rows[i] : rows[i] + 4, cols[j] : cols[j] + 4] = np.outer(row_taps[i], col_taps[j])
        matrix += weight[i, j] * np.outer(seen, seen)
    np.testing.assert_allclose(naive.dense(planes), matrix, atol=ROUNDING * matrix.max())


def test_planes_on_a_mesh_are_those_of_all_nodes_between_its_splines():
    weight, scale, delta = stars(4, 3)
    mesh = coarse_mesh(21, 3)
    planes = np.zeros((25, *2 * (mesh.spread.shape[1],)))
    normal_planes(weight, scale, delta, 3, mesh.first, mesh.blocks, planes)
    spread = np.kron(mesh.spread, mesh.spread)
    expected = spread.T @ naive.normal_matrix(weight, scale, delta, 3) @ spread
    np.testing.assert_allclose(naive.dense(planes), expected, atol=ROUNDING * expected.max())


@pytest.mark.parametrize("side", [4, 9])
def test_planes_times_a_vector(side):
    rng = np.random.default_rng(2)
    planes, vector = rng.normal(size=(25, side, side)), rng.normal(size=(side, side))
    out = np.full((side, side), np.nan)
    apply_planes(planes, vector, out)
    expected = naive.dense(planes) @ vector.ravel()
    np.testing.assert_allclose(out.ravel(), expected, atol=ROUNDING * np.abs(expected).max())


def test_float32_weights_are_summed_in_float64():
    weight, scale, delta = stars(6, 3)
    single = weight.astype(np.float32)
    planes = planes_of(single.astype(float), scale, delta, 3)
    np.testing.assert_allclose(
        planes_of(single, scale, delta, 3), planes, atol=ROUNDING * planes.max()
    )
