"""The place of one list of stars on another."""

import numpy as np
import pytest

from psflib.registration.asterism import _triangles, find_asterism

AREA = 1e6


def sky(n, seed=0, side=1000.0):
    return np.random.default_rng(seed).uniform(0, side, (n, 2))


def turned(xy, angle, scale=1.0, mirrored=False, shift=(0, 0)):
    u = xy - 500
    if mirrored:
        u = u * [-1, 1]
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return scale * u @ np.array([[c, s], [-s, c]]) + 500 + shift


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("angle", "scale"), [(0, 1.0), (17, 0.9), (90, 1.1), (180, 1.0)])
def test_turned_scaled_mirrored(angle, scale, mirrored):
    first = sky(80)
    second = turned(first, angle, scale, mirrored, (30, -12))
    second += np.random.default_rng(9).normal(0, 0.2, second.shape)
    found, match = find_asterism(first, second[::-1], (AREA, AREA))
    np.testing.assert_allclose(found(first), second, atol=5 * 0.2)
    assert len(match) > 70 and match.log_chance < -50


@pytest.mark.parametrize("overlap", [0.2, 0.5])
def test_part_of_the_field(overlap):
    stars = sky(400, 3, 2000.0)
    first = stars[(stars[:, 0] < 1000) & (stars[:, 1] < 1000)]
    left = 1000 * (1 - overlap)
    second = stars[(stars[:, 0] > left) & (stars[:, 0] < left + 1000) & (stars[:, 1] < 1000)]
    second = turned(second - [left, 0], 140)
    found, _ = find_asterism(first, second, (AREA, AREA))
    common = first[first[:, 0] > left]
    np.testing.assert_allclose(found(common), turned(common - [left, 0], 140), atol=1e-3)


def test_half_of_the_stars_are_in_one_list_only():
    first = sky(80)
    second = turned(first, 77)
    first, second = first.copy(), second.copy()
    first[::4], second[2::4] = sky(20, 5), sky(20, 6)
    found, _ = find_asterism(first, second, (AREA, AREA))
    np.testing.assert_allclose(found(first[1::4]), second[1::4], atol=1e-3)


def test_six_stars():
    for seed in range(20):
        first = sky(6, seed)
        found = find_asterism(first, turned(first, 50), (AREA, AREA))
        assert found is not None
        np.testing.assert_allclose(found[0](first), turned(first, 50), atol=1e-3)


def test_a_much_larger_list():
    second = sky(1600, 2, 4000.0)
    part = second[((second > 1500) & (second < 2500)).all(1)]
    first = turned(part - 1500, 200)
    found, _ = find_asterism(first, second, (AREA, 16 * AREA))
    np.testing.assert_allclose(found(first), part, atol=1e-3)


@pytest.mark.parametrize("n", [2, 3, 6, 30, 300])
def test_other_skies_have_none(n):
    assert all(find_asterism(sky(n, k), sky(n, 100 + k), (AREA, AREA)) is None for k in range(10))


def test_triangles_are_the_same_from_any_side():
    xy = sky(30)
    _, ratios, sense = _triangles(xy)
    other = _triangles(turned(xy, 30, 1.1, mirrored=True))
    np.testing.assert_allclose(np.sort(ratios, axis=0), np.sort(other[1], axis=0), atol=1e-9)
    assert sense.sum() == -other[2].sum()
