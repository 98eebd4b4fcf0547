"""Convolution with varying kernels: against the naive twin, and its identities."""

import numpy as np
import pytest

from psflib.image import convolve as conv
from psflib.image import polynomial
from tests.image import naive_image as naive


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def gaussian(sigma, half=6):
    r = np.arange(-half, half + 1)
    image = np.exp(-(r[:, None] ** 2 + r**2) / (2 * sigma**2))
    return image / image.sum()


def test_constant_kernel_equals_naive_convolution(rng):
    image = rng.normal(size=(40, 53)).astype(np.float32)
    kernel = rng.normal(size=(7, 7))
    result = conv.constant_kernel(kernel).convolve(image)
    # float32 transforms: 1e-6 of the largest value
    np.testing.assert_allclose(result, naive.convolve(image, kernel), atol=3e-5)


def test_tiles_leave_no_seam(rng, monkeypatch):
    image = rng.normal(size=(100, 120)).astype(np.float32)
    kernel = conv.constant_kernel(gaussian(2.0))
    whole = kernel.convolve(image)
    monkeypatch.setattr(conv, "TILE", 32)
    np.testing.assert_allclose(kernel.convolve(image), whole, atol=1e-5)


def test_polynomial_weights_equal_pixel_by_pixel(rng):
    shape = (30, 34)
    image = rng.normal(size=shape).astype(np.float32)
    images = rng.normal(size=(3, 5, 5))

    def weights(x, y):
        return polynomial.evaluate(1, x, y, shape)

    result = conv.VaryingKernel(images, weights).convolve(image)
    for y, x in ((0, 0), (12, 20), (29, 33)):
        kernel = np.tensordot(weights(x, y), images, 1)
        expected = naive.convolve_at(image, [y], [x], kernel[None])[0, 0]
        assert result[y, x] == pytest.approx(expected, abs=1e-4)


def node_kernels(x, y):
    return np.array([[gaussian(1.5 + 0.01 * i + 0.005 * j) for i in x] for j in y])


class TestBlend:
    x, y = conv.node_grid((60, 80), 3)
    kernels = node_kernels(x, y)

    def test_nodes_are_reproduced(self):
        blend = conv.blend_nodes(self.kernels, self.x, self.y, tolerance=1e-6)
        for j, py in enumerate(self.y):
            for i, px in enumerate(self.x):
                np.testing.assert_allclose(blend.at(px, py), self.kernels[j, i], atol=1e-6)

    def test_between_nodes_it_is_bilinear(self):
        blend = conv.blend_nodes(self.kernels, self.x, self.y, tolerance=1e-9)
        middle = blend.at((self.x[0] + self.x[1]) / 2, self.y[0])
        np.testing.assert_allclose(middle, (self.kernels[0, 0] + self.kernels[0, 1]) / 2, atol=1e-9)

    def test_unit_sum_is_kept_everywhere(self):
        blend = conv.blend_nodes(self.kernels, self.x, self.y, tolerance=0.05)
        for px, py in ((0, 0), (40, 30), (79, 59), (11, 47)):
            assert blend.at(px, py).sum() == pytest.approx(1, abs=1e-12)

    def test_equal_kernels_need_one_term(self):
        same = np.broadcast_to(gaussian(2.0), (3, 3, 13, 13))
        assert len(conv.blend_nodes(same, self.x, self.y).images) == 1


@pytest.mark.parametrize("nodes", [(2, 3), (5, 9)])
def test_cells_of_nodes_equal_terms(rng, nodes):
    """Four kernels at the corners of a cell for seven images over the field."""
    plane = rng.normal(size=(420, 500)).astype(np.float32)
    x, y = conv.edge_grid(plane.shape, nodes[1])[0], conv.edge_grid(plane.shape, nodes[0])[1]
    weights = conv.BilinearWeights(rng.normal(size=(7, *nodes)), x, y)
    images = rng.normal(size=(7, 9, 9))
    by_terms = conv.VaryingKernel(images, lambda x, y: weights(x, y)).convolve(plane)
    by_cells = np.empty_like(plane)
    cells = conv._tiles_of_cells(weights, plane.shape)
    conv.VaryingKernel(images, weights)._by_cells(plane, cells, 4, by_cells)
    # float32: seven terms of some 10 each
    np.testing.assert_allclose(by_cells, by_terms, atol=1e-5 * by_terms.std())
