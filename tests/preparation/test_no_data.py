"""Areas of one value: found whatever the value, never in quantised noise."""

import numpy as np
import pytest

from psflib.errors import BadImage
from psflib.image.exposure import Exposure, MaskBit, has_bits
from psflib.preparation.no_data import empty_areas
from psflib.preparation.prepare import prepare

SHAPE = 300, 320
Y, X = np.indices(SHAPE)
CORNER = X + 0.5 * Y < 120


def sky(seed=0, level=300.0, sigma=10.0):
    return np.random.default_rng(seed).normal(level, sigma, SHAPE)


def found(image, usable=None):
    image = np.asarray(image, np.float32)
    return empty_areas(image, np.isfinite(image) if usable is None else usable)


@pytest.mark.parametrize("value", [0.0, -32768.0, -1e30, 1e-30, 1e30, 65535.0, 300.0])
@pytest.mark.parametrize("whole", [False, True])
def test_any_value(value, whole):
    image = np.round(sky()) if whole else sky()
    empty, values = found(np.where(CORNER, value, image))
    assert values == [np.float32(value)]
    assert empty[CORNER].all()
    # a pixel of noise that holds the value and touches the area cannot be told from it: 2 or 3
    # of whole numbers with sigma 10 along a rim of 400 px, at the sky's own level 400 * 0.04
    assert np.count_nonzero(empty & ~CORNER) <= (30 if value == 300 and whole else 0)


@pytest.mark.parametrize("width", [1, 2, 7])
def test_borders(width):
    border = (width > X) | (width > Y) | (SHAPE[1] - width <= X) | (SHAPE[0] - width <= Y)
    np.testing.assert_array_equal(found(np.where(border, 0, sky()))[0], border)


def test_holes_within():
    hole = np.hypot(X - 150, Y - 100) < 3
    np.testing.assert_array_equal(found(np.where(hole, 0, sky()))[0], hole)


def test_a_dead_column_is_not_missing():
    """It is a defect, and other code masks it as one."""
    image = sky()
    image[:, 100] = 0
    assert not found(image)[0].any()


@pytest.mark.parametrize("mean", [0.003, 0.05, 0.3, 1.0, 4.0])
def test_photon_counting(mean):
    """Up to 99.7 % of the pixels hold 0, and none of them is without data."""
    assert not found(np.random.default_rng(3).poisson(mean, SHAPE))[0].any()


def test_photon_counting_beside_an_empty_area():
    image = np.random.default_rng(3).poisson(0.3, SHAPE)
    for value in (0, -1):
        empty, _ = found(np.where(CORNER, value, image))
        # the side of a box that noise does not fill by chance is 10 px; so much the rim may be off
        deep = X + 0.5 * Y < 120 - 12
        away = X + 0.5 * Y > 120 + 12
        assert empty[deep].all() and not empty[away].any()


@pytest.mark.parametrize("sigma", [0.3, 0.8, 2.0])
def test_eight_bit_cameras(sigma):
    assert not found(np.round(sky(4, 20.0, sigma)))[0].any()


def test_saturated_stars_are_data():
    star = 3e6 * np.exp(-0.5 * np.square(np.hypot(X - 150, Y - 150) / 8)) / 5
    assert not found(np.minimum(sky() + star, 65535.0))[0].any()


def test_prepare_masks_and_says_it():
    image = np.where(CORNER, 0, sky())
    ready = prepare(Exposure(image, gain=1.5))
    np.testing.assert_array_equal(has_bits(ready.mask, MaskBit.NO_DATA), CORNER)
    assert any("no data where the image holds 0" in note for note in ready.meta["notes"])
    # the mean of 300 * 320 * 0.9 pixels of sigma 10, after clipping and a polynomial
    assert ready.sky == pytest.approx(300, abs=0.3)


def test_nothing_left():
    with pytest.raises(BadImage, match=r"no usable pixel|hold the value"):
        prepare(Exposure(np.where(X < 318, 0.0, np.nan)))
