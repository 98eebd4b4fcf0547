"""The loops of the wings against their slow twins."""

import numpy as np
import pytest

from psflib.loops import cells, select, wings
from tests.psf.wings import naive_wings as naive


@pytest.fixture
def plane():
    rng = np.random.default_rng(4)
    weight = rng.uniform(0.5, 2, (41, 41))
    weight[rng.random(weight.shape) < 0.2] = 0
    return rng.normal(1, 0.3, (41, 41)), weight


def test_halo_equations(plane):
    rest, weight = plane[0].astype(np.float32), plane[1].astype(np.float32)
    y, x = np.mgrid[-20:21, -20:21]
    model = 0.01 * (1 + (x**2 + y**2) / 20) ** -1.5
    rest[5, 7] = 1e4  # an outlier
    matrix, vector = np.empty((6, 6)), np.empty(6)
    wings.halo_equations(rest, weight, model, 300.0, 0.02, 1.3, 4.0, matrix, vector)
    twin = naive.halo_equations(
        rest.astype(float), weight.astype(float), model, 300.0, 0.02, 1.3, 4.0
    )
    # float32 data and weights, 1700 terms: a few 1e-7
    np.testing.assert_allclose(matrix, twin[0], rtol=1e-5, atol=1e-6 * np.abs(twin[0]).max())
    np.testing.assert_allclose(vector, twin[1], rtol=1e-5, atol=1e-6 * np.abs(twin[1]).max())


@pytest.mark.parametrize("n", [1, 2, 3, 12, 60])
def test_combine_halos(n):
    rng = np.random.default_rng(n)
    stack = rng.normal(3, 1, (n, 50))
    stack[rng.random(stack.shape) < 0.1] += 20
    stack[rng.random(stack.shape) < 0.1] = np.nan
    weight = 10 ** rng.uniform(-2, 1, stack.shape)
    weight[rng.random(stack.shape) < 0.1] = 0
    weight[:, 0] = 0
    planes = [np.empty(50) for _ in range(4)]
    wings.combine_halos(stack, weight, 3.0, 4, *planes)
    twin = np.array([naive.combine_pixel(stack[:, p], weight[:, p], 3.0, 4) for p in range(50)])
    # sums of up to 60 terms in another order
    np.testing.assert_allclose(np.array(planes).T, twin, rtol=1e-12)


def test_sort_together_and_weighted_median():
    rng = np.random.default_rng(8)
    values, weights = rng.normal(size=9), rng.uniform(0.1, 1, 9)
    order = np.argsort(values)
    v, w = values.copy(), weights.copy()
    wings.sort_together(v, w, 9)
    np.testing.assert_array_equal(v, values[order])
    np.testing.assert_array_equal(w, weights[order])
    half = v[np.searchsorted(np.cumsum(w), w.sum() / 2)]
    assert wings.weighted_median(v, w, 9) == half


def test_smooth_rays(plane):
    ratio, weight = plane
    out, variance = np.empty(ratio.shape), np.empty(ratio.shape)
    wings.smooth_rays(ratio, weight, 0.2, 5.0, out, variance)
    for i, j in np.random.default_rng(1).integers(0, 41, (80, 2)):
        twin = naive.smooth_ray(ratio, weight, i, j, 0.2, 5.0)
        np.testing.assert_allclose((out[i, j], variance[i, j]), twin, rtol=1e-11)
    assert wings.ray_step(100.0, 0.1, 12.0) == pytest.approx(10.0)
    assert wings.ray_step(12.0, 0.1, 12.0) == 0.0


def test_ray_power(plane):
    out = np.empty(plane[0].shape)
    wings.ray_power(plane[0], 0.3, 1.5, out)
    for i, j in np.random.default_rng(2).integers(0, 41, (60, 2)):
        twin = naive.ray_power(plane[0], i, j, 0.3, 1.5)
        np.testing.assert_allclose(out[i, j], twin, rtol=1e-11)


def test_robust_cells():
    rng = np.random.default_rng(11)
    plane = rng.normal(5, 2, (50, 70)).astype(np.float32)
    plane[rng.random(plane.shape) < 0.1] += 40
    plane[:10, :10] = 3  # more than half of a cell is one value
    weight = rng.uniform(0.1, 0.4, plane.shape).astype(np.float32)
    use = rng.random(plane.shape) < 0.7
    use[20:40, 20:40] = False
    others = rng.normal(size=(3, 50, 70)).astype(np.float32)
    out = np.empty((3 * 4, 7))
    cells.robust_cells(plane, weight, use, others, 20, 2, 0.25, 4.0, 4, out)
    twin = naive.robust_cells(plane, weight, use, others, 20, 2, 0.25, 4.0, 4)
    assert np.isnan(twin[:, 0]).sum() == 1
    # sums of a hundred terms in another order
    np.testing.assert_allclose(out, twin, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 101])
def test_median(n):
    values = np.random.default_rng(n).integers(0, 40, n).astype(float)
    assert select.median(values.copy()) == np.median(values)
    for k in (0, n // 3, n - 1):
        found = values.copy()
        select.partition(found, k)
        assert found[k] == np.sort(values)[k] == found[: k + 1].max() == found[k:].min()
