"""Sky: level and noise of images whose sky is known."""

import numpy as np
import pytest

from psflib.errors import BadImage
from psflib.preparation import sky as background
from psflib.simulation.psf_model import PsfModel
from psflib.simulation.scene import Scene, power_law, render

SHAPE = (300, 320)
SIGMA = 8.0


def noisy(level, shape=SHAPE, sigma=SIGMA, seed=2):
    return (level + np.random.default_rng(seed).normal(0, sigma, shape)).astype(np.float32)


def fit(image, usable=None, **options):
    return background.fit_sky(
        image, np.ones(image.shape, bool) if usable is None else usable, **options
    )


def error_of(n_pixels, n_terms=6):
    """Standard error of the fitted sky, rms over the image; a clipped mode costs half more."""
    return 1.5 * SIGMA * np.sqrt(n_terms / n_pixels)


def gradient(shape):
    y, x = np.indices(shape)
    return 500 + 0.1 * x - 0.07 * y + 1e-4 * (x - 150) ** 2


def stars(shape, count=120, seed=5):
    rng = np.random.default_rng(seed)
    flux = power_law(rng.uniform(size=count), 500, 1e5, 1.6)
    places = (rng.uniform(0, n, count) for n in shape[::-1])
    return render(Scene.points(*places, flux), PsfModel(3.2, shape=shape), shape, SIGMA)


@pytest.mark.parametrize("order", [0, 2, None])
@pytest.mark.parametrize("level", [0.0, 1234.5, -20.0])
def test_a_constant_image_returns_itself(level, order):
    sky = fit(np.full(SHAPE, level, np.float32), order=order)
    np.testing.assert_allclose(sky.level, level, rtol=1e-6, atol=1e-6)  # float32
    assert sky.median_level == pytest.approx(level, rel=1e-6)
    assert np.all(sky.rms > 0)


def test_level_and_noise_of_empty_sky():
    sky = fit(noisy(1000))
    n = SHAPE[0] * SHAPE[1]
    assert np.sqrt(np.mean((sky.level - 1000) ** 2)) < 3 * error_of(n)
    # clipping at 3 sigma takes 1.5 %; the median of 25 cells of 4096 px scatters by 0.3 %
    assert sky.median_rms == pytest.approx(SIGMA, rel=0.015 + 4 * 0.003)


def test_a_gradient_is_recovered():
    truth = gradient(SHAPE)
    sky = fit(noisy(truth))
    assert np.sqrt(np.mean((sky.level - truth) ** 2)) < 3 * error_of(truth.size)
    assert sky.median_rms == pytest.approx(SIGMA, rel=0.03)  # the slope is 6 ADU a cell


def test_cells_cut_by_the_border_do_not_tilt_the_sky():
    truth = np.indices((300, 320))[0] * 0.5  # the last cells are 44 px high, not 64
    sky = fit(noisy(truth, sigma=1.0))
    assert np.abs(sky.level - truth).max() < 0.5  # what the sky changes in one pixel


def test_sources_do_not_bias():
    truth = gradient(SHAPE)
    sky = fit(noisy(truth + stars(SHAPE)))
    # what is left of wings below the threshold: 2 to 3 % of sigma with 1250 stars a Mpx
    assert abs(np.mean(sky.level - truth)) < 3 * error_of(truth.size, 1) + 0.03 * SIGMA
    assert sky.median_rms == pytest.approx(SIGMA, rel=0.04)


def test_masked_pixels_do_not_count():
    image = noisy(50)
    usable = np.ones(SHAPE, bool)
    usable[40:160, 100:250] = False
    image[~usable] = 1e6
    sky = fit(image, usable)
    assert np.sqrt(np.mean((sky.level[usable] - 50) ** 2)) < 3 * error_of(usable.sum())
    assert np.isfinite(sky.level).all() and np.isfinite(sky.rms).all()


def test_all_masked():
    with pytest.raises(BadImage, match="no usable pixel"):
        fit(noisy(50), np.zeros(SHAPE, bool))


@pytest.mark.parametrize("shape", [(40, 40), (20, 300), (300, 20), (16, 16), (8, 8)])
def test_tiny_images(shape):
    sky = fit(noisy(200, shape))
    n = shape[0] * shape[1]
    assert sky.level.shape == sky.rms.shape == shape
    assert sky.level.dtype == sky.rms.dtype == np.float32
    assert np.sqrt(np.mean((sky.level - 200) ** 2)) < 4 * error_of(n)
    assert sky.median_rms == pytest.approx(SIGMA, rel=0.03 + 4 / np.sqrt(2 * n))


def test_an_image_full_of_source():
    image = noisy(100 + 1e4 * np.exp(-np.hypot(*(np.indices(SHAPE) - 150)) / 100))
    sky = fit(image)
    assert np.isfinite(sky.level).all() and np.all(sky.rms > 0)


def test_noise_that_varies_is_followed():
    sigma = np.where(np.arange(SHAPE[1]) < 160, 5.0, 10.0) * np.ones(SHAPE)
    sky = fit(noisy(0, sigma=sigma))
    for half, expected in ((np.s_[:, :100], 5), (np.s_[:, 220:], 10)):
        assert np.median(sky.rms[half]) == pytest.approx(expected, rel=0.05)


def test_input_is_not_modified():
    image, usable = noisy(100), np.ones(SHAPE, bool)
    before = image.copy(), usable.copy()
    fit(image, usable)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(usable, before[1])


def test_source_mask_covers_sources_and_little_else():
    light = stars(SHAPE, 20)
    covered = background.source_mask(noisy(0) + light, 0, SIGMA, np.ones(SHAPE, bool))
    assert covered[light > 3 * SIGMA].mean() > 0.99
    empty = background.source_mask(noisy(0), 0, SIGMA, np.ones(SHAPE, bool))
    assert empty.mean() < 0.01
