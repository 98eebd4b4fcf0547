"""The delta-function kernel fit: three assemblies, one answer; `run_sfft` and its bad input."""

import os
import subprocess
import sys

import numpy as np
import pytest
from astropy.table import Table
from scipy import signal

from psflib.errors import PsflibError, SingularFit
from psflib.loops import sfft as loops
from psflib.subtraction import run_sfft
from psflib.subtraction.sfft import (
    SFFTResult,
    evaluate_background,
    evaluate_flux_scale,
    evaluate_kernel_at,
    normal,
    solve,
)
from psflib.subtraction.sfft.fit import Planes, Rules, fit, outliers
from psflib.subtraction.sfft.fourier import by_transforms
from psflib.subtraction.sfft.model import Model
from psflib.subtraction.sfft.shapes import mixed_shapes
from psflib.subtraction.sfft.solver import Penalties, Solver, laplacian_squared
from tests.subtraction.sfft import naive_sfft as naive

SIZE = 192
NOISE = 5.0


def gaussian(sigma, half):
    u = np.arange(-half, half + 1)
    line = np.exp(-0.5 * np.square(u / sigma))
    return np.outer(line, line) / line.sum() ** 2


def sky(seed=1, size=SIZE, stars=60, noise=NOISE, scale=1.3, level=(100.0, 80.0)):
    """Science image (wider PSF, scaled) and template, with the sky still in both."""
    rng = np.random.default_rng(seed)
    light = np.zeros((size, size))
    y, x = rng.integers(0, size, (2, stars))
    np.add.at(light, (y, x), 10 ** rng.uniform(3, 5, stars))
    template = signal.fftconvolve(light, gaussian(1.2, 8), mode="same")
    science = scale * signal.fftconvolve(template, gaussian(1.0, 5), mode="same")
    return (
        science + level[0] + rng.normal(0, noise, light.shape),
        template + level[1] + rng.normal(0, noise / 5, light.shape),
        np.c_[x, y],
    )


