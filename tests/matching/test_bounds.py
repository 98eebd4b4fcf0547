"""Kernels that cannot be absurd: sums positive, within bounds, and no guess beyond the stars."""

import dataclasses

import numpy as np
import pytest

from psflib.errors import BadImage
from psflib.image import polynomial
from psflib.matching import MatchingKernel, bounds, fit_kernel
from tests.matching.test_kernel import FWHM_BROAD, FWHM_SHARP, SHAPE, SIGMA, gaussian

CORNERS = np.array([0.0, 339.0, 0.0, 339.0]), np.array([0.0, 0.0, 319.0, 319.0])


def kernel_of(sums, order=0, shape_terms=None, **changes):
    """A kernel of these Chebyshev coefficients of its sum; `shape_terms` of a second image."""
    flux_order = {1: 0, 3: 1, 6: 2}[len(sums)]
    basis = np.array([gaussian(1.2), gaussian(0.7) - gaussian(2.0)])
    coef = np.zeros((2, max(len(sums), polynomial.n_terms(order))))
    coef[0, : len(sums)] = sums
    coef[1, : len(shape_terms or ())] = shape_terms or ()
    return MatchingKernel(basis, coef, order, flux_order, np.zeros(1), 0, SHAPE, meta={}, **changes)


def fitted(sums, x=CORNERS[0], y=CORNERS[1], ratio=1.0, **more):
    kernel = kernel_of(sums, **more)
    return bounds.Fitted(kernel, kernel.order, kernel.flux_order, x, y, ratio)


class TestFault:
    @pytest.mark.parametrize("sums", [[1.0], [1.0, 0.1, -0.2], [1.0, 0, 0, 0.2, 0.1, 0]])
    def test_sane_kernels_have_none(self, sums):
        assert bounds.find_fault(fitted(sums)) is None

    @pytest.mark.parametrize(
        ("sums", "word"),
        [([-0.5], "runs from"), ([1.0, 1.5, 0.0], "runs from"), ([np.nan], "runs from"),
         ([1.0, 0.7, 0.0], "more than a factor 2"), ([0.5], "fluxes ask for 1")],
    )  # fmt: skip
    def test_sums_that_no_sky_has(self, sums, word):
        fault = bounds.find_fault(fitted(sums))
        assert fault.of_sum and word in fault.reason

    def test_what_lies_beyond_the_stars_may_not_run_away(self):
        """Stars in the left quarter, of a scale that is 1 there: -322 at the right is no news."""
        x, y = np.array([0, 80, 0, 80.0, 40]), np.array([0, 0, 319, 319.0, 150])
        wild = [1.0, 0.3, 0.0, 0.3, 0.0, 0.0]
        fault = bounds.find_fault(fitted(wild, x, y, ratio=float("nan")))
        assert fault.of_sum and "where there are none" in fault.reason

    def test_nor_may_the_shape(self):
        x, y = np.array([0, 80, 0, 80.0]), np.array([0, 0, 319, 319.0])
        sharp = {"order": 1, "shape_terms": [1.0, 1.0, 0.0]}
        fault = bounds.find_fault(fitted([1.0], x, y, **sharp))
        assert not fault.of_sum and "amplifies" in fault.reason

    def test_stars_in_a_line_have_no_inside(self):
        x = np.array([10, 100, 300.0])
        assert bounds.find_fault(fitted([1.0, 0.02, 0.0], x, 0.9 * x)) is None


class TestDegreesFall:
    def run(self, by_degree, most=2.0):
        """`by_degree`: coefficients of the sum that a fit of each flux degree has."""
        asked = []

        def fit(order, flux_order):
            asked.append((order, flux_order))
            return fitted(by_degree[flux_order])

        return asked, bounds.within_bounds(fit, 0, 2, most)

    def test_until_it_is_sane(self):
        wild, steep, flat = [1.0, 0, 0, -3, 0, 0], [1.0, 0.8, 0.0], [1.1]
        asked, kernel = self.run({2: wild, 1: steep, 0: flat})
        assert asked == [(0, 2), (0, 1), (0, 0)]
        assert kernel.flux_order == 0 and len(kernel.meta["notes"]) == 2
        assert kernel.meta["kernel_sum_min"] == kernel.meta["kernel_sum_max"] == 1.1

    def test_bounds_are_a_setting(self):
        asked, kernel = self.run({2: [1.0, 0.55, 0, 0, 0, 0]}, most=3.0)
        assert asked == [(0, 2)] and kernel.meta["notes"] == []
        low, high = kernel.meta["kernel_sum_min"], kernel.meta["kernel_sum_max"]
        assert (low, high) == (pytest.approx(0.45), pytest.approx(1.55))

    def test_then_the_epoch_stops_with_numbers(self):
        with pytest.raises(BadImage, match=r"sum runs from -0\.2 to -0\.2 over its 4 stars"):
            self.run({degree: [-0.2] + [0] * (1, 2, 5)[degree] for degree in ()} | {
                2: [-0.2, 0, 0, 0, 0, 0], 1: [-0.2, 0, 0], 0: [-0.2]})  # fmt: skip

    def test_sums_are_in_science_units(self):
        kernel = dataclasses.replace(kernel_of([0.8]), convolved="science")
        assert bounds.sum_range(kernel, *CORNERS) == (pytest.approx(1.25), pytest.approx(1.25))


