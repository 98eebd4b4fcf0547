"""The loops of the kernel fit against their naive twins, and the basis against its definition."""

import naive
import numpy as np
import pytest

from psflib import polynomial
from psflib.loops import matching as loops
from psflib.matching import basis as bases
from psflib.matching import pixels


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def sorted_pixels(inside):
    nothing = pixels.Sources(*[np.zeros(0, int)] * 2, *[np.zeros(0)] * 5, 0)
    return pixels.sort_pixels(inside, nothing, 4.0)


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
    inside[:5] = inside[-5:] = False
    inside[:, :5] = inside[:, -5:] = False
    at = sorted_pixels(inside)
    raw = np.empty((len(at.y), len(basis.pair_x)))
    loops.convolve_at(
        image, at.y, at.x, at.tile_start, at.tile_y, at.tile_x, pixels.TILE,
        basis.factors, basis.pair_x, basis.pair_y, raw,
    )  # fmt: skip
    expected = naive.convolve_at(image, at.y, at.x, basis.images)
    # sums of 121 products of order one in float64
    np.testing.assert_allclose(raw @ basis.mix.T, expected, atol=1e-11)


def test_block_gram_equals_its_twin(rng):
    design = rng.normal(size=(200, 5)).astype(np.float32)
    target, weight = rng.normal(size=200), rng.uniform(size=200)
    weight[::7] = 0
    start = np.array([0, 30, 30, 120, 200])
    gram, right = np.empty((4, 5, 5)), np.empty((4, 5))
    loops.block_gram(design, target, weight, start, gram, right)
    expected = naive.block_gram(design, target, weight, start)
    np.testing.assert_allclose(gram, expected[0], atol=1e-12)
    np.testing.assert_allclose(right, expected[1], atol=1e-12)


def test_lagged_sums_equal_their_twin(rng):
    variance = rng.uniform(1, 2, (40, 50)).astype(np.float32)
    y, x = rng.integers(4, 36, 60), rng.integers(4, 46, 60)
    weight, start = rng.uniform(size=60), np.array([0, 25, 60])
    out = np.empty((2, 7, 7))
    loops.lagged_sums(variance, y, x, weight, start, 3, out)
    np.testing.assert_allclose(out, naive.lagged_sums(variance, y, x, weight, start, 3), rtol=1e-12)


def test_block_sums_equal_their_twin(rng):
    plane, weight = rng.normal(size=(37, 50)), rng.uniform(size=(37, 50))
    select = rng.uniform(size=plane.shape) < 0.5
    total, weighted = np.zeros((3, 4)), np.zeros((3, 4))
    loops.block_sums(
        plane.astype(np.float32), weight.astype(np.float32), select, 16, total, weighted
    )
    expected = naive.block_sums(plane.astype(np.float32), weight.astype(np.float32), select, 16)
    np.testing.assert_allclose(total, expected[0], rtol=1e-6)
    np.testing.assert_allclose(weighted, expected[1], rtol=1e-5, atol=1e-5)


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
