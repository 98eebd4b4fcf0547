"""Proper image subtraction: the paper's equations, and a truth that is known."""

import logging

import numpy as np
import pytest
from astropy.table import Table

from psflib.decorrelation.decorrelate import decorrelate
from psflib.errors import BadImage
from psflib.preparation.prepare import prepare
from psflib.psf.core.stage import EpsfSettings
from psflib.simulation import PsfModel, simulate_pair
from psflib.subtraction import METHODS, SubtractSettings, run_zogy
from psflib.subtraction.zogy.match import fit_alignment
from psflib.subtraction.zogy.planes import Pair, proper_difference, transform_shape
from psflib.subtraction.zogy.psf import centred_stamp, centroid, stamp_psf
from psflib.subtraction.zogy.psfex import psf_settings
from psflib.subtraction.zogy.tiles import node_tiling, tiling
from tests.subtraction.zogy.naive_zogy import zogy as naive_zogy

SIZE = 25


def gaussian(sigma, size=SIZE, dx=0.0, dy=0.0):
    y, x = np.mgrid[:size, :size] - size // 2
    image = np.exp(-((x - dx) ** 2 + (y - dy) ** 2) / (2 * sigma**2))
    return image / image.sum()


P_N, P_R = gaussian(1.7), gaussian(1.25)
S_N, S_R = 10.0, 6.0
PLAIN = dict(image_psf=P_N, template_psf=P_R, dx=0, dy=0)
FIXED = dict(PLAIN, scale=1.0, fit_scale=False, fit_shift=False)


def noise(shape, seed):
    rng = np.random.default_rng([seed, 6])
    return rng.normal(0, S_N, shape), rng.normal(0, S_R, shape)


def errors(shape):
    return {"err": np.full(shape, S_N), "template_err": np.full(shape, S_R)}


def add(image, stamp, row, col, flux):
    half = len(stamp) // 2
    image[row - half : row + half + 1, col - half : col + half + 1] += flux * stamp


