"""`DecorrelateALKernelTask`: its twins, its identities, and the published figures."""

import numpy as np
import pytest
from scipy import optimize, signal

from psflib.image.exposure import Exposure, MaskBit
from psflib.lsst import DecorrelateALKernelTask
from psflib.lsst.decorrelate_al_kernel import DecorrelateALKernelConfig, FixedPsf
from psflib.matching import MatchingKernel
from tests.lsst import naive_lsst as naive

SIDE = 512
INSIDE = np.s_[48:-48, 48:-48]  # beyond the reach of the borders
N_INSIDE = (SIDE - 96) ** 2
OF_VARIANCE = 4 * np.sqrt(2 / N_INSIDE)  # relative error of a variance, 4 sigma


def gaussian(sigma, half=10, total=1.0, dx=0.0):
    r = np.arange(-half, half + 1)
    image = np.exp(-(r[:, None] ** 2 + (r - dx) ** 2) / (2 * sigma**2))
    return total * image / image.sum()


def rng(seed=5):
    return np.random.default_rng(seed)


def noise_image(sigma, seed, side=SIDE):
    return rng(seed).normal(0, sigma, (side, side))


def convolve(image, kernel):
    return signal.fftconvolve(image, kernel, mode="same")


def exposure(image, variance, **meta):
    return Exposure(image, np.full(image.shape, variance), meta=meta)


def largest_correlation(image, lag=1):
    """Of the nearest lags, with N_INSIDE pairs each."""
    part = image[INSIDE] - image[INSIDE].mean()
    ny, nx = part.shape
    rho = [
        np.mean(part[dy:, max(dx, 0) : nx + min(dx, 0)]
                * part[: ny - dy, max(-dx, 0) : nx + min(-dx, 0)])
        for dy in range(lag + 1) for dx in range(-lag, lag + 1) if dy or dx > 0
    ]  # fmt: skip
    return np.abs(rho).max() / part.var()


@pytest.fixture
def task():
    return DecorrelateALKernelTask()


class TestCommonShape:
    @pytest.mark.parametrize(
        ("shapes", "expected"),
        [
            ([(5, 7)], (6, 8)),
            ([(6, 8)], (6, 8)),
            ([(1, 1)], (2, 2)),
            ([(5, 7), (10, 20)], (14, 26)),
            ([(1, 1), (1, 1)], (2, 2)),
            ([(21, 21), (41, 41), (100, 99)], (140, 140)),
            ([(100, 3), (3, 100), (50, 50)], (150, 150)),
        ],
    )
    def test_examples(self, task, shapes, expected):
        assert task.compute_common_shape(*shapes) is None
        assert task.freq_space_shape == expected == naive.common_shape(*shapes)

    @pytest.mark.parametrize("shapes", [[], [(3, 3), (3,)], [(0, 3)]])
    def test_bad_calls(self, task, shapes):
        with pytest.raises(ValueError, match="shapes"):
            task.compute_common_shape(*shapes)


