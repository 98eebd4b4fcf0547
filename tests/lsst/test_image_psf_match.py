"""`ImagePsfMatchTask` in both modes: truth, identities, registration, PSF models, bad input."""

import json

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.table import Table

from psflib import products
from psflib.errors import BadImage, NoOverlap, NotEnoughStars, PsflibError
from psflib.image.exposure import Exposure, MaskBit
from psflib.lsst import ImagePsfMatchTask
from psflib.lsst.match_result import MatchResult
from psflib.matching.cells.lsst_basis import gaussian_basis
from psflib.simulation import make_wcs, simulate_pair
from psflib.simulation.psf_model import PsfModel
from psflib.simulation.scene import Scene, render
from psflib.subtraction import subtract

SHAPE = (256, 270)
SCALE, BACKGROUND = 1.3, 7.0
NOISE = 10.0
TRANSIENTS = [(70.3, 190.8, 6000), (190.1, 60.4, -6000)]
MODES = ("lsst", "psflib")
both_modes = pytest.mark.parametrize("mode", MODES)


def pair(**options):
    settings = {
        "shape": SHAPE, "seed": 5, "n_stars": 90, "scale": SCALE, "background": BACKGROUND,
        "brightest": 2e5, "transients": TRANSIENTS, "noise_science": NOISE,
    }  # fmt: skip
    return simulate_pair(**{**settings, **options})


@pytest.fixture(scope="module")
def images():
    return pair()


@pytest.fixture(scope="module", params=MODES)
def result(request, images):
    science, template, _ = images
    return ImagePsfMatchTask({"mode": request.param}).subtract_exposures(template, science)


def significance(exposure):
    use = exposure.usable
    return exposure.image[use] / np.sqrt(exposure.variance[use])


def stars(truth, margin=45):
    """Positions of the stars off the border and off the transients, the brightest first."""
    xy = np.c_[truth["x"].value, truth["y"].value]
    inside = np.all((xy > margin) & (xy < np.array(SHAPE[::-1]) - margin), axis=1)
    for x, y, _ in TRANSIENTS:
        inside &= np.hypot(*(xy - (x, y)).T) > 30
    order = np.argsort(-truth["flux"].value[inside], kind="stable")
    return xy[inside][order]