def origin(stamp, shape):
    plane = np.zeros(shape)
    plane[: len(stamp), : len(stamp)] = stamp
    return np.roll(plane, (-(len(stamp) // 2), -(len(stamp) // 2)), (0, 1))


class TestEquations:
    @pytest.mark.parametrize("shape", [(70, 96), (81, 64)])
    @pytest.mark.parametrize("f_ref", [1.0, 0.6])
    def test_the_paper(self, shape, f_ref):
        new, ref = noise(shape, 1)
        for row, col, flux in ((30, 30, 2e4), (40, 45, 5e3)):
            add(new, P_N, row, col, flux)
            add(ref, P_R, row, col, flux * f_ref)
        var_new, var_ref = S_N**2 + np.maximum(new, 0), S_R**2 + np.maximum(ref, 0)
        planes = [p.astype(np.float32) for p in (new, ref / f_ref, var_new, var_ref / f_ref**2)]
        pair = Pair(*planes, lambda x, y: (S_N**2, (S_R / f_ref) ** 2), lambda x, y: (P_N, P_R))
        made = proper_difference(
            pair, tiling(shape, 1, 1, 0, SIZE), SIZE, (0.2, 0.1), with_variance=True
        )
        big = transform_shape(shape, SIZE)
        wide = [np.pad(p, [(0, b - n) for b, n in zip(big, shape, strict=True)])
                for p in (new, ref, var_new, var_ref)]  # fmt: skip
        d, _, score, flux, error = naive_zogy(
            *wide[:2], origin(P_N, big), origin(P_R, big), S_N, S_R, f_ref, *wide[2:], 0.2, 0.1,
            unknown=1e-3,
        )  # fmt: skip
        inner = np.s_[1 : shape[0] - 1, 1 : shape[1] - 1]  # slopes are one-sided at the border
        for ours, theirs in (
            (made.image, d), (made.flux, flux), (np.sqrt(made.flux_variance), error),
            (made.score, score),
        ):  # fmt: skip
            theirs = theirs[: shape[0], : shape[1]]
            # float32 transforms: 1e-6 of the largest value, before the stars cancel
            largest = max(2 * np.abs(theirs).max(), new.max())
            np.testing.assert_allclose(ours[inner], theirs[inner], rtol=0, atol=3e-6 * largest)

    def test_unknown_frequencies_do_not_matter_to_sources(self):
        shape = (64, 64)
        new, ref = np.zeros(shape), np.zeros(shape)
        add(new, P_N, 32, 32, 1e4)
        flat = [np.full(shape, s**2) for s in (S_N, S_R)]
        planes = origin(P_N, shape), origin(P_R, shape)
        one, two = (
            naive_zogy(new, ref, *planes, S_N, S_R, 1.0, *flat, unknown=u) for u in (0, 1e-3)
        )
        np.testing.assert_allclose(two[3], one[3], atol=1e-3 * one[3].max())

    def test_units_of_the_sums(self):
        """F_S is F_D² times the mean of |P_D|², also where the image is not square."""
        shape = (60, 120)
        pair = Pair(*[np.zeros(shape, np.float32)] * 4, lambda x, y: (S_N**2, S_R**2),
                    lambda x, y: (P_N, P_R))  # fmt: skip
        filters = pair.filters(next(iter(tiling(shape, 1, 1, 0, SIZE))), SIZE)
        plane = np.fft.irfft2(filters.psf, filters.shape)
        assert filters.f_d == pytest.approx(1 / np.hypot(S_N, S_R))
        assert filters.f_s == pytest.approx(filters.f_d**2 * np.sum(plane**2), rel=1e-5)
        assert plane.sum() == pytest.approx(1, abs=1e-5)


class TestTiles:
    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_weights_sum_to_one(self, count):
        for tiles in (tiling((100, 130), count, 3, 20, 9), node_tiling((100, 130), count, 9)):
            total = np.zeros((100, 130), np.float32)
            for tile in tiles:
                tile.add(total, np.ones(tile.shape, np.float32))
            np.testing.assert_allclose(total, 1, atol=1e-6)

    def test_margins_are_not_used(self):
        """What a tile says of its margin, wrapped light and all, leaves no trace."""
        total = np.zeros((100, 130), np.float32)
        for tile in tiling((100, 130), 3, 2, 10, 15):
            part = np.ones(tile.shape, np.float32)
            inside = [np.flatnonzero(strip.weight) for strip in (tile.y, tile.x)]
            part[: inside[0][0]] = part[inside[0][-1] + 1 :] = np.nan
            part[:, : inside[1][0]] = part[:, inside[1][-1] + 1 :] = np.nan
            tile.add(total, part)
        np.testing.assert_allclose(total, 1, atol=1e-6)

    def test_tiles_of_one_psf_are_one_image(self):
        shape = (200, 230)
        new, ref = noise(shape, 2)
        add(new, P_N, 99, 115, 1e5)  # on the seam
        add(ref, P_R, 99, 115, 1e5)
        one = run_zogy(new, ref, **FIXED, **errors(shape))
        many = run_zogy(new, ref, **FIXED, **errors(shape), nx=3, ny=2)
        # filters have tails beyond the PSF's width: 2e-3 of the noise, 1e-6 of the star
        assert np.std(one[0] - many[0]) < 5e-3 * S_N
        assert np.abs(one[0] - many[0]).max() < 0.1 * S_N


@pytest.fixture(scope="module")
def made():
    shape = (512, 640)
    return [run_zogy(*noise(shape, s), **FIXED, **errors(shape)) for s in range(4)]


class TestWhiteNoise:
    def test_variance_and_correlation(self, made):
        z = np.array([d[0][20:-20, 20:-20] for d in made]) / np.hypot(S_N, S_R)
        # 1.1e6 pixels: 1.3e-3 in the variance, 1e-3 in a correlation
        error = np.sqrt(2 / z.size)
        assert np.var(z) == pytest.approx(1, abs=3 * error)
        for one, two in ((z[..., 1:], z[..., :-1]), (z[:, 1:], z[:, :-1])):
            assert abs(np.mean(one * two)) < 3 / np.sqrt(z.size)

    def test_significance(self, made):
        score = np.array([d[1][20:-20, 20:-20] for d in made])
        # neighbours share the PSF: as many independent values as PSFs
        assert score.std() == pytest.approx(1, abs=3 * np.sqrt(50 / 2 / score.size))


def test_significance_on_bright_stars():
    shape, flux, gain = (330, 330), 2e5, 1.0
    rng = np.random.default_rng(7)
    light = [np.zeros(shape), np.zeros(shape)]
    places = [(30 + 30 * j, 30 + 30 * i) for j in range(10) for i in range(10)]
    for row, col in places:
        for plane, psf in zip(light, (P_N, P_R), strict=True):
            add(plane, psf, row, col, flux)
    variances = [s**2 + p / gain for s, p in zip((S_N, S_R), light, strict=True)]
    scores = []
    for _ in range(8):
        images = [p + rng.normal(0, np.sqrt(v)) for p, v in zip(light, variances, strict=True)]
        _, score = run_zogy(
            *images, err=np.sqrt(variances[0]), template_err=np.sqrt(variances[1]), **FIXED
        )
        scores += [score[row, col] for row, col in places]
    # 800 independent values; the sky's polynomial does not know stars
    assert np.std(scores) == pytest.approx(1, abs=3 / np.sqrt(2 * len(scores)))


class TestFlux:
    @pytest.mark.parametrize("tiles", [{}, {"nx": 2, "ny": 1}])
    def test_faint_sources_on_an_image_that_is_not_square(self, tiles):
        shape = (210, 400)
        places = [(25 + 20 * j, 25 + 20 * i) for j in range(8) for i in range(18)]
        found, claimed = [], []
        for seed in range(6):
            new, ref = noise(shape, 100 + seed)
            *_, _, error = run_zogy(new, ref, **FIXED, **errors(shape), get_Fpsf=True)
            flux = 10 * error[100, 200]
            for row, col in places:
                add(new, P_N, row, col, flux)
            *_, measured, error = run_zogy(
                new, ref, **FIXED, **errors(shape), get_Fpsf=True, **tiles
            )
            found += [measured[place] / flux for place in places]
            claimed.append(error[100, 200] / flux)
        spread = np.std(found)
        # neighbours 20 px apart do not touch; the sky under 144 sources is 0.3 sigma of each low
        assert np.mean(found) == pytest.approx(1, abs=3 * spread / np.sqrt(len(found)) + 0.01)
        assert spread == pytest.approx(np.mean(claimed), rel=3 / np.sqrt(2 * len(found)))

    def test_psf_that_varies(self):
        """A PSF that is 25 % wider on one side: fluxes are right all over the field."""
        shape = (360, 400)
        rng = np.random.default_rng(3)
        models = [PsfModel(fwhm, variation=0.4, shape=shape, wing=0.0) for fwhm in (4.0, 3.0)]
        ends = models[0].fwhm_at(np.array([0, 399]), np.array([180, 180]))
        assert ends[1] / ends[0] > 1.4
        new, ref = noise(shape, 9)
        ratio = []
        x, y = (g.ravel() for g in np.meshgrid(np.arange(30, 380, 40), np.arange(30, 340, 40)))
        models[0].render(x, y, np.full(len(x), 3e4), new)
        models[0].render(*rng.uniform(20, 340, (2, 10)), np.full(10, 1.0), new)
        *_, flux, error = run_zogy(
            new, ref, image_psf=models[0], template_psf=models[1], dx=0, dy=0, scale=1.0,
            fit_scale=False, fit_shift=False, nx=5, overlap=100, get_Fpsf=True, **errors(shape),
        )  # fmt: skip
        ratio = flux[y, x] / 3e4
        snr = 3e4 / np.median(error)
        assert np.median(ratio) == pytest.approx(1, abs=0.01 + 3 / snr / np.sqrt(len(x)))
        assert np.std(ratio) < 0.02


class TestMatch:
    def planes(self, scale, dx, dy, seed=0, brightest=5.0):
        """A pair of stars with a known scale and displacement, as fit_alignment takes it."""
        shape = (300, 320)
        rng = np.random.default_rng(seed)
        model = PsfModel(4.0, wing=0.0, shape=shape)
        x, y, flux = *rng.uniform(20, 280, (2, 60)), 10 ** rng.uniform(3, brightest, 60)
        light = [np.zeros(shape), np.zeros(shape)]
        model.render(x + dx, y + dy, scale * flux, light[0])
        model.render(x, y, flux, light[1])
        slopes = np.gradient(light[1])
        noisy = [p + rng.normal(0, s, shape) for p, s in zip(light, (S_N, S_R), strict=True)]
        planes = {"science": noisy[0], "template": noisy[1], "slope_x": slopes[1],
                  "slope_y": slopes[0]}  # fmt: skip
        variances = [np.full(shape, s**2) for s in (S_N, S_R)]
        return planes, variances, light[1] > 30

    def test_scale_and_shift(self):
        planes, variances, select = self.planes(1.07, 0.12, -0.05)
        found = fit_alignment(planes, variances, select)
        # light of 3e5 ADU a star over noise of 12: 1e-4 in the scale; the second order of the
        # displacement and the slopes by differences: 1 %
        assert found.scale[0] == pytest.approx(1.07, rel=0.004)
        assert found.shift == pytest.approx((0.12, -0.05), abs=0.02)

    def test_noise_in_the_template_does_not_lower_the_scale(self):
        scales = []
        for seed in range(12):
            planes, variances, _ = self.planes(1.0, 0.0, 0.0, seed, brightest=3.3)
            best = planes["science"] * S_R**2 + planes["template"] * S_N**2
            select = best > 30 * (S_N**2 + S_R**2)
            found = fit_alignment(planes, variances, select, fit_shift=False)
            scales.append(found.scale[0])
        error = np.std(scales) / np.sqrt(len(scales))
        assert np.mean(scales) == pytest.approx(1, abs=4 * error + 0.01)

    @pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, -0.2)])
    def test_in_run_zogy(self, shift):
        shape = (300, 320)
        messages = []
        new, ref = noise(shape, 21)
        rng = np.random.default_rng(5)
        x, y, flux = *rng.uniform(30, 270, (2, 50)), 10 ** rng.uniform(3, 5, 50)
        psfs = [PsfModel(f, wing=0.0, shape=shape) for f in (4.0, 3.0)]
        psfs[0].render(x + shift[0], y + shift[1], flux, new)
        psfs[1].render(x, y, 1.1 * flux, ref)
        _difference, score = run_zogy(
            new, ref, image_psf=psfs[0], template_psf=psfs[1], dx=0, dy=0, **errors(shape),
            verbose=messages.append,
        )  # fmt: skip
        told = next(m for m in messages if "displacement to apply" in m)
        numbers = [float(n) for n in told.split("(")[1].split(")")[0].split(",")]
        # 50 stars of up to 1e5 ADU: 0.002 px, and a PSF between pixels
        assert numbers == pytest.approx(shift, abs=0.01)
        assert np.abs(score[30:-30, 30:-30]).max() < 6.5

    def test_objects_give_scale_and_regions(self):
        science, template, truth = simulate_pair((256, 256), seed=5, n_stars=60, scale=1.4)
        lists = [
            Table({"x": truth["x"].value, "y": truth["y"].value, "flux": truth[name].value,
                   "flags": np.zeros(len(truth), int)})
            for name in ("flux", "flux_template")
        ]  # fmt: skip
        messages = []
        run_zogy(
            science.image, template.image, **PLAIN, image_obj=lists[0], template_obj=lists[1],
            verbose=messages.append,
        )  # fmt: skip
        assert f"{1 / 1.4:.10f}"[:8] in messages[0]
        with pytest.raises(ValueError, match="needs columns"):
            run_zogy(science.image, template.image, **PLAIN, image_obj=Table({"x": [1.0]}))

    def test_nothing_to_fit_is_said(self, caplog):
        shape = (128, 128)
        with caplog.at_level(logging.WARNING):
            run_zogy(*noise(shape, 1), **PLAIN, **errors(shape), good_regions=np.zeros(shape))
        assert "0 usable pixels" in caplog.text and "taken as 1" in caplog.text