class TestPadding:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 5), (5, 4), (4, 4), (5, 5), (8, 9)])
    @pytest.mark.parametrize("wide", [(8, 9), (9, 16)])
    def test_there_and_back(self, task, shape, wide):
        array = rng().normal(size=shape).astype(np.float32)
        kept = array.copy()
        padded = task.pad_center_origin(array, wide)
        assert padded.shape == wide and padded.dtype == np.float32
        assert padded[0, 0] == array[shape[0] // 2, shape[1] // 2]
        np.testing.assert_array_equal(padded, naive.pad_center_origin(array, wide))
        back = task.pad_center_origin(padded, shape, use_inverse=True)
        np.testing.assert_array_equal(back, array)
        back[:] = padded[:] = 0
        np.testing.assert_array_equal(array, kept)

    def test_bad_calls(self, task):
        array = np.ones((4, 5))
        for shape, inverse in (((3, 9), False), ((9, 9), True), ((9,), False)):
            with pytest.raises(ValueError, match="padded"):
                task.pad_center_origin(array, shape, inverse)


class TestTwins:
    """Every method against its twin, on sizes of each parity."""

    kappa = gaussian(1.1, 3, 1.3, dx=0.4)[:, :6]  # an even side too
    before = gaussian(0.7, 2)

    @pytest.fixture(autouse=True)
    def shape(self, task):
        task.compute_common_shape(self.kappa.shape, (9, 8))

    def test_diffim_correction(self, task):
        found = task.compute_diffim_correction(self.kappa, 2.0, 3.0)
        expected = naive.diffim_correction(self.kappa, 2.0, 3.0, task.freq_space_shape)
        np.testing.assert_allclose(found.corrft, expected, rtol=1e-12)
        assert found.corrft.dtype == np.float64 and found.corrft.shape == task.freq_space_shape
        np.testing.assert_allclose(found.cnft, expected, rtol=1e-12)
        kernel = naive.dft(self.kappa, task.freq_space_shape)
        np.testing.assert_allclose(found.crft, kernel * expected, atol=1e-12)

    def test_score_correction(self, task):
        found = task.compute_score_correction(self.kappa, 2.0, 3.0, self.before)
        expected = naive.score_correction(self.kappa, 2.0, 3.0, self.before, task.freq_space_shape)
        np.testing.assert_allclose(found.corrft, expected, rtol=1e-10)
        before = naive.dft(self.before, task.freq_space_shape).conj()
        np.testing.assert_allclose(found.cnft, before * expected, atol=1e-12)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4", np.int16])
    def test_image(self, task, dtype):
        image = rng().normal(0, 20, (9, 8)).astype(dtype)
        corrft = task.compute_diffim_correction(self.kappa, 2.0, 3.0).corrft
        found = task.compute_corrected_image(corrft, image)
        assert found.shape == image.shape and found.dtype.isnative
        assert found.dtype == (
            np.float64 if dtype == np.int16 else np.dtype(dtype).newbyteorder("=")
        )
        np.testing.assert_allclose(found, naive.filtered(image.astype(float), corrft), atol=1e-4)

    def test_psf(self, task):
        for psf in (gaussian(0.8, 3), gaussian(0.8, 3)[:, :6]):
            corrft = task.compute_diffim_correction(self.kappa, 2.0, 3.0).corrft
            found = task.compute_corrected_diffim_psf(corrft, psf)
            expected = naive.filtered(psf, corrft)
            np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-12)

    def test_variance_planes(self, task):
        planes = rng().uniform(1, 3, (2, 9, 8))
        spectra = task.compute_diffim_correction(self.kappa, 2.0, 3.0)[1:]
        found = task.calculate_variance_plane(*planes, 2.0, 2.0, *spectra)
        np.testing.assert_allclose(found, naive.variance_plane(*planes, *spectra), rtol=1e-10)
        found = task.estimate_variance_plane(*planes, *spectra)
        weights = [np.sum(naive.inverse_dft(c) ** 2) for c in spectra]
        np.testing.assert_allclose(found, np.tensordot(weights, planes, 1), rtol=1e-12)

    def test_variance_mean(self, task):
        variance = rng().gamma(5, 1, (30, 31))
        variance[:3] = 1000
        mask = np.zeros(variance.shape, np.uint16)
        mask[:, 3], mask[5, :], mask[9, 9] = MaskBit.SAT, MaskBit.SUSPECT, MaskBit.DETECTED
        variance[7, 3] = variance[5, 5] = np.nan
        kept = (mask == 0) | (mask == MaskBit.SUSPECT)
        kept[5, 5] = False
        found = task.compute_variance_mean(Exposure(np.zeros(variance.shape), variance, mask))
        expected = naive.clipped_mean(variance.astype(np.float32)[kept])
        assert found == pytest.approx(expected, rel=1e-6)


class TestVarianceMean:
    def test_all_masked(self, task):
        masked = Exposure(np.zeros((5, 5)), np.ones((5, 5)), np.ones((5, 5), bool))
        assert np.isnan(task.compute_variance_mean(masked))

    @pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
    def test_no_variance_is_usable(self, task, bad):
        assert np.isnan(task.compute_variance_mean(exposure(np.ones((5, 5)), bad)))

    def test_flat_plane(self, task):
        assert task.compute_variance_mean(exposure(np.ones((9, 9)), 0.1)) == pytest.approx(0.1)

    def test_planes_to_ignore_can_be_chosen(self):
        mask = np.zeros((20, 20), np.uint16)
        mask[:5] = MaskBit.INTERP
        variance = np.where(mask > 0, 3.0, 2.0)
        one = Exposure(np.zeros((20, 20)), variance, mask)
        few = DecorrelateALKernelTask({"ignoreMaskPlanes": ("INTRP",)})
        assert few.compute_variance_mean(one) == pytest.approx(2)
        all_of_them = DecorrelateALKernelTask({"ignore_mask_planes": (), "clip": 1e3})
        assert all_of_them.compute_variance_mean(one) == pytest.approx(2.25)

    def test_array_is_measured(self, task):
        image = noise_image(3.0, 1)
        image[100:110, 100:110] = 1e4
        assert task.compute_variance_mean(image) == pytest.approx(9, rel=0.02)  # of clipping

    def test_config(self):
        assert DecorrelateALKernelConfig(
            completeVarPlanePropagation=True
        ).complete_var_plane_propagation
        with pytest.raises(ValueError, match="DecorrelateALKernelConfig"):
            DecorrelateALKernelTask(config=3)


