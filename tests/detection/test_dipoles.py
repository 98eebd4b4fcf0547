"""Dipoles: the loop against finite differences, and separations, fluxes and kinds of true pairs."""

import numpy as np
import pytest
from scipy import ndimage, spatial

from psflib.decorrelation.decorrelate import decorrelate
from psflib.decorrelation.score import reversed_psf
from psflib.detection import dipoles as module
from psflib.detection.detect import detect
from psflib.detection.fits import BEYOND
from psflib.image.difference import Difference
from psflib.image.exposure import Exposure
from psflib.judging.metrics import values
from psflib.loops import dipoles as loops
from psflib.matching import MatchingKernel
from tests.detection import naive_detection

WIDTHS = 1.5, 1.1  # sigma of the PSFs, px
NOISES = 10.0, 5.0  # ADU
STEP, COUNT = 48, 6  # px between pairs, and pairs an axis
SIZE = STEP * COUNT
UNIT = np.hypot(*NOISES) * np.sqrt(4 * np.pi) * WIDTHS[0]  # ADU, a flux of S/N 1 in the difference


def gaussian(shape, y, x, width):
    rows, columns = np.indices(shape)
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2)) / (2 * np.pi * width**2)


class Psf:
    def at(self, x, y, size=41):
        return gaussian((size, size), size // 2, size // 2, WIDTHS[0])


class Pairs:
    """A grid of objects that are in the science image at one place, in the template at another."""

    def __init__(self, separation, snr, seed=1, host=0.0, static=0.0):
        rng = np.random.default_rng(seed)
        self.flux = snr * UNIT
        middle = np.stack(np.meshgrid(*2 * [STEP * (np.arange(COUNT) + 0.5)]), -1).reshape(-1, 2)
        self.middle = middle + rng.uniform(-0.5, 0.5, middle.shape)
        self.angle = rng.uniform(0, 2 * np.pi, len(middle))
        half = 0.5 * separation * np.c_[np.sin(self.angle), np.cos(self.angle)]
        self.places = np.stack([self.middle + half, self.middle - half], 1)
        images = [
            self._image(self.places[:, k], static * self.flux, host, rng, WIDTHS[k], NOISES[k])
            for k in range(2)
        ]
        square = (SIZE, SIZE)
        width = np.sqrt(WIDTHS[0] ** 2 - WIDTHS[1] ** 2)
        kernel = gaussian((13, 13), 6, 6, width)
        matching = MatchingKernel(
            kernel[None] / kernel.sum(), np.ones((1, 1)), 0, 0, np.zeros(1), 0, square
        )
        matched = matching.varying().convolve(images[1].image)
        noise = images[0].variance + matching.squared(1).convolve(images[1].variance)
        raw = Difference(
            images[0].image - matched, noise, np.zeros(square, np.uint16), matching, Psf(), None,
            *images, meta={"noise_correlation": (None, None)},
        )  # fmt: skip
        self.difference = decorrelate(raw)

    def _image(self, places, static, host, rng, width, noise):
        image = np.zeros((SIZE, SIZE))
        for k, (y, x) in enumerate(places):
            top, left = (int(c) - 20 for c in self.middle[k])
            box = np.s_[top : top + 41, left : left + 41]
            image[box] += self.flux * gaussian((41, 41), y - top, x - left, width)
            centre = self.middle[k] - (top, left)
            image[box] += static * gaussian((41, 41), *centre, width)
            image[box] += host * self.flux * gaussian((41, 41), *centre, np.hypot(width, 3.0))
        variance = noise**2 + image / 2.0
        seen = rng.normal(image, np.sqrt(variance))
        return Exposure(seen, variance, gain=2.0, sky=0.0, meta={"fwhm": 2.355 * width})

    def fitted(self):
        """Parameters and covariance of the fits that begin at the truth's lobes."""
        psf = reversed_psf(self.difference)
        _, _, state, covariance, _ = module._fit(
            self.difference, self.difference.variance, psf, self.places
        )
        return state, covariance


def separations(state):
    return np.hypot(*(state[:, 1:3] - state[:, 4:6]).T)


@pytest.fixture(scope="module")
def splines():
    psf = gaussian((15, 15), 7, 7.2, 1.6)
    wide = np.pad(psf, BEYOND, "edge")
    return psf, ndimage.spline_filter(wide, order=3, mode="nearest")


class TestLoop:
    @pytest.mark.parametrize("shift", [(0.3, -0.7), (-2.2, 1.0), (0.0, 0.0), (5.4, -9.3)])
    def test_moved(self, splines, shift):
        psf, coefficients = splines
        out = np.empty((3, 15, 15))
        loops.moved(coefficients, np.array(shift), out)
        expected = naive_detection.moved_with_slopes(psf, shift)
        np.testing.assert_allclose(out[0], expected[0], atol=1e-12)
        # the slopes are finite differences over 1e-4 px
        np.testing.assert_allclose(out[1:], expected[1:], atol=1e-8)

    def test_all(self, splines):
        psf, coefficients = splines
        shifts, out = np.array([[0.2, 0.4], [-1.3, 2.0]]), np.empty((2, 15, 15))
        loops.moved_all(np.array(2 * [coefficients]), shifts, out)
        for found, shift in zip(out, shifts, strict=True):
            np.testing.assert_allclose(found, naive_detection.shifted(psf, *shift), atol=1e-12)

    def test_sums(self, splines):
        psf, coefficients = splines
        rng = np.random.default_rng(3)
        seen, weight = rng.normal(0, 1, (2, 2, 15, 15)), rng.uniform(0.5, 2, (2, 2, 15, 15))
        weight[rng.uniform(size=weight.shape) < 0.1] = 0
        state = rng.normal(0, 1, (2, 9))
        share = np.array([0.3, 0.6])
        matrix, vector, chi2 = np.empty((2, 9, 9)), np.empty((2, 9)), np.empty((2, 2))
        pairs = np.array(2 * [[coefficients, coefficients]])
        loops.dipole_sums(pairs, seen, weight, share, state, matrix, vector, chi2)
        for p in range(2):
            expected = naive_detection.dipole_sums(psf, seen[p], weight[p], share[p], state[p])
            for found, value in zip((matrix[p], vector[p], chi2[p]), expected, strict=True):
                np.testing.assert_allclose(found, value, rtol=1e-6, atol=1e-6)


class TestFit:
    @pytest.mark.parametrize("separation", [0.2, 1.0, 3.0])
    def test_separation_at_the_bound(self, separation):
        pairs = Pairs(separation, 20)
        state, _ = pairs.fitted()
        apart = state[:, 1:3] - state[:, 4:6]
        along = np.c_[np.sin(pairs.angle), np.cos(pairs.angle)]
        off = (apart * along).sum(1) - separation
        # Cramer-Rao: √2 sigma / (S/N) of each, whose S/N are those of science image and template
        snr = 20 * np.hypot(*NOISES) / np.array(NOISES)
        bound = np.hypot(*np.sqrt(2) * np.array(WIDTHS) / (snr * [1, WIDTHS[0] / WIDTHS[1]]))
        assert off.std() < 1.25 * bound  # 36 pairs tell it to 12 %
        assert abs(off.mean()) < 3.5 * bound / 6
        assert np.median(state[:, 0]) == pytest.approx(pairs.flux, rel=0.03)

    def test_errors_hold(self):
        pairs = Pairs(1.0, 60, seed=4)
        state, covariance = pairs.fitted()
        pull = (state[:, 0] - pairs.flux) / np.sqrt(covariance[:, 0, 0])
        assert pull.std() == pytest.approx(1, abs=0.4)  # 36 pairs: 12 %
        error = np.sqrt(covariance[:, 1, 1] + covariance[:, 4, 4])
        apart = state[:, 1] - state[:, 4]
        truth = pairs.places[:, 0, 0] - pairs.places[:, 1, 0]
        assert np.std((apart - truth) / error) == pytest.approx(1, abs=0.4)

    def test_a_host_is_no_point_source(self):
        pairs = Pairs(1.0, 60, seed=5, host=8.0)
        state, covariance = pairs.fitted()
        pull = (state[:, 0] - pairs.flux) / np.sqrt(covariance[:, 0, 0])
        assert abs(np.median(pull)) < 2  # the light of the host is taken for the object's, and told
        # the difference knows flux times separation all the same
        assert np.median(state[:, 0] * separations(state)) == pytest.approx(pairs.flux, rel=0.1)


class TestDetect:
    @staticmethod
    def near(pairs):
        table = detect(pairs.difference)
        at = np.c_[values(table, "y"), values(table, "x")]
        distance, row = spatial.cKDTree(at).query(pairs.places.reshape(-1, 2))
        return table[np.unique(row[distance < 3])]

    def test_misregistered_stars(self):
        pairs = Pairs(0.6, 200)
        table = self.near(pairs)
        assert len(table) >= 2 * COUNT**2 - 2
        assert np.all(["dipole" in flags for flags in table["flags"]])
        off = values(table, "dipole_separation") - 0.6
        assert np.sqrt(np.mean(off**2)) < 0.1
        assert table["dipole_separation"].unit == "pix"
        row = spatial.cKDTree(pairs.middle).query(np.c_[values(table, "y"), values(table, "x")])[1]
        turned = np.exp(1j * (np.deg2rad(values(table, "dipole_angle")) - pairs.angle[row]))
        assert np.abs(np.angle(turned)).max() < 0.3

    def test_moving_objects_are_no_dipoles(self):
        table = self.near(Pairs(4.0, 40))
        assert np.mean(["dipole" in flags for flags in table["flags"]]) < 0.05

    def test_a_static_star_between_them_is_none_that_moved(self):
        pairs = Pairs(3.0, 60, static=1.0)
        psf = reversed_psf(pairs.difference)
        table = detect(pairs.difference)
        at = values(table, "y"), values(table, "x")
        found = module.dipoles(
            pairs.difference, pairs.difference.variance, psf, pairs.difference.score, *at, 3.5,
            np.ones(len(table), bool),
        )  # fmt: skip
        assert found.moved.mean() < 0.1

    def test_without_images_nothing_is_known(self):
        bare = Pairs(0.6, 200).difference.replace(science=None, template=None)
        table = detect(bare)
        assert np.isnan(table["dipole_separation"]).all()
        assert np.mean(["dipole" in flags for flags in table["flags"]]) > 0.9
