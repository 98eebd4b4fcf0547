"""What is told of an image, against its pixels: believed, refused or mended."""

import numpy as np
import pytest

from psflib.errors import BadImage
from psflib.image.exposure import Exposure, MaskBit, has_bits
from psflib.image.noise import robust_std
from psflib.preparation.prepare import prepare
from psflib.simulation.psf_model import PsfModel
from psflib.simulation.scene import Scene, render

SHAPE = 320, 320
SKY, GAIN = 900.0, 1.6


@pytest.fixture(scope="module")
def light():
    rng = np.random.default_rng(8)
    flux = 3e3 * (1 - rng.uniform(size=60)) ** -0.8
    x, y = rng.uniform(10, 310, (2, 60))
    scene = Scene.points(x, y, np.minimum(flux, 2e5))
    return render(scene, PsfModel(3.2, shape=SHAPE), SHAPE).astype(float)


@pytest.fixture(scope="module")
def raw(light):
    return np.random.default_rng(9).poisson((light + SKY) * GAIN) / GAIN


@pytest.fixture(scope="module")
def variance(light):
    return (light + SKY) / GAIN


def said(exposure, words):
    return any(words in note for note in exposure.meta["notes"])


class TestVariance:
    @pytest.mark.parametrize("unit", [1.0, 1e-4, 250.0])
    @pytest.mark.parametrize(
        ("plane", "words"),
        [
            (np.sqrt, "as sigma"),
            (lambda v: 1 / v, "as inverse variance"),
            (lambda v: 1 / np.sqrt(v), "as inverse sigma"),
        ],
    )
    def test_planes_of_another_kind(self, raw, variance, unit, plane, words):
        with pytest.raises(BadImage, match=words):
            prepare(Exposure(raw * unit, plane(variance * unit**2)))

    @pytest.mark.parametrize("weight", [1.0, 1200.0])
    def test_arbitrary_weights(self, raw, weight):
        with pytest.raises(BadImage, match=r"no kind of noise plane.*the variance is measured"):
            prepare(Exposure(raw, np.full(SHAPE, 1 / weight)))

    @pytest.mark.parametrize("factor", [0.7, 1.0, 1.6])
    def test_what_may_be_true_is_kept(self, raw, variance, factor):
        ready = prepare(Exposure(raw, factor * variance, gain=GAIN))
        good = ready.usable
        np.testing.assert_allclose(ready.variance[good], factor * variance[good], rtol=1e-6)

    def test_correlated_noise(self, light):
        """A resampled image scatters less from pixel to pixel than its plane claims, rightly."""
        noise = np.random.default_rng(4).normal(0, 20, SHAPE)
        half = (noise + np.roll(noise, 1, 0)) / 2
        smooth = (half + np.roll(half, 1, 1)) / 2  # a quarter of the variance is seen
        ready = prepare(Exposure(light + SKY + smooth, light / GAIN + 400.0))
        assert np.median(ready.variance) == pytest.approx(400, rel=0.05)

    def test_a_single_absurd_value(self, raw, variance):
        broken = variance.copy()
        broken[40, 50] = 1e-6
        ready = prepare(Exposure(raw, broken))
        assert has_bits(ready.mask, MaskBit.BAD)[40, 50] and said(ready, "1 pixels masked")


class TestGain:
    @pytest.mark.parametrize("scale", [1 / 120, 1 / 65535])
    def test_rescaled_pixels(self, raw, scale):
        ready = prepare(Exposure(raw * scale, gain=GAIN))
        # the noise of the sky is good to 3 %
        assert ready.gain == pytest.approx(GAIN / scale, rel=0.06)
        assert said(ready, "the gain is not that of these pixels")

    @pytest.mark.parametrize("scale", [1 / 120, 1 / 65535, 1e4])
    def test_no_gain_given(self, raw, scale):
        assert prepare(Exposure(raw * scale)).gain == pytest.approx(GAIN / scale, rel=0.06)

    def test_a_bias_in_whole_numbers(self, raw):
        counts = np.round(raw) + 4000
        ready = prepare(Exposure(counts, gain=GAIN))
        assert ready.gain == GAIN and said(ready, "a bias level stands in the sky?")

    def test_a_true_gain_is_kept_without_a_word(self, raw):
        ready = prepare(Exposure(raw, gain=GAIN))
        assert ready.gain == GAIN and not said(ready, "at a gain of")


class TestScatter:
    """A variance plane that is the scatter of a few values at each pixel, not what is expected."""

    @pytest.mark.parametrize("values", [3, 5, 9])
    def test_of_a_few_values_is_averaged(self, raw, variance, values):
        rng = np.random.default_rng(4)
        found = variance * rng.chisquare(values - 1, variance.shape) / values  # no n - 1
        ready = prepare(Exposure(raw, variance=found.astype(np.float32)))
        assert said(ready, "as the scatter of a few values")
        ratio = ready.variance / (variance * (values - 1) / values)
        sky = ready.usable & (variance < 1.1 * SKY / GAIN)
        # 2 / (n - 1) of one pixel, over the 4 pi 3² px of the average
        expected = np.sqrt(2 / (values - 1) / (4 * np.pi * 9))
        assert abs(np.median(ratio[sky]) - 1) < 0.05
        assert robust_std(ratio[sky]) < 1.5 * expected

    def test_expected_ones_and_those_of_counts_are_left_alone(self, raw, variance):
        for plane in (variance, np.maximum(raw, 1) / GAIN):
            ready = prepare(Exposure(raw, variance=plane.astype(np.float32)))
            assert not said(ready, "as the scatter of a few values")


class TestMask:
    def test_bits_of_sources(self, raw, light):
        mask = light > 20
        with pytest.raises(BadImage, match=r"mark sources, not defects.*mask_bits"):
            prepare(Exposure(raw, mask=mask, gain=GAIN))

    def test_names_of_the_bits(self, raw, light):
        meta = {"mask_names": {"DETECTED": 0.1}}
        with pytest.raises(BadImage, match="DETECTED"):
            prepare(Exposure(raw, mask=light > 20, gain=GAIN, meta=meta))

    def test_masks_of_defects(self, raw):
        mask = np.random.default_rng(1).uniform(size=SHAPE) < 0.3
        mask[:, :160] = True
        ready = prepare(Exposure(raw, mask=mask, gain=GAIN))
        assert has_bits(ready.mask, MaskBit.BAD)[mask].all()


def test_raw_frames_of_a_colour_camera_are_told():
    rng = np.random.default_rng(3)
    image = 2000 + 40 * rng.normal(size=(120, 130)).astype(np.float32)
    assert "mosaic" not in prepare(Exposure(image, gain=1.0)).meta
    image[::2, 1::2] -= 60  # the greens of a Bayer pattern
    image[1::2, ::2] -= 90
    ready = prepare(Exposure(image, gain=1.0))
    assert ready.meta["mosaic"] > 1.5
    assert any("colour camera" in note for note in ready.meta["notes"])
