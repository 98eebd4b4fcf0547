"""Whitening over the field: blend, variance, covariance and PSF of what was applied.

The truth of each is arithmetic, or a Monte-Carlo of pure noise with its own standard error.
"""

import numpy as np
import pytest
from scipy import ndimage, signal, special

from psflib import products
from psflib.decorrelation.decorrelate import DecorrelateSettings, decorrelate
from psflib.decorrelation.field import varying_filter
from psflib.decorrelation.filters import score_filter, spectrum, whitening_filter
from psflib.decorrelation.propagate import NoiseOfInputs, propagate
from psflib.decorrelation.score import reversed_psf
from psflib.decorrelation.sky_variance import SkyVariance
from psflib.image import noise
from psflib.image.convolve import blend_nodes, constant_kernel, edge_grid
from psflib.image.covariance import LAGS, SPACING, CovarianceMaps, cell_means
from psflib.image.difference import Difference
from psflib.image.exposure import Exposure
from psflib.matching import MatchingKernel

PSF_SIGMA = 1.8


def gaussian(sigma, half=12, total=1.0):
    r = np.arange(-half, half + 1)
    image = np.exp(-(r[:, None] ** 2 + r**2) / (2 * sigma**2))
    return total * image / image.sum()


class GaussianPsf:
    def at(self, x, y, size):
        return gaussian(PSF_SIGMA, size // 2)


def steep_kernel(shape, total=1.2):
    """The share of the broad term grows from 0.1 in one corner to 0.9 in the other."""
    narrow, broad = gaussian(0.9), gaussian(2.7)
    coef = total * np.array([[1, 0, 0], [0.5, 0.25, 0.15]])
    return MatchingKernel(
        np.array([narrow, broad - narrow]), coef, 1, 0, np.zeros(1), 0, shape, "template"
    )


def variances(shape):
    """Variance planes that change by 35 and 40 %."""
    x, y = (np.linspace(-1, 1, n) for n in shape[::-1])
    still = 25 * (1 + 0.35 * x[None, :] + 0 * y[:, None])
    moved = 36 * (1 - 0.40 * y[:, None] + 0 * x[None, :])
    return still.astype(np.float32), moved.astype(np.float32)


def noise_pair(shape, seed):
    """Difference of two images of pure noise under the steep kernel."""
    rng = np.random.default_rng(seed)
    kernel, planes = steep_kernel(shape), variances(shape)
    images = [rng.standard_normal(shape, dtype=np.float32) * np.sqrt(v) for v in planes]
    inputs = [
        Exposure(image, plane, None, sky=0.0, meta={"fwhm": 2.355 * PSF_SIGMA})
        for image, plane in zip(images, planes, strict=True)
    ]
    raw, _ = propagate(NoiseOfInputs(*planes, None, None, kernel))
    return Difference(
        images[0] - kernel.varying().convolve(images[1]), raw, inputs[0].mask.copy(), kernel,
        GaussianPsf(), None, *inputs, meta={"noise_correlation": [None, None]},
    )  # fmt: skip


class TestSkyVariance:
    def test_a_gradient_is_followed_to_the_corners(self):
        plane = variances((700, 900))[1]
        sky = np.ones(plane.shape, bool)
        smooth = SkyVariance(plane, sky)
        for x, y in ((0, 0), (899, 699), (450, 350), (30, 600)):
            assert smooth(x, y) == pytest.approx(plane[y, x], rel=0.01)

    def test_sources_do_not_count(self):
        plane = np.full((300, 300), 9, np.float32)
        plane[100:150, 100:150] += 1e5
        smooth = SkyVariance(plane, plane < 10)
        assert smooth(125, 125) == pytest.approx(9, rel=1e-6) == smooth.typical

    @pytest.mark.parametrize("shape", [(1, 1), (5, 900), (64, 64)])
    def test_small_images_and_no_sky(self, shape):
        plane = np.full(shape, 4, np.float32)
        for sky in (np.ones(shape, bool), np.zeros(shape, bool)):
            assert SkyVariance(plane, sky)(0, 0) == pytest.approx(4)
        assert SkyVariance(0 * plane, np.zeros(shape, bool))(3, 3) > 0


class TestBlend:
    shape = (300, 340)

    def exact(self, x, y):
        return whitening_filter(steep_kernel(self.shape).at(x, y), 25.0, 36.0)

    def test_as_exact_as_asked(self):
        rng = np.random.default_rng(1)
        for accuracy in (0.1, 0.02):
            blend = varying_filter(self.exact, self.shape, accuracy)
            for x, y in rng.uniform(0, 1, (20, 2)) * (339, 299):
                error = np.abs(self.padded(blend.at(x, y)) - self.exact(x, y)).sum()
                assert error < accuracy * np.abs(self.exact(x, y)).sum()

    def padded(self, psi, size=49):
        return np.pad(psi, (size - len(psi)) // 2)

    def test_few_terms_carry_many_nodes(self):
        blend = varying_filter(self.exact, self.shape)
        assert len(blend.weights.x) >= 5 and len(blend.images) <= 6

    def test_gain_is_one_everywhere(self):
        blend = varying_filter(self.exact, self.shape)
        for x, y in ((0, 0), (339, 299), (17.3, 201.9)):
            assert blend.at(x, y).sum() == pytest.approx(1, abs=1e-12)
        flat = blend.convolve(np.ones(self.shape, np.float32))[30:-30, 30:-30]
        np.testing.assert_allclose(flat, 1, atol=2e-6)  # float32 transforms

    def test_what_does_not_vary_is_one_filter(self):
        blend = varying_filter(lambda x, y: gaussian(1.0), self.shape)
        assert len(blend.images) == 1

    def test_too_steep_is_said(self, caplog):
        varying_filter(lambda x, y: gaussian(0.6 + (x % 37) / 20), self.shape, 0.001)
        assert "varies faster" in caplog.text


class TestPropagation:
    shape = (200, 192)

    def test_flat_noise_is_arithmetic(self):
        kappa, psi = gaussian(1.4, total=0.8), whitening_filter(gaussian(1.4), 1.0, 2.0, crop=8)
        rho = np.array([[0, 0.2, 0], [0.4, 1, 0.4], [0, 0.2, 0]])
        planes = [np.full(self.shape, v, np.float32) for v in (3, 7)]
        inputs = NoiseOfInputs(*planes, None, rho, constant_kernel(kappa))
        variance, maps = propagate(inputs, constant_kernel(psi))
        both = signal.convolve2d(psi, kappa)
        for lag, value in [((0, 0), variance[100, 96]), *zip(LAGS, maps.at(96, 100), strict=True)]:
            expected = 3 * self.product(psi, lag) + 7 * sum(
                rho[1 + a, 1 + b] * self.product(both, (lag[0] + a, lag[1] + b))
                for a in (-1, 0, 1)
                for b in (-1, 0, 1)
            )
            assert value == pytest.approx(expected, rel=2e-3, abs=2e-5)

    @staticmethod
    def product(c, lag):
        """Sum of c(s) c(s + lag)."""
        return np.sum(np.pad(c, 4) * np.roll(np.pad(c, 4), (-lag[0], -lag[1]), (0, 1)))

    def test_under_a_star_the_noise_is_as_predicted(self):
        """Whitening is for the sky: what is left under a star must at least be known."""
        rng, n = np.random.default_rng(4), 64
        light = 4000 * gaussian(4.0, n // 2)[:n, :n]
        planes = [(v + s * light).astype(np.float32) for v, s in ((1.0, 40), (2.0, 80))]
        kappa = gaussian(1.2, 8)
        psi = whitening_filter(kappa, 1.0, 2.0)
        kernels = constant_kernel(kappa), constant_kernel(psi)
        variance, maps = propagate(NoiseOfInputs(*planes, None, None, kernels[0]), kernels[1])
        draws = 600
        total, lagged = np.zeros((n, n)), 0.0
        for _ in range(draws):
            still, moved = (
                rng.standard_normal((n, n)).astype(np.float32) * np.sqrt(p) for p in planes
            )
            clean = kernels[1].convolve(still - kernels[0].convolve(moved))
            total += np.square(clean, dtype=float)
            lagged += np.sum(clean[:, 1:] * clean[:, :-1], dtype=float)
        core = np.s_[24:40, 24:40]
        ratio = (total / draws)[core] / variance[core]
        error = np.sqrt(2 / (draws * ratio.size))
        assert ratio.mean() == pytest.approx(1, abs=4 * error + 0.005)  # separable to 0.5 %
        error = np.sqrt(np.sum(np.square(variance, dtype=float)) / draws) / n**2
        # the border, where the kernel has lost its light, holds next to nothing of the variance
        assert lagged / draws / n**2 == pytest.approx(maps.maps[0, 0, 0], abs=4 * error + 0.02)

    def test_cells_at_the_border(self):
        plane = np.arange(70 * 130, dtype=np.float32).reshape(70, 130)
        means = cell_means(plane)
        assert means.shape == (2, 3)
        assert means[1, 2] == pytest.approx(plane[SPACING:, 2 * SPACING :].mean())


STARS = 512, 512


@pytest.fixture(scope="module")
def clean():
    return decorrelate(noise_pair(STARS, 1))


@pytest.fixture(scope="module")
def stars(clean):
    """Noise-free stars of 1e4 ADU through the filter that was applied, and their places."""
    places = [(x, y) for x in range(64, 512, 64) for y in range(64, 512, 64)]
    image = np.zeros(STARS, np.float32)
    for x, y in places:
        image[y - 31 : y + 32, x - 31 : x + 32] += 1e4 * gaussian(PSF_SIGMA, 31)
    return clean.whitening.convolve(image), places


class TestPsf:
    def test_fluxes_of_psf_fits_are_unbiased(self, clean, stars):
        """Goal: 1e-3. The sum of the filtered star is not exactly 1 where psi varies: 1e-4."""
        image, places = stars
        for x, y in places:
            psf = clean.psf_at(x, y, 31)
            star = image[y - 15 : y + 16, x - 15 : x + 16]
            assert np.sum(psf * star) / np.sum(psf**2) == pytest.approx(1e4, rel=2e-4)

    def test_so_are_those_of_the_matched_filter(self, clean, stars):
        image, places = stars
        psf = reversed_psf(clean)
        half = psf.images.shape[-1] // 2
        ratios = []
        for x, y in places:
            phi = psf.at(x, y)[::-1, ::-1]
            star = image[y - half : y + half + 1, x - half : x + half + 1]
            ratios.append(np.sum(phi * star) / np.sum(phi**2) / 1e4)
        np.testing.assert_allclose(ratios, 1, atol=1e-3)
        assert np.mean(ratios) == pytest.approx(1, abs=3e-4)

    def test_without_the_correction_they_are_wrong(self, stars):
        image, places = stars
        psf = gaussian(PSF_SIGMA, 15)
        found = [
            np.sum(psf * image[y - 15 : y + 16, x - 15 : x + 16]) / np.sum(psf**2)
            for x, y in places
        ]
        assert abs(np.mean(found) / 1e4 - 1) > 0.04

    def test_products_keep_filter_psf_and_covariance(self, clean, tmp_path):
        terms = blend_nodes(
            np.array([[gaussian(1 + i + j, 3) for i in (0, 1)] for j in (0, 1)]),
            *edge_grid(STARS, 2),
        )
        maps = CovarianceMaps(np.arange(24, dtype=np.float32).reshape(4, 2, 3))
        for whitening in (clean.whitening, terms):
            hdus = products.images._whitening_hdus(whitening)
            found = products.images._whitening_from(FakeFile(hdus), tmp_path)
            np.testing.assert_allclose(found.at(100, 37), whitening.at(100, 37), atol=1e-15)
        hdus = [products.images._covariance_hdu(maps)]
        found = products.images._covariance_from(FakeFile(hdus), tmp_path)
        assert found.lags == LAGS and found.spacing == SPACING
        np.testing.assert_array_equal(found.at(100, 20), maps.at(100, 20))


class FakeFile(dict):
    """HDUs by name."""

    def __init__(self, hdus):
        super().__init__({hdu.name: hdu for hdu in hdus})


BLOCKS = 4


def blocks(plane, border=32):
    inner = plane[border:-border, border:-border]
    return [b for row in np.array_split(inner, BLOCKS) for b in np.array_split(row, BLOCKS, 1)]


def correlations(plane, variance):
    """The four different ones of the eight nearest neighbours."""
    rho = noise.noise_correlation(
        np.ascontiguousarray(plane), np.ascontiguousarray(variance), np.ones(plane.shape, bool), 1
    )
    return rho[[1, 2, 2, 2], [2, 0, 1, 2]]


FIELD, PAIRS = (1024, 1024), 3


@pytest.fixture(scope="module")
def field():
    return [decorrelate(noise_pair(FIELD, seed)) for seed in range(PAIRS)]


@pytest.mark.slow
class TestSteepField:
    """The broad term grows from 0.1 to 0.9 over 1024², variances by 35 and 40 %, K = 1.2."""

    def ratios(self, differences):
        """Variance of each block over s² + K² t²."""
        still, moved = variances(FIELD)
        target = np.sqrt(still + 1.44 * moved)
        every = [[np.var(b) for b in blocks(d.image / target)] for d in differences]
        return np.mean(every, 0)

    def test_variance_is_that_of_the_inputs_in_every_block(self, field):
        error = np.sqrt(2 / (PAIRS * (960 / BLOCKS) ** 2))
        ratios = self.ratios(field)
        # the largest of 16 blocks lies within 3.5 sigma
        assert np.abs(ratios - 1).max() < max(0.01, 3.5 * error)
        own = [np.var(b) for d in field for b in blocks(d.image / np.sqrt(d.variance))]
        assert np.mean(own) == pytest.approx(1, abs=4 * error / BLOCKS + 0.002)

    def test_neighbours_are_uncorrelated_in_every_block(self, field):
        pairs = [zip(blocks(d.image), blocks(d.variance), strict=True) for d in field]
        rho = np.mean([[correlations(*b) for b in pair] for pair in pairs], 0)
        floor = 1 / np.sqrt(PAIRS * (960 / BLOCKS) ** 2)
        assert np.sqrt(np.mean(rho**2)) < min(0.006, 1.3 * floor)  # rms of 64: 9 % error
        assert np.abs(rho).max() < 4 * floor

    def test_one_filter_for_all_is_not_enough(self):
        one = decorrelate(noise_pair(FIELD, 0), DecorrelateSettings(method="constant"))
        ratios = self.ratios([one])
        assert ratios.min() < 0.9 and ratios.max() > 1.1

    def test_score_has_unit_scatter_and_gaussian_tails(self, field):
        """Noise-only false positives are those of a Gaussian, both signs, within Poisson."""
        score = np.array([d.score[32:-32, 32:-32] for d in field])
        independent = score.size / (4 * np.pi * PSF_SIGMA**2)
        assert np.std(score) == pytest.approx(1, abs=4 / np.sqrt(2 * independent))
        for limit in (3.5, 4.0, 4.5, 5.0):
            expected = score.size * special.erfc(limit / np.sqrt(2))
            # pixels above 3.5 sigma come in clumps of 3 on average, 6 as the noise counts them
            found = np.sum(np.abs(score) > limit)
            assert found == pytest.approx(expected, abs=3.5 * np.sqrt(6 * expected))
        error = BLOCKS / np.sqrt(2 * independent)
        scatter = [np.std([blocks(d.score)[b] for d in field]) for b in range(BLOCKS**2)]
        np.testing.assert_allclose(scatter, 1, atol=4 * error)


class TestScoreMode:
    """Pre-convolved science: the image is the likelihood of a point source."""

    shape = (320, 300)

    def test_filter_is_that_of_the_formula(self):
        kappa, pre = gaussian(2.4, 10), gaussian(1.8, 10)
        corr = score_filter(kappa, pre, 2.0, 3.0, crop=24)
        assert corr.sum() == pytest.approx(1, abs=1e-12)
        side = 128
        ratio = np.abs(spectrum(kappa, side)) ** 2 / np.abs(spectrum(pre, side)) ** 2
        found = spectrum(corr, side).real
        near = np.abs(spectrum(pre, side)) > 0.05  # beyond it nothing is left of the image
        np.testing.assert_allclose(found[near], (5 / (2 + 3 * ratio))[near], rtol=0.02)

    def test_same_significance_as_whitening_and_the_matched_filter(self):
        rng = np.random.default_rng(2)
        pre, match = constant_kernel(gaussian(PSF_SIGMA, 10)), gaussian(1.2, 10)
        still, moved = (rng.normal(0, s, self.shape).astype(np.float32) for s in (3, 5))
        still[150:171, 140:161] += 1500 * gaussian(PSF_SIGMA, 10)
        meta = {"fwhm": 2.355 * PSF_SIGMA}
        images = [
            Exposure(image, np.full(self.shape, s * s, np.float32), None, sky=0.0, meta=meta)
            for image, s in ((still, 3), (moved, 5))
        ]
        scores = []
        for mode, kappa in ((None, match), (pre, signal.convolve2d(match, pre.images[0]))):
            kernel = MatchingKernel(
                kappa[None], np.ones((1, 1)), 0, 0, np.zeros(1), 0, self.shape, "template"
            )
            still_seen = still if mode is None else mode.convolve(still)
            inputs = NoiseOfInputs(*[e.variance for e in images], None, None, kernel, mode)
            raw = Difference(
                still_seen - kernel.varying().convolve(moved), propagate(inputs)[0],
                images[0].mask.copy(), kernel, GaussianPsf(), None, *images,
                meta={"noise_correlation": [None, None]},
            )  # fmt: skip
            scores.append(decorrelate(raw, pre=mode).score[40:-40, 40:-40])
        assert np.std(scores[1]) == pytest.approx(np.std(scores[0]), rel=0.01)
        assert scores[1][120, 110] == pytest.approx(scores[0][120, 110], rel=0.02)
        assert np.std(scores[1] - scores[0]) < 0.05  # sigma


def test_correlation_that_is_no_noise_is_not_believed(caplog):
    """As of unresolved stars in a crowded field: the difference shows that it is not there."""
    raw, lag = noise_pair((400, 420), 3), np.hypot(*np.mgrid[-3:4, -3:4])
    rho = np.where(lag == 0, 1, 0.4 * np.exp(-lag / 2))
    with caplog.at_level("INFO"):
        clean = decorrelate(raw.replace(meta={"noise_correlation": [rho.tolist(), rho.tolist()]}))
    assert "taken as white" in caplog.text
    assert clean.meta["noise_factor"] == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(clean.image, decorrelate(raw).image)


def test_warped_template_is_whitened_by_its_power():
    """A template that was shifted by half a pixel: its noise has lost the highest frequencies."""
    shape, rng = (600, 640), np.random.default_rng(5)
    taps = np.sinc(np.arange(-3.5, 4)) * np.sinc(np.arange(-3.5, 4) / 4)
    warp = np.outer(taps, taps) / taps.sum() ** 2
    warp = np.pad(warp, ((0, 1), (0, 1)))
    still, white = rng.normal(0, 3, shape), rng.normal(0, 6, shape)
    moved = ndimage.convolve(white, warp).astype(np.float32)
    meta = {"fwhm": 2.355 * PSF_SIGMA}
    images = [
        Exposure(image.astype(np.float32), np.full(shape, v, np.float32), None, sky=0.0, meta=meta)
        for image, v in ((still, 9), (moved, 36 * np.sum(warp**2)))
    ]
    kernel = MatchingKernel(
        gaussian(1.2, 10)[None], np.ones((1, 1)), 0, 0, np.zeros(1), 0, shape, "template"
    )
    rho = noise.input_correlation(images[1])
    inputs = NoiseOfInputs(*[e.variance for e in images], None, rho, kernel)
    raw = Difference(
        images[0].image - kernel.varying().convolve(moved), propagate(inputs)[0],
        images[0].mask.copy(), kernel, GaussianPsf(), None, *images,
        meta={"noise_correlation": [None, rho.tolist()]},
    )  # fmt: skip
    clean = decorrelate(raw)
    inner = np.s_[40:-40, 40:-40]
    n = clean.image[inner].size
    assert np.abs(correlations(clean.image[inner], clean.variance[inner])).max() < 5 / np.sqrt(n)
    assert np.var(clean.image[inner] / np.sqrt(clean.variance[inner])) == pytest.approx(
        1, abs=4 * np.sqrt(2 / n) + 0.01
    )
    independent = n / (4 * np.pi * PSF_SIGMA**2)
    assert np.std(clean.score[inner]) == pytest.approx(1, abs=4 / np.sqrt(2 * independent))
