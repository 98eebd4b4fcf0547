"""Filling: nothing undefined comes out, and what comes out is near what was there."""

import numpy as np
import pytest

from psflib.image.exposure import Exposure, MaskBit
from psflib.image.fill import LARGEST, fill_masked
from psflib.loops.fill import local_averages
from psflib.simulation.psf_model import PsfModel
from psflib.simulation.scene import Scene, render
from tests.image import naive_image

SHAPE = (120, 130)
SIGMA = 10.0


def exposure(image, mask=None, fwhm=3.2, variance=None):
    variance = np.full(image.shape, SIGMA**2) if variance is None else variance
    return Exposure(image, variance, mask, sky=0.0, meta={"fwhm": fwhm}, mask_bits="psflib")


def noise(seed=3, shape=SHAPE):
    return np.random.default_rng(seed).normal(0, SIGMA, shape)


def mask_of(*regions, bit=MaskBit.BAD, shape=SHAPE):
    mask = np.zeros(shape, np.uint16)
    for region in regions:
        mask[region] = bit
    return mask


def test_nothing_masked_nothing_changed():
    before = exposure(noise())
    image, variance = fill_masked(before)
    np.testing.assert_array_equal(image, before.image)
    np.testing.assert_array_equal(variance, before.variance)
    assert image is not before.image and variance is not before.variance


def test_no_nan_and_good_pixels_stay():
    image = noise()
    image[10:14, 20:60] = np.nan
    image[:, 100] = np.inf
    image[60:100, 30:70] = np.nan  # too wide for an average
    image[0, 0] = np.nan
    before = exposure(image)
    filled, variance = fill_masked(before)
    assert np.isfinite(filled).all() and np.isfinite(variance).all() and np.all(variance > 0)
    np.testing.assert_array_equal(filled[before.usable], before.image[before.usable])
    np.testing.assert_array_equal(variance[before.usable], before.variance[before.usable])
    assert filled[80, 50] == 0  # the sky
    assert np.all(variance[~before.usable] >= 2 * SIGMA**2 * 0.999)


def test_a_constant_is_continued():
    filled, _ = fill_masked(exposure(np.full(SHAPE, 70.0), mask_of(np.s_[40:43, 50:53])))
    np.testing.assert_allclose(filled, 70, rtol=1e-5)


def test_a_slope_is_continued():
    plane = 5.0 * np.indices(SHAPE)[1]
    filled, _ = fill_masked(exposure(plane, mask_of(np.s_[:, 65])))
    np.testing.assert_allclose(filled[20:-20, 65], plane[20:-20, 65], rtol=1e-5)


def test_a_lone_pixel_is_the_weighted_mean_of_its_neighbours():
    image = noise()
    filled, variance = fill_masked(exposure(image, mask_of(np.s_[50, 60])))
    r = np.arange(-12, 13)
    weight = np.exp(-(r[:, None] ** 2 + r**2) / (2 * (3.2 / 2.355) ** 2))
    weight[12, 12] = 0
    expected = np.sum(weight * image[38:63, 48:73]) / weight.sum()
    assert filled[50, 60] == pytest.approx(expected, abs=0.01 * SIGMA)  # kernel cut at 4 sigma
    assert variance[50, 60] == pytest.approx(2 * SIGMA**2 + (0.5 * expected) ** 2, rel=0.01)


def test_every_unusable_bit_is_filled_and_no_other():
    image = np.full(SHAPE, 70.0)
    mask = np.zeros(SHAPE, np.uint16)
    for column, bit in enumerate(MaskBit):
        mask[60, 8 * column + 5] = bit
    image[mask > 0] = -1e4
    before = exposure(image, mask)
    filled, _ = fill_masked(before)
    usable = before.usable & (mask > 0)
    assert np.all(filled[usable] == -1e4)
    assert np.all(filled[~before.usable & (mask & 1 == 0)] > 0)


def saturated_star(fwhm, flux, level, offset=(0.0, 0.0), beta=3.0):
    psf = PsfModel(fwhm, shape=SHAPE, wing=0.02, beta=beta)
    place = Scene.points([65.0 + offset[0]], [60.0 + offset[1]], [flux])
    light = render(place, psf, SHAPE, SIGMA)
    image = light + np.random.default_rng(4).normal(0, np.sqrt(SIGMA**2 + light / 2))
    return light, exposure(np.minimum(image, level), mask_of(light >= level, bit=MaskBit.SAT), fwhm)


