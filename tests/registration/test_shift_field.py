"""The smooth field of shifts: its degree, its outliers, its held-out residuals."""

import numpy as np
import pytest

from psflib.registration.shift_field import MODELS, _design, _fit, fit_shift_field
from tests.registration import naive_registration as naive

SIDE = 1000.0


def places(n=100, seed=0):
    return np.random.default_rng(seed).uniform(0, SIDE, (n, 2))


def true_shift(model, xy):
    u, v = (xy / SIDE * 2 - 1).T
    fields = {
        "shift": (0 * u, 0 * u),
        "similarity": (0.3 * u - 0.4 * v, 0.3 * v + 0.4 * u),
        "linear": (0.5 * u + 0.1 * v, -0.3 * v),
        "quadratic": (0.5 * u * u, 0.4 * u * v),
        "cubic": (0.6 * u * (u * u + v * v), 0.6 * v * (u * u + v * v)),
    }
    return np.stack(fields[model], axis=1) + 0.2


@pytest.mark.parametrize("model", MODELS)
def test_the_degree_is_found(model):
    xy, rng = places(), np.random.default_rng(1)
    error = rng.uniform(0.01, 0.1, len(xy))
    field = fit_shift_field(
        xy, true_shift(model, xy) + rng.normal(size=xy.shape) * error[:, None], error
    )
    assert field.model == model
    at = places(500, 2)
    at = at[((at > field.low) & (at < field.high)).all(1)]
    off = np.sqrt(np.square(field(at) - true_shift(model, at)).sum(1).mean())
    assert off < 0.02  # the goal of a correction
    assert off == pytest.approx(field.error, rel=1.0)


def test_noise_rarely_asks_for_more():
    """Of 100 fields of noise, few are taken for more than a shift."""
    freer = 0
    for seed in range(100):
        xy, rng = places(40, seed), np.random.default_rng(seed + 1000)
        field = fit_shift_field(xy, rng.normal(0, 0.05, xy.shape), np.full(40, 0.05))
        freer += field.model != "shift"
    assert freer <= 10


def test_a_fifth_of_outliers():
    xy, rng = places(), np.random.default_rng(4)
    error = np.full(len(xy), 0.05)
    shift = true_shift("linear", xy) + rng.normal(0, 0.05, xy.shape)
    shift[:20] += rng.uniform(-2, 2, (20, 2))
    field = fit_shift_field(xy, shift, error)
    off = field(xy) - true_shift("linear", xy)
    # 80 stars, three parameters an axis
    assert np.sqrt(np.square(off).sum(1).mean()) < 2 * 0.05 * np.sqrt(2 * 3 / 80)


def test_held_out_residuals_equal_their_twin():
    xy, rng = places(15), np.random.default_rng(5)
    error = np.full(15, 0.05)
    shift = true_shift("linear", xy) + rng.normal(0, 0.05, xy.shape)
    field = _fit("linear", xy, shift, error)
    design = _design("linear", xy, field.low, field.high)
    weight = field.weight / (error**2 + field.scatter**2)
    expected = naive.held_out(design, shift, weight)
    # the weights are those of one round before
    np.testing.assert_allclose(field.residual, expected, atol=0.003)


def test_scatter_beyond_the_noise_is_told():
    xy, rng = places(300), np.random.default_rng(6)
    field = fit_shift_field(xy, rng.normal(0, 0.3, xy.shape), np.full(300, 0.03))
    assert field.scatter == pytest.approx(0.3, rel=0.1)  # 600 numbers: 4 %


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_stars(count):
    xy = places(count)
    field = fit_shift_field(xy, np.full((count, 2), 1.5), np.full(count, 0.05))
    np.testing.assert_allclose(field(places(20, 1)), 1.5, atol=1e-6)


def test_no_cubic_beyond_the_stars():
    xy = places()
    xy[:, 0] /= 4
    field = _fit("cubic", xy, true_shift("cubic", xy), np.full(len(xy), 0.01))
    far = np.array([[SIDE, SIDE / 2]])
    assert np.abs(field(far)).max() < 3