ERRORS = {"err": np.full((SIZE, SIZE), NOISE), "template_err": np.full((SIZE, SIZE), NOISE / 5)}
EVERYTHING = {
    "get_convolved": True, "get_scaled": True, "get_noise": True, "get_kernel": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return sky()


@pytest.fixture(scope="module")
def planes():
    rng = np.random.default_rng(3)
    target, template = rng.normal(0, 1, (2, SIZE, SIZE))
    template[rng.uniform(size=template.shape) < 0.01] += 100
    use = np.zeros(target.shape, bool)
    use[3:-3, 3:-3] = True
    use[60:75, 20:50] = False
    use[rng.uniform(size=use.shape) < 0.02] = False
    return target, template, use


class TestAssemblies:
    model = Model((SIZE, SIZE), (7, 7), 1, 2, 1)

    def test_loop_equals_its_twin(self, planes):
        rng = np.random.default_rng(5)
        y, x = rng.integers(0, SIZE, (2, 50))
        y[:4], x[2:6] = (0, 1, SIZE - 2, SIZE - 1), (0, 1, SIZE - 2, SIZE - 1)
        root = rng.uniform(0, 2, 50)
        out = np.empty((50, 7 * 5 + 1))
        loops.gather_patches(planes[1], y, x, 3, 2, root, out)
        np.testing.assert_array_equal(out, naive.gather_patches(planes[1], y, x, 3, 2, root))

    def test_fourier_equals_brute_force(self, planes):
        target, template, use = planes
        matrix, right = by_transforms(self.model, template, use, target)
        brute, vector = naive.normal_equations(
            self.model, template, use, np.ones(use.shape), target
        )
        assert np.abs(matrix - brute).max() < 1e-12 * np.abs(brute).max()
        assert np.abs(right - vector).max() < 1e-12 * np.abs(vector).max()

    def test_fourier_of_an_oblong_kernel_and_image(self, planes):
        target, template, use = (p[:100, :121].copy() for p in planes)
        use[-3:] = use[:, -3:] = False
        model = Model(use.shape, (3, 7), 2, 1, 1)
        matrix, _ = by_transforms(model, template, use, target)
        brute, _ = naive.normal_equations(model, template, use, np.ones(use.shape), target)
        assert np.abs(matrix - brute).max() < 1e-12 * np.abs(brute).max()

    def test_gram_equals_brute_force_with_weights(self, planes):
        target, template, use = planes
        weight = np.random.default_rng(2).uniform(0.1, 3, use.shape)
        y, x = np.nonzero(use)
        matrix, right = normal.exactly(self.model, template, y, x, weight[use], target[use])
        brute, vector = naive.normal_equations(self.model, template, use, weight, target)
        assert np.abs(matrix - brute).max() < 1e-12 * np.abs(brute).max()
        assert np.abs(right - vector).max() < 1e-12 * np.abs(vector).max()

    def test_tiles_have_the_exact_right_side(self, planes):
        target, template, use = planes
        weight = np.random.default_rng(2).uniform(0.1, 3, use.shape)
        matrix, right = normal.by_tiles(
            self.model, template.astype(np.float32), use, weight, target
        )
        brute, vector = naive.normal_equations(self.model, template, use, weight, target)
        # float32 sums over a tile; functions constant over 1/16 of the field
        assert np.abs(right - vector).max() < 1e-5 * np.abs(vector).max()
        assert np.abs(matrix - brute).max() < 0.01 * np.abs(brute).max()

    @pytest.mark.parametrize("weighted", [True, False])
    def test_one_answer(self, images, weighted):
        science, template, _ = images
        errors = ERRORS if weighted else {}
        names = ("tiles", "gram") if weighted else ("tiles", "gram", "fourier")
        differences = {
            name: run_sfft(science, template, **errors, assembly=name, sigma_clip=0)
            for name in names
        }
        for name in names:
            rest = differences[name] - differences["gram"]
            # one correction by the exact residuals leaves the square of what a tile neglects
            assert np.abs(rest).max() < 0.05 * NOISE
            assert np.std(rest) < 2e-3 * NOISE

    def test_shapes_are_sums_of_pixels(self, planes):
        target, template, use = (p[:96, :96].copy() for p in planes)
        use[-4:] = use[:, -4:] = False
        use[:4] = use[:, :4] = False
        shapes = mixed_shapes(4, 2.0)
        assert len(shapes) < 50
        pixels, mixed = (Model(use.shape, (9, 9), 1, 0, 1, None, s) for s in (None, shapes))
        y, x = np.nonzero(use)
        change = np.kron(shapes, np.eye(3))
        whole, _ = normal.exactly(pixels, template, y, x, np.ones(len(y)), target[use])
        part, _ = normal.exactly(mixed, template, y, x, np.ones(len(y)), target[use])
        np.testing.assert_allclose(
            part[:-1, :-1], change @ whole[:-1, :-1] @ change.T, atol=1e-9 * whole.max()
        )


class TestSolution:
    def test_noise_free_kernel_is_recovered(self):
        rng = np.random.default_rng(8)
        template = rng.normal(0, 100, (SIZE, SIZE))
        model = Model(template.shape, (5, 5), 1, 1, 1)
        truth = rng.normal(0, 1, model.n_unknowns)
        target = model.matched(truth, template, exact=True)
        use = np.zeros(template.shape, bool)
        use[2:-2, 2:-2] = True
        variance = np.ones((2, *use.shape), np.float32)
        rules = Rules("gram", clip=0, penalties=Penalties(ridge=0))
        found = fit(model, Planes(target, template, tuple(variance), use), rules)
        np.testing.assert_allclose(found.solution, truth, atol=1e-9)

    def test_hard_constraint(self, images):
        science, template, _ = images
        for kernel_spline in (None, (4, 4)):
            _, result = run_sfft(
                science, template, **ERRORS, get_kernel=True, flux_poly_order=1,
                flux_constraint="hard", kernel_spline=kernel_spline,
            )  # fmt: skip
            terms = result.form.flux_terms
            beyond = result.flux - terms @ (terms.T @ result.flux)
            assert np.abs(beyond).max() < 1e-12 * np.abs(result.flux).max()

    def test_soft_constraint_tends_to_the_hard_one(self, images):
        science, template, _ = images
        spread = [
            np.abs(
                run_sfft(science, template, **ERRORS, get_kernel=True, flux_penalty=strength)[
                    1
                ].flux[3:]
            ).max()
            for strength in (0, 1e3)
        ]
        assert spread[1] < 1e-3 * spread[0]

    def test_smoothness_is_chosen(self, images):
        science, template, _ = images
        rough, smooth = (
            run_sfft(science, template, **ERRORS, get_kernel=True, smooth=s)[1] for s in (0, "gcv")
        )
        assert smooth.fitted.solver.strength > 0
        truth = np.zeros((7, 7))
        truth[:] = 1.3 * gaussian(1.0, 3)
        error = [np.std(r.kernel_at(96, 96) - truth) for r in (rough, smooth)]
        assert error[1] < error[0]
        assert smooth.flux_at(96, 96) == pytest.approx(1.3, rel=0.01)

    def test_laplacian_of_a_plane_is_at_the_border_only(self):
        matrix = laplacian_squared((9, 9))
        assert np.allclose(matrix, matrix.T) and np.linalg.eigvalsh(matrix)[0] > 0
        inner = (matrix @ np.ones(81)).reshape(9, 9)[3:-3, 3:-3]
        assert np.abs(inner).max() < 1e-12

    def test_splines_follow_what_polynomials_cannot(self):
        rng = np.random.default_rng(4)
        template = rng.normal(0, 100, (SIZE, SIZE))
        y = np.arange(SIZE)[:, None]
        gain = 1 + 0.2 * np.tanh((y - SIZE / 2) / 12)
        science = gain * template + rng.normal(0, 1, template.shape)
        rms = []
        for options in ({"kernel_poly_order": 2, "flux_poly_order": 2}, {"kernel_spline": (9, 2)}):
            _, result = run_sfft(
                science, template, err=np.ones_like(science), kernel_shape=(3, 3),
                get_kernel=True, flux_penalty=0, sigma_clip=0, **options,
            )  # fmt: skip
            rms.append(result.rms)
        assert rms[1] < 0.4 * rms[0]
        with pytest.raises(ValueError, match="no MatchingKernel"):
            _ = result.kernel

    def test_covariance_is_the_scatter(self):
        rng = np.random.default_rng(6)
        science, template, _ = sky(noise=0.0, size=96, stars=80)
        errors = {"err": np.full((96, 96), 10.0), "template_err": np.full((96, 96), 1e-3)}
        found = []
        for _ in range(60):
            noisy = science + rng.normal(0, 10, science.shape)
            _, result = run_sfft(
                noisy, template, **errors, kernel_shape=(5, 5), kernel_poly_order=1,
                bg_poly_order=1, get_kernel=True, sigma_clip=0,
            )  # fmt: skip
            found.append([result.flux_at(48, 48), *result.kernel_at(30, 60).ravel()])
        scatter = np.std(found, 0, ddof=1)
        # 60 draws: 9 % each; the mean over 25 pixels, which share noise, is good to 4 %
        assert scatter[0] == pytest.approx(result.flux_error_at(48, 48), rel=0.28)
        ratio = scatter[1:] / result.kernel_error_at(30, 60).ravel()
        assert np.mean(ratio) == pytest.approx(1, abs=0.1)

    def test_noise_of_the_template_is_corrected_for(self):
        science, template, _ = sky(stars=30)
        template = template + np.random.default_rng(9).normal(0, 10, template.shape)
        errors = {"err": ERRORS["err"], "template_err": np.full((SIZE, SIZE), np.hypot(10, 1))}
        plain, corrected = (
            run_sfft(
                science, template, **errors, get_kernel=True, kernel_poly_order=0,
                flux_poly_order=0, noise_correction=c,
            )[1].flux_at(96, 96)
            for c in (False, True)
        )  # fmt: skip
        assert abs(corrected - 1.3) < abs(plain - 1.3)


class TestRejection:
    def test_bright_stars_keep_their_cores(self):
        science, template, _ = sky()
        light = np.abs(template - 80)
        science = science * 1.0
        science += 0.02 * light * np.sin(np.arange(SIZE) / 3)  # a model error of 2 %
        _, result = run_sfft(science, template, **ERRORS, get_kernel=True)
        core = light > 2000
        kept = result.fitted.used[core & ~result.dmask].mean()
        assert kept > 0.7
        assert result.n_good > 0.9 * (~result.dmask).sum()

    def test_a_variable_star_goes(self):
        science, template, _ = sky()
        bump = np.zeros_like(science)
        bump[100:105, 60:65] = 3000
        _, result = run_sfft(science + bump, template, **ERRORS, get_kernel=True)
        assert not result.fitted.used[101:104, 61:64].any()
        difference = run_sfft(science, template, **ERRORS)
        with_bump = run_sfft(science + bump, template, **ERRORS)
        rest = with_bump - bump - difference
        assert np.std(rest) < 0.1 * NOISE

    def test_outliers_are_in_sigma_of_equally_bright_pixels(self):
        rng = np.random.default_rng(2)
        light = np.where(np.arange(10_000).reshape(100, 100) < 300, 1e4, 0.0)
        residual = rng.normal(0, 1, light.shape) * np.where(light > 0, 50, 1)
        one = np.ones(light.shape, np.float32)
        out = outliers(residual, one, light, np.ones(light.shape, bool), 6.0)
        assert not out.any()
        residual[50, 50] = 30
        assert outliers(residual, one, light, np.ones(light.shape, bool), 6.0).sum() == 9

    def test_long_tails_of_bright_pixels_stay_where_errors_are_known(self):
        rng = np.random.default_rng(3)
        light = np.where(np.arange(10_000).reshape(100, 100) < 300, 1e4, 0.0)
        # Laplace: beyond 4 of its robust sigma are 6 % of the pixels, beyond 8 are 0.5 %
        bright = rng.laplace(0, 50, light.shape)
        residual = np.where(light > 0, bright, rng.normal(0, 1, light.shape).clip(-3, 3))
        one, use = np.ones(light.shape, np.float32), np.ones(light.shape, bool)
        strict, lenient = (outliers(residual, one, light, use, 4.0, c).sum() for c in (0.0, 8.0))
        assert lenient < strict / 3
        residual[50, 50] = 30
        assert outliers(residual, one, light, use, 4.0, 8.0)[50, 50]


class TestRunSfft:
    def test_what_is_returned(self, images):
        science, template, _ = images
        only = run_sfft(science, template)
        assert only.shape == science.shape and only.dtype == np.float32
        everything = run_sfft(science, template, **ERRORS, **EVERYTHING)
        difference, convolved, scaled, noise, result = everything  # as run_hotpants
        good = ~result.dmask
        x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
        background = evaluate_background(result, x, y, science.shape)
        rest = science - convolved - background
        np.testing.assert_allclose(rest[good], difference[good], atol=1e-2)
        np.testing.assert_allclose(scaled * noise, difference, atol=1e-3)
        assert all(np.isfinite(p).all() for p in everything[:4])
        assert np.std(scaled[good]) == pytest.approx(1, abs=0.02)
        power = np.square(result.kernel_at(96, 96)).sum()
        assert noise[96, 96] == pytest.approx(np.hypot(NOISE, np.sqrt(power)), rel=0.01)
        assert result.edges[:3].all() and not result.edges[3:-3, 3:-3].any()
        assert result.n_iter >= 1 and result.assembly == "tiles" and result.flags == ()

    def test_the_kernel_as_the_other_methods_have_it(self, images):
        science, template, _ = images
        _, result = run_sfft(science, template, **ERRORS, get_kernel=True, kernel_shape=(5, 7))
        kernel = result.kernel
        for x, y in ((10, 20), (150, 96)):
            np.testing.assert_allclose(kernel.at(x, y)[1:-1], result.kernel_at(x, y), atol=1e-12)
            assert kernel.flux_scale(x, y) == pytest.approx(result.flux_at(x, y))
            assert kernel.background_at(x, y) == pytest.approx(result.background_at(x, y))

    @pytest.mark.parametrize("factor", [1e-3, 1e3])
    @pytest.mark.parametrize("weighted", [True, False])
    def test_units_do_not_matter(self, images, factor, weighted):
        science, template, _ = images
        errors = ERRORS if weighted else {}
        once = run_sfft(science, template, **errors)
        scaled = run_sfft(
            factor * science, factor * template, **{k: factor * e for k, e in errors.items()}
        )
        assert np.abs(scaled / factor - once).max() < 1e-6 * np.abs(science).max()

    def test_absolute_strengths_depend_on_units(self, images):
        science, template, _ = images
        once, other = (
            run_sfft(f * science, f * template, legacy_units=True, ridge=1.0) / f for f in (1, 1e-4)
        )
        assert np.abs(once - other).max() > 1

    def test_one_image_in_other_units(self, images):
        science, template, _ = images
        errors = {"err": ERRORS["err"], "template_err": 1e4 * ERRORS["template_err"]}
        once = run_sfft(science, template, **ERRORS)
        other = run_sfft(science, 1e4 * template, **errors)
        assert np.std(other - once) < 1e-2 * NOISE

    def test_sky_and_sign(self, images):
        science, template, _ = images
        once = run_sfft(science, template, **ERRORS)
        raised = run_sfft(science + 5000, template, **ERRORS)
        assert np.abs(raised - once).max() < 0.01 * NOISE
        flipped = run_sfft(-science, -template, **ERRORS)
        assert np.std(flipped + once) < 0.1 * NOISE

    def test_masks_and_inputs(self, images):
        science, template, _ = (p.copy() for p in images)
        mask, template_mask = np.zeros((2, SIZE, SIZE), bool)
        mask[40:50, 40:60] = True
        template_mask[100, 120] = True
        science[40:50, 40:60] = np.nan
        template[100, 120] = 1e7
        before = [a.copy() for a in (science, template, mask, template_mask)]
        difference, result = run_sfft(
            science, template, mask, template_mask, **ERRORS, get_kernel=True
        )
        assert result.dmask[40:50, 40:60].all() and result.dmask[97:104, 117:124].all()
        assert not result.dmask[104, 120]
        assert np.isfinite(difference).all() and not difference[result.dmask].any()
        once = run_sfft(*images[:2], **ERRORS)
        assert np.std((difference - once)[~result.dmask]) < 0.1 * NOISE
        for old, new in zip(before, (science, template, mask, template_mask), strict=True):
            np.testing.assert_array_equal(old, new)

    def test_objects_confine_the_fit(self, images):
        science, template, places = images
        table = Table({"x": places[:, 0], "y": places[:, 1], "fwhm": np.full(len(places), 3.0)})
        difference, result = run_sfft(science, template, **ERRORS, obj=table, get_kernel=True)
        assert result.n_good < 0.8 * SIZE**2
        used = result.fitted.used
        x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
        far = np.min([np.maximum(abs(x - i), abs(y - j)) for i, j in places], 0) > 9
        assert not used[far].any()
        assert np.std(difference[~result.dmask]) < 1.1 * NOISE
        bare, default = run_sfft(science, template, obj=places, get_kernel=True)
        assert default.n_good > result.n_good and np.isfinite(bare).all()

    def test_few_objects_lower_the_degree(self, images, caplog):
        science, template, places = images
        _, result = run_sfft(
            science, template, **ERRORS, obj=places[:4], obj_size=20, get_kernel=True
        )
        assert result.form.order == 0  # one of them is too near to the border
        assert "3 objects do not carry" in result.flags[0] and result.flags[0] in caplog.text

    def test_objects_without_pixels(self, images):
        science, template, _ = images
        _, result = run_sfft(science, template, obj=np.array([[-90.0, 5.0]]), get_kernel=True)
        assert "none of 1 objects" in result.flags[0]
        assert result.n_good > 0.5 * SIZE**2

    def test_verbose(self, images):
        lines = []
        run_sfft(*images[:2], verbose=lines.append)
        assert len(lines) == 1 and "solutions" in lines[0]

    def test_verbose_on_standard_output(self, images, capsys):
        run_sfft(*images[:2], verbose=True)
        assert "SFFT" in capsys.readouterr().out
        run_sfft(*images[:2])
        assert capsys.readouterr().out == ""


class TestObjects:
    """Which objects are fitted, counted by the pixels of one small kernel without rejection."""

    box = 25 * 25
    whole = (SIZE - 2) ** 2

    @property
    def rules(self):
        return {
            "kernel_shape": (3, 3), "kernel_poly_order": 0, "bg_poly_order": 0,
            "flux_poly_order": 0, "max_iter": 1, "get_kernel": True, "obj_size": 12,
        }  # fmt: skip

    def count(self, images, x, y, mask=None, **columns):
        options = {k: columns.pop(k) for k in [*columns] if k.startswith("obj_")}
        table = Table({"x": x, "y": y, **columns})
        return run_sfft(*images[:2], mask, obj=table, **{**self.rules, **options})[1].n_good

    def test_a_box(self, images):
        assert self.count(images, [64], [70]) == self.box

    def test_flags(self, images):
        assert self.count(images, [64, 120], [70, 120], flags=[0, 4]) == self.box
        assert self.count(images, [64], [70], flags=[4]) == self.whole

    def test_masked_pixels(self, images):
        mask = np.zeros((SIZE, SIZE), bool)
        mask[70, 60:65] = True
        assert self.count(images, [64], [70], mask) == self.box - 5
        mask[58:83, 52:70] = True
        assert self.count(images, [64], [70], mask) == self.whole - mask.sum()
        assert self.count(images, [64], [70], mask, obj_max_masked_fraction=0.9) == 7 * 25

    def test_the_best_of_a_cell(self, images):
        places = [60, 60, 60, 150], [60, 75, 90, 150]
        flux, error = [1.0, 2.0, 3.0, 1.0], [1.0, 1.0, 9.0, 1.0]
        chosen = {"obj_grid": 2, "obj_per_cell": 1}
        assert self.count(images, *places, flux=flux, **chosen) == 2 * self.box
        for columns, best in (({}, 90), ({"fluxerr": error}, 75)):
            found = run_sfft(
                *images[:2], obj=Table({"x": places[0], "y": places[1], "flux": flux, **columns}),
                **self.rules, **chosen,
            )[1]  # fmt: skip
            assert found.fitted.used[best, 60] and found.fitted.used[150, 150]
        # boxes 15 px apart share 10 of 25 rows
        assert self.count(images, *places, obj_per_cell=None) == 4 * self.box - 2 * 10 * 25

    def test_the_border_and_objects_without_a_place(self, images):
        assert self.count(images, [11, 64, np.nan], [70, 70, 70]) == self.box

    def test_too_few_pixels(self, images, caplog):
        options = {**self.rules, "kernel_shape": (7, 7), "kernel_poly_order": 2}
        _, found = run_sfft(*images[:2], obj=np.array([[64, 70]]), **options)
        assert found.n_good == (SIZE - 6) ** 2 and found.kernel_poly_order == 2
        assert "1 objects hold 625 pixels" in found.flags[0] and found.flags[0] in caplog.text


class TestStdpipeNames:
    """Coefficients, evaluations and `solve` are what STDPipe's are."""

    def test_coefficients_before_powers(self, images):
        science, template, _ = images
        result = solve(science, template, **ERRORS, kernel_shape=(5, 3), flux_poly_order=2)
        assert isinstance(result, SFFTResult) and result.kernel_shape == (5, 3)
        assert (result.kernel_poly_order, result.bg_poly_order, result.flux_poly_order) == (2, 2, 2)
        assert result.kernel_coeffs.shape == (15, 6) and result.bg_coeffs.shape == (6,)
        assert result.flux_poly_coeffs.shape == (6,)
        for x, y in ((10.0, 20.0), (150.0, 96.0)):
            u, v = 2 * x / (SIZE - 1) - 1, 2 * y / (SIZE - 1) - 1
            powers = np.array([1, v, u, v * v, u * v, u * u])
            kernel = evaluate_kernel_at(result, x, y, science.shape)
            np.testing.assert_allclose(
                (result.kernel_coeffs @ powers).reshape(5, 3), kernel, atol=1e-12
            )
            scale = evaluate_flux_scale(result, x, y, science.shape)
            assert scale == pytest.approx(kernel.sum(), rel=1e-12)
            background = evaluate_background(result, x, y, science.shape)
            assert background == pytest.approx(result.bg_coeffs @ powers, rel=1e-12)

    def test_the_background_is_that_of_the_images(self, images):
        science, template, _ = images
        result = solve(science, template, **ERRORS, kernel_shape=(5, 5))
        found = evaluate_background(result, np.array([20, 96]), np.array([96, 20]), science.shape)
        # 100 - 1.3 x 80; the scale is good to 1e-3 of 80, the level to 1e-2 of the noise
        np.testing.assert_allclose(found, -4.0, atol=0.5)
        smooth = signal.fftconvolve(template, result.kernel_at(96, 96), mode="same")
        rest = (smooth - result.convolved)[90:100, 90:100]
        assert np.abs(rest).max() < 0.01 * NOISE  # the kernel hardly varies over 10 px

    def test_a_flux_scale_of_a_higher_degree_than_the_background(self, images):
        science, template, _ = images
        result = solve(science, template, **ERRORS, bg_poly_order=0)
        assert result.bg_coeffs.shape == (1,)
        rest = science - result.convolved - result.bg_coeffs[0] - result.diff
        assert np.abs(rest[~result.dmask]).max() < 1e-2
        both = result.diff + result.model
        np.testing.assert_allclose(both[~result.dmask], science[~result.dmask], rtol=1e-6)

    def test_solutions_are_counted(self, images):
        science, template, _ = images
        alone = solve(science, template, err=ERRORS["err"], max_iter=2)
        assert alone.n_iter == 2 and solve(science, template, **ERRORS, max_iter=2).n_iter == 3
        assert solve(science, template, max_iter=1).n_iter == 1
        everything = run_sfft(science, template, max_iter=1, get_kernel=True)[1]
        assert everything.n_good == (SIZE - 6) ** 2

    def test_a_template_without_noise(self, images):
        science, template, _ = images
        noise = run_sfft(science, template, err=ERRORS["err"], get_noise=True)[1]
        np.testing.assert_allclose(noise, NOISE, rtol=1e-6)
        plain, deep = (
            solve(science, template, err=ERRORS["err"], max_iter=1, template_err=e).kernel_coeffs
            for e in (None, np.full(science.shape, 1e-9))
        )
        np.testing.assert_allclose(plain, deep, rtol=1e-6, atol=1e-12)

    def test_errors_that_are_true_are_no_weights(self, images):
        science, template, _ = images
        coefficients = [solve(science, template, err=e).kernel_coeffs for e in (None, True)]
        np.testing.assert_array_equal(*coefficients)

    def test_images_of_another_shape(self, images):
        result = solve(*images[:2], max_iter=1)
        with pytest.raises(ValueError, match="not that of the fit"):
            evaluate_kernel_at(result, 1, 1, (SIZE, SIZE + 1))

    def test_splines_have_no_coefficients(self, images):
        _, result = run_sfft(*images[:2], kernel_spline=(4, 4), get_kernel=True)
        with pytest.raises(ValueError, match="no polynomial"):
            _ = result.kernel_coeffs
        assert np.isfinite(result.convolved).all()


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"kernel_shape": (6, 7)}, "odd"),
            ({"kernel_shape": (7, 151)}, "too large"),
            ({"flux_poly_order": 3}, "exceeds"),
            ({"kernel_poly_order": -1}, "negative"),
            ({"assembly": "magic"}, "unknown assembly"),
            ({"assembly": "fourier", "err": True}, "no weights"),
            ({"assembly": "fourier", "kernel_spline": (3, 3)}, "no B-splines"),
            ({"flux_constraint": "firm"}, "unknown flux_constraint"),
            ({"smooth": "very"}, "gcv"),
            ({"ridge": -1}, "ridge"),
            ({"max_iter": 0}, "max_iter"),
            ({"sigma_clip": np.nan}, "sigma_clip"),
            ({"obj_size": 0, "obj": np.ones((20, 2))}, "obj_size"),
            ({"err": np.ones((3, 3))}, "shape"),
            ({"mask": np.ones((3, 3))}, "shape"),
        ],
    )
    def test_bad_calls(self, images, options, words):
        with pytest.raises(ValueError, match=words):
            run_sfft(*images[:2], **options)

    def test_shapes_differ(self, images):
        with pytest.raises(ValueError, match="differ in shape"):
            run_sfft(images[0], images[1][:-1])

    @pytest.mark.parametrize("which", ["mask", "template_mask"])
    def test_all_masked(self, images, which):
        with pytest.raises(PsflibError, match="all are masked"):
            run_sfft(*images[:2], **{which: np.ones((SIZE, SIZE), bool)})

    def test_constant_image(self, images):
        with pytest.raises(PsflibError, match="hold the value 7"):
            run_sfft(images[0], np.full((SIZE, SIZE), 7.0))

    def test_sixty_per_cent_masked(self, images):
        science, template, _ = images
        mask = np.zeros((SIZE, SIZE), bool)
        mask[: int(0.6 * SIZE)] = True
        difference, result = run_sfft(science, template, mask, mask, **ERRORS, get_kernel=True)
        good = ~result.dmask
        assert good.mean() > 0.3
        assert np.std(difference[good]) < 1.1 * NOISE
        scattered = np.random.default_rng(1).uniform(size=mask.shape) < 0.6
        with pytest.raises(PsflibError, match="60 % of the image"):
            run_sfft(science, template, scattered, scattered, **ERRORS)

    def test_more_unknowns_than_pixels(self):
        science, template, _ = sky(size=40, stars=10)
        _, result = run_sfft(science, template, kernel_shape=(15, 15), get_kernel=True)
        assert result.form.order < 2 and "lowered" in result.flags[0]
        mask = np.zeros((34, 34), bool)
        mask[15:18] = True
        with pytest.raises(SingularFit, match="usable pixels"):
            run_sfft(science[:34, :34], template[:34, :34], mask, kernel_shape=(17, 17))

    def test_a_template_without_light_in_the_boxes(self):
        rng = np.random.default_rng(1)
        difference = run_sfft(*rng.normal(0, 1, (2, 96, 96)))
        assert np.isfinite(difference).all()

    def test_integers_and_big_endian(self, images):
        science, template = (np.rint(p).astype(">i2") for p in np.clip(images[:2], 0, 3e4))
        assert np.isfinite(run_sfft(science, template)).all()


