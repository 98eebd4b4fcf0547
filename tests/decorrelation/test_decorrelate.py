"""Decorrelation: the published numbers, white noise out of every kind of noise in, flux kept."""

import numpy as np
import pytest
from scipy import ndimage, optimize, signal

from psflib.decorrelation.decorrelate import DecorrelateSettings, decorrelate
from psflib.decorrelation.filters import whitening_filter
from psflib.image import noise
from psflib.image.convolve import constant_kernel
from psflib.image.difference import Difference
from psflib.image.exposure import Exposure, MaskBit
from psflib.matching import MatchingKernel

SHAPE = (420, 440)
CENTRE = SHAPE[1] // 2, SHAPE[0] // 2
INSIDE = np.s_[40:-40, 40:-40]  # beyond the reach of the borders
N_INSIDE = (SHAPE[0] - 80) * (SHAPE[1] - 80)
SMOOTHING = np.array([[0.1, 0.3, 0.1], [0.3, 1.0, 0.3], [0.1, 0.3, 0.1]])  # of a resampled image


def gaussian(sigma, half=10, total=1.0):
    r = np.arange(-half, half + 1)
    image = np.exp(-(r[:, None] ** 2 + r**2) / (2 * sigma**2))
    return total * image / image.sum()


class GaussianPsf:
    """PSF of the image that is not convolved."""

    def __init__(self, sigma):
        self.sigma = sigma

    def at(self, x, y, size):
        return gaussian(self.sigma, size // 2)


def rng(seed=11):
    return np.random.default_rng(seed)


def white(sigma, seed):
    return rng(seed).normal(0, sigma, SHAPE)


def correlated(sigma, seed):
    return ndimage.convolve(white(sigma, seed), SMOOTHING / np.sqrt(np.sum(SMOOTHING**2)))


def correlation_of(filter_):
    """Noise correlation that a filter leaves, (5, 5) for a 3 x 3 filter."""
    rho = signal.correlate2d(filter_, filter_)
    return rho / rho.max()


def constant(kappa, convolved="template"):
    total = kappa.sum()
    basis = kappa[None] / total
    return MatchingKernel(basis, np.array([[total]]), 0, 0, np.zeros(1), 0, SHAPE, convolved)


def difference(still, moved, sigmas, kernel, rho=(None, None), psf_sigma=1.5, mask=None):
    """Difference of two images of pure noise, as `subtract` would return it."""
    planes = [
        Exposure(image, np.full(SHAPE, s * s), mask, sky=0.0, meta={"fwhm": 2.355 * psf_sigma})
        for image, s in zip((still, moved), sigmas, strict=True)
    ]
    image = still - kernel.varying().convolve(moved.astype(np.float32))
    factor = 1.0 if rho[1] is None else noise.variance_factor(rho[1], kernel.at(*CENTRE))
    squared = kernel.squared().convolve(planes[1].variance) * factor
    variance = sigmas[0] ** 2 + squared
    if kernel.convolved == "science":
        total = kernel.kernel_sum(*CENTRE)
        image, variance = -image / total, variance / total**2
        planes = planes[::-1]
    return Difference(
        image.astype(np.float32), variance.astype(np.float32), planes[0].mask.copy(), kernel,
        GaussianPsf(psf_sigma), None, *planes,
        meta={"noise_correlation": [None if r is None else r.tolist() for r in rho]},
    )  # fmt: skip


def largest_correlation(image, max_lag=3):
    part = np.ascontiguousarray(image[INSIDE], dtype=np.float32)
    rho = noise.noise_correlation(part, np.ones_like(part), np.ones(part.shape, bool), max_lag)
    return np.abs(np.delete(rho.ravel(), rho.size // 2)).max()


#: Largest of 48 lags of white noise, 4.5 standard errors, and 0.5 % for the cropped filter
WHITE = 4.5 / np.sqrt(N_INSIDE) + 0.005
#: Relative error of a variance of N_INSIDE values, 4 sigma
OF_VARIANCE = 4 * np.sqrt(2 / N_INSIDE)


def assert_white(clean, variance=None):
    assert largest_correlation(clean.image) < WHITE
    pull = clean.image[INSIDE] / np.sqrt(clean.variance[INSIDE])
    assert np.var(pull) == pytest.approx(1, abs=OF_VARIANCE + 0.01)
    if variance is not None:
        assert np.var(clean.image[INSIDE]) == pytest.approx(variance, rel=OF_VARIANCE + 0.01)


class TestFilter:
    @pytest.mark.parametrize("total", [0.5, 1.0, 3.0])
    @pytest.mark.parametrize("sigma", [0.8, 1.5, 2.5])
    def test_unit_sum_and_inverse_of_the_noise(self, sigma, total):
        kappa = gaussian(sigma, total=total)
        psi = whitening_filter(kappa, 1.0, 2.0, crop=30)
        assert psi.sum() == pytest.approx(1, abs=1e-12)
        side = 128
        power = 1 + 2 * np.abs(np.fft.rfft2(kappa, (side, side))) ** 2
        left = np.abs(np.fft.rfft2(psi, (side, side))) ** 2 * power
        np.testing.assert_allclose(left, 1 + 2 * total**2, rtol=0.02)  # of the crop

    def test_nothing_to_do(self):
        for kappa, tvar in ((gaussian(1.5), 0.0), (gaussian(0.01), 1.0)):
            psi = whitening_filter(kappa, 1.0, tvar)
            half = len(psi) // 2
            assert psi[half, half] == pytest.approx(1, abs=1e-9)
            assert np.abs(psi).sum() == pytest.approx(1, abs=1e-9)

    def test_symmetric_if_the_kernel_is(self):
        psi = whitening_filter(gaussian(1.3), 1.0, 1.0)
        for other in (psi[::-1], psi[:, ::-1], psi.T):
            np.testing.assert_allclose(psi, other, atol=1e-12)

    def test_a_shifted_kernel_has_the_same_filter(self):
        kappa = gaussian(1.3)
        moved = whitening_filter(np.roll(kappa, 2, 1), 1.0, 1.0)
        np.testing.assert_allclose(moved, whitening_filter(kappa, 1.0, 1.0), atol=1e-9)


def test_published_variances():
    """Reiss & Lupton (2016, DMTN-021), table 1: 0.04 + 0.04 gives 0.0449 before, 0.08 after."""
    # they give 0.0449, so the squares of their kernel sum to 0.1225
    width = optimize.brentq(lambda s: np.sum(gaussian(s) ** 2) - 0.1225, 0.5, 2)
    kappa = gaussian(width)
    raw = white(0.2, 1) - constant_kernel(kappa).convolve(white(0.2, 2).astype(np.float32))
    psi = whitening_filter(kappa, 0.04, 0.04)
    clean = constant_kernel(psi).convolve(raw.astype(np.float32))
    assert np.var(raw[INSIDE]) == pytest.approx(0.0449, rel=max(0.01, OF_VARIANCE))
    assert np.var(clean[INSIDE]) == pytest.approx(0.08, rel=max(0.01, OF_VARIANCE))
    assert largest_correlation(raw) > 3 * WHITE  # the probe sees what was there
    assert largest_correlation(clean) < WHITE


@pytest.fixture(scope="module", params=[(1.5, 1.0), (1.5, 1.4), (2.5, 0.7)], ids=str)
def raw(request):
    """White inputs; width and sum of the kernel."""
    sigma, total = request.param
    kernel = constant(gaussian(sigma, total=total))
    # a noisy template, or a wide kernel spreads a correlation too low to be seen
    return difference(white(5.0, 1), white(12.0, 2), (5.0, 12.0), kernel)


@pytest.fixture(scope="module")
def clean(raw):
    return decorrelate(raw)


class TestWhiteInputs:
    def test_white_after_and_not_before(self, raw, clean):
        total = raw.kernel.kernel_sum(*CENTRE)
        assert largest_correlation(raw.image) > 1.5 * WHITE
        assert_white(clean, 25 + total**2 * 144)

    def test_prediction_is_believed(self, clean, caplog):
        # MAD of N normal values: 1.17 / sqrt(N), 4 sigma
        assert clean.meta["noise_factor"] == pytest.approx(1, abs=0.005 + 4 * 1.17 / N_INSIDE**0.5)
        assert clean.meta["score_scale"] == 1.0 and not caplog.records

    def test_score_is_in_sigma(self, clean):
        # correlated over the PSF's 4 pi sigma² = 28 px
        error = 1 / np.sqrt(2 * N_INSIDE / 28)
        assert np.std(clean.score[INSIDE]) == pytest.approx(1, abs=4 * error)

    def test_psf_is_psi_applied_to_the_psf(self, clean):
        psf = clean.psf_at(*CENTRE, size=41)
        psi = clean.whitening.at(*CENTRE)
        exact = signal.convolve2d(gaussian(1.5, 60), psi, "same")
        exact = exact[40:81, 40:81]
        assert psf.sum() == pytest.approx(1, abs=1e-12)
        np.testing.assert_allclose(psf, exact / exact.sum(), atol=1e-9)

    def test_flux_is_kept(self, raw):
        image = raw.image.copy()
        image[200:241, 180:221] += (1e4 * gaussian(1.5, 20)).astype(np.float32)
        added = decorrelate(raw.replace(image=image)).image - decorrelate(raw).image
        assert added.sum() == pytest.approx(1e4, rel=1e-3)  # float32 sums of the whole image
        psf = decorrelate(raw).psf_at(200, 220, 61)
        place = added[190:251, 170:231]
        np.testing.assert_allclose(place, 1e4 * psf, atol=2e-3 * 1e4 * psf.max())


def test_convolved_science_is_in_science_units():
    kernel = constant(gaussian(1.5, total=0.6), "science")
    raw = difference(white(9.0, 1), white(7.0, 2), (9.0, 7.0), kernel)
    assert_white(decorrelate(raw), 81 / 0.6**2 + 49)


class TestCorrelatedInputs:
    rho = correlation_of(SMOOTHING / np.sqrt(np.sum(SMOOTHING**2)))

    @pytest.mark.parametrize("which", [(False, True), (True, False), (True, True)])
    def test_whitened_when_known(self, which):
        images = [
            (correlated if c else white)(s, k)
            for c, s, k in zip(which, (9.0, 7.0), (1, 2), strict=True)
        ]
        rho = [self.rho if c else None for c in which]
        raw = difference(*images, (9.0, 7.0), constant(gaussian(1.2)), rho)
        settings = DecorrelateSettings(distrust_beyond=10)
        assert_white(decorrelate(raw, settings))

    def test_not_whitened_when_not_known(self):
        raw = difference(correlated(9.0, 1), white(7.0, 2), (9.0, 7.0), constant(gaussian(1.2)))
        blind = decorrelate(raw, DecorrelateSettings(distrust_beyond=10))
        assert largest_correlation(blind.image) > 5 * WHITE


@pytest.fixture(scope="module")
def varying():
    """Kernel of 1.0 px on the left, 2.0 px on the right."""
    narrow, wide = gaussian(1.0), gaussian(2.0)
    basis = np.array([(narrow + wide) / 2, (wide - narrow) / 2])
    coef = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    kernel = MatchingKernel(basis, coef, 1, 0, np.zeros(1), 0, SHAPE)
    return difference(white(9.0, 1), white(9.0, 2), (9.0, 9.0), kernel)


class TestVaryingKernel:
    @staticmethod
    def sides(image):
        """Largest correlation at the narrow and at the wide end."""
        return [largest_correlation(image[:, x : x + 200]) for x in (0, SHAPE[1] - 200)]

    def test_nodes_whiten_everywhere(self, varying):
        n = (SHAPE[0] - 80) * 120
        limit = 4.5 / np.sqrt(n)
        one = decorrelate(varying, DecorrelateSettings(method="constant"))
        many = decorrelate(varying, DecorrelateSettings())
        assert max(self.sides(many.image)) < limit + 0.015  # interpolated between five nodes
        assert max(self.sides(one.image)) > max(self.sides(many.image))
        assert_varies_white(many)

    def test_unit_sum_everywhere(self, varying):
        many = decorrelate(varying)
        for x, y in ((0, 0), (439, 419), (100, 300), CENTRE):
            assert many.whitening.at(x, y).sum() == pytest.approx(1, abs=1e-9)
            assert many.psf_at(x, y).sum() == pytest.approx(1, abs=1e-9)


def assert_varies_white(clean):
    pull = clean.image[INSIDE] / np.sqrt(clean.variance[INSIDE])
    for part in np.array_split(pull, 3, axis=1):
        assert np.var(part) == pytest.approx(1, abs=4 * np.sqrt(2 / part.size) + 0.02)


@pytest.fixture(scope="module")
def shared():
    """A template that contains the science exposure, with variance planes that do not know."""
    common, own = white(1.0, 1), white(1.0, 2)
    science, template = 9 * common, 9 * (0.8 * common + 0.6 * own)
    return difference(science, template, (9.0, 9.0), constant(gaussian(0.8)))


class TestSharedNoise:
    def test_measured_noise_is_used_and_said(self, shared, caplog):
        clean = decorrelate(shared)
        assert clean.meta["noise_factor"] < 0.9
        assert "share" in caplog.text
        assert_white(clean)
        assert clean.whitening.at(*CENTRE).sum() == pytest.approx(1, abs=1e-9)

    def test_unless_told_never_to(self, shared):
        kept = decorrelate(shared, DecorrelateSettings(distrust_beyond=100))
        assert kept.meta["noise_factor"] < 0.9
        np.testing.assert_allclose(kept.variance[INSIDE], 162, rtol=0.02)  # 2 x 81

    def test_wrong_variance_plane(self, caplog):
        kernel = constant(gaussian(1.2))
        raw = difference(white(9.0, 1), white(7.0, 2), (6.0, 4.7), kernel)
        clean = decorrelate(raw)
        assert clean.meta["noise_factor"] == pytest.approx(1.5, rel=0.02)
        assert caplog.records
        assert_white(clean)


class TestMask:
    def test_holes_stay_local_and_nothing_undefined_comes_out(self):
        mask = np.zeros(SHAPE, np.uint16)
        mask[100:120, 100:140], mask[:, 300] = MaskBit.NO_DATA, MaskBit.BAD
        mask[250:260, 200:210] = MaskBit.SAT
        still, moved = white(9.0, 1), white(7.0, 2)
        for image in (still, moved):
            image[mask > 0] = 1e6
        raw = difference(still, moved * (mask == 0), (9.0, 7.0), constant(gaussian(1.2)), mask=mask)
        image, variance = raw.image.copy(), raw.variance.copy()
        image[mask == 1] = variance[mask == 1] = 0
        clean = decorrelate(raw.replace(image=image, variance=variance))
        for plane in (clean.image, clean.variance, clean.score):
            assert np.isfinite(plane).all()
        assert np.all(clean.image[mask == 1] == 0) and np.all(clean.variance[mask == 1] == 0)
        assert np.all(clean.variance[clean.usable] > 0)
        np.testing.assert_array_equal(clean.usable[INSIDE], (mask == 0)[INSIDE])

    def test_input_is_not_modified(self):
        raw = difference(white(9.0, 1), white(7.0, 2), (9.0, 7.0), constant(gaussian(1.2)))
        before = [p.copy() for p in (raw.image, raw.variance, raw.mask)]
        decorrelate(raw)
        for now, then in zip((raw.image, raw.variance, raw.mask), before, strict=True):
            np.testing.assert_array_equal(now, then)


def test_bad_calls():
    raw = difference(white(9.0, 1), white(7.0, 2), (9.0, 7.0), constant(gaussian(1.2)))
    with pytest.raises(ValueError, match="does not carry"):
        decorrelate(raw.replace(template=None))
    with pytest.raises(ValueError, match="already"):
        decorrelate(decorrelate(raw))
    with pytest.raises(ValueError, match="method"):
        DecorrelateSettings(method="both")
