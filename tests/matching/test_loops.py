"""The loops of the kernel fit against their naive twins, and the basis against its definition."""

import numpy as np
import pytest
from scipy import ndimage

from psflib.image import polynomial
from psflib.image.convolve import convolve_by_tiles
from psflib.loops import convolve as tiles
from psflib.loops import footprints
from psflib.loops import matching as loops
from psflib.matching import basis as bases
from psflib.matching import equations, pixels, solve
from tests.image import naive_image as naive
from tests.matching import naive_matching


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def sorted_pixels(inside):
    return pixels.sort_pixels(inside)


class TestBasis:
    basis = bases.alard_lupton(9, (0.8, 1.5, 3.0), (4, 2, 2))

    def test_number_of_terms(self):
        assert len(self.basis.images) == 15 + 6 + 6

    def test_sums_and_norms(self):
        sums = self.basis.images.sum((1, 2))
        np.testing.assert_allclose(sums, np.eye(27)[0], atol=1e-12)
        norms = np.square(self.basis.images[1:]).sum((1, 2))
        np.testing.assert_allclose(norms, 1, rtol=1e-12)

    def test_first_term_is_the_pixel_integrated_gaussian(self):
        # sigma² + 1/12; sampling at whole pixels adds terms of order exp(-2 pi² sigma²) = 3e-6
        u = np.arange(-9, 10)
        marginal = self.basis.images[0].sum(0)
        assert np.sum(marginal * u**2) == pytest.approx(0.8**2 + 1 / 12, abs=2e-5)

    @pytest.mark.parametrize(
        "half, sigmas, degrees",
        [(0, (1,), (2,)), (5, (1, 2), (2,)), (5, (-1,), (2,)), (5, (1,), (-1,))],
    )
    def test_bad_calls(self, half, sigmas, degrees):
        with pytest.raises(ValueError):
            bases.alard_lupton(half, sigmas, degrees)


def test_convolve_at_equals_its_twin(rng):
    image = rng.normal(size=(70, 90)).astype(np.float32)
    basis = bases.alard_lupton(5, (1.0, 2.0), (2, 1))
    inside = rng.uniform(size=image.shape) < 0.05
    at = sorted_pixels(inside)
    layout = solve.Layout(len(basis.pair_x), 1, 1, 1)
    columns = equations.make_design(image, at, basis, layout).columns
    expected = naive.convolve_at(image, at.y, at.x, basis.images)
    # sums of 121 products of order one, and of two terms of 2, in float32
    np.testing.assert_allclose(columns.T, expected, atol=3e-6)


