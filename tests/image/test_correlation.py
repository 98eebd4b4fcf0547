"""Correlations that are covariances, and faint stars told from noise."""

import numpy as np
import pytest
from scipy import ndimage

from psflib.image import correlation, noise

SHAPE = (400, 420)
Y, X = np.indices(SHAPE)
SIGNS = 1 - 2 * (np.indices(SHAPE) % 2)  # +1 and -1 by turns, along y and x


def white(seed=5):
    return np.random.default_rng(seed).normal(size=SHAPE)


def banded(width):
    rows = ndimage.gaussian_filter1d(np.random.default_rng(6).normal(size=SHAPE[0]), width)
    return white() + rows[:, None] / rows.std()


#: Noise of unit variance, with what makes it correlated: of some pixels, or of all
NOISES = {
    "white": white(),
    "linear interpolation": ndimage.uniform_filter(white(), 2),
    "drizzle": ndimage.gaussian_filter(white(), 0.8),
    "alternating rows": white() + 1.5 * SIGNS[0],
    "alternating columns": white() + 0.5 * SIGNS[1],
    "Bayer mosaic": white() + 2.0 * ((Y % 2 == 0) & (X % 2 == 0)),
    "mosaic of 3 levels": white() + SIGNS[0] + SIGNS[1],
    "single rows": banded(0.01),
    "bands": banded(2.0),
}


def measured(z, max_lag):
    """As the inputs' correlation is measured, with what is insignificant set to 0."""
    z = (z - z.mean()).astype(np.float32)
    rho = noise.noise_correlation(z, np.full_like(z, z.var()), np.ones(SHAPE, bool), max_lag)
    rho[np.abs(rho) < 3 / np.sqrt(z.size)] = 0
    return rho


@pytest.mark.parametrize("max_lag", [3, 5])
@pytest.mark.parametrize("kind", NOISES)
class TestPositive:
    def test_no_power_is_negative_on_any_grid(self, kind, max_lag):
        rho = correlation.as_covariance(measured(NOISES[kind], max_lag))
        for side in (64, 75, 128, 300):
            assert correlation.powers(rho, (side, side)).min() > 0
        assert rho[max_lag, max_lag] == 1
        np.testing.assert_allclose(rho, rho[::-1, ::-1], atol=1e-12)

    def test_no_filter_has_noise_of_negative_variance(self, kind, max_lag):
        rho = correlation.as_covariance(measured(NOISES[kind], max_lag))
        rng = np.random.default_rng(1)
        wave = np.add.outer(*(np.arange(9),) * 2)
        for filter_ in (*rng.normal(size=(20, 9, 9)), (-1.0) ** wave, np.ones((9, 9))):
            assert noise.variance_factor(rho, filter_) > 0


@pytest.mark.parametrize("kind", ["white", "linear interpolation", "drizzle"])
def test_what_dies_away_hardly_changes(kind):
    """Noise of few lags is nearly valid as measured: what is lost is its error."""
    rho = measured(NOISES[kind], 4)
    # 6 standard errors of a lag; the rest of the drizzle's is cut off at 4 px
    np.testing.assert_allclose(correlation.as_covariance(rho), rho, atol=0.015)


def test_the_invalid_ones_were_invalid():
    for kind in ("alternating rows", "Bayer mosaic", "mosaic of 3 levels", "bands"):
        assert correlation.powers(measured(NOISES[kind], 5), (64, 64)).min() < -0.1


def test_a_covariance_stays_what_it_is():
    rho = np.zeros((7, 7))
    rho[2:5, 2:5] = np.outer([0.25, 1, 0.25], [0.25, 1, 0.25])
    np.testing.assert_array_equal(correlation.as_covariance(rho), rho)


class TestStars:
    FWHM = 3.6

    def sky(self, kernel_sigma, level):
        """Noise, smoothed by resampling, and light of stars everywhere."""
        light = ndimage.gaussian_filter(white(9), self.FWHM / 2.355)
        grain = ndimage.gaussian_filter(white(), kernel_sigma) if kernel_sigma else white()
        return grain / grain.std() + level * light / light.std()

    def test_faint_stars_are_no_noise(self):
        rho, share = correlation.without_stars(measured(self.sky(0, 1.0), 3), self.FWHM)
        assert share == pytest.approx(0.5, abs=0.03)  # sample variance of 1e4 stars' areas
        np.testing.assert_array_equal(rho, np.pad([[1.0]], 3))

    def test_resampled_noise_is_none_of_stars(self):
        before = measured(self.sky(0.7, 0), 3)
        rho, share = correlation.without_stars(before, self.FWHM)
        assert share < 0.05 and rho[3, 4] == pytest.approx(before[3, 4], abs=0.05)

    def test_both(self):
        own = measured(self.sky(0.7, 0), 3)
        rho, share = correlation.without_stars(measured(self.sky(0.7, 1.0), 3), self.FWHM)
        assert share == pytest.approx(0.5, abs=0.06)  # the smoothing leaves 0.03 at 3 px
        assert rho[3, 4] == pytest.approx(own[3, 4], abs=0.12)

    def test_white_noise_has_none(self):
        rho = measured(white(), 3)
        after, share = correlation.without_stars(rho, self.FWHM)
        assert share == 0 and after is rho
