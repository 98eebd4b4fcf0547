"""Loops over candidates against their twins, at borders and beside unusable pixels too."""

import numpy as np
import pytest
from scipy import ndimage

from psflib.detection.fits import BEYOND, CORE
from psflib.loops import candidates as loops
from tests.detection import naive_detection

Y, X = np.array([20, 3, 38, 0, 25]), np.array([25, 40, 49, 0, 12])
SHIFT = np.array([[0.3, -0.7], [1.6, 0.2], [0.0, 0.0], [-0.4, 0.5], [-2.2, 1.0]])


@pytest.fixture(scope="module")
def planes():
    rng = np.random.default_rng(5)
    image = rng.normal(0, 3, (40, 50)).astype(np.float32)
    variance = rng.uniform(5, 12, image.shape).astype(np.float32)
    return image, variance, rng.uniform(size=image.shape) < 0.9


@pytest.fixture(scope="module")
def psf():
    y, x = np.indices((13, 13)) - 6
    return np.exp(-(y**2 + 1.3 * x**2 - 0.4 * x * y) / 5) + 1e-3 * x


@pytest.fixture(scope="module")
def splines(psf):
    wide = ndimage.spline_filter(np.pad(psf, BEYOND, "edge"), order=3, mode="nearest")
    return np.repeat(wide[None], len(Y), 0)


def test_shifted(psf, splines):
    rows, out = np.empty((13, splines.shape[1])), np.empty((13, 13))
    for dy, dx in (*SHIFT, (5.0, -9.3)):
        loops.shifted(splines[0], dy, dx, -1, rows, out)
        np.testing.assert_allclose(out, naive_detection.shifted(psf, dy, dx), atol=1e-12)
        for axis, expected in enumerate(naive_detection.slopes(psf, dy, dx)):
            loops.shifted(splines[0], dy, dx, axis, rows, out)
            # steps of 1e-4 px: their square, and rounding errors over them
            np.testing.assert_allclose(out, expected, atol=1e-7)


def test_fit_sums(planes, psf, splines):
    matrix, vector = np.empty((len(Y), 3, 3)), np.empty((len(Y), 3))
    loops.fit_sums(*planes, Y, X, splines, SHIFT, 13, matrix, vector)
    for p, shift in enumerate(SHIFT):
        expected = naive_detection.fit_sums(planes, Y[p], X[p], psf, shift)
        np.testing.assert_allclose(matrix[p], expected[0], rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(vector[p], expected[1], rtol=1e-7, atol=1e-7)


def test_fit_facts(planes, psf, splines):
    facts = np.empty((len(Y), loops.FACTS))
    loops.fit_facts(*planes, Y, X, splines, SHIFT, 13, CORE, 1.4, facts)
    for p, shift in enumerate(SHIFT):
        expected = naive_detection.fit_facts(planes, Y[p], X[p], psf, shift, CORE, 1.4)
        np.testing.assert_allclose(facts[p], expected, rtol=1e-9, atol=1e-9)


def test_forced_sums(planes, psf, splines):
    rng = np.random.default_rng(6)
    image, variance, usable = planes
    moved = rng.normal(3, 5, image.shape).astype(np.float32)
    spread = rng.uniform(1, 4, image.shape).astype(np.float32)
    seen = rng.uniform(size=image.shape) < 0.9
    kernels = rng.normal(0.02, 0.1, (len(Y), 5, 5))
    kernels[:, 2, 2] += 1  # or nothing may be left of a sum that others divide by
    sums = np.empty((len(Y), loops.FORCED))
    pair = (image, spread, usable), (moved, variance, seen)
    loops.forced_sums(
        variance, usable, image, spread, moved, variance, np.where(seen, 8, 3).astype(np.uint16),
        np.uint16(2), Y, X, splines, SHIFT, 13, kernels[:, ::-1, ::-1].copy(), sums,
    )  # fmt: skip
    for p, shift in enumerate(SHIFT):
        expected = naive_detection.forced_sums(planes, pair, Y[p], X[p], psf, shift, kernels[p])
        np.testing.assert_allclose(sums[p], expected, rtol=1e-9, atol=1e-9)


def test_strongest_opposite(planes):
    found = np.empty(len(Y))
    loops.strongest_opposite(planes[0], Y, X, 4, found)
    for y, x, value in zip(Y, X, found, strict=True):
        assert value == naive_detection.strongest_opposite(planes[0], y, x, 4)
