"""Nearest neighbours, and what chance would do."""

import numpy as np
import pytest

from psflib.registration.match import (
    binomial_tail,
    common_offset,
    match_positions,
    mutual_nearest,
)
from tests.registration import naive_registration as naive


def sky(n, side=500.0, seed=0):
    return np.random.default_rng(seed).uniform(0, side, (n, 2))


def test_mutual_nearest_equals_its_twin():
    first, second = sky(80), sky(90, seed=1)
    one, two = mutual_nearest(first, second, 30.0)
    np.testing.assert_array_equal(np.c_[one, two], naive.mutual_nearest(first, second, 30.0))
    assert len(mutual_nearest(first[:0], second, 30.0)[0]) == 0


def test_tail_of_the_binomial():
    # 1 - (1 - p)^n, and p^n
    assert binomial_tail(1, 10, 0.01) == pytest.approx(np.log10(1 - 0.99**10))
    assert binomial_tail(5, 5, 1e-3) == pytest.approx(-15)
    assert binomial_tail(0, 5, 1e-3) == 0


def test_chance_is_what_random_skies_do():
    """Of 300 pairs of random skies, as many match as is expected."""
    counts = [
        match_positions(sky(60, seed=k), sky(60, seed=1000 + k), 5.0, 250_000) for k in range(300)
    ]
    expected = counts[0].expected
    assert expected == pytest.approx(60 * 60 * np.pi * 25 / 250_000)
    # mutual neighbours are a few per cent fewer than all of them; the mean of 300 is good to 6 %
    assert np.mean([len(c) for c in counts]) == pytest.approx(expected, rel=0.2)
    assert min(c.log_chance for c in counts) > -4


class TestCommonOffset:
    @pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -1.0), (-35.0, 40.0)])
    def test_half_of_them_are_others(self, shift):
        first = sky(60)
        second = np.r_[first[:30] + shift, sky(30, seed=7)]
        offset, chance = common_offset(first, second, 60.0, 2.0, 250_000)
        np.testing.assert_allclose(offset, shift, atol=0.01)
        assert chance < -10

    def test_random_skies_have_none(self):
        chances = [
            common_offset(sky(60, seed=k), sky(60, seed=500 + k), 60.0, 2.0, 250_000)[1]
            for k in range(200)
        ]
        assert min(chances) > -4

    def test_nothing_to_compare(self):
        assert common_offset(sky(0), sky(5), 60.0, 2.0, 250_000)[1] == 0
        assert common_offset(sky(5), sky(5) + 4000, 60.0, 2.0, 250_000)[1] == 0
