"""Loops of the joint solution of model and stars against dense matrices."""

import numpy as np
import pytest

from psflib.loops import joint
from psflib.loops.interleaved import gather_pixels, gather_row, interleave
from tests.psf.core import naive_core as naive

SIZE = 7
ROUNDING = 1e-12
SINGLE = 1e-5  # a float32 sum of 50 terms


def scene(oversample, n_terms=1, n=5, seed=1):
    """Terms, design, data, weights and stars; the model leaves residuals of many sigma."""
    rng = np.random.default_rng(seed)
    side = SIZE * oversample
    grid = (np.arange(side) - (side - 1) / 2) / oversample
    core = np.exp(-(grid[:, None] ** 2 + (grid - 0.1) ** 2) / 3)
    terms = np.array([core, 0.2 * core * grid, 0.2 * core * grid[:, None]][:n_terms])
    design = np.column_stack([np.ones(n), rng.uniform(-1, 1, (n, n_terms - 1))])
    weight = rng.uniform(0.2, 2, (n, SIZE, SIZE))
    weight[rng.random(weight.shape) < 0.1] = 0
    flux, background = rng.uniform(20, 60, n), rng.normal(5, 1, n)
    delta = rng.uniform(-0.6, 0.6, (n, 2))
    delta[0] = 1, -1
    data = np.empty((n, SIZE, SIZE))
    for k in range(n):
        model = np.tensordot(design[k], terms, axes=1).ravel()
        clean = flux[k] * naive.star_matrix(side, oversample, delta[k]) @ model
        data[k] = background[k] + clean.reshape(SIZE, SIZE)
    data += 3 * rng.normal(size=data.shape)
    return terms, design, data, weight, flux, background, delta


def whitened(terms, design, oversample, weight, flux, delta):
    slopes = np.full((len(weight), 4, SIZE, SIZE), np.nan)
    joint.whiten_slopes(terms, design, oversample, weight, flux, delta, slopes)
    return slopes


def pulled(terms, design, oversample, data, weight, flux, background, delta, slopes, residual):
    out = np.full(terms.shape, np.nan, terms.dtype)
    joint.pull(
        terms, design, oversample, data, weight, flux, background, delta, slopes, residual, out
    )
    return out


def assert_close(found, expected, tolerance):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("n_terms", [1, 3])
@pytest.mark.parametrize("oversample", [2, 3])
@pytest.mark.parametrize("eliminate", [True, False])
def test_pull_is_the_dense_gradient_and_reduced_matrix(n_terms, oversample, eliminate):
    terms, design, data, weight, flux, background, delta = scene(oversample, n_terms)
    flux[3] = 0
    slopes = whitened(terms, design, oversample, weight, flux, delta)
    slopes = slopes if eliminate else slopes[:, :0]
    matrix, gradient = naive.reduced_system(
        terms, design, oversample, data, weight, flux, background, delta, eliminate
    )
    stars = (data, weight, flux, background, delta, slopes)
    found = pulled(terms, design, oversample, *stars, True)
    assert_close(found.ravel(), gradient, ROUNDING)
    change = np.random.default_rng(2).normal(size=terms.shape)
    found = pulled(change, design, oversample, *stars, False)
    assert_close(found.ravel(), matrix @ change.ravel(), ROUNDING)


@pytest.mark.parametrize("n_terms", [1, 3])
def test_pull_in_float32(n_terms):
    terms, design, data, weight, flux, background, delta = scene(3, n_terms)
    slopes = whitened(terms, design, 3, weight, flux, delta)
    change = np.random.default_rng(2).normal(size=terms.shape)
    double = pulled(change, design, 3, data, weight, flux, background, delta, slopes, False)
    single = pulled(
        change.astype(np.float32), design, 3, data, weight.astype(np.float32), flux, background,
        delta, slopes.astype(np.float32), False,
    )  # fmt: skip
    assert single.dtype == np.float32
    assert_close(single, double, SINGLE)


def test_the_reduced_matrix_does_not_see_what_stars_can_undo():
    """One term: scale and both shifts of the model, and a pedestal, change no residual."""
    terms, design, data, weight, flux, background, delta = scene(3)
    delta[0] = 0.3, 0.2  # away from the edge, where the pedestal ends
    weight[:, [0, -1]], weight[:, :, [0, -1]] = 0, 0
    slopes = whitened(terms, design, 3, weight, flux, delta)
    stars = (data, weight, flux, background, delta, slopes)
    typical = np.abs(pulled(terms, design, 3, *stars[:5], slopes[:, :0], False)).max()
    for change in (terms, np.ones_like(terms)):
        assert np.abs(pulled(change, design, 3, *stars, False)).max() < ROUNDING * 1e3 * typical


def test_pixels_of_weight_0_may_hold_anything():
    terms, design, data, weight, flux, background, delta = scene(3)
    slopes = whitened(terms, design, 3, weight, flux, delta)
    expected = pulled(terms, design, 3, data, weight, flux, background, delta, slopes, True)
    data[weight == 0] = np.nan
    found = pulled(terms, design, 3, data, weight, flux, background, delta, slopes, True)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("n_terms", [1, 3])