class TestCorrection:
    @pytest.mark.parametrize("total", [0.5, 1.0, 1.4])
    def test_gain_and_bound(self, task, total):
        kappa = gaussian(2.0, total=total)
        task.compute_common_shape(kappa.shape, (64, 64))
        corrft = task.compute_diffim_correction(kappa, 2.0, 5.0).corrft
        assert corrft[0, 0] == pytest.approx(1, abs=1e-12)
        assert corrft.max() == pytest.approx(np.sqrt(1 + total**2 * 5 / 2), rel=1e-6)
        score = task.compute_score_correction(kappa, 2.0, 5.0, gaussian(1.5))
        assert score.corrft[0, 0] == pytest.approx(1, abs=1e-12)
        assert all(np.isfinite(part).all() for part in score)

    @pytest.mark.parametrize(
        "bad", [(0, 1), (1, 0), (np.nan, 1), (1, np.nan), (-1, 1), (1, np.inf)]
    )
    def test_bad_variances(self, task, bad):
        task.compute_common_shape((9, 9))
        with pytest.raises(ValueError, match="positive"):
            task.compute_diffim_correction(gaussian(1.0, 2), *bad)
        with pytest.raises(ValueError, match="positive"):
            task.compute_score_correction(gaussian(1.0, 2), *bad, gaussian(1.0, 2))

    def test_bad_calls(self, task):
        with pytest.raises(ValueError, match="compute_common_shape"):
            task.compute_diffim_correction(gaussian(1.0, 2), 1, 1)
        task.compute_common_shape((9, 9))
        with pytest.raises(ValueError, match="unit sum"):
            task.compute_score_correction(gaussian(1.0, 2), 1, 1, gaussian(1.0, 2, total=1.001))
        with pytest.raises(ValueError, match="not finite"):
            task.compute_diffim_correction(np.full((3, 3), np.nan), 1, 1)
        with pytest.raises(ValueError, match="padded"):
            task.compute_diffim_correction(gaussian(1.0, 10), 1, 1)
        with pytest.raises(ValueError, match="shapes"):
            task.compute_corrected_image(np.ones((4, 4)), np.ones((3, 3)))
        with pytest.raises(ValueError, match="larger"):
            task.compute_corrected_image(np.ones((10, 10)), np.ones((11, 3)))
        with pytest.raises(ValueError, match="shape"):
            task.calculate_variance_plane(np.ones((3, 3)), np.ones((3, 4)), 1, 1, None, None)

    def test_suspicious_ratio_is_said(self, task, caplog):
        task.compute_common_shape((9, 9))
        task.compute_diffim_correction(gaussian(1.0, 2), 1e-6, 1e6)
        assert "units" in caplog.text


