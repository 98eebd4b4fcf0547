"""What bright pixels scatter beyond the noise."""

import numpy as np

from psflib.matching.misfit import BRIGHT, scatter


def pixels(model_error):
    """Squared residuals in units of the noise, and light, of 4000 pixels, 1000 of them bright."""
    rng = np.random.default_rng(17)
    level = np.r_[np.full(3000, BRIGHT / 2), np.full(600, 50.0), np.full(400, 200.0)]
    sigma = np.hypot(1, model_error * level)
    return np.square(rng.normal(0, sigma)), level, sigma**2


class TestScatter:
    def test_faint_pixels_are_judged_by_the_noise_alone(self):
        z2, level, _ = pixels(0.1)
        assert (scatter(100 * z2, level)[level < BRIGHT] == 1).all()

    def test_is_that_of_equally_bright_pixels(self):
        z2, level, variance = pixels(0.1)
        for bright in (50.0, 200.0):
            like = level == bright
            # a median of 100 squares or more is known to 22 %, five standard errors are 1.1;
            # groups are cut by number, so that one holds both kinds: hence the median
            ratio = np.median(scatter(z2, level)[like] / variance[like])
            assert 0.5 < ratio < 2

    def test_is_1_where_the_model_is_right(self):
        z2, level, _ = pixels(0.0)
        # of groups of at least 100 pixels: 1 + 3 standard errors of the median's square
        assert scatter(z2, level).max() < 1 + 3 * 0.22

    def test_one_pixel_that_is_off_does_not_move_it(self):
        z2, level, _ = pixels(0.1)
        spoiled = z2.copy()
        spoiled[-1] = 1e6
        assert scatter(spoiled, level)[-1] < 1.2 * scatter(z2, level)[-1]

    def test_no_bright_pixel(self):
        assert (scatter(np.full(10, 9.0), np.zeros(10)) == 1).all()
        assert scatter(np.empty(0), np.empty(0)).shape == (0,)