class TestRegion:
    def test_beyond_it_the_kernel_is_that_of_its_border(self):
        region = (50.0, 200.0, 60.0, 150.0)
        kernel = kernel_of([1.0, 0.3, 0.1], 1, [0.2, 0.5, -0.3], region=region)
        free = dataclasses.replace(kernel, region=None)
        for (x, y), (at_x, at_y) in {
            (100, 100): (100, 100), (0, 100): (50, 100), (339, 319): (200, 150),
        }.items():  # fmt: skip
            np.testing.assert_allclose(kernel.at(x, y), free.at(at_x, at_y), atol=1e-12)
            assert kernel.kernel_sum(x, y) == pytest.approx(free.kernel_sum(at_x, at_y))
        plane = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
        varying = kernel.varying()
        np.testing.assert_allclose(varying.at(339, 319), free.at(200, 150), atol=1e-12)
        assert np.isfinite(varying.convolve(plane)).all()


def stars_at(x, y, seed, n):
    """A pair of images whose n stars lie where `x`, `y` (functions of 0..1) put them; ratio 1.3."""
    rng = np.random.default_rng(seed)
    j, i = np.indices(SHAPE)
    images = np.zeros((2, *SHAPE))
    u, v = rng.uniform(size=(2, n))
    for px, py, flux in zip(x(u, v), y(u, v), 10 ** rng.uniform(3.3, 5, n), strict=True):
        box = np.s_[max(int(py) - 15, 0) : int(py) + 16, max(int(px) - 15, 0) : int(px) + 16]
        for image, fwhm, scale in zip(images, (FWHM_BROAD, FWHM_SHARP), (1.3, 1.0), strict=True):
            s2 = 2 * (fwhm / 2.3548) ** 2
            r2 = (j[box] - py) ** 2 + (i[box] - px) ** 2
            image[box] += scale * flux * np.exp(-r2 / s2) / (np.pi * s2)
    variance = np.full(SHAPE, SIGMA**2, np.float32)
    usable = np.ones(SHAPE, bool)
    return [
        ((image + rng.normal(0, SIGMA, SHAPE)).astype(np.float32), variance, usable)
        for image in images
    ]


@pytest.mark.parametrize(
    "place",
    [
        (lambda u, v: 10 + 70 * u, lambda u, v: 10 + 300 * v),
        (lambda u, v: 10 + 80 * u, lambda u, v: 10 + 80 * v),
        (lambda u, v: 10 + 320 * u, lambda u, v: 10 + 300 * np.clip(u + 0.1 * v - 0.05, 0, 1)),
    ],
    ids=["one side", "one corner", "diagonal"],
)
@pytest.mark.parametrize("n", [25, 60])
def test_stars_in_part_of_the_field(place, n):
    planes = stars_at(*place, 3, n)
    kernel = fit_kernel(*planes, (FWHM_BROAD, FWHM_SHARP), orders=(3, 2, 1))
    y, x = np.mgrid[0 : SHAPE[0] : 40, 0 : SHAPE[1] : 40]
    scale = kernel.flux_scale(x, y)
    assert scale.min() > 1.3 / 1.25 and scale.max() < 1.3 * 1.25  # 10 % beyond, and what is noise
    assert 1.2 < kernel.meta["kernel_sum_min"] <= kernel.meta["kernel_sum_max"] < 1.4


def test_an_image_of_another_sky_stops():
    first = stars_at(lambda u, v: 330 * u, lambda u, v: 310 * v, 3, 80)[0]
    second = stars_at(lambda u, v: 330 * u, lambda u, v: 310 * v, 4, 80)[1]
    with pytest.raises(BadImage, match="sum runs from"):
        fit_kernel(first, second, (FWHM_BROAD, FWHM_SHARP), orders=(3, 2, 1))


class TestHeldOut:
    def test_of_a_kernel_that_follows_it_is_noise(self):
        planes = stars_at(lambda u, v: 330 * u, lambda u, v: 310 * v, 5, 120)
        meta = fit_kernel(*planes, (FWHM_BROAD, FWHM_SHARP), orders=(1, 1, 1)).meta
        assert meta["heldout_snr"] == [30.0, 100.0, 300.0, 1000.0]
        for rms, count in zip(meta["heldout_residual"], meta["heldout_stars"], strict=True):
            if count >= 8:  # a star has 30 px of noise, and the kernel's own error
                assert 0.85 < rms < 1.6

    def test_of_one_that_does_not_it_grows_with_brightness(self):
        planes = stars_at(lambda u, v: 330 * u, lambda u, v: 310 * v, 5, 120)
        image = planes[0][0]
        y = np.arange(SHAPE[0])[:, None]
        bent = np.where(y % 40 < 20, image, np.roll(image, 1, 1)).astype(np.float32)
        planes[0] = (bent, *planes[0][1:])
        meta = fit_kernel(*planes, (FWHM_BROAD, FWHM_SHARP), orders=(1, 1, 1)).meta
        known = [r for r in meta["heldout_residual"] if np.isfinite(r)]
        assert known[-1] > 3 and known[-1] > known[0]