class TestHoles:
    kappa = gaussian(1.3)

    @pytest.fixture
    def corrft(self, task):
        task.compute_common_shape(self.kappa.shape, (SIDE, SIDE))
        return task.compute_diffim_correction(self.kappa, 1.0, 2.0).corrft

    def test_kept_and_of_no_reach(self, task, corrft):
        image = noise_image(1.0, 1) + 300.0
        whole = task.compute_corrected_image(corrft, image)
        holed = image.copy()
        holed[100:140, 200:260], holed[300, 300], holed[301, 300] = np.nan, np.inf, -np.inf
        holed[:, -30:] = np.nan
        found = task.compute_corrected_image(corrft, holed)
        good = np.isfinite(holed)
        np.testing.assert_array_equal(np.isfinite(found), good)
        assert found[300, 300] == np.inf and found[301, 300] == -np.inf
        # the sky of 300 is filled in: what is missing around holes is noise of unit sigma, times
        # the wings of the filter
        assert np.abs(found - whole)[good & (np.indices(image.shape)[1] < SIDE - 30)].max() < 4

    def test_fill_is_local(self, task, corrft):
        image = np.where(np.arange(SIDE) < SIDE // 2, 0.0, 1000.0) * np.ones((SIDE, 1))
        image[100, 100] = image[400, 400] = np.nan
        found = task.compute_corrected_image(corrft, image)
        assert abs(found[100, 101]) < 1e-3
        assert found[400, 401] == pytest.approx(1000, abs=1e-3)

    def test_nothing_finite(self, task, corrft):
        image = np.full((SIDE, SIDE), np.nan)
        assert np.isnan(task.compute_corrected_image(corrft, image)).all()

    def test_variance(self, task, corrft):
        spectra = task.compute_diffim_correction(self.kappa, 1.0, 2.0)[1:]
        planes = np.ones((2, SIDE, SIDE)) * np.array([1.0, 2.0])[:, None, None]
        whole = task.calculate_variance_plane(*planes, 1.0, 2.0, *spectra)
        planes[0, 50, 50], planes[1, 60, 60], planes[1, 70, 70] = np.nan, np.nan, np.inf
        for found in (
            task.calculate_variance_plane(*planes, 1.0, 2.0, *spectra),
            task.estimate_variance_plane(*planes, *spectra),
        ):
            assert np.isnan(found[50, 50]) and np.isnan(found[60, 60]) and found[70, 70] == np.inf
            assert np.isfinite(found).sum() == found.size - 3
            good = np.isfinite(found[INSIDE])
            np.testing.assert_allclose(found[INSIDE][good], whole[INSIDE][good], rtol=1e-3)


def pair(svar, tvar, kappa, seed=1, side=SIDE):
    """Noise of science and template, and their difference."""
    science = noise_image(np.sqrt(svar), seed, side)
    template = noise_image(np.sqrt(tvar), seed + 1000, side)
    return science, template, science - convolve(template, kappa)


def covariance_ratio(image, lag=5):
    """Sum of the correlations at all lags but zero: off-diagonal over diagonal covariance."""
    part = image[INSIDE] - image[INSIDE].mean()
    power = np.abs(np.fft.fft2(part, [n + lag for n in part.shape])) ** 2
    rho = np.fft.ifft2(power).real
    index = np.arange(-lag, lag + 1)
    return rho[np.ix_(index, index)].sum() / rho[0, 0] - 1


class TestPublished:
    """Reiss & Lupton (2016, DMTN-021), table 1: images of variance 0.04."""

    @pytest.fixture(scope="class")
    @classmethod
    def images(cls):
        # 0.0449 before means that the squares of the kernel sum to 0.1225
        width = optimize.brentq(lambda s: np.sum(gaussian(s) ** 2) - 0.1225, 0.5, 2)
        kappa = gaussian(width)
        science, template, raw = pair(0.04, 0.04, kappa)
        return raw, DecorrelateALKernelTask().run(
            science, template, raw, kappa, svar=0.04, tvar=0.04
        ).corrected_exposure

    def test_variance(self, images):
        raw, clean = (np.var(image[INSIDE]) for image in images)
        assert raw == pytest.approx(0.0449, rel=max(0.01, OF_VARIANCE))
        assert clean == pytest.approx(0.0800, rel=max(0.01, OF_VARIANCE))

    def test_covariance(self, images):
        raw, clean = map(covariance_ratio, images)
        error = 2 * np.sqrt(60 / N_INSIDE)  # 60 pairs of lags
        # 0.793 there; all that white noise of 0.08 has at frequency 0 is 0.782
        assert raw == pytest.approx(0.0351 / 0.0449, abs=3 * 1.8 * error)
        assert abs(clean) < 3.5 * error < 0.300


class TestWhiteness:
    @pytest.mark.parametrize("complete", [False, True])
    @pytest.mark.parametrize(
        ("svar", "tvar", "sigma", "total"),
        [
            (0.04, 0.04, 2.46, 1.0),
            (0.08, 0.04, 2.46, 1.0),
            (1.0, 4.0, 1.5, 1.2),
            (9.0, 1.0, 0.8, 0.7),
        ],
    )
    def test_variance_and_correlation(self, svar, tvar, sigma, total, complete):
        kappa = gaussian(sigma, total=total)
        science, template, raw = pair(svar, tvar, kappa)
        task = DecorrelateALKernelTask({"complete_var_plane_propagation": complete})
        result = task.run(
            exposure(science, svar), exposure(template, tvar), exposure(raw, 1.0), kappa
        )
        clean = result.corrected_exposure
        target = svar + total**2 * tvar
        assert np.var(clean.image[INSIDE]) == pytest.approx(target, rel=OF_VARIANCE)
        np.testing.assert_allclose(clean.variance[INSIDE], target, rtol=1e-3)
        assert largest_correlation(clean.image) < 3.5 / np.sqrt(N_INSIDE)
        near = np.sum(kappa[1:] * kappa[:-1])  # of neighbours before
        expected = tvar * near / (svar + tvar * np.sum(kappa**2))
        assert largest_correlation(raw) == pytest.approx(expected, abs=4 / np.sqrt(N_INSIDE))
        assert result.metadata["variance_mean"] == pytest.approx(target, rel=2e-3)

    def test_a_noisy_template(self):
        """svar 1, tvar 100: neighbours within 0.1 before, within noise now."""
        kappa = gaussian(1.5)
        science, template, raw = pair(1.0, 100.0, kappa)
        clean = DecorrelateALKernelTask().run(science, template, raw, kappa, svar=1.0, tvar=100.0)
        assert largest_correlation(clean.corrected_exposure, 3) < 4.5 / np.sqrt(N_INSIDE)
        assert np.var(clean.corrected_exposure[INSIDE]) == pytest.approx(101, rel=OF_VARIANCE)

    def test_propagated_variance_is_the_scatter(self):
        """Planes with a bright star: mean square over many draws, against the complete plane."""
        side, draws, kappa = 64, 400, gaussian(1.2, 6, 1.1)
        star = 40 * 2 * np.pi * 4 * gaussian(2.0, 32)[:side, :side]
        planes = 1.0 + star, 2.0 + star
        task = DecorrelateALKernelTask({"complete_var_plane_propagation": True})
        total = np.zeros((side, side))
        for seed in range(draws):
            noise = [rng([seed, k]).normal(0, np.sqrt(p)) for k, p in enumerate(planes)]
            raw = noise[0] - convolve(noise[1], kappa)
            result = task.run(*noise, raw, kappa, svar=1.0, tvar=2.0)
            total += result.corrected_exposure**2
        task.compute_common_shape(kappa.shape, (side, side))
        spectra = task.compute_diffim_correction(kappa, 1.0, 2.0)[1:]
        variance = task.calculate_variance_plane(*planes, 1.0, 2.0, *spectra)
        ratio = (total / draws / variance)[16:-16, 16:-16]
        assert ratio.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / draws / ratio.size) + 1e-3)
        assert np.abs(ratio - 1).max() < 5 * np.sqrt(2 / draws)