def test_a_singular_matrix_gets_a_ridge_and_then_an_error():
    model = Model((50, 50), (3, 3), 0, 0, 0)
    matrix = np.zeros((10, 10))
    with pytest.raises(SingularFit, match="no solution"):
        Solver(model, Penalties()).step(matrix, np.zeros(10), np.zeros(10))


@pytest.mark.slow
def test_threads_do_not_matter(tmp_path):
    code = (
        "import sys, numpy as np\nfrom tests.subtraction.sfft import test_sfft as t\n"
        "from psflib.subtraction import run_sfft\n"
        "np.save(sys.argv[1], run_sfft(*t.sky()[:2], **t.ERRORS, kernel_shape=(9, 9)))"
    )
    results = []
    for threads in ("1", "2"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
        path = tmp_path / f"{threads}.npy"
        environment = {**os.environ, **dict.fromkeys(names, threads)}
        subprocess.run([sys.executable, "-c", code, str(path)], env=environment, check=True)
        results.append(np.load(path))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("level", [0.0, 500.0])
def test_the_sky_says_nothing_of_the_flux_scale(level):
    """Skies of the ratio 5 to 3, stars of 1.3: findings/stdpipe_sfft_sky.sh shows another."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:200, 0:200]
    places = [(*rng.uniform(20, 180, 2), rng.uniform(2e4, 2e5)) for _ in range(30)]

    def stars(sigma):
        out = np.zeros(x.shape)
        for px, py, flux in places:
            out += flux * np.exp(-0.5 * (np.square(x - px) + np.square(y - py)) / sigma**2)
        return out / (2 * np.pi * sigma**2)

    image = 1.3 * stars(1.7) + rng.normal(0, 10, x.shape) + level
    template = stars(1.27) + rng.normal(0, 5, x.shape) + 0.6 * level
    degrees = {"kernel_poly_order": 0, "bg_poly_order": 0, "flux_poly_order": 0}
    _, result = run_sfft(image, template, kernel_shape=(11, 11), get_kernel=True, **degrees)
    # 30 stars of S/N 300 to 3000: 0.1 %
    assert result.flux_at(100, 100) == pytest.approx(1.3, rel=0.003)