class TestTruth:
    def test_flux_scale_and_background(self, result):
        assert result.psf_matching_kernel.flux_scale(135, 128) == pytest.approx(SCALE, rel=0.02)
        # the sky of 256² px is known to 10 / 256; wings beyond the kernel's box leave more
        assert result.background_model.at(135, 128) == pytest.approx(BACKGROUND, abs=1.0)
        assert result.background_model.image().mean() == pytest.approx(BACKGROUND, abs=1.0)

    def test_difference_is_noise_but_for_the_transients(self, result):
        z = significance(result.subtracted_image)
        away = np.abs(z) < 6
        assert np.std(z[away]) == pytest.approx(1, abs=0.03)
        assert np.mean(~away) < 3e-3  # two transients of some fifty pixels each

    @pytest.mark.parametrize("transient", TRANSIENTS)
    def test_transients_keep_their_flux(self, result, transient):
        x, y, flux = transient
        y0, x0 = round(y), round(x)
        box = np.s_[y0 - 8 : y0 + 9, x0 - 8 : x0 + 9]
        error = float(np.sqrt(result.subtracted_image.variance[box].sum()))
        # 17 x 17 px hold 97 % of a PSF of FWHM 3.6 px with Moffat wings; 4 errors
        total = result.subtracted_image.image[box].sum()
        assert float(total) == pytest.approx(0.985 * flux, abs=4 * error + 0.02 * abs(flux))

    def test_difference_is_what_the_parts_make(self, images, result):
        science = images[0]
        parts = science.image - result.matched_image.image - result.background_model.image()
        use = result.subtracted_image.usable
        np.testing.assert_allclose(result.subtracted_image.image[use], parts[use], atol=0.05)

    def test_variance_is_that_of_both_images(self, images, result):
        science, template, _ = images
        kernel = result.psf_matching_kernel.at(135, 128)
        sky = science.variance.min() + np.square(kernel).sum() * template.variance.min()
        assert np.percentile(result.subtracted_image.variance, 5) == pytest.approx(sky, rel=0.05)

    def test_candidates_and_counts(self, result):
        table, meta = result.kernel_cell_set.table(), result.metadata
        assert meta["n_total"] == len(table)
        assert meta["n_good"] + meta["n_bad"] + meta["n_unknown"] == meta["n_total"]
        assert meta["n_good"] >= 10
        rejected = table["status"] == "bad"
        assert np.all((table["reason"] != "none") == rejected)
        # the template's star that is gone is no candidate of the kernel
        gone = np.hypot(table["x"] - TRANSIENTS[1][0], table["y"] - TRANSIENTS[1][1]) < 3
        assert gone.sum() == 1
        assert table["reason"][gone][0] in ("snr", "variable", "ksum", "std")
        assert meta["spatial_kernel_sum"] == pytest.approx(SCALE, rel=0.02)
        if meta["mode"] == "lsst":
            assert np.isfinite(meta["spatial_condition_num"])
            assert meta["ALBasisMode"] == "convolution"
            assert np.isfinite(table["condition"][table["status"] == "good"]).all()

    def test_psf_is_that_of_the_image_that_was_not_convolved(self, images, result):
        assert result.subtracted_image.meta["psf"] is images[0].meta["psf"]
        assert "psf" not in result.matched_image.meta

    def test_metadata_and_kernel_can_be_written(self, result, tmp_path):
        json.dumps(result.metadata, allow_nan=False)
        kernel = result.psf_matching_kernel
        products.write_kernel(tmp_path / "kernel.fits", kernel)
        again = products.read_kernel(tmp_path / "kernel.fits")
        np.testing.assert_array_equal(again.at(30, 200), kernel.at(30, 200))
        assert again.background_at(30, 200) == kernel.background_at(30, 200)

    def test_nothing_bad_escapes(self, result):
        assert isinstance(result, MatchResult)
        for exposure in (result.matched_image, result.subtracted_image):
            assert np.isfinite(exposure.image).all()
            assert np.all(exposure.variance[exposure.usable] > 0)

    def test_degrees_chosen_by_the_candidates(self, images):
        science, template, _ = images
        task = ImagePsfMatchTask({"mode": "lsst", "al": {"useBicForKernelBasis": True}})
        made = task.subtract_exposures(template, science)
        degrees = made.metadata["ALBasisDegGauss"]
        assert sum(degrees) < 8
        terms = sum((d + 1) * (d + 2) // 2 for d in degrees)
        assert len(made.psf_matching_kernel.basis) == terms
        z = significance(made.subtracted_image)
        assert np.std(z[np.abs(z) < 6]) == pytest.approx(1, abs=0.05)

    @pytest.mark.parametrize("pca", [True, False])
    def test_delta_functions(self, images, pca):
        science, template, _ = images
        config = {
            "spatial_kernel_order": 0, "use_pca_for_spatial_kernel": pca, "scale_by_fwhm": False,
            "kernel_size": 13, "lambda_type": "relative", "lambda_scaling": 1e-2,
        }  # fmt: skip
        task = ImagePsfMatchTask({"mode": "lsst", "kernel": "DF", "df": config})
        made = task.subtract_exposures(template, science)
        assert made.metadata["DFKernelSize"] == 13
        assert made.psf_matching_kernel.flux_scale(135, 128) == pytest.approx(SCALE, rel=0.04)
        z = significance(made.subtracted_image)
        assert np.std(z[np.abs(z) < 6]) == pytest.approx(1, abs=0.05)


class TestIdentities:
    def test_mode_psflib_is_subtract(self, images):
        science, template, _ = images
        made = ImagePsfMatchTask().subtract_exposures(template, science)
        expected = subtract(science, template)
        np.testing.assert_array_equal(made.subtracted_image.image, expected.image)
        np.testing.assert_array_equal(made.subtracted_image.mask, expected.mask)

    def test_match_and_subtract_agree(self, images):
        science, template, truth = images
        task = ImagePsfMatchTask({"mode": "lsst"})
        xy = stars(truth)
        one = task.match_masked_images(template, science, xy)
        two = task.subtract_masked_images(template, science, Table({"x": xy[:, 0], "y": xy[:, 1]}))
        three = task.match_exposures(template, science, candidates=xy)
        assert one.subtracted_image is None and three.subtracted_image is None
        for other in (two, three):
            np.testing.assert_array_equal(one.matched_image.image, other.matched_image.image)

    def test_roles_swapped(self, images):
        """The convolved science image is the convolved template of the other way round."""
        science, template, truth = images
        task, xy = ImagePsfMatchTask({"mode": "lsst"}), stars(truth)
        there = task.subtract_exposures(template, science, candidates=xy)
        back = task.subtract_exposures(science, template, candidates=xy, convolve_template=False)
        assert back.psf_matching_kernel.convolved == "science"
        total = there.metadata["spatial_kernel_sum"]
        np.testing.assert_allclose(
            back.subtracted_image.image, -there.subtracted_image.image / total,
            atol=1e-4 * there.subtracted_image.image.max(),
        )  # fmt: skip
        np.testing.assert_allclose(
            back.subtracted_image.variance, there.subtracted_image.variance / total**2, rtol=1e-4
        )

    @both_modes
    def test_flux_scale(self, images, mode):
        science, template, truth = images
        task, xy = ImagePsfMatchTask({"mode": mode}), stars(truth)
        once = task.subtract_exposures(template, science, candidates=xy)
        scaled = science.replace(
            image=science.image * np.float32(40), variance=science.variance * np.float32(1600),
            gain=science.gain / 40, saturation=science.saturation * 40,
        )  # fmt: skip
        many = task.subtract_exposures(template, scaled, candidates=xy)
        assert many.metadata["spatial_kernel_sum"] == pytest.approx(
            40 * once.metadata["spatial_kernel_sum"], rel=1e-3
        )
        use = once.subtracted_image.usable & many.subtracted_image.usable
        rest = many.subtracted_image.image / 40 - once.subtracted_image.image
        assert np.abs(rest[use] / np.sqrt(once.subtracted_image.variance[use])).max() < 0.1

    def test_shift(self, images):
        """A template that is a pixel off is brought back by the kernel."""
        science, template, truth = images
        task, xy = ImagePsfMatchTask({"mode": "lsst"}), stars(truth)
        moved = template.replace(
            image=np.roll(template.image, 1, 1), variance=np.roll(template.variance, 1, 1),
            mask=np.roll(template.mask, 1, 1), mask_bits="psflib",
        )  # fmt: skip
        z = significance(task.subtract_exposures(moved, science, candidates=xy).subtracted_image)
        assert np.std(z[np.abs(z) < 6]) == pytest.approx(1, abs=0.04)

    def test_identical_images_cancel(self, images):
        science = images[0]
        made = ImagePsfMatchTask({"mode": "lsst"}).subtract_exposures(science, science)
        assert made.metadata["spatial_kernel_sum"] == pytest.approx(1, abs=2e-3)
        use = made.subtracted_image.usable
        assert np.std(made.subtracted_image.image[use]) < 0.05 * NOISE
        assert made.metadata["ALBasisMode"] == "config"

    @both_modes
    def test_same_twice_and_input_untouched(self, images, mode):
        science, template, _ = images
        planes = [p for e in (science, template) for p in (e.image, e.variance, e.mask)]
        before = [p.copy() for p in planes]
        one, two = (
            ImagePsfMatchTask({"mode": mode}).subtract_exposures(template, science)
            for _ in range(2)
        )
        np.testing.assert_array_equal(one.subtracted_image.image, two.subtracted_image.image)
        for now, then in zip(planes, before, strict=True):
            np.testing.assert_array_equal(now, then)

    @both_modes
    def test_arrays_and_ccddata(self, images, mode):
        science, template, truth = images
        ready = stars(truth)
        raw = [e.image + np.float32(200) for e in (template, science)]
        task = ImagePsfMatchTask({"mode": mode})
        made = task.subtract_masked_images(*raw, ready)
        z = significance(made.subtracted_image)
        assert np.std(z[np.abs(z) < 6]) == pytest.approx(1, abs=0.1)  # a measured variance
        ccd = [CCDData(r, unit="adu") for r in raw]
        again = task.subtract_masked_images(*ccd, ready)
        np.testing.assert_array_equal(again.subtracted_image.image, made.subtracted_image.image)


class TestRegistration:
    @pytest.fixture(scope="class")
    @staticmethod
    def shifted():
        """The template's own sky moved by a fraction of a pixel, on a larger grid."""
        rng = np.random.default_rng(8)
        n = 70
        x, y, flux = *rng.uniform(-5, 300, (2, n)), 10 ** rng.uniform(3.3, 5.2, n)
        made = []
        for shape, fwhm, sigma, (dx, dy) in (
            (SHAPE, 3.8, 10.0, (0, 0)), ((290, 300), 2.9, 6.0, (12.3, 7.6))
        ):  # fmt: skip
            psf = PsfModel(fwhm, shape=shape)
            light = render(Scene.points(x + dx, y + dy, flux), psf, shape, sigma)
            image = light + rng.normal(0, np.sqrt(sigma**2 + light / 2))
            wcs = make_wcs(SHAPE, (0, 0), 0.0)
            wcs.wcs.crpix += (dx, dy)
            made.append(
                Exposure(image, sigma**2 + light / 2, wcs=wcs, gain=2.0, saturation=1e6, sky=0.0)
            )
        return made

    @both_modes
    def test_misregistered_template_is_warped(self, shifted, mode):
        science, template = shifted
        made = ImagePsfMatchTask({"mode": mode}).subtract_exposures(template, science)
        assert made.template.shape == SHAPE
        assert made.matched_image.wcs is science.wcs
        z = significance(made.subtracted_image)
        assert np.std(z[np.abs(z) < 6]) == pytest.approx(1, abs=0.05)
        assert made.metadata["spatial_kernel_sum"] == pytest.approx(1, rel=0.02)

    @both_modes
    def test_warping_can_be_refused(self, shifted, mode):
        science, template = shifted
        task = ImagePsfMatchTask({"mode": mode})
        with pytest.raises(ValueError, match="differ in shape"):
            task.match_exposures(template, science, do_warping=False)
        cut = template.cutout(slice(0, SHAPE[0]), slice(0, SHAPE[1]))
        with pytest.raises(ValueError, match=r"not registered .*12\.3 px"):
            task.match_exposures(cut, science, do_warping=False)
        same = cut.replace(wcs=science.wcs)
        assert task._registered(same, science, None, None, False).template.wcs is science.wcs

    @both_modes
    def test_no_common_sky(self, shifted, mode):
        science, template = shifted
        wcs = make_wcs(SHAPE, (5000, 0), 0.0)
        with pytest.raises(NoOverlap, match="do not overlap"):
            ImagePsfMatchTask({"mode": mode}).match_exposures(template.replace(wcs=wcs), science)


class TestModelPsf:
    def gaussian(self, sigma, side=25):
        r = np.arange(side) - side // 2
        image = np.exp(-0.5 * (r[:, None] ** 2 + r**2) / sigma**2)
        return image / image.sum()

    def test_psf_becomes_the_reference(self, images):
        _, template, _ = images
        task = ImagePsfMatchTask()
        made = task.match_model_psf(template, self.gaussian(2.2), psf=self.gaussian(1.3))
        matched = np.zeros((61, 61))
        kernel = made.psf_matching_kernel.at(100, 100)
        from scipy.signal import fftconvolve

        matched = fftconvolve(self.gaussian(1.3, 41), kernel, mode="same")
        error = np.abs(matched - self.gaussian(2.2, 41)).max()
        assert error < 0.02 * self.gaussian(2.2).max()
        assert kernel.sum() == pytest.approx(1, abs=1e-9)
        assert made.metadata["psf_size"] >= 1.4 * kernel.shape[0]
        assert made.metadata["n_used"] == 25

    def test_kernel_sum_and_a_psf_that_varies(self, images):
        _, template, _ = images
        reference = PsfModel(4.5, shape=SHAPE)
        psf = PsfModel(2.8, variation=0.1, shape=SHAPE)

        class At:
            def __init__(self, model):
                self.model = model

            def at(self, x, y, size):
                light = render(Scene.points([x], [y], [1e6]), self.model, SHAPE, 1e-3)
                half = size // 2
                padded = np.pad(light, half + 1)
                row, column = round(y) + half + 1, round(x) + half + 1
                return padded[row - half : row + half + 1, column - half : column + half + 1]

        made = ImagePsfMatchTask().match_model_psf(template, At(reference), 2.5, psf=At(psf))
        kernel = made.psf_matching_kernel
        for x, y in ((20, 30), (240, 200)):
            assert kernel.kernel_sum(x, y) == pytest.approx(2.5, rel=1e-9)
        assert np.abs(kernel.at(20, 30) - kernel.at(240, 200)).max() > 0.005

    def test_padding(self, images):
        _, template, _ = images
        small, wide = self.gaussian(1.3, 15), self.gaussian(2.2, 15)
        with pytest.raises(ValueError, match="do_auto_pad_psf, or pad_psf_by"):
            ImagePsfMatchTask({"do_auto_pad_psf": False}).match_model_psf(template, wide, psf=small)
        task = ImagePsfMatchTask({"do_auto_pad_psf": False, "pad_psf_by": 10})
        assert task.match_model_psf(template, wide, psf=small).metadata["psf_size"] == 25
        assert (
            ImagePsfMatchTask({"auto_pad_psf_to": 1.8})
            .match_model_psf(template, wide, psf=small)
            .metadata["psf_size"]
            == 39
        )  # the next odd number above 1.8 x 21

    def test_bad_calls(self, images):
        _, template, _ = images
        template = template.replace(meta={k: v for k, v in template.meta.items() if k != "psf"})
        task = ImagePsfMatchTask()
        good = self.gaussian(1.3)
        for call, message in (
            ((template, good), "no PSF"),
            ((template, good[1:]), "odd side"),
            ((template, "gaussian"), "has at"),
            ((template, good * np.nan), "finite"),
            ((template, good, 0.0), "kernel_sum"),
        ):
            psf = None if message == "no PSF" else good
            with pytest.raises(ValueError, match=message):
                task.match_model_psf(*call, psf=psf)


class TestCandidates:
    def test_vetting_on_both_images(self, images):
        science, template, truth = images
        task = ImagePsfMatchTask({"mode": "lsst"})
        xy = stars(truth)
        mask = np.zeros(SHAPE, bool)
        mask[round(xy[1, 1]), round(xy[1, 0]) + 15] = True
        given = [*xy[:4], (3, 128), TRANSIENTS[1][:2], (np.nan, 5)]
        found = task.make_candidate_list(template, science.replace(mask=mask), 21, given)
        reasons = {c.id: c.reason for c in found}
        assert reasons[0] == "" and reasons[1] == "mask"
        assert (reasons[4], reasons[5]) == ("edge", "snr")
        assert 6 not in reasons
        assert found[0].rating > 50
        half = 21
        assert found[0].box[0].stop - found[0].box[0].start == 2 * half + 1

    def test_detection_on_either_image(self, images):
        science, template, _ = images
        gone, new = TRANSIENTS[1][:2], TRANSIENTS[0][:2]
        for on_template, seen, unseen in ((True, gone, new), (False, new, gone)):
            config = {"mode": "lsst", "al": {"detection_config": {"det_on_template": on_template}}}
            found = ImagePsfMatchTask(config).make_candidate_list(template, science, 21)
            xy = np.array([(c.x, c.y) for c in found])
            assert np.hypot(*(xy - seen).T).min() < 1
            assert np.hypot(*(xy - unseen).T).min() > 3

    @pytest.mark.parametrize(
        ("kind", "threshold"),
        [("pixel_stdev", 10), ("stdev", 10), ("variance", 10), ("value", 70)],
    )
    def test_kinds_of_thresholds(self, images, kind, threshold):
        config = {"al": {"detection_config": {
            "det_threshold": threshold, "det_threshold_type": kind}}}  # fmt: skip
        found = ImagePsfMatchTask(config).get_selected_sources(images[1])
        assert found.colnames == ["x", "y", "npix"]
        assert 30 <= len(found) <= 80

    def test_sizes_of_detections(self, images):
        science, template, _ = images
        config = {"mode": "lsst", "al": {"detection_config": {"fp_npix_max": 30}}}
        found = ImagePsfMatchTask(config).make_candidate_list(template, science, 21)
        assert "size" in {c.reason for c in found}


def variables():
    """A pair of which every star has changed."""
    rng = np.random.default_rng(2)
    x, y, flux = *rng.uniform(20, 236, (2, 60)), 10 ** rng.uniform(3.7, 5, 60)
    made = []
    for values, fwhm, sigma in ((flux * rng.uniform(0.3, 2.5, 60), 3.6, 10.0), (flux, 2.8, 7.0)):
        light = render(Scene.points(x, y, values), PsfModel(fwhm, shape=SHAPE), SHAPE, sigma)
        variance = sigma**2 + light / 2
        made.append(
            Exposure(light + rng.normal(0, np.sqrt(variance)), variance, gain=2.0, saturation=1e6,
                     sky=0.0)
        )  # fmt: skip
    return made


class TestBadInput:
    """Clear errors, or results that say what was wrong with them; numbers in the message."""

    @pytest.fixture(params=MODES)
    def task(self, request):
        return ImagePsfMatchTask({"mode": request.param})

    def test_no_candidates(self, task, images):
        science, template, _ = images
        for none in ([], np.empty((0, 2)), Table({"x": [], "y": []})):
            with pytest.raises(NotEnoughStars, match="none given or detected"):
                task.subtract_exposures(template, science, candidates=none)
        science, template, _ = pair(n_stars=0, transients=())
        with pytest.raises(NotEnoughStars, match="0 usable stars"):
            task.subtract_exposures(template, science)

    def test_one_candidate(self, images):
        science, template, truth = images
        made = ImagePsfMatchTask({"mode": "lsst"}).subtract_exposures(
            template, science, candidates=stars(truth)[:1]
        )
        assert made.psf_matching_kernel.order == 0
        assert "a single candidate: the kernel is constant" in made.metadata["notes"]
        assert made.metadata["spatial_kernel_sum"] == pytest.approx(SCALE, rel=0.03)

    def test_all_variable(self, task):
        science, template = variables()
        try:
            made = task.subtract_exposures(template, science)
        except NotEnoughStars as failure:
            assert "kernel candidates of" in str(failure)
        else:
            assert any("disagree" in note for note in made.metadata["notes"])

    def test_all_in_a_corner(self, images):
        science, template, truth = images
        xy = stars(truth)
        corner = xy[np.all(xy < 120, axis=1)]
        assert len(corner) >= 2
        made = ImagePsfMatchTask({"mode": "lsst"}).subtract_exposures(
            template, science, candidates=corner
        )
        assert made.metadata["spatial_kernel_order_used"] == 0
        assert f"{made.metadata['n_used']} candidates that span" in made.metadata["notes"][0]

    def test_science_sharper_by_two(self, task):
        science, template, _ = pair(fwhm_science=2.2, fwhm_template=4.4, transients=())
        made = task.subtract_exposures(template, science)
        if task.config.mode == "psflib":
            assert made.metadata["convolved"] == "science"
        else:
            assert made.metadata["ALBasisMode"] == "deconvolution"
            assert "deconvolves" in made.metadata["notes"][0]
        assert np.isfinite(made.subtracted_image.image).all()

    @pytest.mark.parametrize("role", ["science", "template"])
    def test_constant_image(self, task, images, role):
        science, template, _ = images
        flat = Exposure(np.full(SHAPE, 100.0), np.full(SHAPE, 9.0), sky=0.0)
        with pytest.raises(BadImage, match=f"{role}: all usable pixels hold the value 100"):
            task.subtract_exposures(*((flat, science) if role == "template" else (template, flat)))

    @pytest.mark.parametrize("factor", [1e4, 1e-4])
    def test_flux_scales_far_apart(self, task, images, factor):
        science, template, _ = images
        scaled = science.replace(
            image=science.image * np.float32(factor),
            variance=science.variance * np.float32(factor**2),
            gain=science.gain / factor, saturation=science.saturation * factor,
        )  # fmt: skip
        made = task.subtract_exposures(template, scaled)
        assert made.metadata["spatial_kernel_sum"] == pytest.approx(SCALE * factor, rel=0.02)
        z = significance(made.subtracted_image)
        assert np.std(z[np.abs(z) < 6]) == pytest.approx(1, abs=0.03)

    def test_most_pixels_masked(self, task, images):
        science, template, _ = images
        scattered = np.random.default_rng(3).uniform(size=SHAPE) < 0.6
        with pytest.raises(NotEnoughStars):
            task.subtract_exposures(template, science.replace(mask=scattered))
        block = np.zeros(SHAPE, bool)
        block[:, : int(0.6 * SHAPE[1])] = True
        made = task.subtract_exposures(template, science.replace(mask=block))
        assert not made.subtracted_image.usable[:, :150].any()
        z = significance(made.subtracted_image)
        assert np.std(z[np.abs(z) < 6]) == pytest.approx(1, abs=0.1)

    def test_holes_in_the_template(self, task, images):
        science, template, _ = images
        holes = np.random.default_rng(4).uniform(size=SHAPE) < 3e-4
        image = np.where(holes, np.nan, template.image)
        made = task.subtract_exposures(template.replace(image=image), science)
        mask = made.subtracted_image.mask
        assert np.all(mask[holes] & np.uint16(MaskBit.TEMPLATE | MaskBit.NO_DATA))
        assert made.metadata["n_bad_mask"] > 0
        assert np.isfinite(made.subtracted_image.image).all()

    def test_shapes(self, task, images):
        science, template, _ = images
        small = template.cutout(slice(0, 200), slice(0, 200))
        for call in (task.match_masked_images, task.subtract_masked_images,
                     task.match_exposures, task.subtract_exposures):  # fmt: skip
            with pytest.raises(ValueError, match=r"\(200, 200\).*\(256, 270\)"):
                call(small, science)

    def test_kernel_larger_than_the_images(self, task, images):
        science, template, _ = (e.cutout(slice(90, 108), slice(100, 118)) if i < 2 else None
                                for i, e in enumerate(images))  # fmt: skip
        with pytest.raises((ValueError, PsflibError), match=r"\d"):
            task.subtract_exposures(template, science)

    def test_everything_masked(self, task, images):
        science, template, _ = images
        with pytest.raises(BadImage, match="none of 69120 pixels"):
            task.subtract_exposures(template, science.replace(mask=np.ones(SHAPE, bool)))

    def test_bad_calls(self, task, images):
        science, template, _ = images
        with pytest.raises(ValueError, match="template_fwhm"):
            task.subtract_exposures(template, science, template_fwhm=-1.0)
        with pytest.raises(ValueError, match="science_fwhm"):
            task.subtract_exposures(template, science, science_fwhm=np.nan)
        with pytest.raises(ValueError, match="an image is"):
            task.subtract_exposures("template.fits", science)
        with pytest.raises(ValueError, match="config is"):
            ImagePsfMatchTask("lsst")
        with pytest.raises(ValueError, match="x and y"):
            task.subtract_exposures(template, science, candidates=Table({"ra": [1.0]}))

    def test_given_widths_size_the_basis(self, images):
        science, template, truth = images
        task = ImagePsfMatchTask({"mode": "lsst"})
        made = task.match_exposures(template, science, 2.8, 6.0, stars(truth))
        sigma = np.sqrt(36 - 2.8**2) / 2.35482 / 2
        np.testing.assert_allclose(
            made.metadata["ALBasisSigGauss"], [sigma, 2 * sigma, 4 * sigma], rtol=1e-5
        )
        half = made.psf_matching_kernel.basis.shape[-1] // 2
        expected = gaussian_basis(half, made.metadata["ALBasisSigGauss"], [4, 2, 2])
        np.testing.assert_array_equal(made.psf_matching_kernel.basis, expected)
