"""Kernels that have to sharpen, because the caller wants the broader image convolved."""

import numpy as np
import pytest
from scipy import signal

from psflib.matching import sharpening
from psflib.matching.basis import sized_for
from psflib.matching.kernel import MatchingKernel
from tests.matching.test_size import subtract_pair

SIGMA = 1.3


def kernel_of(coefficients):
    """Constant kernel of these coefficients of the first basis images."""
    images = sized_for(2.8, 4.0).images[: len(coefficients)]
    coef = np.array(coefficients, float)[:, None]
    return MatchingKernel(images, coef, 0, 0, np.zeros(1), 0, (100, 120))


class TestBroadening:
    def test_only_targets_that_are_sharper(self):
        assert sharpening.broadening((4.0, 2.8)) == 0
        assert sharpening.broadening((3.1, 3.2)) == 0  # the basis does that by itself
        lack = np.sqrt(4.0**2 - 2.8**2) / 2.355
        assert sharpening.broadening((2.8, 4.0)) == pytest.approx(np.hypot(lack, sharpening.REST))

    def test_image_and_noise(self):
        rng = np.random.default_rng(4)
        image = rng.normal(0, 3, (300, 310)).astype(np.float32) + np.float32(50)
        usable = np.ones(image.shape, bool)
        usable[150, 160] = False
        variance = np.full(image.shape, 9, np.float32)
        smooth, noise, covered = sharpening.broadened((image, variance, usable), SIGMA)
        inner = np.s_[10:140, 10:-10]
        assert covered[inner].all()
        assert not covered[150, 160] and not covered[:2].any()
        gauss = np.sum(sharpening._gaussian(SIGMA) ** 2)  # about 1 / (4 pi sigma²)
        assert np.median(noise[inner]) == pytest.approx(9 * gauss, rel=0.02)
        # 38 000 pixels, one in 4 pi sigma² independent: their scatter is known to 3 %
        assert smooth[inner].std() == pytest.approx(3 * np.sqrt(gauss), rel=0.09)
        assert smooth[inner].mean() == pytest.approx(50, abs=0.05)


class TestBroughtBack:
    def test_the_flux_scale_stays(self):
        kernel = kernel_of([1.3, 0.05, 0.02])
        assert sharpening.brought_back(kernel, SIGMA).kernel_sum(50, 50) == pytest.approx(1.3)

    def test_the_gaussian_and_back(self):
        # half a pixel wider than g, as kernels of broadened targets are
        wide = sharpening._gaussian(np.hypot(SIGMA, 0.5))[None]
        kernel = MatchingKernel(wide, np.full((1, 1), 1.3), 0, 0, np.zeros(1), 0, (100, 120))
        gauss = sharpening._gaussian(SIGMA)
        again = signal.fftconvolve(sharpening.brought_back(kernel, SIGMA).at(50, 50), gauss)
        cut = (len(again) - kernel.basis.shape[-1]) // 2
        rest = again[cut:-cut, cut:-cut] - kernel.at(50, 50)
        # what g passes less of than PASSED is lost: the kernel has about that share of itself there
        assert np.abs(rest).max() < 1.5 * sharpening.PASSED * kernel.at(50, 50).max()


class TestSubtraction:
    @pytest.mark.parametrize(
        ("convolve", "fwhms"), [("science", (3.6, 2.6)), ("template", (2.6, 3.6))]
    )
    def test_flux_scale_and_transients_of_the_wrong_direction(self, convolve, fwhms):
        places = [(60, 70, 4e4), (200, 90, 3e4), (120, 230, -4e4), (250, 250, 3e4)]
        difference = subtract_pair(
            5, 300, fwhms=fwhms, convolve=convolve, transients=places, scale=1.2
        )
        assert difference.meta["broadened"] > 0
        # without the detour it is 8 and 1 % off, and transients are by up to 10 %
        assert difference.kernel.flux_scale(160, 160) == pytest.approx(1.2, rel=0.01)
        for x, y, flux in places:
            psf = difference.psf_at(x, y, 21)
            box = np.s_[y - 10 : y + 11, x - 10 : x + 11]
            found = np.sum(psf * difference.image[box]) / np.sum(psf**2)
            assert found == pytest.approx(flux, rel=0.05)  # S/N 100, and 2 % that g took away