class TestRoles:
    kappa = gaussian(1.5, total=1.3, dx=0.3)

    def test_swapped(self):
        science, template, raw = pair(4.0, 2.0, self.kappa)
        planes = exposure(science, 4.0), exposure(template, 2.0)
        task = DecorrelateALKernelTask()
        one = task.run(*planes, raw, self.kappa)
        two = task.run(*planes[::-1], -raw / 1.3, self.kappa, template_matched=False)
        np.testing.assert_allclose(
            two.corrected_exposure, -one.corrected_exposure / 1.3, atol=1e-12
        )
        np.testing.assert_allclose(two.variance, one.variance / 1.3**2, rtol=1e-6)
        assert (two.metadata["svar"], two.metadata["tvar"]) == (2.0, 4.0)
        given = task.run(
            *planes[::-1], -raw / 1.3, self.kappa, svar=2.0, tvar=4.0, template_matched=False
        )
        np.testing.assert_array_equal(given.corrected_exposure, two.corrected_exposure)

    def test_variances_given_win(self):
        science, template, raw = pair(4.0, 2.0, self.kappa)
        planes = exposure(science, 4.0), exposure(template, 2.0)
        task = DecorrelateALKernelTask()
        same = task.run(*planes, raw, self.kappa, svar=8.0, tvar=4.0)  # only the ratio matters
        other = task.run(*planes, raw, self.kappa, svar=4.0, tvar=4.0)
        first = task.run(*planes, raw, self.kappa)
        np.testing.assert_allclose(same.corrected_exposure, first.corrected_exposure, atol=1e-12)
        assert np.abs(other.corrected_exposure - first.corrected_exposure).max() > 0.1

    def test_kernel_of_one_place(self):
        basis = np.array([(gaussian(1.0) + gaussian(2.0)) / 2, (gaussian(2.0) - gaussian(1.0)) / 2])
        varying = MatchingKernel(
            basis, np.array([[1.0, 0, 0], [0, 1.0, 0]]), 1, 0, np.zeros(1), 0, (SIDE, SIDE)
        )
        images = pair(4.0, 2.0, gaussian(1.5))
        task = DecorrelateALKernelTask()
        variances = {"svar": 4.0, "tvar": 2.0}
        for place in ({}, {"xcen": 10.0}, {"xcen": 500.0, "ycen": 3.0}):
            x, y = place.get("xcen", (SIDE - 1) / 2), place.get("ycen", (SIDE - 1) / 2)
            found = task.run(*images, varying, **place, **variances)
            expected = task.run(*images, varying.at(x, y), **variances)
            np.testing.assert_array_equal(found.corrected_exposure, expected.corrected_exposure)