@pytest.fixture(scope="module")
def images():
    new, ref = noise((150, 170), 31)
    for row, col, flux in ((40, 50, 3e4), (90, 120, 1e5), (70, 30, 2e4)):
        add(new, P_N, row, col, flux)
        add(ref, P_R, row, col, flux)
    return new, ref


class TestIdentities:
    def test_roles_swapped_flip_the_sign(self, images):
        new, ref = images
        err = errors(new.shape)
        there = run_zogy(new, ref, **FIXED, **err, get_psf=True)
        back = run_zogy(
            ref, new, image_psf=P_R, template_psf=P_N, dx=0, dy=0, scale=1.0, fit_scale=False,
            fit_shift=False, err=err["template_err"], template_err=err["err"], get_psf=True,
        )  # fmt: skip
        for one, other, sign in zip(there, back, (-1, -1, 1), strict=True):
            # the sky's difference is taken off one of them, and light ends at the border: what
            # filters without end carry inside is 1e-3 of the noise; what counts as unknown of
            # the PSFs is 2e-3 of P_D's peak
            inner = np.s_[25:-25, 25:-25] if one.shape == new.shape else np.s_[:]
            np.testing.assert_allclose(
                one[inner], sign * other[inner], rtol=0, atol=3e-3 * np.abs(one).max()
            )

    @pytest.mark.parametrize("factor", [1e-3, 1e3])
    def test_units_do_not_matter(self, images, factor):
        new, ref = images
        err = errors(new.shape)
        one = run_zogy(new, ref, **PLAIN, **err, get_Fpsf=True)
        two = run_zogy(
            new * factor, ref * factor, **PLAIN, err=err["err"] * factor,
            template_err=err["template_err"] * factor, get_Fpsf=True,
        )  # fmt: skip
        for number, (a, b) in enumerate(zip(one, two, strict=True)):
            b = b if number == 1 else b / factor
            finite = np.isfinite(a)
            np.testing.assert_allclose(
                a[finite], b[finite], rtol=0, atol=1e-6 * np.abs(a[finite]).max()
            )

    def test_inputs_are_not_touched_and_results_repeat(self, images):
        planes = [*images, *errors(images[0].shape).values(), P_N, P_R]
        before = [p.copy() for p in planes]
        one, two = (
            run_zogy(*planes[:2], err=planes[2], template_err=planes[3], image_psf=planes[4],
                     template_psf=planes[5], nx=2)
            for _ in range(2)
        )  # fmt: skip
        for plane, copy in zip(planes, before, strict=True):
            np.testing.assert_array_equal(plane, copy)
        np.testing.assert_array_equal(one[1], two[1])

    def test_order_of_what_is_returned(self, images):
        made = run_zogy(*images, **PLAIN, get_psf=True, get_Fpsf=True)
        assert len(made) == 5
        _difference, score, psf, flux, error = made
        assert psf.sum() == pytest.approx(1) and psf.shape[0] == psf.shape[1] < 50
        assert np.unravel_index(psf.argmax(), psf.shape) == (len(psf) // 2,) * 2
        inner = np.s_[20:-20, 20:-20]
        np.testing.assert_allclose((flux / error)[inner], score[inner], rtol=1e-4)
        assert len(run_zogy(*images, **PLAIN)) == 2

    def test_registration_errors_only_lower_the_score(self, images):
        sharp = run_zogy(*images, **PLAIN)[1]
        soft = run_zogy(*images, **{**PLAIN, "dx": 0.25, "dy": 0.25})[1]
        assert np.all(np.abs(soft) <= np.abs(sharp) + 1e-6)
        assert abs(soft[90, 122]) < 0.7 * abs(sharp[90, 122]) or abs(sharp[90, 122]) < 1


class TestPsfs:
    def test_even_moved_and_scaled_stamps(self, caplog):
        truth = gaussian(1.7)
        even = np.pad(7 * gaussian(1.7, 23, dx=1.3, dy=-0.8), [(0, 1), (0, 1)])
        with caplog.at_level(logging.INFO):
            stamp = centred_stamp("image_psf", even)
        assert "normalised" in caplog.text and "moved" in caplog.text
        assert stamp.shape == (25, 25)
        assert centroid(stamp) == pytest.approx((12, 12), abs=0.01)
        # a Gaussian moved by a phase is the same Gaussian, but for the cut at 11 px
        np.testing.assert_allclose(stamp, truth, atol=2e-5)

    def test_forms_are_the_same(self):
        shape = (100, 100)
        model = {
            "data": P_N[None], "width": SIZE, "height": SIZE, "sampling": 1.0, "degree": 0,
            "ncoeffs": 1, "fwhm": 4.0, "x0": 50, "y0": 50, "sx": 50, "sy": 50,
        }  # fmt: skip
        fine = {**model, "data": gaussian(3.4, 51)[None], "width": 51, "height": 51,
                "sampling": 0.5}  # fmt: skip
        for psf in (model, P_N, stamp_psf("p", P_N, shape)):
            np.testing.assert_allclose(stamp_psf("p", psf, shape).at(3, 4), P_N, atol=1e-12)
        np.testing.assert_allclose(stamp_psf("p", fine, shape).at(3, 4), P_N, atol=1e-6)

    def test_terms_of_the_model(self):
        data = np.array([P_N, 0.3 * P_R, -0.2 * gaussian(3.0)])
        model = {"data": data, "width": SIZE, "height": SIZE, "sampling": 1, "degree": 1,
                 "x0": 50, "y0": 40, "sx": 50, "sy": 40}  # fmt: skip
        at = stamp_psf("p", model, (80, 100)).at(75, 20)
        expected = data[0] + 0.5 * data[1] - 0.5 * data[2]
        np.testing.assert_allclose(at, expected / expected.sum(), atol=1e-12)

    def test_clean(self):
        stamp = stamp_psf("p", P_N, (90, 90), clean=0.1).at(0, 0)
        assert stamp[stamp > 0].min() > 0.1 * stamp.max()
        assert stamp.sum() == pytest.approx(1)

    @pytest.mark.parametrize(
        ("psf", "word"),
        [
            (np.zeros((9, 9)), "no light"),
            (-P_N, "no light"),
            (np.full((9, 9), np.nan), "not finite"),
            (np.ones(9), "2-D stamp"),
            (np.ones((201, 201)), "201 px wide"),
            ({"data": P_N[None]}, "lacks width"),
            ({"data": P_N[None], "width": 9, "height": 9, "sampling": 1, "degree": 0, "x0": 0,
              "y0": 0, "sx": 1, "sy": 1}, "do not fit"),
            ({"data": P_N[None], "width": SIZE, "height": SIZE, "sampling": 0, "degree": 0,
              "x0": 0, "y0": 0, "sx": 1, "sy": 1}, "sampling must be positive"),
            ("gaussian", "must be a dict"),
        ],
    )  # fmt: skip
    def test_bad_psfs(self, psf, word):
        new, ref = noise((96, 96), 1)
        with pytest.raises(ValueError, match=word):
            run_zogy(new, ref, image_psf=psf, template_psf=P_R)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "word"),
        [
            ({"scale": 0}, "scale must be positive"),
            ({"scale": np.nan}, "scale must be positive"),
            ({"scale": -1.0}, "scale must be positive"),
            ({"image_fwhm": 0}, "image_fwhm must be positive"),
            ({"dx": -1}, "dx must not be negative"),
            ({"nx": 0}, "nx must be a positive number"),
            ({"nx": 40}, "nx must be 1 to"),
            ({"ny": 1.5}, "ny must be a positive number"),
            ({"overlap": -1}, "overlap must not"),
            ({"psf_clean": 1.5}, "psf_clean"),
            ({"good_regions": np.ones((3, 3))}, "good_regions"),
            ({"err": np.ones((3, 3))}, "err of the image"),
            ({"mask": np.ones((3, 3))}, "mask has shape"),
            ({"thresh": -1}, "thresh must be"),
            ({"order": "high"}, "order must be"),
        ],
    )
    def test_bad_calls(self, options, word):
        new, ref = noise((96, 128), 1)
        with pytest.raises(ValueError, match=word):
            run_zogy(new, ref, **{**PLAIN, **options})

    def test_what_nothing_uses_is_told(self, caplog):
        new, ref = noise((96, 128), 1)
        plain = run_zogy(new, ref, **PLAIN)
        told = run_zogy(new, ref, **PLAIN, order=1, magic=1)
        np.testing.assert_array_equal(plain, told)
        assert "ignored, nothing here uses it: order, magic" in caplog.text

    def test_shapes_differ(self):
        new, ref = noise((96, 128), 1)
        with pytest.raises(ValueError, match="differ in shape"):
            run_zogy(new, ref[:90], **PLAIN)
        with pytest.raises(ValueError, match="2-D"):
            run_zogy(new[0], ref[0], **PLAIN)

    def test_nothing_usable(self):
        new, ref = noise((96, 128), 1)
        with pytest.raises(BadImage, match="no usable pixel"):
            run_zogy(new, ref, **PLAIN, mask=np.ones(new.shape))
        with pytest.raises(BadImage, match="no usable pixel"):
            run_zogy(new, np.full_like(ref, np.nan), **PLAIN)
        with pytest.raises(BadImage, match="hold the value"):
            run_zogy(np.zeros_like(new), ref, **PLAIN)

    def test_holes(self):
        shape = (200, 220)
        new, ref = noise(shape, 8)
        add(new, P_N, 100, 100, 5e4)
        add(ref, P_R, 100, 100, 5e4)
        whole = run_zogy(new, ref, **FIXED, **errors(shape))
        new[30:60, 40:80] = np.nan
        ref[:, 150] = 1e6
        mask = np.zeros(shape, bool)
        mask[:, 150] = True
        difference, score, flux, error = run_zogy(
            new, ref, **FIXED, **errors(shape), template_mask=mask, get_Fpsf=True
        )
        assert np.isfinite(difference).all() and np.isfinite(score).all()
        assert np.isfinite(flux).all() and not np.isnan(error).any()
        assert difference[45, 60] == score[45, 60] == 0 and np.isinf(error[45, 60])
        assert np.all(difference[:, 150] == 0)
        assert np.abs(score).max() < 6
        # far from the holes nothing changes
        far = np.s_[100:, :100]
        assert np.abs(difference - whole[0])[far].max() < 0.05 * S_N


