"""The Lanczos warp: its twin, and what a warp must keep."""

import numpy as np
import pytest
from astropy.wcs import WCS

from psflib.errors import NoOverlap
from psflib.image.exposure import Exposure, MaskBit
from psflib.image.warp import PHASES, RADIUS, Nodes, align
from psflib.loops import warp as loops
from tests.image import naive_image as naive


def tan(shape, shift=(0.0, 0.0), angle=0.0, scale=0.3):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [shape[1] / 2 + shift[0], shape[0] / 2 + shift[1]]
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    wcs.wcs.cd = np.array([[-c, s], [s, c]]) * scale / 3600
    return wcs


def star(shape, x, y, fwhm=3.0, flux=1e5):
    j, i = np.indices(shape)
    sigma = fwhm / 2.355
    return flux / (2 * np.pi * sigma**2) * np.exp(-((i - x) ** 2 + (j - y) ** 2) / (2 * sigma**2))


def exposure(image, wcs, variance=1.0, mask=None):
    plane = np.full(image.shape, variance, np.float32)
    return Exposure(image, plane, mask, wcs, sky=0.0, meta={"fwhm": 3.0})


def test_taps_equal_their_twin_and_are_exact_for_linear_images():
    table = loops.phase_table(PHASES, RADIUS)
    np.testing.assert_allclose(table.sum(1), 1, atol=1e-12)
    offset = np.arange(2 * RADIUS) - RADIUS + 1
    np.testing.assert_allclose(table @ offset, np.arange(PHASES + 1) / PHASES, atol=1e-9)
    for phase in (0, 1, PHASES // 3, PHASES // 2):
        weights = naive.taps(RADIUS - 1 + phase / PHASES, 2 * RADIUS, RADIUS)
        np.testing.assert_allclose(table[phase], weights, atol=1e-9)


def test_points_equal_the_naive_warp():
    rng = np.random.default_rng(2)
    shape = (60, 64)
    source = exposure(rng.normal(size=shape), tan(shape), variance=2.0)
    target = exposure(np.zeros(shape), tan(shape, (2.37, -1.81)))
    moved, _ = align(source, target)
    planes = source.image, source.variance
    for y, x in ((20, 20), (31, 40), (45, 12)):
        value, variance = naive.warp_point(*planes, x - 2.37, y + 1.81, RADIUS)
        # tables of 2048 phases: positions are good to 1/4096 px
        assert moved.image[y, x] == pytest.approx(value, abs=2e-3)
        assert moved.variance[y, x] == pytest.approx(variance, rel=2e-3)


def test_same_grid_is_returned_untouched():
    image = np.random.default_rng(1).normal(size=(50, 50)).astype(np.float32)
    source = exposure(image, tan(image.shape))
    moved, notes = align(source, exposure(np.zeros(image.shape), tan(image.shape)))
    assert notes["aligned"] == "same grid"
    np.testing.assert_array_equal(moved.image, image)


@pytest.mark.parametrize("shift", [(0.5, 0.25), (3.4, -2.3)])
def test_flux_and_shift_are_kept(shift):
    shape = (81, 81)
    source = exposure(star(shape, 40.3, 39.6), tan(shape))
    moved, _ = align(source, exposure(np.zeros(shape), tan(shape, shift)))
    image = moved.image.astype(float)
    assert image.sum() == pytest.approx(1e5, rel=1e-4)
    j, i = np.indices(shape)
    # centroid: interpolation of the WCS (1e-4 px) and Lanczos4 at FWHM 3 (1e-3 px)
    assert np.sum(i * image) / image.sum() == pytest.approx(40.3 + shift[0], abs=2e-3)
    assert np.sum(j * image) / image.sum() == pytest.approx(39.6 + shift[1], abs=2e-3)


def test_flux_is_kept_between_pixel_scales():
    shape = (81, 81)
    source = exposure(star(shape, 40, 40, fwhm=4), tan(shape, scale=0.3))
    moved, notes = align(source, exposure(np.zeros(shape), tan(shape, scale=0.24)))
    assert notes["area"] == pytest.approx((0.24 / 0.3) ** 2, rel=1e-6)
    assert moved.image.sum(dtype=float) == pytest.approx(1e5, rel=1e-3)


def test_constant_stays_constant():
    shape = (70, 70)
    moved, _ = align(
        exposure(np.full(shape, 100.0), tan(shape)),
        exposure(np.zeros(shape), tan(shape, (0.4, 0.3), angle=3)),
    )
    inside = moved.image[15:-15, 15:-15]
    np.testing.assert_allclose(inside, 100, rtol=1e-5)


def test_bad_pixel_moves_with_the_image_and_does_not_spread():
    shape = (60, 60)
    image = np.zeros(shape)
    image[30, 30] = 1e6  # a hot pixel, flagged
    mask = np.zeros(shape, bool)
    mask[30, 30] = True
    source = exposure(image, tan(shape), mask=mask)
    moved, _ = align(source, exposure(image, tan(shape, (4.0, 0.5))))
    flagged = np.argwhere(moved.mask & np.uint16(MaskBit.BAD))
    # half-pixel weights of Lanczos4: 0.62, then -0.17, then below the limit of 0.1
    assert {tuple(map(int, p)) for p in flagged} == {(y, 34) for y in (29, 30, 31, 32)}
    assert np.abs(moved.image).max() < 1


def test_beyond_the_border_is_no_data():
    shape = (50, 50)
    moved, notes = align(
        exposure(np.ones(shape), tan(shape)), exposure(np.ones(shape), tan(shape, (20, 0)))
    )
    assert notes["overlap"] == pytest.approx(0.6, abs=0.03)
    assert np.all(moved.mask[:, :18] & 1) and not np.any(moved.mask[:, 25:] & 1)


def test_no_overlap_and_no_wcs():
    shape = (50, 50)
    with pytest.raises(NoOverlap):
        align(exposure(np.ones(shape), tan(shape)), exposure(np.ones(shape), tan(shape, (900, 0))))
    bare = exposure(np.ones(shape), None)
    assert align(bare, bare)[1]["aligned"] == "assumed"
    with pytest.raises(ValueError, match="cannot be aligned"):
        align(bare, exposure(np.ones((40, 50)), None))


class TestNodes:
    SHAPE = (100, 130)

    def test_between_nodes_they_are_those_of_the_wcs(self):
        science = exposure(np.ones(self.SHAPE), tan(self.SHAPE))
        template = exposure(np.ones((120, 120)), tan((120, 120), (3.0, -7.5), 20.0, 0.25))
        at = np.random.default_rng(1).uniform(0, [129, 99], (50, 2))
        found = Nodes.by_wcs(template, science).at(at)
        sky = science.wcs.all_pix2world(*at.T, 0)
        expected = np.stack(template.wcs.all_world2pix(*sky, 0), axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-3)

    def test_a_warp_by_nodes_is_that_by_the_wcs(self):
        rng = np.random.default_rng(2)
        template = exposure(rng.normal(size=self.SHAPE), tan(self.SHAPE, (2.4, 1.7)))
        science = exposure(np.ones(self.SHAPE), tan(self.SHAPE))
        by_wcs, notes = align(template, science)
        moved = Nodes.same(self.SHAPE).moved(lambda xy: xy + np.array([2.4, 1.7]))
        by_nodes, other = align(template, science, moved)
        # a shift of the tangent point by 0.9" bends the grid by less than 1e-5 px
        np.testing.assert_allclose(by_nodes.image, by_wcs.image, atol=1e-3)
        np.testing.assert_array_equal(by_nodes.mask, by_wcs.mask)
        assert (notes["aligned"], other["aligned"]) == ("by WCS", "by stars")
        assert other["area"] == pytest.approx(1)

    def test_area_of_any_map(self):
        nodes = Nodes.same(self.SHAPE).moved(
            lambda xy: xy @ np.array([[0.9, 0.1], [0.2, -1.1]]) + 200
        )
        assert nodes.area((400, 400)) == pytest.approx(0.9 * 1.1 + 0.1 * 0.2)

    def test_unknown_places_stay_unknown(self):
        x, y = np.full((2, 8, 10), -1e6)
        moved = Nodes(x, y).moved(lambda xy: xy + 5e6)
        assert (moved.x == -1e6).all() and not moved.inside((100, 100)).any()

    def test_the_same_grid(self):
        image = exposure(np.random.default_rng(3).normal(size=self.SHAPE), None)
        aligned, notes = align(image, image, Nodes.same(self.SHAPE))
        assert aligned is image and notes["aligned"] == "same grid"
