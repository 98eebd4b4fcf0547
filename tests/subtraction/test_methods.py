"""One truth for every subtraction method, and the identities that a difference obeys."""

import numpy as np
import pytest

from psflib.decorrelation.decorrelate import DecorrelateSettings, decorrelate
from psflib.detection import detect as detection
from psflib.errors import NotEnoughStars
from psflib.image.exposure import Exposure
from psflib.judging.metrics import recovery, values, whiteness
from psflib.simulation import simulate_pair
from psflib.subtraction import METHODS, SubtractSettings, subtract

SHAPE = (400, 420)
TRANSIENTS = [(60.3, 70.8, 3000), (210.1, 150.4, 5000), (350.7, 300.2, -4000), (120.5, 330.9, 8000)]


def pair(**options):
    settings = {
        "shape": SHAPE,
        "seed": 4,
        "n_stars": 200,
        "brightest": 4e5,
        "scale": 1.3,
        "transients": TRANSIENTS,
    }
    return simulate_pair(**{**settings, **options})


@pytest.fixture(scope="module")
def images():
    return pair(background=7.0)


@pytest.fixture(scope="module", params=METHODS)
def raw(request, images):
    science, template, _ = images
    return subtract(science, template, method=request.param)


@pytest.fixture(scope="module")
def clean(raw):
    return decorrelate(raw)


class TestTruth:
    def test_flux_scale_and_background(self, raw):
        # over 12 seeds it is -0.3 % (light beyond the kernel's box), scatter 0.4 %: 3 sigma
        assert raw.kernel.flux_scale(210, 200) == pytest.approx(1.3, rel=0.015)
        assert raw.kernel.background_at(210, 200) == pytest.approx(7.0, abs=5 * 12 / np.sqrt(5e4))

    def test_transients_are_found_and_nothing_else(self, clean, images):
        found = detection.detect(clean)
        score = recovery(found, _as_transients(images[2]), SHAPE[0] * SHAPE[1])
        assert score.found == score.expected == 4
        assert score.others <= 1
        # four sources of S/N 20 to 60: the mean flux is good to 1.1 %
        assert abs(score.flux_bias) < max(3 * score.flux_error, 0.03)

    def test_signs(self, clean, images):
        found = detection.detect(clean)
        strong = np.abs(values(found, "snr")) > 8
        assert np.sum(values(found, "flux")[strong] < 0) == 1

    def test_noise_is_white_after_and_not_before(self, raw, clean, images):
        truth = images[2]
        avoid = [values(truth, name)[values(truth, "kind") == "transient"] for name in ("x", "y")]
        noise = whiteness(raw, clean, raw.science, avoid)
        error = 1 / np.sqrt(noise.n_pixels)
        assert noise.std == pytest.approx(1, abs=0.03)
        assert noise.score_std == pytest.approx(1, abs=0.05)
        assert abs(noise.correlation_after) < 5 * error + 0.01
        if raw.meta.get("white"):  # proper subtraction leaves nothing to do
            assert abs(noise.correlation_before) < 5 * error + 0.01
        else:
            assert noise.correlation_before > 0.03  # the probe sees what was there

    def test_no_nan_outside_the_mask(self, clean):
        for plane in (clean.image, clean.variance, clean.score):
            assert np.isfinite(plane).all()
        assert np.all(clean.variance[clean.usable] > 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [5, 6, 7, 8])
@pytest.mark.parametrize("method", METHODS)
def test_transients_on_other_fields(method, seed):
    """One stands in the wing of a bright star near the border, where a flexible kernel would take
    it for the wing (seeds 5, 6), or a PSF's noise leave sources (8)."""
    science, template, truth = pair(background=7.0, seed=seed)
    found = detection.detect(decorrelate(subtract(science, template, method=method)))
    score = recovery(found, _as_transients(truth), SHAPE[0] * SHAPE[1])
    assert score.found == 4
    assert score.others <= 1
    assert abs(score.flux_bias) < max(3 * score.flux_error, 0.03)