@pytest.mark.parametrize("n_basis", [1, 4, 9, 14])
def test_block_gram_equals_its_twin(rng, n_basis):
    design = rng.normal(size=(n_basis, 200)).astype(np.float32)
    target, weight = rng.normal(size=200), rng.uniform(size=200)
    weight[::7] = 0
    start = np.array([0, 30, 30, 120, 200])
    size = len(design) + 1
    gram, right = np.empty((4, size * (size + 1) // 2)), np.empty((4, size))
    loops.block_gram(design, target, weight, start, gram, right)
    rows = np.c_[design.T, np.ones(200)]
    expected = naive.block_gram(rows, target, weight, start)
    np.testing.assert_allclose(gram, expected[0][:, *np.triu_indices(size)], atol=1e-12)
    np.testing.assert_allclose(right, expected[1], atol=1e-12)


def test_model_at_equals_its_twin(rng):
    design = rng.normal(size=(4, 700)).astype(np.float32)
    y, x = rng.integers(0, 40, 700), rng.integers(0, 50, 700)
    coef = rng.normal(size=(4, 6))
    tx, ty = polynomial.axes(2, (40, 50))
    out = np.empty(700)
    loops.model_at(design, y, x, coef, tx, ty, *np.array(polynomial.degrees(2)).T.copy(), out)
    terms = polynomial.evaluate(2, x, y, (40, 50))
    np.testing.assert_allclose(out, naive_matching.model_at(design, terms, coef), atol=1e-12)


def test_lagged_sums_equal_their_twin(rng):
    variance = rng.uniform(1, 2, (40, 50)).astype(np.float32)
    y, x = rng.integers(4, 36, 60), rng.integers(4, 46, 60)
    weight, cell = rng.uniform(size=60), np.repeat([0, 1], [25, 35])
    out = np.zeros((2, 7, 7))
    loops.lagged_sums(variance, y, x, weight, cell, 3, out)
    expected = naive.lagged_sums(variance, y, x, weight, np.array([0, 25, 60]), 3)
    np.testing.assert_allclose(out[:, :, ::-1], expected, rtol=1e-6)  # weights are float32


def test_sky_sums_equal_their_twin(rng):
    rest = rng.normal(size=(37, 50)).astype(np.float32)
    variance = rng.uniform(0.5, 2, size=(37, 50)).astype(np.float32)
    select = rng.uniform(size=rest.shape) < 0.5
    total, weighted = np.zeros((3, 4)), np.zeros((3, 4))
    loops.sky_sums(rest, variance, select, np.float32(0.1), 1.0, 16, total, weighted)
    expected = naive_matching.sky_sums(rest, variance, select, np.float32(0.1), 1.0, 16)
    np.testing.assert_allclose(total, expected[0], rtol=1e-6)
    np.testing.assert_allclose(weighted, expected[1], rtol=1e-5, atol=1e-5)


class TestFootprintLoops:
    def test_smooth(self, rng):
        image = rng.normal(size=(30, 41)).astype(np.float32)
        taps = np.array([0.4, 0.2, 0.1], np.float32)
        out = np.empty_like(image)
        footprints.smooth(image, taps, out)
        np.testing.assert_allclose(out, naive_matching.smooth(image, taps), atol=2e-6)

    def test_peaks(self, rng):
        plane = rng.normal(size=(30, 41)).astype(np.float32)
        good = rng.uniform(size=plane.shape) < 0.9
        found = np.zeros(plane.shape, bool)
        footprints.mark_peaks(plane, np.float32(0.5), good, 2, found)
        np.testing.assert_array_equal(found, naive_matching.peaks(plane, 0.5, good, 2))

    @pytest.mark.parametrize("radius", [0, 1, 4, 500])
    def test_grow_diamond(self, rng, radius):
        for share in (0, 0.003, 0.2):
            mask, out = rng.random((61, 83)) < share, np.empty((61, 83), bool)
            footprints.grow_diamond(mask, radius, out)
            grown = ndimage.binary_dilation(mask, iterations=radius) if radius else mask
            assert np.array_equal(out, grown)

    @pytest.mark.parametrize("radius", [0, 1, 4, 50])
    def test_grow(self, rng, radius):
        mask = rng.uniform(size=(30, 41)) < 0.01
        np.testing.assert_array_equal(
            pixels.grown(mask, radius), naive_matching.grown(mask, radius)
        )

    @pytest.mark.parametrize("side", [1, 2, 3, 50])
    def test_opened(self, rng, side):
        mask = rng.uniform(size=(30, 41)) < 0.8
        out = np.zeros_like(mask)
        footprints.opened(mask, side, out)
        np.testing.assert_array_equal(out, naive_matching.opened(mask, side))

    def test_nearest_source(self, rng):
        x, y = rng.integers(0, 41, 5), rng.integers(0, 30, 5)
        source = np.full((30, 41), -1, np.int32)
        distance2 = np.full((30, 41), pixels.FAR, np.float32)
        footprints.nearest_source(x, y, 6.5, source, distance2)
        expected, d2 = naive_matching.nearest_source(x, y, 6.5, (30, 41))
        np.testing.assert_array_equal(source >= 0, expected >= 0)
        np.testing.assert_array_equal(distance2[source >= 0], d2[source >= 0])

    def test_block_power(self, rng):
        signal, variance = rng.normal(size=(37, 50)), rng.uniform(1, 2, (37, 50))
        select = rng.uniform(size=signal.shape) < 0.5
        count, power = np.zeros((3, 4), np.int64), np.zeros((3, 4))
        footprints.block_power(signal, variance, select, 16, count, power)
        expected = naive_matching.block_power(signal, variance, select, 16)
        np.testing.assert_array_equal(count, expected[0])
        np.testing.assert_allclose(power, expected[1], rtol=1e-12)

    def test_disc_sums(self, rng):
        planes = rng.uniform(1, 2, (4, 30, 41))
        good = rng.uniform(size=(30, 41)) < 0.9
        x, y = np.array([0, 20, 38]), np.array([3, 15, 29])
        out = np.empty((3, 5))
        footprints.disc_sums(*planes, good, x, y, 3.3, out)
        expected = naive_matching.disc_sums(planes, good, x, y, 3.3)
        np.testing.assert_allclose(out, expected, rtol=1e-12)


class TestTileLoops:
    def test_convolve_tiles(self, rng):
        plane = rng.normal(size=(40, 50)).astype(np.float32)
        down, across = rng.normal(size=(2, 12, 2, 5)).astype(np.float32)
        rank = rng.integers(1, 3, 12)
        out = np.empty_like(plane)
        tiles.convolve_tiles(plane, 16, 0, len(plane), down, across, rank, out)
        expected = naive_matching.convolve_tiles(plane, 16, down, across, rank)
        np.testing.assert_allclose(out, expected, atol=5e-5)

    def test_spread(self, rng):
        y, x = rng.integers(0, 40, 9), rng.integers(0, 50, 9)
        value, kernel = rng.normal(size=9).astype(np.float32), rng.normal(size=(5, 5))
        out = np.zeros((40, 50), np.float32)
        tiles.spread(y, x, value, kernel.astype(np.float32), out)
        expected = naive_matching.spread(y, x, value, kernel, (40, 50))
        np.testing.assert_allclose(out, expected, atol=1e-5)

    def test_add_product(self, rng):
        total, weight = rng.normal(size=(2, 6, 7)).astype(np.float32)
        part = rng.normal(size=(9, 12)).astype(np.float32)
        expected = total + weight * part[2:8, 3:10]
        tiles.add_product(total, weight, part, 2, 3)
        np.testing.assert_allclose(total, expected, rtol=1e-6, atol=1e-6)

    def test_kernels_by_tiles_keep_their_sums(self, rng):
        kernels = rng.uniform(0, 1, (6, 9, 9))
        kernels *= np.exp(-(np.arange(-4, 5) ** 2))[:, None] * np.exp(-(np.arange(-4, 5) ** 2))
        out = convolve_by_tiles(np.ones((60, 90), np.float32), kernels, 30)
        for t in range(6):
            y, x = t // 3 * 30 + 15, t % 3 * 30 + 15
            assert out[y, x] == pytest.approx(kernels[t].sum(), rel=1e-5)


def test_a_crowded_image_is_fitted_on_its_most_telling_blocks(rng):
    signal = rng.uniform(1, 2, (256, 256)).astype(np.float32)
    signal[::40, ::40] = 1000
    inside = np.ones(signal.shape, bool)
    chosen = pixels.most_telling(signal, np.ones_like(signal), inside, 16_000)
    cells = chosen.reshape(8, 2, 8, 2).sum((1, 3))
    assert np.all(cells >= 1)  # no part of the image goes without
    assert chosen.sum() * 256 <= 16_000 + 64 * 256
    power = np.square(signal).reshape(16, 16, 16, 16).sum((1, 3))
    assert power[chosen].sum() > 0.7 * power.sum()
    assert np.all(pixels.most_telling(signal, np.ones_like(signal), inside, 10**6))


class TestPixels:
    def test_every_pixel_once_and_in_its_block(self, rng):
        inside = rng.uniform(size=(100, 130)) < 0.2
        at = sorted_pixels(inside)
        assert len(at.y) == inside.sum()
        assert len(set(zip(at.y, at.x, strict=True))) == len(at.y)
        for t in range(len(at.block_x)):
            run = slice(at.block_start[t], at.block_start[t + 1])
            assert np.all(np.abs(at.x[run] - at.block_x[t]) <= 7.5)
            assert np.all(np.abs(at.y[run] - at.block_y[t]) <= 7.5)

    def test_no_pixels(self):
        at = sorted_pixels(np.zeros((20, 20), bool))
        assert len(at.y) == 0 and len(at.block_x) == 0


class TestPolynomial:
    def test_number_and_order_of_terms(self):
        assert [polynomial.n_terms(o) for o in range(4)] == [1, 3, 6, 10]
        assert polynomial.degrees(2) == [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]

    def test_corners_map_to_one(self):
        values = polynomial.evaluate(2, 99, 49, (50, 100))
        np.testing.assert_allclose(values, 1)

    def test_robust_fit_ignores_outliers(self, rng):
        x, y = rng.uniform(0, 100, (2, 400))
        truth = np.array([5, 1, -2.0])
        values = truth @ polynomial.evaluate(1, x, y, (100, 100)) + rng.normal(0, 0.1, 400)
        values[:40] += 50
        fit, _ = polynomial.fit_robust(1, x, y, values, np.full(400, 0.1), (100, 100), rounds=20)
        # 360 good points of error 0.1; terms of rms >= 0.58; 5 sigma
        np.testing.assert_allclose(fit, truth, atol=5 * 0.1 / np.sqrt(360) / 0.58)