def test_whitened_slopes(n_terms):
    terms, design, _, weight, flux, _, delta = scene(3, n_terms)
    flux[2], flux[3] = 0, np.nan
    weight[4] = 0
    weight[4, [3, 2, 4], [2, 4, 3]] = 1  # three pixels, four unknowns
    slopes = whitened(terms, design, 3, weight, flux, delta)
    assert not slopes[2:].any()
    for n in range(2):
        model = np.tensordot(design[n], terms, axes=1)
        w, q = weight[n].ravel(), slopes[n].reshape(4, -1)
        left = naive.remaining_weight(naive.slopes(model, 3, flux[n], delta[n]), w)
        assert_close(np.diag(w) - q.T @ q, left, ROUNDING)


@pytest.mark.parametrize("n_terms", [1, 3])
@pytest.mark.parametrize("error", [0.0, 0.05, 0.3])
def test_tukey_weights_pixel_by_pixel(n_terms, error):
    terms, design, data, weight, flux, background, delta = scene(3, n_terms, n=6)
    data[1, 2, 2], data[1, 3, 3], data[2, 3, 3] = np.nan, np.inf, 1e4
    weight[3, 1, 1], weight[3, 2, 2], weight[3, 4, 4] = np.nan, np.inf, -1
    flux[4] = 0
    out, tally = np.full(data.shape, np.nan), np.full((6, 4), np.nan)
    joint.tukey_weights(
        terms, design, 3, data, weight, flux, background, delta, 1.3, error, 0.1, 4.0, out, tally
    )
    assert not out[4].any() and not tally[4].any()
    for n in (0, 1, 2, 3, 5):
        model = np.tensordot(design[n], terms, axes=1)
        expected, sums = naive.tukey_weights(
            model, 3, data[n], weight[n], flux[n], background[n], delta[n], 1.3, error, 0.1, 4.0
        )
        assert_close(out[n], expected, ROUNDING)
        np.testing.assert_allclose(tally[n], sums, rtol=1e-11)
    assert tally[2, 3] > 0


def test_tukey_weights_of_float32_are_those_of_the_same_values():
    terms, design, data, weight, flux, background, delta = scene(3)
    single = [a.astype(np.float32) for a in (data, weight)]
    double = [a.astype(float) for a in single]
    found = []
    for stamps, given in (single, double):
        out, tally = np.empty(data.shape), np.empty((len(data), 4))
        joint.tukey_weights(
            terms, design, 3, stamps, given, flux, background, delta, 1.0, 0.02, 0.1, 6.0, out,
            tally,
        )  # fmt: skip
        found.append(np.append(out, tally))
    np.testing.assert_array_equal(*found)


def test_spreading_is_the_transpose_of_gathering():
    rng = np.random.default_rng(3)
    grid = interleave(rng.normal(size=(1, 21, 21)), 3, 1)[0]
    taps, pixels, line = rng.normal(size=4), rng.normal(size=SIZE), rng.normal(size=(3, 9))
    for first in range(6):
        values = np.empty(SIZE)
        gather_pixels(line, first, taps, values)
        spread = np.zeros_like(line)
        joint.spread_pixels(pixels, first, taps, spread)
        np.testing.assert_allclose((spread * line).sum(), pixels @ values, rtol=ROUNDING * 100)
        gathered = np.empty_like(line)
        gather_row(grid, first, taps, gathered)
        image = np.zeros_like(grid)
        joint.spread_row(line, first, taps, image)
        np.testing.assert_allclose(
            (image * grid).sum(), (gathered * line).sum(), rtol=ROUNDING * 100
        )


def test_separate_undoes_interleave():
    model = np.random.default_rng(4).normal(size=(1, 15, 15))
    out = np.empty((15, 15))
    joint.separate(interleave(model, 3, 2)[0], 3, 2, out)
    np.testing.assert_array_equal(out, model[0])


def test_gram_and_its_factor():
    rng = np.random.default_rng(5)
    u, weight, d = rng.normal(size=(4, 5, 5)), rng.uniform(size=(5, 5)), np.zeros((4, 4))
    joint.gram(u, weight, d)
    flat = u.reshape(4, -1)
    matrix = (flat * weight.ravel()) @ flat.T
    np.testing.assert_allclose(d, np.tril(matrix), rtol=ROUNDING, atol=ROUNDING)
    assert joint.factorise(d)
    np.testing.assert_allclose(np.tril(d), np.linalg.cholesky(matrix), atol=ROUNDING * 10)
    u[3] = u[0] - 2 * u[1]
    joint.gram(u, weight, d)
    assert not joint.factorise(d)
    assert not joint.factorise(np.full((4, 4), np.nan))


def test_project():
    rng = np.random.default_rng(6)
    stamp, weight, q = rng.normal(size=(5, 5)), rng.uniform(size=(5, 5)), rng.normal(size=(4, 5, 5))
    left, flat = np.empty((5, 5)), q.reshape(4, -1)
    joint.project(stamp, weight, q, left)
    expected = weight.ravel() * stamp.ravel() - flat.T @ (flat @ stamp.ravel())
    assert_close(left.ravel(), expected, ROUNDING)