def fitted_flux(image, psf):
    """Flux of a star at the centre, all pixels of one weight."""
    return np.sum(image * psf) / np.sum(psf**2)


class TestFlux:
    @pytest.mark.parametrize(
        ("sigma", "width", "svar", "tvar"),
        [(1.5, 1.2, 1.0, 1.0), (1.6, 1.5, 1.0, 0.7), (2.2, 1.7, 1.0, 0.6)],
    )
    def test_star(self, sigma, width, svar, tvar):
        kappa, psf = gaussian(width, 15), gaussian(sigma, 20)
        science, template, raw = pair(svar, tvar, kappa, side=201)
        task = DecorrelateALKernelTask()

        def corrected(image):
            planes = exposure(science, svar), exposure(template, tvar)
            return task.run(*planes, exposure(image, 1.0, psf=psf), kappa)

        star = np.zeros(raw.shape)
        star[80:121, 80:121] = 1e4 * psf
        with_star, without = corrected(raw + star), corrected(raw)
        light = with_star.corrected_exposure.image - without.corrected_exposure.image
        # float32 images: 1e4 times 6e-8, over 40 000 pixels at random
        assert light.sum(dtype=float) == pytest.approx(1e4, rel=2e-5)
        box = light[80:121, 80:121]
        new = with_star.corrected_exposure.meta["psf"]
        assert isinstance(new, FixedPsf) and new.image.shape == psf.shape
        assert new.image.sum() == pytest.approx(1, abs=1e-12)
        assert with_star.metadata["psf_clipped_energy"] < 1e-4
        assert fitted_flux(box, new.image) == pytest.approx(1e4, rel=1e-3)
        assert 0.04 < abs(fitted_flux(box, psf) / 1e4 - 1) < 0.15

    def test_dc_gain(self):
        kappa = gaussian(1.4, total=1.2)
        images = pair(1.0, 2.0, kappa)
        task = DecorrelateALKernelTask()
        impulse = np.zeros((SIDE, SIDE))
        impulse[250, 260] = 1.0
        light = task.run(*images[:2], impulse, kappa, svar=1.0, tvar=2.0).corrected_exposure
        assert light.sum() == pytest.approx(1, abs=1e-6)

    def test_fixed_psf_in_any_size(self):
        psf = FixedPsf(gaussian(1.5, 10))
        for size in (5, 21, 31):
            image = psf.at(3.0, 4.0, size)
            assert image.shape == (size, size) and image.sum() == pytest.approx(1, abs=1e-12)
            assert np.unravel_index(image.argmax(), image.shape) == (size // 2, size // 2)
        np.testing.assert_array_equal(psf.at(3.0, 4.0), psf.image)


class TestScore:
    sigmas, total, svar, tvar = (2.0, 1.5), 1.2, 1.0, 0.7

    @pytest.fixture
    def kernels(self):
        first, second = self.sigmas
        width = np.sqrt(2 * first**2 - second**2)  # P P* / P of the template
        return gaussian(first, 20), gaussian(second, 20), gaussian(width, 25, self.total)

    def zogy_score(self, science, template, kernels):
        """S of Zackay, Ofek & Gal-Yam (2016, eq. 12), F_n = K and F_r = 1."""
        shape = 2 * SIDE, 2 * SIDE
        new, reference = (naive.dft(psf, shape) for psf in kernels[:2])
        spectra = [np.fft.fft2(image, shape) for image in (science, template)]
        score = self.total * new.conj() * abs(reference) ** 2 * spectra[0]
        score -= self.total**2 * reference.conj() * abs(new) ** 2 * spectra[1]
        score /= (
            self.tvar * self.total**2 * abs(new) ** 2 + self.svar * abs(reference) ** 2 + 1e-300
        )
        return np.fft.ifft2(score).real[:SIDE, :SIDE]

    def images(self, kernels, seed=1):
        science, template = noise_image(1.0, seed), noise_image(np.sqrt(self.tvar), seed + 50)
        science[240:281, 240:281] += 300 * kernels[0]
        before, _, kappa = kernels
        raw = convolve(science, before[::-1, ::-1]) - convolve(template, kappa)
        return science, template, raw

    def run(self, kernels, images, **more):
        return DecorrelateALKernelTask().run(
            *images, kernels[2], svar=self.svar, tvar=self.tvar, pre_conv_mode=True, **more
        )

    def test_equals_zogy(self, kernels):
        images = self.images(kernels)
        found = self.run(kernels, images, pre_conv_kernel=kernels[0]).corrected_exposure[INSIDE]
        expected = self.zogy_score(*images[:2], kernels)[INSIDE]
        constant = np.sum(found * expected) / np.sum(expected**2)
        assert constant == pytest.approx(
            (self.svar + self.total**2 * self.tvar) / self.total, rel=1e-6
        )
        assert np.abs(found - constant * expected).max() < 1e-6 * np.abs(found).max()

    def test_variance(self, kernels):
        scores = []
        for seed in range(4):
            images = self.images(kernels, seed)
            for image in images[:1]:
                image[:] = noise_image(1.0, seed)
            images = *images[:2], convolve(images[0], kernels[0]) - convolve(images[1], kernels[2])
            result = self.run(kernels, images, pre_conv_kernel=kernels[0])
            scores.append(result.corrected_exposure[INSIDE] / np.sqrt(result.variance[INSIDE]))
        independent = np.size(scores) / (8 * np.pi * self.sigmas[0] ** 2)  # of squares: P ⊗ P
        assert np.var(scores) == pytest.approx(1, abs=4 * np.sqrt(2 / independent))

    def test_science_psf_is_the_default(self, kernels):
        science, template, raw = self.images(kernels)
        carries = exposure(science, 1.0, psf=kernels[0])
        default = self.run(kernels, (carries, template, raw))
        named = self.run(kernels, (science, template, raw), pre_conv_kernel=kernels[0])
        np.testing.assert_allclose(default.corrected_exposure, named.corrected_exposure, atol=1e-9)
        with pytest.raises(ValueError, match="psf"):
            self.run(kernels, (science, template, raw))

    def test_psf_is_the_response_to_a_star(self, kernels):
        science, template, raw = self.images(kernels)
        star = np.zeros(raw.shape)
        star[240:281, 240:281] = 1e3 * kernels[0]
        added = raw + convolve(star, kernels[0][::-1, ::-1])
        results = [
            self.run(
                kernels, (science, template, exposure(image, 1.0, psf=kernels[0])),
                pre_conv_kernel=kernels[0],
            )
            for image in (added, raw)
        ]  # fmt: skip
        light = results[0].corrected_exposure.image - results[1].corrected_exposure.image
        psf = results[0].psf.image
        box = light[240:281, 240:281]
        np.testing.assert_allclose(box / box.sum(dtype=float), psf, atol=1e-6)


class TestRun:
    kappa = gaussian(1.3, total=1.1)

    def test_inputs_are_untouched(self):
        psf = gaussian(1.5)
        planes = [exposure(i, 4.0, psf=psf) for i in pair(4.0, 4.0, self.kappa, side=100)]
        before = [[p.copy() for p in (e.image, e.variance, e.mask)] for e in planes]
        kappa = self.kappa.copy()
        result = DecorrelateALKernelTask().run(*planes, kappa).corrected_exposure
        assert result.meta["psf"] is not psf and planes[2].meta["psf"] is psf
        result.image[:] = result.variance[:] = 0
        for one, kept in zip(planes, before, strict=True):
            for now, then in zip((one.image, one.variance, one.mask), kept, strict=True):
                np.testing.assert_array_equal(now, then)
        np.testing.assert_array_equal(kappa, self.kappa)

    def test_all_kinds_of_images_agree(self):
        images = pair(4.0, 4.0, self.kappa, side=120)
        task = DecorrelateALKernelTask()
        arrays = task.run(*images, self.kappa, svar=4.0, tvar=4.0)
        assert arrays.corrected_exposure.dtype == np.float64 and arrays.psf is None
        planes = [exposure(i, 4.0) for i in images]
        carried = task.run(*planes, self.kappa)
        ccd = task.run(*(e.to_ccddata() for e in planes), self.kappa)
        for other in (carried, ccd):
            np.testing.assert_allclose(
                other.corrected_exposure.image, arrays.corrected_exposure, atol=1e-4
            )
            np.testing.assert_allclose(other.variance, arrays.variance, rtol=1e-5)
        with pytest.raises(ValueError, match="an image is"):
            task.run(*images[:2], images[2].tolist(), self.kappa)

    @pytest.mark.parametrize("side", [401, 331, 222])  # 422 = 2 · 211, 352, 242 = 2 · 11²
    def test_fast_lengths_change_nothing(self, side):
        science, template, raw = pair(4.0, 4.0, self.kappa, side=side)
        task = DecorrelateALKernelTask()
        found = task.run(science, template, raw, self.kappa, svar=4.0, tvar=4.0)
        fast = task.freq_space_shape
        task.compute_common_shape(self.kappa.shape, raw.shape)
        assert all(a >= b and a % 2 == 0 for a, b in zip(fast, task.freq_space_shape, strict=True))
        corrft, *spectra = task.compute_diffim_correction(self.kappa, 4.0, 4.0)
        expected = task.compute_corrected_image(corrft, raw)
        np.testing.assert_allclose(found.corrected_exposure, expected, atol=1e-7)
        variance = task.estimate_variance_plane(
            np.full(raw.shape, 4.0), np.full(raw.shape, 4.0), *spectra
        )
        np.testing.assert_allclose(found.variance, variance, rtol=1e-6)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2), (5, 4)])
    def test_tiny_images(self, shape):
        image = rng().normal(size=shape)
        result = DecorrelateALKernelTask().run(image, image, image, np.ones((1, 1)), svar=1, tvar=1)
        np.testing.assert_allclose(result.corrected_exposure, image, atol=1e-12)
        np.testing.assert_allclose(result.variance, 2)

    def test_holes_of_an_exposure(self):
        science, template, raw = pair(4.0, 4.0, self.kappa, side=100)
        raw[40:50, 40:50] = np.nan
        science[70, 70] = template[72, 72] = np.inf
        planes = [exposure(i, 4.0) for i in (science, template, raw)]
        clean = DecorrelateALKernelTask().run(*planes, self.kappa).corrected_exposure
        assert np.isfinite(clean.image).all() and np.isfinite(clean.variance).all()
        lost = (clean.mask & MaskBit.NO_DATA) > 0
        assert lost.sum() == 102 and lost[45, 45] and lost[70, 70] and lost[72, 72]
        assert np.all(clean.variance[~lost] > 0)

    @pytest.mark.parametrize("which", [0, 1, 2])
    def test_without_data(self, which, caplog):
        images = list(pair(4.0, 4.0, self.kappa, side=50))
        images[which] = np.full((50, 50), np.nan)
        for planes in (images, [exposure(i, 4.0) for i in images]):
            result = DecorrelateALKernelTask().run(*planes, self.kappa)
            assert result.metadata == {"decorrelated": False} and "no usable" in caplog.text
            got, had = result.corrected_exposure, planes[2]
            assert got is not had
            np.testing.assert_array_equal(getattr(got, "image", got), getattr(had, "image", had))

    @pytest.mark.parametrize("bad", [0.0, np.nan])
    def test_without_variance(self, bad, caplog):
        science, template, raw = pair(4.0, 4.0, self.kappa, side=50)
        result = DecorrelateALKernelTask().run(
            exposure(science, bad), exposure(template, 4.0), raw, self.kappa
        )
        assert not result.metadata["decorrelated"] and caplog.records
        for given in ({"svar": bad, "tvar": 1.0}, {"svar": 1.0, "tvar": bad}):
            with pytest.raises(ValueError, match="positive"):
                DecorrelateALKernelTask().run(science, template, raw, self.kappa, **given)

    def test_bad_calls(self, caplog):
        images = pair(4.0, 4.0, self.kappa, side=50)
        task = DecorrelateALKernelTask()
        for mode in ({}, {"pre_conv_mode": True, "template_matched": False}):
            with pytest.raises(ValueError, match="template_matched"):
                task.run(*images, self.kappa, pre_conv_kernel=gaussian(1.0), **mode)
        with pytest.raises(ValueError, match="matched template"):
            task.run(*images, self.kappa, pre_conv_mode=True, template_matched=False)
        with pytest.raises(ValueError, match="shapes"):
            task.run(images[0][:-1], *images[1:], self.kappa)
        task.run(*images, self.kappa, svar=1.0, tvar=1.0, spatially_varying=True)
        assert "spatially_varying" in caplog.text
