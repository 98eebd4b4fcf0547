"""What the variance holds beyond noise: stars beyond the border, the kernel's own error."""

import types

import numpy as np
import pytest
from scipy import signal

from psflib.subtraction import doubts

SIDE = 60


def moffat(y, x, flux):
    j, i = np.indices((SIDE + 20, SIDE + 20))
    r2 = (j - y) ** 2 + (i - x) ** 2
    return flux * (1 + r2 / 4.0) ** -3


def gaussian(sigma, half=8):
    j, i = np.mgrid[-half : half + 1, -half : half + 1]
    kernel = np.exp(-0.5 * (i**2 + j**2) / sigma**2)
    return kernel / kernel.sum()


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("beyond", [0.0, 1.0, 2.0])
def test_a_star_at_or_beyond_the_border_is_doubted(turns, beyond):
    """The error of the convolution, 1 sigma of noise being 1, is hardly more than the doubt."""
    kernel = gaussian(1.5)
    whole = np.rot90(moffat(10 - beyond, 40, 3000.0), turns)
    inside = np.s_[10:-10, 10:-10]
    image = np.ascontiguousarray(whole[inside], np.float32)
    error = (signal.fftconvolve(whole, kernel, "same")[inside]
             - signal.fftconvolve(image, kernel, "same"))  # fmt: skip
    doubt = np.zeros(image.shape, np.float32)
    doubts.doubt_border(doubt, image, kernel, 5.0)
    unseen = (doubt < 1) & (np.abs(error) > 2)
    assert not unseen.any(), "of what is not masked"
    assert doubt.max() > 1 and (doubt > 1).mean() < 0.05


def test_empty_borders_are_not_doubted():
    rng = np.random.default_rng(1)
    doubt = np.zeros((SIDE, SIDE), np.float32)
    image = rng.normal(0, 1, doubt.shape).astype(np.float32)
    doubts.doubt_border(doubt, image, gaussian(1.5), 5.0)
    assert not doubt.any()


def test_the_kernel_s_error_follows_the_light():
    """Of a single bright pixel: the profile squared, times the light squared and the factor."""
    image = np.zeros((SIDE, SIDE), np.float32)
    image[30, 20] = 1000
    factor = np.ones((5, 5))
    factor[:, 0] = 3
    meta = {"kernel_error": {"profile": [0.02, 0.01, 0.0], "nodes": factor.tolist()}}
    found = doubts.kernel_error(types.SimpleNamespace(meta=meta), image, 100.0)
    assert found[30, 20] == pytest.approx(400, rel=0.3)
    assert found[30, 21] == pytest.approx(100, rel=0.3)
    assert found[30, 40] == 0
    twice = doubts.kernel_error(types.SimpleNamespace(meta=meta), 2 * image, 100.0)
    np.testing.assert_allclose(twice, 4 * found, rtol=1e-5)
    assert doubts.kernel_error(types.SimpleNamespace(meta={}), image, 100.0) is None
    assert doubts.kernel_error(types.SimpleNamespace(meta=meta), image, 1e6) is None
