"""Noise correlation: the probe sees what is there, and nothing where nothing is."""

import numpy as np
import pytest
from scipy import ndimage, signal

from psflib.image import noise
from psflib.image.covariance import cell_means
from psflib.loops import noise as loops
from tests.image import naive_image as naive


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_loop_equals_its_twin(rng):
    z = rng.normal(size=(20, 24)).astype(np.float32)
    select = rng.uniform(size=z.shape) < 0.7
    np.testing.assert_allclose(
        loops.lag_products(z, select, 2), naive.lag_products(z, select, 2), atol=1e-6
    )


def test_white_noise_is_white(rng):
    z = rng.normal(size=(300, 300)).astype(np.float32)
    rho = noise.noise_correlation(z, np.ones_like(z), np.ones(z.shape, bool), 3)
    near = np.delete(rho.ravel(), rho.size // 2)
    assert np.abs(near).max() < 4.5 / np.sqrt(z.size)


def test_smoothed_noise_has_the_correlation_of_its_filter(rng):
    kernel = np.array([[0.1, 0.2, 0.1], [0.2, 1.0, 0.2], [0.1, 0.2, 0.1]])
    image = ndimage.convolve(rng.normal(size=(500, 500)), kernel).astype(np.float32)
    rho = noise.noise_correlation(image, np.full_like(image, 2.0), np.ones(image.shape, bool), 1)
    expected = np.sum(kernel[:, 1:] * kernel[:, :-1]) / np.sum(kernel**2)
    # errors of neighbouring lags are correlated themselves: allow twice the white-noise error
    assert rho[1, 2] == pytest.approx(expected, abs=5 * 2 / np.sqrt(image.size))


def test_variance_factor_is_that_of_filtered_correlated_noise(rng):
    first = np.array([[0, 0.3, 0], [0.3, 1.0, 0.3], [0, 0.3, 0]])
    second = np.array([[0.5, 0.2, 0.1], [0.2, 1.0, 0.0], [0.0, 0.3, 0.2]])
    rho = np.zeros((5, 5))
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            moved = np.roll(np.pad(first, 2), (dy, dx), (0, 1))
            rho[2 + dy, 2 + dx] = np.sum(np.pad(first, 2) * moved) / np.sum(first**2)
    exact = np.sum(signal.convolve2d(first, second) ** 2) / np.sum(first**2) / np.sum(second**2)
    assert noise.variance_factor(rho, second) == pytest.approx(exact, rel=1e-12)


def test_no_usable_pixel_is_no_sky():
    plane = np.ones((20, 20), np.float32)
    assert not noise.empty_sky(plane, plane, np.zeros(plane.shape, bool), 3.0).any()


def test_too_little_sky_says_so():
    z = np.zeros((9, 9), np.float32)
    rho = noise.noise_correlation(z, np.ones_like(z), np.ones(z.shape, bool), 1)
    assert rho[1, 1] == 1 and np.isnan(rho).sum() == 8


def test_cell_means_equal_slices():
    plane = np.random.default_rng(3).normal(size=(50, 37)).astype("f4")
    for counts, ends in ((None, (50, 37)), ((3, 2), (50, 37))):
        means = cell_means(plane, 16, counts)
        rows = [*range(0, 16 * means.shape[0], 16), ends[0]]
        cols = [*range(0, 16 * means.shape[1], 16), ends[1]]
        for (j, i), mean in np.ndenumerate(means):
            cell = plane[rows[j] : rows[j + 1], cols[i] : cols[i + 1]].astype(float)
            assert mean == pytest.approx(cell.mean(), rel=1e-12)
