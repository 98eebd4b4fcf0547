"""Threads: the same results to the bit, and an error of one of them is an error."""

import numpy as np
import pytest

from psflib.image.convolve import blend_nodes, convolve_by_tiles, edge_grid
from psflib.image.exposure import Exposure
from psflib.image.smooth import smoothed
from psflib.image.threads import bands, for_each, use_threads
from psflib.image.warp import Nodes, align

SHAPE = 500, 420


@pytest.fixture(scope="module")
def plane():
    return np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)


def results(plane):
    """What every pass over the rows or tiles makes of the plane."""
    rng = np.random.default_rng(4)
    kernels = rng.normal(size=(3, 3, 9, 9))
    varying = blend_nodes(kernels, *edge_grid(SHAPE, 3))
    per_tile = varying.on_tiles(SHAPE, 64)
    exposure = Exposure(plane, np.ones(SHAPE), sky=0.0, meta={"fwhm": 3.0})
    nodes = Nodes.same(SHAPE).moved(lambda xy: 1.001 * xy + 2.3)
    warped, _ = align(exposure, exposure, nodes)
    return (
        varying.convolve(plane), convolve_by_tiles(plane, per_tile, 64), smoothed(plane, 1.3),
        warped.image, warped.variance, warped.mask,
    )  # fmt: skip


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_results_do_not_depend_on_them(plane, threads):
    alone = results(plane)
    with use_threads(threads):
        together = results(plane)
    for one, many in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, many)


def test_bands_cover_all_rows():
    for threads in (1, 2, 5):
        with use_threads(threads):
            for rows, step in ((1, 1), (3, 64), (130, 64), (641, 64), (1000, 1)):
                found = bands(rows, step)
                covered = np.concatenate([np.arange(rows)[band] for band in found])
                np.testing.assert_array_equal(covered, np.arange(rows))
                assert all(band.start % step == 0 for band in found)


def test_an_error_is_raised():
    def fail(piece):
        if piece == 3:
            raise RuntimeError("piece 3")

    for threads in (1, 2):
        with use_threads(threads), pytest.raises(RuntimeError, match="piece 3"):
            for_each(fail, range(5))


def test_a_thread_is_needed():
    with pytest.raises(ValueError, match="at least one thread"), use_threads(0):
        pass