@pytest.fixture(scope="module")
def pair():
    science, template, _ = simulate_pair(
        (220, 240), seed=2, n_stars=60, scale=1.3, variation=0.3, background=5.0, brightest=2e5
    )
    return prepare(science), prepare(template)


class TestMethod:
    def psf_of(self, exposure):
        return exposure.meta["psf"]

    def test_decorrelate_passes_it_through(self, pair, caplog):
        raw = METHODS["zogy"](*pair, SubtractSettings().zogy, self.psf_of)
        with caplog.at_level(logging.INFO):
            clean = decorrelate(raw)
        assert "passed through" in caplog.text and "passed through" in clean.meta["notes"][-1]
        np.testing.assert_array_equal(clean.image, raw.image)
        np.testing.assert_array_equal(clean.score, raw.score)
        with pytest.raises(ValueError, match="white already"):
            decorrelate(raw, pre=object())

    def test_psf_varies_and_there_are_more_nodes(self, pair):
        raw = METHODS["zogy"](*pair, SubtractSettings().zogy, self.psf_of)
        assert len(raw.whitening.images) > 1
        one, other = raw.psf_at(20, 110, 31), raw.psf_at(220, 110, 31)
        assert abs(one.max() / other.max() - 1) > 0.1
        assert raw.kernel.flux_scale(120, 110) == pytest.approx(1.3, rel=0.02)

    def test_psf_of_the_difference_is_what_it_does_to_a_star(self, pair):
        """An added star, seen in D and as `psf_at` says."""
        science, template = pair
        psf = science.meta["psf"]
        star = np.zeros(science.shape)
        psf.render(60, 150, 1e5, star)
        image = science.image + star.astype(np.float32)
        settings = SubtractSettings().zogy
        rest = (
            METHODS["zogy"](science.replace(image=image), template, settings, self.psf_of).image
            - METHODS["zogy"](science, template, settings, self.psf_of).image
        )
        raw = METHODS["zogy"](science, template, settings, self.psf_of)
        seen = rest[150 - 6 : 150 + 7, 60 - 6 : 60 + 7] / 1e5
        told = raw.psf_at(60, 150, 41)[14:27, 14:27]
        # the new star moves the fitted scale a little, and the PSF is cut at 8 FWHM: 1 %
        np.testing.assert_allclose(seen, told, atol=0.02 * told.max())

    def test_bad_calls(self, pair):
        science, template = pair
        with pytest.raises(ValueError, match="differ in shape"):
            METHODS["zogy"](
                science, template.cutout(slice(0, 100), slice(0, 100)), SubtractSettings().zogy,
                self.psf_of,
            )  # fmt: skip


