"""Preparation: what is measured when the header is silent, what is masked, and what is not."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, NDData
from scipy import spatial

from psflib.errors import BadImage
from psflib.image.exposure import Exposure, MaskBit
from psflib.loops import lines as loops
from psflib.preparation.prepare import PrepareSettings, pile_up, prepare
from psflib.simulation.psf_model import PsfModel
from psflib.simulation.scene import Scene, power_law, render

SHAPE = (400, 420)
SKY, GAIN, READ_NOISE = 400.0, 2.0, 4.0  # ADU, e-/ADU, ADU
SIGMA = np.sqrt(SKY / GAIN + READ_NOISE**2)  # of the empty sky, ADU


def starlight(shape=SHAPE, count=120, fwhm=3.2, brightest=1e5, seed=5):
    rng = np.random.default_rng(seed)
    flux = power_law(rng.uniform(size=count), 800, brightest, 1.6)
    x, y = (rng.uniform(0, n, count) for n in shape[::-1])
    return render(Scene.points(x, y, flux), PsfModel(fwhm, shape=shape), shape, SIGMA)


def observe(light, sky=SKY, seed=7):
    """Photon and read noise on light and sky."""
    variance = (light + sky) / GAIN + READ_NOISE**2
    return light + sky + np.random.default_rng(seed).normal(0, np.sqrt(variance))


@pytest.fixture(scope="module")
def light():
    return starlight()


@pytest.fixture(scope="module")
def raw(light):
    return observe(light)


@pytest.fixture(scope="module")
def ready(raw):
    return prepare(Exposure(raw))


def bits(exposure, bit):
    return (exposure.mask & np.uint16(bit)) != 0


def said(exposure, words):
    return any(words in note for note in exposure.meta["notes"])


class TestMeasured:
    def test_sky_noise_and_seeing(self, ready):
        n = ready.image.size
        assert ready.sky == pytest.approx(SKY, abs=5 * SIGMA / np.sqrt(n) + 0.05 * SIGMA)
        assert ready.meta["sky_rms"] == pytest.approx(SIGMA, rel=0.04)
        assert ready.meta["fwhm"] == pytest.approx(3.2, rel=0.05)  # as detect_sources promises

    def test_variance_is_that_of_the_pixels(self, ready, light):
        truth = (light + SKY) / GAIN + READ_NOISE**2
        sky = light < 0.3 * SIGMA
        assert np.median(ready.variance[sky] / truth[sky]) == pytest.approx(1, abs=0.08)
        pull = (ready.image - light)[sky] / np.sqrt(ready.variance[sky])
        assert np.std(pull) == pytest.approx(1, abs=0.04)
        assert said(ready, "variance measured: sky noise of the image and photon noise")

    def test_gain_from_sky_level_and_noise(self, ready):
        # read noise passes for photon noise: 400 / (200 + 16); the noise is good to 4 %
        assert ready.gain == pytest.approx(SKY / SIGMA**2, rel=0.08)
        assert said(ready, "no gain given")

    def test_bright_stars_have_photon_noise(self, raw, light):
        ready = prepare(Exposure(raw, gain=GAIN))
        bright = (light > 50 * SIGMA) & ready.usable
        expected = light[bright] / GAIN + SIGMA**2
        assert np.median(ready.variance[bright] / expected) == pytest.approx(1, abs=0.05)

    def test_given_values_are_kept(self, raw):
        variance = np.full(SHAPE, 300.0, np.float32)
        ready = prepare(Exposure(raw, variance, gain=1.7, saturation=6e4))
        assert (ready.gain, ready.saturation) == (1.7, 6e4)
        assert np.all(ready.variance[ready.usable] == 300)
        assert not said(ready, "no gain") and not said(ready, "variance measured")

    @pytest.mark.parametrize("pedestal", [0.0, -50.0])
    def test_no_pedestal(self, light, pedestal):
        raw = observe(light) - SKY + pedestal
        ready = prepare(Exposure(raw))
        assert ready.gain is None and said(ready, "photon noise of sources left out")
        assert ready.sky == pytest.approx(pedestal, abs=0.06 * SIGMA)
        assert ready.meta["sky_rms"] == pytest.approx(SIGMA, rel=0.04)
        assert np.all(ready.variance[ready.usable] > 0)

    def test_negative_pixels_have_the_noise_of_the_sky(self, light):
        raw = observe(light)
        raw[100:104, 100:104] -= 3400.0
        ready = prepare(Exposure(raw, gain=GAIN))
        assert ready.variance.min() > 0.5 * SIGMA**2
        assert ready.variance[102, 102] == pytest.approx(SIGMA**2, rel=0.15)


class TestPromises:
    def test_idempotent(self, ready):
        assert prepare(ready) is ready

    def test_sky_free_input_gets_its_seeing(self, light):
        image = observe(light) - SKY
        done = prepare(Exposure(image, (light + SKY) / GAIN + READ_NOISE**2, sky=0.0))
        np.testing.assert_array_equal(done.image, image.astype(np.float32))
        assert done.meta["fwhm"] == pytest.approx(3.2, rel=0.05)
        assert done.meta["sky_rms"] == pytest.approx(SIGMA, rel=0.05)
        assert prepare(done) is done

    def test_nothing_is_modified(self, raw):
        image = raw.astype(np.float32)
        image[30:40, 50:60] = np.nan
        exposure = Exposure(
            image,
            np.full(SHAPE, 300, np.float32),
            np.zeros(SHAPE, np.uint16),
            meta={"notes": ["read"]},
        )
        planes = exposure.image, exposure.variance, exposure.mask, image
        before = [plane.copy() for plane in planes]
        ready = prepare(exposure)
        for now, then in zip(planes, before, strict=True):
            np.testing.assert_array_equal(now, then)
        assert exposure.meta == {"notes": ["read"]} and ready.meta["notes"][0] == "read"

    def test_planes_are_bounded(self, raw):
        image = raw.copy()
        image[:, 200:210] = np.nan
        image[0, 0], image[1, 1] = np.inf, -np.inf
        ready = prepare(Exposure(image))
        lost = bits(ready, MaskBit.NO_DATA)
        assert lost.sum() == 10 * SHAPE[0] + 2
        for plane in (ready.image, ready.variance):
            assert np.isfinite(plane).all() and np.all(plane[lost] == 0)
            assert plane.dtype == np.float32
        assert np.all(ready.variance[~lost] > 0)

    @pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 17.0])
    def test_no_image_at_all(self, value):
        with pytest.raises(BadImage):
            prepare(Exposure(np.full((100, 100), value)))

    def test_all_masked(self, raw):
        with pytest.raises(BadImage, match="no usable pixel"):
            prepare(Exposure(raw, mask=np.ones(SHAPE, bool)))

    @pytest.mark.parametrize("shape", [(40, 40), (20, 300), (8, 8)])
    def test_tiny_images(self, shape):
        ready = prepare(Exposure(observe(np.zeros(shape))))
        assert ready.shape == shape and np.all(ready.variance[ready.usable] > 0)
        assert ready.usable.mean() > 0.9

    def test_pure_noise_loses_nothing(self):
        ready = prepare(Exposure(observe(np.zeros(SHAPE))))
        # 6 sigma: 1e-4 pixels in 1.7e5; a few of the Laplacian's own
        assert (~ready.usable).sum() <= 5


class TestSaturation:
    def test_full_wells_are_found(self):
        raw = np.minimum(observe(starlight(brightest=3e6, seed=8)), 20000.0)
        ready = prepare(Exposure(raw))
        assert ready.saturation == pytest.approx(20000, rel=0.01)
        assert said(ready, "pile-up")
        assert bits(ready, MaskBit.SAT)[raw >= 20000].all()
        assert bits(ready, MaskBit.SAT).mean() < 0.02

    def test_a_header_that_is_too_high(self):
        raw = np.minimum(observe(starlight(brightest=3e6, seed=8)), 20000.0)
        ready = prepare(Exposure(raw, saturation=65535))
        assert ready.saturation == pytest.approx(20000, rel=0.01)

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("brightest", [3e4, 1e6])
    def test_stars_alone_are_no_pile_up(self, seed, brightest):
        raw = observe(starlight(count=200, brightest=brightest, seed=seed), seed=seed)
        assert pile_up(raw.ravel()) is None

    def test_nothing_found_nothing_masked(self, ready):
        assert ready.saturation is None and said(ready, "no saturation level given")
        assert not bits(ready, MaskBit.SAT).any()


class TestBadLines:
    def test_columns_and_rows(self, raw):
        image = raw.copy()
        image[:, 100] += 5 * SIGMA
        image[:, 250] = 0
        image[77] -= 3 * SIGMA
        ready = prepare(Exposure(image))
        bad = bits(ready, MaskBit.BAD)
        np.testing.assert_array_equal(np.flatnonzero(bad.all(0)), [100, 250])
        np.testing.assert_array_equal(np.flatnonzero(bad.all(1)), [77])
        assert said(ready, "bad columns masked: 100, 250") and said(ready, "bad rows masked: 77")
        assert not bits(
            prepare(Exposure(image), PrepareSettings(bad_lines=False)), MaskBit.BAD
        ).any()

    def test_none_where_there_are_none(self, ready):
        assert not bits(ready, MaskBit.BAD).any() and not said(ready, "bad columns")

    @pytest.mark.parametrize(("rms", "slope"), [(0.7, 1.0), (1.2, 0.0), (1.8, 3.0)])
    def test_digitised_noise_makes_no_columns(self, rms, slope):
        """Medians of columns jump by 1 ADU where the sky crosses a half (1.4 % were masked)."""
        shape = (1000, 1100)
        sky = 100.5 + slope * np.arange(shape[1]) / shape[1]
        for seed in range(2):
            image = np.rint(sky + np.random.default_rng(seed).normal(0, rms, shape))
            ready = prepare(Exposure(image.astype(np.int16)), PrepareSettings(cosmic_rays=False))
            assert not bits(ready, MaskBit.BAD).any()

    def test_digitised_bad_column_is_found(self):
        image = np.rint(100.5 + np.random.default_rng(0).normal(0, 1.2, (500, 600)))
        image[:, 77] += 3
        ready = prepare(Exposure(image), PrepareSettings(cosmic_rays=False))
        bad = bits(ready, MaskBit.BAD)
        np.testing.assert_array_equal(np.flatnonzero(bad.all(0)), [77])
        assert bad.sum() == 500

    def test_masked_columns_do_not_disturb(self, raw):
        image = raw.copy()
        image[:, 100:103] = np.nan
        ready = prepare(Exposure(image))
        assert not bits(ready, MaskBit.BAD).any()


def inject_rays(image, count, rng):
    """Straight tracks of 3 to 10 pixels, 15 to 100 sigma a pixel; which pixels they touch."""
    hit = np.zeros(image.shape, bool)
    tracks = []
    for _ in range(count):
        length, angle = rng.integers(3, 11), rng.uniform(0, np.pi)
        step = np.arange(length)
        x = np.rint(rng.uniform(15, image.shape[1] - 15) + step * np.cos(angle)).astype(int)
        y = np.rint(rng.uniform(15, image.shape[0] - 15) + step * np.sin(angle)).astype(int)
        image[y, x] += rng.uniform(15, 100) * SIGMA
        hit[y, x] = True
        tracks.append((y, x))
    return hit, tracks


class TestCosmicRays:
    def test_rays_are_found(self, raw, light):
        image = raw.copy()
        _, tracks = inject_rays(image, 100, np.random.default_rng(9))
        found = bits(prepare(Exposure(image)), MaskBit.CR)
        on_sky = [t for t in tracks if light[t].max() < 3 * SIGMA]
        assert len(on_sky) > 60
        share = [found[t].mean() for t in on_sky]
        # 60 tracks or more: 90 % of pixels, and not one missed
        assert np.mean(share) >= 0.9 and min(share) > 0
        # all tracks, those across stars too
        assert np.mean([found[t].any() for t in tracks]) >= 0.9

    @pytest.mark.parametrize("fwhm", [2.8, 3.2, 4.0])
    def test_star_cores_are_not(self, fwhm):
        shape = (620, 650)
        rng = np.random.default_rng(int(10 * fwhm))
        y, x = (g.ravel() * 40.0 + 40 for g in np.mgrid[0:14, 0:15])
        x, y = x + rng.uniform(-0.5, 0.5, 210), y + rng.uniform(-0.5, 0.5, 210)
        flux = np.geomspace(20 * SIGMA, 5e5, 210)[rng.permutation(210)]
        light = render(Scene.points(x, y, flux), PsfModel(fwhm, shape=shape), shape, SIGMA)
        found = bits(prepare(Exposure(observe(light), gain=GAIN)), MaskBit.CR)
        rows, columns = np.nonzero(found)
        distance, _ = spatial.cKDTree(np.c_[x, y]).query(np.c_[columns, rows])
        assert np.sum(distance < 0.75 * fwhm) == 0

    def test_off_means_off(self, raw):
        image = raw.copy()
        inject_rays(image, 30, np.random.default_rng(9))
        done = prepare(Exposure(image), PrepareSettings(cosmic_rays=False))
        assert not bits(done, MaskBit.CR).any() and not said(done, "cosmic")

    @pytest.mark.parametrize("unit", [1e-9, 1e-5, 1e-3, 1e6])
    def test_whatever_the_unit(self, raw, unit):
        image = raw.copy()
        hit, _ = inject_rays(image, 60, np.random.default_rng(9))
        there = bits(prepare(Exposure(image, gain=GAIN)), MaskBit.CR)
        found = bits(prepare(Exposure(image * unit, gain=GAIN / unit)), MaskBit.CR)
        # rounding in single precision moves the sky's level by far less than its noise
        assert (found != there).sum() <= 0.01 * there.sum() and found[hit].mean() > 0.8

    def test_trailed_stars_are_not(self):
        """The FWHM is a mean of both axes; rays are told from stars across the narrow one."""
        shape = (400, 420)
        psf = PsfModel(3.4, g1=0.35, shape=shape)
        rng = np.random.default_rng(2)
        x, y = (rng.uniform(0, n, 150) for n in shape[::-1])
        flux = power_law(rng.uniform(size=150), 800, 3e5, 1.6)
        light = render(Scene.points(x, y, flux), psf, shape, SIGMA)
        ready = prepare(Exposure(observe(light), gain=GAIN))
        assert ready.meta["fwhm"] == pytest.approx(3.4, rel=0.05)  # as detect_sources promises
        assert bits(ready, MaskBit.CR).sum() <= 2  # 1.3 of 1000 stars exceed 3 sigma


@pytest.mark.parametrize("axis", [0, 1])
def test_line_statistics_equal_numpy(axis):
    rng = np.random.default_rng(4)
    image = rng.normal(0, 2, (41, 37)).astype("f4")
    rms = rng.uniform(1, 2, image.shape).astype("f4")
    mask = (rng.uniform(size=image.shape) < 0.3).astype("u2")
    mask[:, 5], mask[7] = 1, 1  # a line without data either way
    planes = (image, rms, mask) if axis == 0 else (image.T, rms.T, mask.T)
    median, mean = np.empty((2, image.shape[1 - axis]))
    count = np.empty(len(median), np.int64)
    loops.line_statistics(*planes, 1.5, median, mean, count)
    z = np.ma.masked_array(image / rms, mask)
    np.testing.assert_array_equal(count, z.count(axis))
    np.testing.assert_allclose(median, np.ma.median(z, axis).filled(np.nan), rtol=1e-6)
    clipped = np.ma.clip(z.astype(float), -1.5, 1.5)
    np.testing.assert_allclose(mean, clipped.mean(axis).filled(np.nan), rtol=1e-6, atol=1e-12)


def test_takes_whatever_holds_an_image(tmp_path):
    image = observe(starlight(seed=8))
    path = tmp_path / "image.fits"
    fits.writeto(path, image)
    expected = prepare(Exposure(image)).image
    for given in (image, NDData(image), CCDData(image, unit="adu"), path, str(path)):
        np.testing.assert_array_equal(prepare(given).image, expected)
    with pytest.raises(ValueError, match="got dict"):
        prepare({"image": image})


def test_pixels_far_too_small_for_their_squares():
    """1e-22, as of calibrated spectral densities: the same as in ADU, in another unit."""
    image = observe(starlight(seed=9))
    plain = prepare(Exposure(image, gain=GAIN))
    scale = 2.0**-73
    small = prepare(Exposure(image * scale, gain=GAIN / scale))
    unit = small.meta["unit"]
    # powers of two: nothing is rounded
    np.testing.assert_array_equal(small.image.astype(float) * unit / scale, plain.image)
    np.testing.assert_array_equal(small.mask, plain.mask)
    np.testing.assert_allclose(
        small.variance.astype(float) * (unit / scale) ** 2, plain.variance, rtol=1e-6
    )
    assert any("kept in units of" in note for note in small.meta["notes"])


def test_line_means_equal_numpy():
    rng = np.random.default_rng(6)
    image, rms = rng.normal(size=(2, 30, 37)).astype(np.float32)
    rms = np.abs(rms) + np.float32(0.5)
    mask = rng.integers(0, 2, image.shape).astype(np.uint16)
    mask[:, 4] = mask[7] = 1
    columns, rows = np.empty((2, 37)), np.empty((2, 30))
    loops.line_means(image, rms, mask, 1.5, columns, rows)
    values = np.where(mask == 0, np.clip(image / rms, -1.5, 1.5), 0).astype(float)
    for axis, found in enumerate((columns, rows)):
        count = (mask == 0).sum(axis)
        np.testing.assert_array_equal(found[1], count)
        expected = np.divide(
            values.sum(axis), count, out=np.full(len(count), np.nan), where=count > 0
        )
        np.testing.assert_allclose(found[0], expected, rtol=1e-6)
