"""The fit of stars under a known model: truth, covariance, bad pixels, failures."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from psflib.loops.starfit import fit_stars, render_stars
from tests.psf import naive_psf as naive

SIZE = 13


def model_terms(oversample, n_terms=1):
    """A Moffat core, then smaller terms of other shapes."""
    side = SIZE * oversample
    core = naive.moffat(side, 2.5 * oversample, 3, (0, 0)) * oversample**2
    grid = (np.arange(side) - (side - 1) / 2) / oversample
    others = [0.1 * core * grid[:, None], 0.1 * core * grid[None, :]]
    return np.array([core, *others][:n_terms])


def scene(oversample, basis, n=8, n_terms=1, seed=1):
    """Noise-free stars: terms, design, flux, background, delta, data."""
    rng = np.random.default_rng(seed)
    terms = model_terms(oversample, n_terms)
    design = np.column_stack([np.ones(n), rng.uniform(-1, 1, (n, n_terms - 1))])
    flux, background = rng.uniform(1e3, 1e5, n), rng.normal(100, 20, n)
    delta = rng.uniform(-0.5, 0.5, (n, 2))
    data = np.empty((n, SIZE, SIZE))
    render_stars(terms, design, basis, oversample, flux, background, delta, data)
    return terms, design, flux, background, delta, data


def fit(terms, design, basis, oversample, data, weight, delta, steps=20, tol=1e-10, clip=0.2):
    n = len(data)
    delta, flux, background, chi2 = delta.copy(), np.empty(n), np.empty(n), np.empty(n)
    covariance, ok = np.empty((n, 4, 4)), np.empty(n, bool)
    fit_stars(
        terms, design, basis, oversample, data, weight, delta, flux, background, covariance, chi2,
        ok, steps, tol, clip,
    )  # fmt: skip
    return flux, background, delta, covariance, chi2, ok


@pytest.mark.parametrize("basis", [0, 1])
@pytest.mark.parametrize("oversample", [1, 2, 3, 5])
def test_render_equals_naive_wherever_the_star_is(oversample, basis):
    terms, design, flux, background, delta, _ = scene(oversample, basis, n_terms=3)
    delta[:4] = [(1, -1), (7.3, -0.2), (-40, 0), (0, 13.9)]
    flux[4] = 0
    out = np.empty((8, SIZE, SIZE))
    render_stars(terms, design, basis, oversample, flux, background, delta, out)
    naive_out = naive.render(terms, design, oversample, flux, background, delta, basis)
    np.testing.assert_allclose(out, naive_out, atol=1e-12 * np.abs(naive_out).max())
    np.testing.assert_array_equal(out[4], background[4])


@pytest.mark.parametrize("basis", [0, 1])
@pytest.mark.parametrize("n_terms", [1, 3])
def test_truth_comes_back_without_noise(basis, n_terms):
    terms, design, flux, background, delta, data = scene(3, basis, n_terms=n_terms)
    start = delta + np.random.default_rng(2).uniform(-0.3, 0.3, delta.shape)
    weight = np.full(data.shape, 0.01)
    found = fit(terms, design, basis, 3, data, weight, start)
    assert found[5].all()
    np.testing.assert_allclose(found[0], flux, rtol=1e-9)
    np.testing.assert_allclose(found[1], background, atol=1e-9 * flux.max())
    np.testing.assert_allclose(found[2], delta, atol=1e-9)
    # Residuals are differences of sums of the size of the data.
    np.testing.assert_allclose(found[4], 0, atol=1e-12 * (weight * data**2).sum(axis=(1, 2)).max())


@pytest.mark.parametrize("basis", [0, 1])
@pytest.mark.parametrize("steps", [0, 20])
def test_equals_naive_with_noise_and_bad_pixels(basis, steps):
    rng = np.random.default_rng(3)
    terms, design, *_, delta, data = scene(3, basis, n_terms=3)
    variance = 50 + data
    data = data + rng.normal(size=data.shape) * np.sqrt(variance)
    weight = 1 / variance
    data[0, 6, 5], data[1, :3] = np.nan, np.inf
    weight[2, 4:6, 6], weight[3, 1, 1], weight[4, 2, 2] = 0, np.nan, -1
    found = fit(terms, design, basis, 3, data, weight, delta, steps, 1e-12)
    for n in range(len(data)):
        model = np.tensordot(design[n], terms, axes=1)
        f, b, d, covariance, chi2 = naive.fit(model, 3, data[n], weight[n], delta[n], basis, steps)
        np.testing.assert_allclose(found[0][n], f, rtol=1e-8)
        np.testing.assert_allclose(found[1][n], b, atol=1e-8 * f)
        np.testing.assert_allclose(found[2][n], d, atol=1e-8)
        np.testing.assert_allclose(found[3][n], covariance, rtol=1e-6, atol=1e-14)
        np.testing.assert_allclose(found[4][n], chi2, rtol=1e-8)


def test_covariance_is_the_scatter():
    n = 2000
    rng = np.random.default_rng(4)
    terms, design = model_terms(3), np.ones((n, 1))
    truth = np.array([2e4, 50.0, 0.2, -0.3])
    clean = np.empty((1, SIZE, SIZE))
    render_stars(terms, design[:1], 0, 3, truth[:1], truth[1:2], truth[None, 2:], clean)
    variance = clean + 100
    data = clean + rng.normal(size=(n, SIZE, SIZE)) * np.sqrt(variance)
    weight = np.broadcast_to(1 / variance, data.shape)
    flux, background, delta, covariance, chi2, ok = fit(
        terms, design, 0, 3, data, weight, np.tile(truth[2:], (n, 1))
    )
    assert ok.all()
    errors = np.column_stack([flux, background, delta]) - truth
    expected = np.median(covariance, axis=0)
    sigma = np.sqrt(np.diag(expected))
    pulls = errors / sigma
    assert (np.abs(pulls.mean(axis=0)) < 5 / np.sqrt(n)).all()
    # A correlation of n pairs is known to 1/√n, a standard deviation to 1/√(2n).
    correlation = expected / np.outer(sigma, sigma)
    np.testing.assert_allclose(np.cov(pulls.T), correlation, atol=5 * np.sqrt(2 / n))
    dof = SIZE**2 - 4
    assert abs(chi2.mean() - dof) < 5 * np.sqrt(2 * dof / n)


def test_float32_is_the_float64_of_the_same_values():
    terms, design, _, _, delta, data = scene(3, 0)
    data = np.random.default_rng(5).normal(data, np.sqrt(data + 50)).astype(np.float32)
    weight = (1 / (np.abs(data) + 50)).astype(np.float32)
    single = fit(terms, design, 0, 3, data, weight, delta)
    double = fit(terms, design, 0, 3, data.astype(float), weight.astype(float), delta)
    for a, b in zip(single, double, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_star_that_fails_keeps_its_offset():
    terms, design, _, _, delta, data = scene(3, 0)
    weight = np.ones(data.shape)
    data[0] = np.nan
    weight[1] = 0
    weight[2, :6], weight[2, 7:], weight[2, 6, :9] = 0, 0, 0  # four pixels
    delta[3] = np.nan, 0
    delta[4] = 1.5, 0
    data[5] = 7.0  # flux 0: no position
    for steps, failed in ((5, range(6)), (0, range(5))):
        found = fit(terms, design, 0, 3, data, weight, delta, steps)
        np.testing.assert_array_equal(np.flatnonzero(~found[5]), failed)
        bad = ~found[5]
        assert np.isnan(found[0][bad]).all() and np.isnan(found[1][bad]).all()
        assert np.isnan(found[3][bad]).all() and np.isnan(found[4][bad]).all()
        np.testing.assert_array_equal(found[2][bad], delta[bad])
        assert np.isfinite(found[0][~bad]).all() and np.isfinite(found[3][~bad]).all()


def test_offsets_stay_within_a_pixel_and_chi2_never_rises():
    terms, design, _, _, delta, data = scene(3, 0)
    weight = np.full(data.shape, 0.01)
    start = np.clip(delta + 0.6, -1, 1)
    before = fit(terms, design, 0, 3, data, weight, start, 0)[4]
    for steps in (1, 2, 4):
        found = fit(terms, design, 0, 3, data, weight, start, steps, 1e-10, 0.1)
        ok = found[5]
        assert ok.any() and (np.abs(found[2]) <= 1).all()
        assert (np.abs(found[2] - start).max(axis=1) <= 0.1 * steps + 1e-12).all()
        assert (found[4][ok] <= before[ok] * (1 + 1e-12)).all()
        before = np.where(ok, found[4], before)


def test_threads_change_nothing():
    terms, design, _, _, delta, data = scene(3, 1, n=40, n_terms=3)
    data = np.random.default_rng(6).normal(data, np.sqrt(data + 50))
    weight = 1 / (np.abs(data) + 50)
    whole = fit(terms, design, 1, 3, data, weight, delta)
    halves = [slice(0, 17), slice(17, 40)]
    with ThreadPoolExecutor(2) as pool:
        parts = list(
            pool.map(lambda s: fit(terms, design[s], 1, 3, data[s], weight[s], delta[s]), halves)
        )
    for a, b in zip(whole, map(np.concatenate, zip(*parts, strict=True)), strict=True):
        np.testing.assert_array_equal(a, b)