@pytest.mark.slow
def test_psfs_of_its_own():
    science, template, _ = simulate_pair((400, 420), seed=4, n_stars=200, brightest=4e5, scale=1.2)
    _, score = run_zogy(
        science.image, template.image, err=np.sqrt(science.variance),
        template_err=np.sqrt(template.variance), dx=0.05, dy=0.05,
    )  # fmt: skip
    inner = score[30:-30, 30:-30]
    assert 1.4826 * np.median(np.abs(inner)) == pytest.approx(1, abs=0.03)
    assert np.sum(np.abs(inner) > 6) <= 5


class TestPsfexWords:
    """Arguments that STDPipe hands on to PSFEx."""

    def test_settings(self):
        found, fwhm, rest = psf_settings(
            {"thresh": 4, "order": 2, "psf_size": 24, "aper": 7.0, "gain": 2, "sex_extra": {}}
        )
        assert found["stars"].threshold == 4 and found["epsf"].order == 2
        assert found["stamps"].size == 25 and fwhm == 3.5 and rest == ["gain", "sex_extra"]
        assert psf_settings({}) == ({}, None, [])
        both = psf_settings({"psf_size": 31, "vignet_size": 41, "order": 9})[0]
        assert both["stamps"].size == 41 and both["epsf"].order == 3

    def test_our_own_come_first(self):
        own = EpsfSettings(order=1)
        assert psf_settings({"epsf": own, "order": 3})[0]["epsf"] is own

    def test_they_reach_the_psf(self, caplog):
        science, template, _ = simulate_pair((256, 256), seed=5, n_stars=60, scale=1.4)
        planes = science.image, template.image
        plain, small = (
            run_zogy(*planes, get_psf=True, **w)[2]
            for w in ({}, {"psf_size": 15, "order": 0, "minarea": 5})
        )
        assert small.shape[0] < plain.shape[0] and small.sum() == pytest.approx(1)
        assert "ignored, nothing here uses it: minarea" in caplog.text
