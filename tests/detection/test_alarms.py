"""Expected false alarms: smoothness and scatter of a score, the peaks counted, and the inverse."""

import numpy as np
import pytest
from scipy import ndimage

from psflib.detection.alarms import (
    LOWEST,
    ScoreNoise,
    expected_alarms,
    score_noise,
    second_moments,
    threshold_for,
)

SIDE = 700  # higher than the strips that tell the correlation


def field(width, seed=1, scale=1.0):
    """Gaussian random field (SIDE, SIDE) whose autocorrelation is that of Gaussians of `width`
    (y, x): exp(-lag² / 4 width²)."""
    white = np.random.default_rng(seed).normal(size=(SIDE, SIDE))
    smooth = ndimage.gaussian_filter(white, width, mode="wrap")
    power = np.prod([2 * np.sqrt(np.pi) * w for w in width])
    return (scale * np.sqrt(power) * smooth).astype(np.float32)


def of(score):
    return score_noise(score, np.ones(score.shape, bool))


class TestSmoothness:
    def test_moments_of_an_inclined_gaussian(self):
        """Exact for a Gaussian: L is the matrix in its exponent."""
        true = np.array([[0.3, 0.05], [0.05, 0.15]])
        y, x = np.mgrid[-2:3, -2:3]
        lags = np.stack([y, x], -1)
        rho = np.exp(-0.5 * np.einsum("...i,ij,...j", lags, true, lags))
        np.testing.assert_allclose(second_moments(rho), true, rtol=1e-12)

    def test_moments_of_another_profile(self):
        """1 / (1 + lag² / 2 b²) has 1 / b²; of lags 1 and 2 the fourth order stays, 1 / 3 b⁴."""
        rho = 1 / (1 + np.add.outer(*2 * [np.square(np.arange(-2.0, 3))]) / 2 / 2.0**2)
        np.testing.assert_allclose(np.diag(second_moments(rho)), 1 / 4, rtol=1 / 3 / 2.0**4)

    @pytest.mark.parametrize("width", [(1.3, 1.3), (2.5, 1.6)])
    def test_measured(self, width):
        found = of(field(width))
        # L = 1 / 2 width² an axis; 3 times the scatter of eight seeds
        assert found.density == pytest.approx(
            1 / (2 * np.prod(width)) / (2 * np.pi) ** 1.5, rel=0.05
        )

    def test_too_little_sky_is_a_guess_that_is_finite(self):
        score = np.zeros((50, 40), np.float32)
        found = of(score)
        assert found.area == 0 and found.scatter == 1 and found.density > 0


class TestScatter:
    def test_of_a_whole_field(self):
        found = of(field((1.3, 1.3), scale=1.3))
        # 490,000 px, of which 4 pi width² / 2 tell one value
        assert found.scatter.mean() == pytest.approx(1.3, rel=4 * 1.17 * np.sqrt(10.6 / SIDE**2))

    def test_follows_the_field(self):
        slope = np.linspace(0.8, 1.2, SIDE, dtype=np.float32)
        found = of(field((1.3, 1.3)) * slope)
        at = np.array([100.0, 350.0, 600.0])
        true = np.interp(at, np.arange(SIDE), slope)
        np.testing.assert_allclose(found.scatter_at(at, np.full(3, 300.0)), true, rtol=0.03)

    def test_noise_of_the_sample_is_no_scatter(self):
        found = of(field((1.3, 1.3)))
        assert np.ptp(found.scatter) < 0.01 and abs(found.scatter.mean() - 1) < 0.01


class TestAlarms:
    def test_as_many_peaks_as_there_are(self):
        """Local maxima of a well-sampled field, both signs: pixels miss 3 % of them at most."""
        counts, expected = 0, 0.0
        for seed in range(4):
            score = field((2.5, 2.5), seed)
            for plane in (score, -score):
                top = (plane == ndimage.maximum_filter(plane, 3, mode="wrap")) & (plane > 3)
                counts += top.sum()
            expected += expected_alarms(of(score), 3)
        # the formula has 1 / 3² of second order at 3 sigma: a few per cent
        assert counts == pytest.approx(expected, rel=0.08, abs=3 * np.sqrt(expected))

    def test_inverse(self):
        noise = ScoreNoise(10**6, 0.2 * np.eye(2), np.zeros(1), np.zeros(1), np.ones((1, 1)))
        for alarms in (1e-3, 1.0, 300.0):
            assert expected_alarms(noise, threshold_for(noise, alarms)) == pytest.approx(alarms)
        assert threshold_for(noise, 1e9) == LOWEST
        with pytest.raises(ValueError, match="positive"):
            threshold_for(noise, 0.0)