class TestIdentities:
    def test_roles_swapped_flip_the_sign(self, images):
        science, template, _ = images
        there = subtract(science, template)
        back = subtract(template, science)
        assert (there.kernel.convolved, back.kernel.convolved) == ("template", "science")
        scale = there.kernel.flux_scale(210, 200)
        use = there.usable & back.usable
        # the same fit: only the spatial variation of the scale (1 %) tells them apart
        rest = there.image[use] + scale * back.image[use]
        assert np.std(rest) < 0.05 * np.std(there.image[use])

    def test_units_do_not_matter(self, images):
        science, template, _ = images
        once = subtract(science, template)
        scaled = subtract(_times(science, 50), _times(template, 1e-3))
        use = once.usable
        z = (scaled.image / 50 - once.image)[use] / np.sqrt(once.variance[use])
        assert np.abs(z).max() < 0.02  # float32 planes, and clipping decisions at the margin

    def test_input_is_not_touched(self, images):
        science, template, _ = images
        before = [p.copy() for e in (science, template) for p in (e.image, e.variance, e.mask)]
        decorrelate(subtract(science, template))
        after = [p for e in (science, template) for p in (e.image, e.variance, e.mask)]
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_the_same_twice(self, images):
        science, template, _ = images
        one, two = (subtract(science, template) for _ in range(2))
        np.testing.assert_array_equal(one.image, two.image)


class TestPsf:
    def test_psf_of_the_difference(self, raw, clean):
        for difference in (raw, clean):
            psf = difference.psf_at(200, 180, size=31)
            assert psf.shape == (31, 31)
            assert psf.sum() == pytest.approx(1, abs=1e-9)
            assert np.unravel_index(psf.argmax(), psf.shape) == (15, 15)
        with pytest.raises(ValueError, match="odd"):
            clean.psf_at(200, 180, size=30)


class TestHardCases:
    def test_masked_and_nan_pixels(self, images):
        science, template, _ = images
        image = science.image.copy()
        image[100:120, 100:140] = np.nan
        mask = np.zeros(SHAPE, bool)
        mask[:, 300] = True
        holed = Exposure(
            image, science.variance, mask, gain=2.0, saturation=1e6, sky=0.0, meta=science.meta
        )
        clean = decorrelate(subtract(holed, template))
        assert not clean.usable[110, 120] and not clean.usable[50, 300]
        assert np.isfinite(clean.image).all()
        assert clean.usable.mean() > 0.8

    def test_few_stars_lower_the_order(self):
        science, template, _ = pair(n_stars=6, faintest=2e4, transients=())
        kernel = subtract(science, template).kernel
        assert kernel.order < 2
        assert kernel.meta["lowered"]

    def test_no_stars(self):
        science, template, _ = pair(n_stars=0, transients=())
        science = science.replace(meta={**science.meta, "fwhm": 3.6, "sky_rms": 10.0})
        template = template.replace(meta={**template.meta, "fwhm": 2.8, "sky_rms": 7.0})
        with pytest.raises(NotEnoughStars, match="0 usable stars"):
            subtract(science, template)

    def test_stars_only_at_the_border(self):
        science, template, _ = simulate_pair(shape=(48, 48), n_stars=5, seed=1)
        with pytest.raises(NotEnoughStars, match="usable stars"):
            subtract(science, template)

    def test_half_of_the_image_missing(self, images):
        science, template, _ = images
        image = science.image.copy()
        image[:, :200] = np.nan
        clean = decorrelate(subtract(science.replace(image=image), template))
        assert np.isfinite(clean.image).all() and np.isfinite(clean.score).all()
        assert not clean.usable[:, :200].any()

    def test_bad_calls(self, images):
        science, template, _ = images
        with pytest.raises(ValueError, match="unknown method"):
            subtract(science, template, method="magic")
        with pytest.raises(ValueError, match="differ in shape"):
            trusted = SubtractSettings(register={"method": "wcs"})
            subtract(science, template.cutout(slice(0, 300), slice(0, 300)), settings=trusted)
        raw = subtract(science, template)
        with pytest.raises(ValueError, match="does not carry"):
            decorrelate(raw.replace(science=None))
        with pytest.raises(ValueError, match="already"):
            decorrelate(decorrelate(raw))


def test_varying_filter_equals_the_constant_one_for_a_constant_kernel(images):
    raw = subtract(images[0], images[1])
    one = decorrelate(raw, DecorrelateSettings(method="constant"))
    many = decorrelate(raw)
    use = one.usable & many.usable
    z = (one.image - many.image)[use] / np.sqrt(one.variance[use])
    assert np.std(z) < 0.05


def _as_transients(truth):
    return truth[values(truth, "kind") == "transient"]


def _times(exposure, factor):
    return exposure.replace(
        image=exposure.image * np.float32(factor),
        variance=exposure.variance * np.float32(factor**2),
        gain=exposure.gain / factor,
        saturation=exposure.saturation * factor,
        meta={"psf": exposure.meta["psf"]},
    )
