"""Own short forms of what scipy has in modules that take a second to import."""

import numpy as np
import pytest
from scipy import interpolate, signal

from psflib.image.convolve import fft_convolve
from psflib.image.splines import b_splines


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_splines_as_those_of_scipy(degree):
    rng = np.random.default_rng(1)
    knots = np.r_[[0.0] * degree, np.linspace(0, 1, 6), [1.0] * degree]
    x = np.r_[0.0, np.sort(rng.uniform(size=50)), 0.2, 1.0]
    mine = b_splines(x, knots, degree)
    theirs = interpolate.BSpline.design_matrix(x, knots, degree).toarray().T
    np.testing.assert_allclose(mine, theirs, atol=1e-14)
    np.testing.assert_allclose(mine.sum(axis=0), 1)


@pytest.mark.parametrize("sides", [((30, 41), (7, 5)), ((9, 9), (9, 9)), ((12, 10), (4, 6))])
def test_convolution_as_that_of_scipy(sides):
    rng = np.random.default_rng(2)
    plane, kernel = (rng.normal(size=side) for side in sides)
    for full in (False, True):
        theirs = signal.fftconvolve(plane, kernel, "full" if full else "same")
        np.testing.assert_allclose(fft_convolve(plane, kernel, full), theirs, atol=1e-12)
