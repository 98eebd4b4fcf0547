"""Rendering, its transpose and the fit of new stars, by the public functions."""

import numpy as np
import pytest
from astropy.table import QTable

from psflib.psf import PsfField, accumulate, fit_stars, refine_nuisance, render
from tests.psf import naive_psf as naive

SIZE = 13


def core(oversample=3, size=SIZE, fwhm=2.5):
    epsf = naive.moffat(size * oversample, fwhm * oversample, 3, (0, 0))
    return epsf / epsf.sum() * oversample**2


def stars(n=20, oversample=3, seed=1):
    """Noisy stars under `core`: flux, background, delta, data, weight."""
    rng = np.random.default_rng(seed)
    flux, background = rng.uniform(1e3, 1e5, n), rng.normal(100, 10, n)
    delta = rng.uniform(-0.5, 0.5, (n, 2))
    clean = render(core(oversample), oversample, flux, background, delta)
    data = clean + rng.normal(size=clean.shape) * np.sqrt(clean)
    return flux, background, delta, data, 1 / clean


@pytest.mark.parametrize("oversample", [1, 3, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_render_and_accumulate_are_adjoint(oversample, weighted):
    rng = np.random.default_rng(0)
    n = 9
    x = rng.normal(size=(oversample * SIZE,) * 2)
    y = rng.normal(size=(n, SIZE, SIZE))
    weight = rng.uniform(0.5, 2, y.shape) if weighted else None
    flux, delta = rng.normal(size=n), rng.uniform(-1.5, 1.5, (n, 2))
    delta[0], flux[1] = np.nan, np.inf
    image = render(x, oversample, flux, np.zeros(n), delta)
    back = accumulate(y, oversample, flux, delta, weight=weight)
    w = 1.0 if weight is None else weight
    assert not image[:2].any() and np.isfinite(back).all()
    assert abs((image * w * y).sum() - (x * back).sum()) < 1e-12 * np.abs(image * y).sum()


def test_accumulate_leaves_bad_pixels_out():
    _, _, delta, data, weight = stars(3)
    flux = np.ones(3)
    clean, bad = data.copy(), data.copy()
    clean[0, 3, 4], bad[0, 3, 4] = 0, np.nan
    clean[1, 2, 2], weight[1, 2, 2] = 0, np.inf
    good = np.where(np.isfinite(weight), weight, 1.0)
    np.testing.assert_allclose(
        accumulate(bad, 3, flux, delta, weight=weight),
        accumulate(clean, 3, flux, delta, weight=good),
        rtol=1e-13,
    )


@pytest.mark.parametrize("size", [7, SIZE, 19])
def test_render_at_any_size(size):
    flux, background, delta = np.array([2.0, 3.0]), np.array([0.5, np.nan]), np.full((2, 2), 0.3)
    out = render(core(), 3, flux, background, delta, size)
    profile = naive.sample(core(), 3, delta[0])
    half, wide = abs(size - SIZE) // 2, np.zeros((size, size))
    if size > SIZE:
        # The stars' own stamp is cut off at its edge only by the taps that reach over it.
        inner = out[:, half + 1 : -half - 1, half + 1 : -half - 1]
        expected = profile[1:-1, 1:-1]
        assert not out[1, : half - 1].any()
    else:
        inner, expected = out, profile[half : SIZE - half, half : SIZE - half]
    np.testing.assert_allclose(inner, [2 * expected + 0.5, 3 * expected], atol=1e-14)
    assert out.shape == (2, *wide.shape)


def test_refine_nuisance_equals_naive():
    _, _, delta, data, weight = stars(6)
    data[1, 5, 5], data[2] = np.nan, np.nan
    start = delta + 0.1
    found = refine_nuisance(core(), 3, data, start, weight=weight)
    for n in range(6):
        expected = naive.refine(core(), 3, data[n], weight[n], start[n], 3, 1e-4)
        assert found.ok[n] == (expected is not None)
        if expected is None:
            assert np.isnan([found.flux[n], found.background[n]]).all()
            np.testing.assert_array_equal(found.delta[n], start[n])
        else:
            np.testing.assert_allclose(found.flux[n], expected[0], rtol=1e-9)
            np.testing.assert_allclose(found.background[n], expected[1], rtol=1e-8)
            np.testing.assert_allclose(found.delta[n], expected[2], atol=1e-9)
    np.testing.assert_array_equal(start, delta + 0.1)


@pytest.mark.parametrize("max_iter", [0, 20])
def test_fit_stars_equals_naive(max_iter):
    _, _, delta, data, weight = stars(4)
    found = fit_stars(
        core(), data, delta, oversample=3, weight=weight, max_iter=max_iter, tol=1e-10
    )
    for n in range(4):
        expected = naive.fit(core(), 3, data[n], weight[n], delta[n], 0, max_iter)
        got = (found.flux, found.background, found.delta, found.covariance, found.chi2)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a[n], b, rtol=1e-6, atol=1e-9)
    assert (found.dof == SIZE**2 - (4 if max_iter else 2)).all() and found.ok.all()


def test_pulls_of_fitted_stars():
    n = 400
    flux, background, delta, data, weight = stars(n)
    start = delta + np.random.default_rng(8).normal(0, 0.1, delta.shape)
    for w in (weight, None):
        found = fit_stars(core(), data, start, oversample=3, weight=w)
        assert found.ok.all()
        sigma = np.sqrt(np.diagonal(found.covariance, axis1=1, axis2=2))
        errors = np.column_stack([found.flux - flux, found.background - background])
        pulls = np.hstack([errors, found.delta - delta]) / sigma
        if w is not None:
            # A standard deviation of n values is known to 1/√(2n).
            np.testing.assert_allclose(pulls.std(axis=0), 1, atol=5 / np.sqrt(2 * n))
            assert abs(np.mean(found.chi2 / found.dof) - 1) < 5 * np.sqrt(2 / found.dof.sum())
        else:
            # Equal weights: the errors of the sky dominate; the scale is right within a factor.
            assert (np.abs(np.log(pulls.std(axis=0))) < np.log(4)).all()


def test_fit_stars_under_a_field():
    epsf = core()
    ramp = np.linspace(-1, 1, len(epsf))
    terms = np.array([epsf, 0.1 * epsf * ramp, 0.2 * epsf * ramp[:, None]])
    terms[1] += 1e-3 * epsf  # the volume varies over the field
    field = PsfField(terms, 3, 1, (200, 300), QTable())
    rng = np.random.default_rng(2)
    x, y, flux = rng.uniform(0, 299, 5), rng.uniform(0, 199, 5), rng.uniform(1e3, 1e4, 5)
    delta = rng.uniform(-0.5, 0.5, (5, 2))
    data = np.array(
        [
            render(field.epsf(*p), 3, flux[n : n + 1], np.ones(1), delta[n : n + 1])[0]
            for n, p in enumerate(zip(x, y, strict=True))
        ]
    )
    found = fit_stars(field, data, delta + 0.1, x=x, y=y, tol=1e-9)
    np.testing.assert_allclose(found.flux, flux, rtol=1e-9)
    np.testing.assert_allclose(found.delta, delta, atol=1e-9)
    with pytest.raises(ValueError, match="x and y"):
        fit_stars(field, data, delta)
    with pytest.raises(ValueError, match=r"x \(4,\) and y \(5,\) must have one value a star"):
        fit_stars(field, data, delta, x=x[:4], y=y)
    with pytest.raises(ValueError, match="oversample 5 is not that of the PSF, 3"):
        fit_stars(field, data, delta, x=x, y=y, oversample=5)


def test_fit_stars_bad_data():
    _, _, delta, data, weight = stars(3)
    data[0], delta[1] = np.nan, np.nan
    found = fit_stars(core(), data, delta, oversample=3, weight=weight)
    np.testing.assert_array_equal(found.ok, [False, False, True])
    assert np.isnan(found.flux[:2]).all() and np.isnan(found.covariance[:2]).all()
    assert fit_stars(core(), data[:0], delta[:0], oversample=3).flux.shape == (0,)


@pytest.mark.parametrize(
    "function, change, words",
    [
        (render, {"size": 12}, "size must be odd; got 12"),
        (render, {"flux": np.ones(3)}, r"batch dimensions disagree: flux \(3,\), expected \(2,\)"),
        (render, {"background": np.ones(3)}, "batch dimensions disagree: background"),
        (render, {"delta": np.ones((2, 3))}, r"delta must be \(n, 2\)"),
        (render, {"epsf": np.ones((39, 36))}, "epsf must be square"),
        (accumulate, {"stack": np.ones((2, 12, 12))}, "stamp size must be odd; got 12"),
        (accumulate, {"stack": np.ones((2, 13, 11))}, "batch dimensions disagree"),
        (accumulate, {"weight": np.ones((2, 13, 11))}, "weight shape .* must equal stack shape"),
        (accumulate, {"oversample": 2}, "oversample must be odd"),
        (refine_nuisance, {"max_iter": 0}, "max_iter must be > 0"),
        (refine_nuisance, {"tol": 0.0}, "tol finite and > 0"),
        (refine_nuisance, {"data": np.ones((2, 11, 11))}, "batch dimensions disagree"),
        (fit_stars, {"oversample": None}, "oversample is needed"),
        (fit_stars, {"tol": np.nan}, "tol must be finite and > 0"),
        (fit_stars, {"data": np.ones((2, 13, 13), int)}, "data must be a 3-D"),
        (fit_stars, {"psf": np.ones((39, 36))}, "psf must be square"),
    ],
)
def test_refusals(function, change, words):
    calls = {
        render: {"epsf": core(), "flux": np.ones(2), "background": np.ones(2)},
        accumulate: {"stack": np.ones((2, SIZE, SIZE)), "flux": np.ones(2)},
        refine_nuisance: {"epsf": core(), "data": np.ones((2, SIZE, SIZE))},
        fit_stars: {"psf": core(), "data": np.ones((2, SIZE, SIZE))},
    }
    call = {"oversample": 3, "delta": np.zeros((2, 2)), **calls[function], **change}
    with pytest.raises(ValueError, match=words):
        function(**call)