class TestSaturatedCore:
    @pytest.mark.parametrize("offset", [(0, 0), (0.3, -0.4)])
    @pytest.mark.parametrize("fwhm", [2.8, 4.0])
    @pytest.mark.parametrize("depth", [1.5, 3, 8])
    @pytest.mark.parametrize("beta", [2.5, 3.0, 4.0])
    def test_light_within_a_factor_two(self, fwhm, depth, offset, beta):
        light, star = saturated_star(fwhm, 1e6, 1e30, offset, beta)
        light, star = saturated_star(fwhm, 1e6, light.max() / depth, offset, beta)
        core = ~star.usable
        assert core.sum() >= 4
        filled, variance = fill_masked(star)
        assert 0.5 < filled[core].sum() / light[core].sum() < 2
        assert np.all(variance[core] <= LARGEST * SIGMA**2 * 1.001)
        # the doubt is half of the value, as far as it is allowed to be
        np.testing.assert_allclose(
            variance[core],
            np.minimum(2 * SIGMA**2 + (filled[core] / 2) ** 2, LARGEST * SIGMA**2),
            rtol=0.01,
        )

    def test_better_than_an_average(self):
        light, star = saturated_star(3.2, 1e6, 1.2e4)
        core = ~star.usable
        filled, _ = fill_masked(star)
        as_hole, _ = fill_masked(star.replace(mask=mask_of(core), mask_bits="psflib"))
        truth = light[core].sum()
        assert as_hole[core].sum() < 0.5 * truth < filled[core].sum()

    def test_on_the_border(self):
        light = render(Scene.points([0.0], [1.0], [1e6]), PsfModel(3.2), SHAPE, SIGMA)
        star = exposure(np.minimum(light, 1e4), mask_of(light >= 1e4, bit=MaskBit.SAT))
        filled, _ = fill_masked(star)
        assert np.isfinite(filled).all()
        # the centre of what is seen is not the star's: the order of magnitude (measured: 0.28)
        assert 0.1 < filled[~star.usable].sum() / light[~star.usable].sum() < 10

    def test_a_ring_without_light(self):
        filled, _ = fill_masked(
            exposure(-np.ones(SHAPE), mask_of(np.s_[50:55, 50:55], bit=MaskBit.SAT))
        )
        assert np.isfinite(filled).all() and np.abs(filled).max() <= 1


def test_everything_masked():
    before = exposure(noise(), np.ones(SHAPE, bool))
    image, variance = fill_masked(before)
    assert np.isfinite(image).all() and np.isfinite(variance).all()


def test_no_seeing_known():
    bare = Exposure(noise(), np.full(SHAPE, SIGMA**2), mask_of(np.s_[50:53, 50:53]))
    assert np.isfinite(fill_masked(bare)[0]).all()


def test_variance_of_no_data_is_not_zero():
    variance = np.full(SHAPE, SIGMA**2)
    variance[30, 40] = 0
    _, filled = fill_masked(exposure(noise(), variance=variance))
    assert filled[30, 40] >= 2 * SIGMA**2 * 0.999


def test_input_is_not_modified():
    image = noise()
    image[10:14, 20:60] = np.nan
    before = exposure(image, mask_of(np.s_[50:60, 50:60], bit=MaskBit.SAT))
    planes = before.image, before.variance, before.mask
    copies = [plane.copy() for plane in planes]
    fill_masked(before)
    for now, then in zip(planes, copies, strict=True):
        np.testing.assert_array_equal(now, then)


def test_averages_equal_their_twin():
    rng = np.random.default_rng(4)
    image = rng.normal(size=(40, 45)).astype(np.float32)
    bad = rng.uniform(size=image.shape) < 0.3
    bad[10:28, 12:33] = True
    rows, columns = np.nonzero(bad)
    sigmas = np.array([1.0, 2.0, 3.5])
    windows = np.tile([[0, 40], [0, 45]], (len(rows), 1, 1))
    found = np.full(len(rows), np.nan)
    local_averages(image, bad, rows, columns, windows, sigmas, 4.0, 0.1, found)
    for y, x, value in list(zip(rows, columns, found, strict=True))[::7]:
        expected = naive_image.local_average(image, bad, y, x, sigmas, 4.0, 0.1)
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
