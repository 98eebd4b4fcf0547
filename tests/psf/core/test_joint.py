"""Loops of the joint solution of model and stars against dense matrices."""

import numpy as np
import pytest

from psflib.loops import joint, splines
from psflib.psf.core.mesh import coarse_mesh, whole_mesh
from tests.psf.core import naive_core as naive

SIZE = 7
ROUNDING = 1e-12


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
    mesh = whole_mesh(terms.shape[1])
    joint.whiten_slopes(
        terms, design, oversample, mesh.first, mesh.blocks, weight, flux, delta, slopes
    )
    return slopes


def pulled(
    terms, design, oversample, data, weight, flux, background, delta, slopes, residual, mesh=None
):
    out = np.full(terms.shape, np.nan)
    mesh = mesh or whole_mesh(terms.shape[1])
    joint.pull(
        terms, design, oversample, mesh.first, mesh.blocks, data, weight, flux, background, delta,
        slopes, residual, out,
    )  # fmt: skip
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
def test_pull_on_a_mesh_is_that_of_its_splines_on_the_nodes(n_terms):
    _, design, data, weight, flux, background, delta = scene(3, n_terms)
    mesh = coarse_mesh(3 * SIZE, 3)
    size = (n_terms, *2 * (mesh.spread.shape[1],))
    model, change = np.random.default_rng(2).normal(size=(2, *size))
    slopes = whitened(mesh.extend(model), design, 3, weight, flux, delta)
    stars = (data, weight, flux, background, delta, slopes)
    for few, residual in ((model, True), (change, False)):
        found = pulled(few, design, 3, *stars, residual, mesh)
        expected = mesh.adjoint(pulled(mesh.extend(few), design, 3, *stars, residual))
        assert_close(found, expected, ROUNDING)


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
    mesh = whole_mesh(3 * SIZE)
    joint.tukey_weights(
        terms,
        design,
        3,
        mesh.first,
        mesh.blocks,
        data,
        weight,
        flux,
        background,
        delta,
        1.3,
        error,
        0.1,
        4.0,
        out,
        tally,
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
        mesh = whole_mesh(3 * SIZE)
        joint.tukey_weights(
            terms, design, 3, mesh.first, mesh.blocks, stamps, given, flux, background, delta, 1.0,
            0.02, 0.1, 6.0, out, tally,
        )  # fmt: skip
        found.append(np.append(out, tally))
    np.testing.assert_array_equal(*found)


def seen(mesh, size, delta):
    """What `splines.place` fills for a stamp of `size` at 3 samples a pixel."""
    start, taps, slope = np.empty(size, int), np.empty((size, 4)), np.empty((size, 4))
    whole = splines.place(3, delta, mesh.first, mesh.blocks, start, taps, slope)
    expected = np.flatnonzero(naive.whole_pixels(3 * SIZE, 3, (delta, 0))[:, SIZE // 2])
    assert whole == (expected[0], expected[-1] + 1)
    return start, taps, slope


@pytest.mark.parametrize("delta", [0.0, 0.31, -0.8])
@pytest.mark.parametrize("reach", [3, None])
def test_gathering_and_spreading_on_a_mesh(reach, delta):
    mesh = whole_mesh(3 * SIZE) if reach is None else coarse_mesh(3 * SIZE, reach)
    rng, m = np.random.default_rng(3), mesh.spread.shape[1]
    grid, stamp, line = rng.normal(size=(m, m)), np.empty((SIZE, SIZE)), np.empty(m)
    rows, cols = seen(mesh, SIZE, delta), seen(mesh, SIZE, 0.2)
    splines.gather(grid, *rows[:2], *cols[:2], line, stamp)
    matrix = naive.star_matrix(3 * SIZE, 3, (delta, 0.2))
    assert_close(stamp.ravel(), matrix @ mesh.extend(grid).ravel(), ROUNDING)
    pixels, image = rng.normal(size=(SIZE, SIZE)), np.zeros((m, m))
    splines.spread(pixels, *rows[:2], *cols[:2], line, image)
    np.testing.assert_allclose((image * grid).sum(), (pixels * stamp).sum(), rtol=ROUNDING * 100)


def test_slopes_of_the_taps():
    mesh, step = coarse_mesh(3 * SIZE, 3), 1e-6
    _, taps, slope = seen(mesh, SIZE, 0.2)
    change = (seen(mesh, SIZE, 0.2 + step)[1] - seen(mesh, SIZE, 0.2 - step)[1]) / (2 * step)
    np.testing.assert_allclose(slope, change, atol=1e-8)
    np.testing.assert_allclose(taps.sum(axis=1), [taps[0].sum(), *6 * [1]], rtol=ROUNDING)
    assert taps[0].sum() < 1  # it is cut off


def test_terms_mixed():
    rng = np.random.default_rng(4)
    terms, grid = rng.normal(size=(3, 5, 5)), np.full((5, 5), np.nan)
    splines.mix(terms, np.array([1.0, -2.0, 0.5]), grid)
    assert_close(grid, terms[0] - 2 * terms[1] + 0.5 * terms[2], ROUNDING)


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


def test_slopes_removed():
    rng = np.random.default_rng(6)
    stamp, weight, q = rng.normal(size=(5, 5)), rng.uniform(size=(5, 5)), rng.normal(size=(4, 5, 5))
    flat = q.reshape(4, -1)
    expected = weight.ravel() * stamp.ravel() - flat.T @ (flat @ stamp.ravel())
    joint.remove_slopes(stamp, weight, q)
    assert_close(stamp.ravel(), expected, ROUNDING)
