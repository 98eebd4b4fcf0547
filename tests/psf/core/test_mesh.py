"""The mesh of splines: a part of what all nodes can say, in the right place."""

import numpy as np
import pytest

from psflib.psf.core.mesh import coarse_mesh, mesh_for, whole_mesh

ROUNDING = 1e-12


@pytest.mark.parametrize(("side", "reach"), [(63, 9), (64, 10), (87, 20)])
def test_splines_are_those_of_the_nodes_put_together(side, reach):
    mesh = coarse_mesh(side, reach)
    spread = mesh.spread
    assert spread.shape[1] < side - 15
    # constants and parabolas are of the mesh; mirrored, it is the same; it has a left inverse
    np.testing.assert_allclose(spread.sum(axis=1), 1, rtol=ROUNDING)
    for power in (1, 2, 3):
        curve = np.linspace(-1, 1, side)[:, None] ** power
        np.testing.assert_allclose(spread @ (mesh.gather @ curve), curve, atol=1e-11)
    np.testing.assert_allclose(spread[::-1, ::-1], spread, atol=ROUNDING)
    np.testing.assert_allclose(mesh.gather @ spread, np.eye(spread.shape[1]), atol=1e-11)
    # in the core each spline is that of one node
    middle = slice(side // 2 - reach + 2, side // 2 + reach - 2)
    assert ((spread[middle] == 0) | (np.abs(spread[middle] - 1) < ROUNDING)).all()


def test_blocks_hold_all_that_four_nodes_see():
    mesh = coarse_mesh(63, 9)
    for cell, first in enumerate(mesh.first):
        nodes = mesh.spread[cell : cell + 4]
        np.testing.assert_array_equal(mesh.blocks[cell], nodes[:, first : first + 4].T)
        assert np.count_nonzero(nodes) == np.count_nonzero(mesh.blocks[cell])


@pytest.mark.parametrize("mesh", [whole_mesh(30), coarse_mesh(63, 9)])
def test_there_and_back(mesh):
    rng = np.random.default_rng(1)
    n, m = mesh.spread.shape
    coef, image = rng.normal(size=(2, m, m)), rng.normal(size=(2, n, n))
    np.testing.assert_allclose(mesh.restrict(mesh.extend(coef)), coef, atol=1e-10)
    np.testing.assert_allclose(
        np.sum(mesh.extend(coef) * image), np.sum(coef * mesh.adjoint(image)), rtol=1e-10
    )
    start, taps = mesh.places(np.array([-1.0, 3.0, -3.0, 1.0]))
    row = coef[0, 0]
    found = [taps[k] @ row[start[k] : start[k] + 4] for k in range(len(start))]
    np.testing.assert_allclose(found, np.diff(mesh.spread @ row, 3), atol=1e-11)


def test_the_core_of_a_model_is_kept_and_narrow_stamps_are_whole():
    axis = np.arange(87) - 43.0
    psi = np.exp(-(axis[:, None] ** 2 + axis**2) / 2 / 4.0**2)
    mesh = mesh_for(psi, 3)
    reach = np.sqrt(2 * np.log(50)) * 4  # to 2 % of the peak
    assert not mesh.whole and 2 * reach < mesh.spread.shape[1] < 70
    assert mesh_for(psi[20:-20, 20:-20], 3).whole
    assert mesh_for(psi, 1).whole
