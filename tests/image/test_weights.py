"""Weights that do not know the noise of their own pixel, and what they are for."""

import numpy as np
import pytest

import psflib
from psflib.image.exposure import Exposure
from psflib.image.smooth import own_share, smoothed
from psflib.image.weights import weight_variance, weights
from psflib.simulation.psf_model import PsfModel

SHAPE, GAIN, READ = (400, 400), 1.5, 3.0


def starlight(fwhm, seed=3, count=90):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, SHAPE[0], (2, count))
    light = np.zeros(SHAPE)
    PsfModel(fwhm, wing=0.0, shape=SHAPE).render(x, y, 10 ** rng.uniform(2.8, 5, count), light)
    return light


def observed(light, sky, seed):
    rng = np.random.default_rng(seed)
    return rng.poisson((light + sky) * GAIN) / GAIN + rng.normal(0, READ, SHAPE)


def variances(seen, truth):
    """What surveys hand out: from the counts of each pixel, or from what is expected of it."""
    return {
        "counts": np.maximum(seen, 1) / GAIN + READ**2,
        "truth": truth / GAIN + READ**2,
    }


def weighted_mean(image, variance, select):
    weight = 1 / variance[select].astype(float)
    return np.sum(image[select] * weight) / weight.sum()


def test_a_smooth_variance_is_left_as_it_is():
    light = starlight(3.0)
    image = (observed(light, 300.0, 1) - 300).astype("f4")
    variance = variances(image, light + 300)["truth"].astype("f4")
    assert weight_variance(image, variance, np.ones(SHAPE, bool)) is variance


@pytest.mark.parametrize("sky", [5.0, 40.0, 300.0])
def test_weighted_mean_of_the_sky_is_unbiased(sky):
    seen = observed(np.zeros(SHAPE), sky, 2)
    image, usable = (seen - sky).astype("f4"), np.ones(SHAPE, bool)
    variance = variances(seen, np.full(SHAPE, sky))["counts"].astype("f4")
    error = seen.std() / np.sqrt(seen.size)
    biased = weighted_mean(image, variance, usable)
    weights = weight_variance(image, variance, usable)
    assert biased < -5 * error  # what it is for
    # 3 standard errors, and 2 % of the pixel's own noise that its average still holds
    assert abs(weighted_mean(image, weights, usable)) < 3 * error + 0.05 * abs(biased)


def test_sources_and_masked_pixels_keep_weights_of_their_kind():
    light = starlight(3.0)
    seen = observed(light, 300.0, 4)
    image, usable = (seen - 300).astype("f4"), np.ones(SHAPE, bool)
    planes = variances(seen, light + 300)
    usable[100:120, 100:120] = False
    image[~usable] = 1e6
    weights = weight_variance(image, planes["counts"].astype("f4"), usable)
    np.testing.assert_array_equal(weights[~usable], planes["counts"].astype("f4")[~usable])
    near = np.zeros(SHAPE, bool)
    near[90:130, 90:130] = True
    ratio = (weights / planes["truth"])[~near]
    assert 0.9 < np.median(ratio) < 1.1
    assert ratio.min() > 0.2 and ratio.max() < 5


def test_same_in_any_unit():
    seen = observed(starlight(3.0), 300.0, 5)
    image, usable = (seen - 300).astype("f4"), np.ones(SHAPE, bool)
    variance = variances(seen, seen)["counts"].astype("f4")
    unit = np.float32(2.0**-30)
    expected = weight_variance(image, variance, usable)
    np.testing.assert_allclose(
        weight_variance(image * unit, variance * unit**2, usable) / unit**2, expected, rtol=1e-5
    )


@pytest.mark.parametrize("plane", ["counts", "measured"])
def test_no_weight_knows_the_noise_of_its_pixel(plane):
    """Sky and cores: 0.7 ADU low by counts, and cores by what `prepare` measures too."""
    light = starlight(3.0, count=400)
    seen = observed(light, 300.0, 6)
    variance = variances(seen, light + 300)["counts"].astype("f4") if plane == "counts" else None
    made = psflib.prepare(Exposure(seen.astype("f4"), variance, gain=GAIN))
    noise, weight = seen - light - 300, weights(made).astype(float)
    truth = 1 / variances(seen, light + 300)["truth"]
    for part in (light < 1, light > 100):
        use = part & (weight > 0)
        expected = np.sum((noise * truth)[use]) / truth[use].sum()
        found = np.sum((noise * weight)[use]) / weight[use].sum()
        # the same noise under the best weights: what differs is the bias
        assert abs(found - expected) < 0.06
        assert abs(np.median(weight[use] / truth[use]) - 1) < 0.05


def test_weights_are_zero_where_nothing_is_known():
    image, mask = np.zeros(SHAPE, "f4"), np.zeros(SHAPE, bool)
    mask[3, 4] = True
    made = weights(Exposure(image, np.full(SHAPE, 4.0), mask))
    assert made[3, 4] == 0 and np.all(np.delete(made.ravel(), 3 * SHAPE[1] + 4) == 0.25)
    with pytest.raises(ValueError, match="prepare"):
        weights(Exposure(image))


def test_own_share():
    plane = np.zeros((41, 41), "f4")
    plane[20, 20] = 1
    for sigma in (1.0, 3.0):
        assert smoothed(plane, sigma)[20, 20] == pytest.approx(own_share(sigma), rel=1e-5)
