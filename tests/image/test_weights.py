"""Weights that do not know the noise of their own pixel, and what they are for."""

import numpy as np
import pytest

import psflib
from psflib.image.exposure import Exposure
from psflib.image.weights import weight_variance
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


@pytest.mark.parametrize("method", ["al", "sfft"])
def test_the_sky_of_a_difference_is_unbiased(method):
    """Variance from counts: 0.6 ADU and 0.1 sigma of the score before, 8 and 10 errors."""
    means, scores = [], []
    truth = {"science": 1.2 * starlight(3.6) + 300, "template": starlight(2.6) + 450}
    empty = truth["science"] - 300 < 0.02
    empty[:20], empty[-20:], empty[:, :20], empty[:, -20:] = False, False, False, False
    for seed in (1, 2):
        pair = []
        for k, light in enumerate(truth.values()):
            seen = observed(light - 300, 300.0, 10 * seed + k)
            variance = variances(seen, light)["counts"]
            pair.append(Exposure(seen.astype("f4"), variance.astype("f4"), gain=GAIN))
        raw = psflib.subtract(*pair, method=method)
        sky = empty & (raw.mask == 0)
        means.append(raw.image[sky].mean() / np.sqrt(raw.variance[sky].mean() / sky.sum()))
        scores.append(psflib.decorrelate(raw).score[sky].mean())
    # a background of degree 3 follows the noise, so that the mean is better than its own error
    assert abs(np.mean(means)) < 2
    assert abs(np.mean(scores)) < 0.04
