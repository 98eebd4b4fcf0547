"""The brightest sources and their places."""

import numpy as np
import pytest
from scipy import spatial

from psflib.image.exposure import OWN_BITS, Exposure, MaskBit
from psflib.loops import peaks
from psflib.registration.detections import MOST, bright_sources
from psflib.simulation.moved import Move, simulate_moved
from psflib.simulation.psf_model import PsfModel
from tests.registration import naive_registration as naive


def noise_with_holes(shape=(37, 41), seed=5):
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 3, shape).astype(np.float32)
    variance = rng.uniform(1, 3, shape).astype(np.float32)
    variance[rng.uniform(size=shape) < 0.02] = 0
    mask = rng.choice([0, 1, 4, 32, 5], shape, p=[0.85, 0.05, 0.02, 0.05, 0.03]).astype(np.uint16)
    return image, variance, mask


class TestLoops:
    @pytest.mark.parametrize("side", [1, 2, 5])
    def test_blocks_and_maxima_equal_their_twins(self, side):
        planes = noise_with_holes()
        shape = tuple(-(-n // side) for n in planes[0].shape)
        snr, full = np.empty(shape, np.float32), np.empty(shape, bool)
        peaks.block_snr(*planes, np.uint16(5), np.uint16(4), side, snr, full)
        expected = naive.block_snr(*planes, np.uint16(5), np.uint16(4), side)
        np.testing.assert_allclose(snr, expected[0], rtol=1e-5, atol=1e-6)  # float32
        np.testing.assert_array_equal(full, expected[1])
        snr = np.round(snr)  # many equal ones
        for reach in (1, 2):
            out = np.empty((snr.size, 2), np.int64)
            found = out[: peaks.local_maxima(snr, full, 1.5, reach, out)]
            np.testing.assert_array_equal(found, naive.local_maxima(snr, full, 1.5, reach))

    def test_no_more_than_there_is_room_for(self):
        out = np.empty((3, 2), np.int64)
        snr = np.zeros((30, 30), np.float32)
        snr[::5, ::5] = 9
        assert peaks.local_maxima(snr, np.zeros(snr.shape, bool), 1.0, 2, out) == 3

    def test_centre_of_light_equals_its_twin(self):
        image = noise_with_holes()[0]
        for box in ((0, 5, 3, 9), (30, 37, 38, 41)):
            found = peaks.light_centre(image, *box)
            np.testing.assert_allclose(found, naive.light_centre(image, *box), rtol=1e-12)
        assert peaks.light_centre(-np.abs(image), 2, 5, 4, 9) == (6.0, 3.0)


@pytest.fixture(scope="module")
def field():
    """Stars of S/N 10 to 3000 on a grid of 40 px, each off the pixel centres, and their places."""
    rng = np.random.default_rng(3)
    y, x = (np.mgrid[25:500:40, 25:500:40] + rng.uniform(-0.5, 0.5, (2, 12, 12))).reshape(2, -1)
    flux = 10 ** rng.uniform(2.9, 6, x.size)
    light = np.zeros((512, 512))
    PsfModel(3.2, 0.05, -0.03).render(x, y, flux, light)
    variance = 100 + light / 2
    image = light + rng.normal(0, np.sqrt(variance))
    return Exposure(image, variance, sky=0.0, gain=2.0, meta={"fwhm": 3.2}), np.c_[x, y]


class TestPlaces:
    def test_scatter_is_the_noise_that_is_claimed(self, field):
        exposure, truth = field
        found = bright_sources(exposure)
        distance, which = spatial.cKDTree(truth).query(found.xy)
        assert (distance < 1).all() and len(found) > 120
        pull = (found.xy - truth[which]) / found.error[:, None]
        # of 250 numbers a robust spread is good to 6 %; sqrt(2) is for noise of the sky alone, so
        # that bright stars do better
        assert 0.6 < 1.4826 * np.median(np.abs(pull)) < 1.2
        bright = found.snr > 300
        assert np.abs(found.xy - truth[which])[bright].max() < 0.02

    def test_brightest_first(self, field):
        found = bright_sources(field[0])
        assert (np.diff(found.snr) <= 0).all()

    def test_units_do_not_matter(self, field):
        exposure = field[0]
        factor = np.float32(2.0**-20)
        other = exposure.replace(
            image=exposure.image * factor, variance=exposure.variance * factor**2
        )
        one, two = bright_sources(exposure), bright_sources(other)
        np.testing.assert_allclose(one.xy, two.xy, rtol=0, atol=1e-6)
        np.testing.assert_allclose(one.snr, two.snr, rtol=1e-6)

    def test_saturated_stars_are_rough(self, field):
        exposure, _ = field
        mask = exposure.mask.copy()
        brightest = np.argmax(exposure.image)
        row, col = np.unravel_index(brightest, mask.shape)
        mask[row - 3 : row + 4, col - 3 : col + 4] |= np.uint16(MaskBit.SAT)
        found = bright_sources(exposure.replace(mask=mask, mask_bits=OWN_BITS))
        assert found.rough.sum() == 1 and found.rough[0] and np.isinf(found.snr[0])
        assert np.hypot(found.x[0] - col, found.y[0] - row) < 2
        others = np.hypot(found.x[1:] - col, found.y[1:] - row)
        assert others.min() > 8  # the star's own edges are no stars

    def test_hot_pixels_and_cosmic_rays_are_none(self, field):
        exposure = field[0]
        image = exposure.image.copy()
        image[5::40, 5::40] += 3000
        found = bright_sources(exposure.replace(image=image))
        assert len(found) == len(bright_sources(exposure))

    def test_crowded_fields_give_the_brightest(self):
        science, _ = simulate_moved(Move(), (512, 512), 1, density=20000)
        found = bright_sources(science.replace(meta={"fwhm": 3.6}))
        assert 350 < len(found) <= MOST + 60 * 512**2 / 1e6

    @pytest.mark.parametrize("fwhm", [0.9, 1.5, 6.0, 12.0])
    def test_any_width(self, fwhm):
        rng = np.random.default_rng(8)
        y, x = np.mgrid[50:400:70, 50:400:70].reshape(2, -1) + rng.uniform(-0.5, 0.5, (2, 25))
        light = np.zeros((430, 430))
        PsfModel(fwhm).render(x, y, np.full(25, 1e5), light)
        image = light + rng.normal(0, 10, light.shape)
        found = bright_sources(
            Exposure(image, np.full(light.shape, 100.0), sky=0.0, meta={"fwhm": fwhm})
        )
        distance, _ = spatial.cKDTree(np.c_[x, y]).query(found.xy)
        assert len(found) == 25
        # undersampled stars are moved by where the pixels fall; S/N is 170 at 12 px
        assert distance.max() < (0.15 if fwhm < 1.5 else 0.1)

    def test_nothing_there(self):
        noise = np.random.default_rng(1).normal(0, 1, (100, 100))
        found = bright_sources(Exposure(noise, np.ones((100, 100)), sky=0.0, meta={"fwhm": 3.0}))
        assert len(found) == 0
