"""Stars too many to be told apart are no noise of the sky."""

import numpy as np
import pytest
from scipy import ndimage

import psflib
from psflib.image.noise import crowded_variance
from psflib.simulation import simulate_pair

SKY, GAIN = 200.0, 2.0


def image_of(per_mpx, seed, variance=None, side=256):
    """An image with sky of so many stars a Mpx, down to 10 sigma of the noise; the truth."""
    true, _, _ = simulate_pair(
        (side, side), seed=seed, n_stars=per_mpx * side * side // 10**6, faintest=100.0,
        brightest=1e5,
    )  # fmt: skip
    image = true.image + np.float32(SKY)
    given = true.variance if variance == "true" else None
    return psflib.Exposure(image, variance=given, gain=GAIN, saturation=6e4), true


@pytest.mark.parametrize("per_mpx", [20_000, 60_000])
def test_the_variance_is_that_of_the_noise(per_mpx):
    exposure, true = image_of(per_mpx, 5)
    ready = psflib.prepare(exposure)
    ratio = np.median(ready.variance / true.variance)
    # 4.3 at 60,000 if the stars are taken for noise; their sky is still too high then
    assert 0.85 < ratio < 1.8
    assert ready.meta["confusion"] > 0.3 * ready.meta["sky_rms"]
    assert any("crowded" in note for note in ready.meta["notes"])
    # to the star of a PSF they are noise all the same
    excess = crowded_variance(ready) - ready.variance
    np.testing.assert_allclose(excess, ready.meta["confusion"] ** 2, rtol=1e-3)


def test_a_true_variance_is_believed_in_a_crowd():
    exposure, _ = image_of(60_000, 6, variance="true")
    ready = psflib.prepare(exposure)
    np.testing.assert_array_equal(ready.variance, exposure.variance)
    assert ready.meta["confusion"] > 10


def test_sparse_fields_and_resampled_noise_are_no_crowd():
    exposure, _ = image_of(1000, 7)
    rng = np.random.default_rng(7)
    alike = ndimage.uniform_filter(rng.normal(size=(256, 256)), 2) * 20  # neighbours by a half
    for image in (exposure.image, exposure.image + alike):
        ready = psflib.prepare(exposure.replace(image=image.astype(np.float32)))
        assert "confusion" not in ready.meta
        np.testing.assert_array_equal(crowded_variance(ready), ready.variance)


def test_a_crowd_in_a_corner_is_told_there():
    exposure, true = image_of(60_000, 8, side=384)
    empty, _ = image_of(100, 9, side=384)
    mixed = empty.image.copy()
    mixed[:192, :192] = exposure.image[:192, :192]
    ready = psflib.prepare(empty.replace(image=mixed))
    corner, other = (ready.variance[box] for box in (np.s_[30:150, 30:150], np.s_[230:, 230:]))
    assert np.median(corner) < 2 * np.median(true.variance)
    assert np.median(other) == pytest.approx(SKY / GAIN, rel=0.1)
