"""Bases, cells, single and spatial fits, and the clippings of the mode lsst, piece by piece."""

import numpy as np
import pytest

from psflib.errors import NotEnoughStars, SingularFit
from psflib.image.exposure import Exposure
from psflib.lsst.basis_choice import degrees_by_bic
from psflib.lsst.config import ImagePsfMatchConfig
from psflib.matching.cells import clipping, delta_basis, lsst_basis
from psflib.matching.cells.candidates import positions, stamp_box
from psflib.matching.cells.config import PsfMatchConfig, PsfMatchConfigAL, PsfMatchConfigDF
from psflib.matching.cells.grid import REASONS, KernelCandidate, make_cells
from psflib.matching.cells.pca_basis import pca_basis, renormalised
from psflib.matching.cells.single import (
    Pair,
    _design,
    build_candidate,
    condition_number,
    residuals,
    solve_symmetric,
)
from psflib.matching.cells.spatial import SpatialModel, model_for, solve_spatial
from tests.matching.cells import naive_cells as naive

SHAPE = (260, 260)
NOISE = 5.0
BASIS = lsst_basis.gaussian_basis(6, [1.0, 2.0], [2, 0])
HALF = 14  # of the stamps


def gaussian(sigma, half=8, dx=0.0, dy=0.0):
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    image = np.exp(-0.5 * (np.square(x - dx) + np.square(y - dy)) / sigma**2)
    return image / image.sum()


@pytest.fixture
def rng():
    return np.random.default_rng(20260101)


class Field:
    """Stars on a grid; the target is made of each star and a kernel of its own."""

    def __init__(self, kernels, noise=NOISE, flux=2e5, background=0.0, seed=3, pitch=40):
        rng = np.random.default_rng(seed)
        side = int(np.ceil(np.sqrt(len(kernels))))
        n = side * pitch + 20
        self.shape = (n, n)
        planes = np.zeros((2, n, n))
        self.candidates = []
        for i, kernel in enumerate(kernels):
            row, column = (20 + pitch // 2 + pitch * v for v in divmod(i, side))
            row, column = row - 10, column - 10
            star = flux * gaussian(1.3, 8, *rng.uniform(-0.4, 0.4, 2))
            moved = naive.convolve_inside(np.pad(star, 2 * 6), kernel)
            planes[1, row - 8 : row + 9, column - 8 : column + 9] += star
            planes[0, row - 14 : row + 15, column - 14 : column + 15] += moved
            box = stamp_box(column, row, HALF, self.shape)
            self.candidates.append(KernelCandidate(i, float(column), float(row), 1000.0 - i, box))
        noise_planes = rng.normal(0, noise, planes.shape) if noise else 0
        variance = np.full(self.shape, max(noise, 1e-3) ** 2)
        images = planes + noise_planes
        images[0] += background
        self.pair = Pair(*(Exposure(p, variance, sky=0.0) for p in images))

    def cells(self, size=None):
        size = size or max(self.shape)
        return make_cells(self.shape, size, size, self.candidates)


def kernel_of(*coefficients):
    full = np.zeros(len(BASIS))
    full[: len(coefficients)] = coefficients
    return np.tensordot(full, BASIS, 1)


ROUND = kernel_of(1.2, 0.0, 0.0, 0.1, 0.0, 0.1, 0.1)
LOPSIDED = kernel_of(1.2, 0.1, 0.0, 0.1, 0.0, 0.1, 0.1)
SETTINGS = PsfMatchConfigAL(n_star_per_cell=-1, spatial_kernel_order=0, spatial_bg_order=0)


class TestConfig:
    def test_defaults_of_the_reference(self):
        config = ImagePsfMatchConfig()
        assert (config.kernel.name, config.auto_pad_psf_to, config.pad_psf_by) == ("AL", 1.4, 0)
        assert config.do_auto_pad_psf
        al, df = config.al, config.df
        assert (al.alard_deg_gauss, al.alard_sig_gauss) == ((4, 2, 2), (0.7, 1.5, 3.0))
        assert (al.candidate_residual_mean_max, al.candidate_residual_std_max) == (0.25, 1.5)
        assert (al.max_ksum_sigma, al.n_star_per_cell, al.max_spatial_iterations) == (3.0, 3, 3)
        assert df.use_pca_for_spatial_kernel and not al.use_pca_for_spatial_kernel

    def test_both_spellings(self):
        one = ImagePsfMatchConfig(mode="lsst", al={"nStarPerCell": 7, "singleKernelClipping": 0})
        two = ImagePsfMatchConfig(
            mode="lsst", al={"n_star_per_cell": 7, "single_kernel_clipping": False}
        )
        assert one == two

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"al": {"nStarPerCel": 3}}, "did you mean 'nStarPerCell'"),
            ({"autoPadPsfTo": 2.0}, "less than 2"),
            ({"auto_pad_psf_to": 0.9}, "greater than or equal to 1"),
            ({"pad_psf_by": 3}, "even"),
            ({"al": {"kernel_size": 20}}, "odd"),
            ({"al": {"alard_n_gauss": 2}}, "3 values, alard_n_gauss is 2"),
            ({"al": {"alard_sig_gauss": (0.7, 0, 3)}}, "positive"),
            ({"al": {"bad_mask_planes": ["SATURATED"]}}, "no mask plane"),
            ({"al": {"max_spatial_iterations": 6}}, "less than or equal to 5"),
            ({"mode": "other"}, "psflib"),
        ],
    )
    def test_bad_values(self, values, message):
        with pytest.raises(ValueError, match=message):
            ImagePsfMatchConfig(**values)


class TestGaussianBasis:
    def test_sums_norms_and_count(self):
        images = lsst_basis.gaussian_basis(10, [0.7, 1.5, 3.0], [4, 2, 2])
        assert images.shape == (27, 21, 21)
        assert images[0].sum() == pytest.approx(1, abs=1e-12)
        np.testing.assert_allclose(images[1:].sum((1, 2)), 0, atol=1e-10)
        np.testing.assert_allclose(np.square(images[1:]).sum((1, 2)), 1, rtol=1e-12)

    def test_order_of_the_terms(self):
        """1, u, v, u², uv, v²: u along the rows of memory, that is along x."""
        images = lsst_basis.gaussian_basis(6, [2.0], [2])
        np.testing.assert_allclose(images[1], -images[1][:, ::-1], atol=1e-14)
        np.testing.assert_allclose(images[2], images[1].T, atol=1e-14)
        np.testing.assert_allclose(images[5], images[3].T, atol=1e-14)
        np.testing.assert_allclose(images[4], images[4].T, atol=1e-14)

    @pytest.mark.parametrize(
        "call", [(6, [1.0], [2, 0]), (0, [1.0], [2]), (6, [0.0], [2]), (6, [1.0], [-1])]
    )
    def test_bad_calls(self, call):
        with pytest.raises(ValueError):
            lsst_basis.gaussian_basis(*call)

    def test_sizes(self):
        config = PsfMatchConfigAL()
        match = np.sqrt(4.2**2 - 2.6**2) / 2.35482
        sigmas, rule = lsst_basis.basis_sigmas(2.6, 4.2, config)
        assert rule == "convolution"
        np.testing.assert_allclose(sigmas, [match / 2, match, 2 * match], rtol=1e-6)
        sigmas, rule = lsst_basis.basis_sigmas(4.2, 2.6, config)
        assert rule == "deconvolution" and sigmas[0] == pytest.approx(match / 2)
        assert lsst_basis.basis_sigmas(2.81, 2.8, config)[0][0] == config.alard_min_sig_deconv
        assert lsst_basis.basis_sigmas(2.8, 2.81, config)[0][0] == config.alard_min_sig
        for pair in ((3.0, 3.0), (None, 3.0), (3.0, None)):
            assert lsst_basis.basis_sigmas(*pair, config) == ([0.7, 1.5, 3.0], "config")
        with pytest.raises(ValueError, match="template_fwhm"):
            lsst_basis.basis_sigmas(-1.0, 3.0, config)

    def test_kernel_size_is_odd_and_clamped(self):
        config = PsfMatchConfigAL()
        for sigma, side in ((1.0, 21), (4.0, 25), (4.2, 25), (4.4, 27), (9.0, 35)):
            assert lsst_basis.kernel_size([sigma], config) == side
        _, meta = lsst_basis.choose_basis(2.6, 4.2, config)
        assert meta["ALKernelSize"] == 21 and meta["ALBasisMode"] == "convolution"


class TestDeltaBasis:
    def test_central_difference_equals_its_twin(self):
        matrix = delta_basis.regularisation_matrix(7, border=2.0, n_background=1)
        np.testing.assert_allclose(matrix[:-1, :-1], naive.laplacian_penalty(7, 2.0), atol=1e-12)
        assert not matrix[-1].any() and not matrix[:, -1].any()

    @pytest.mark.parametrize("kind", ["centralDifference", "forwardDifference"])
    @pytest.mark.parametrize("stencil", [5, 9])
    def test_symmetric_not_negative_and_blind_to_what_is_smooth(self, kind, stencil):
        matrix = delta_basis.regularisation_matrix(9, kind, stencil, (2,), border=0.0)
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
        assert np.linalg.eigvalsh(matrix).min() > -1e-10
        y, x = np.mgrid[:9, :9]
        plane = (2 + 3 * x - y).ravel().astype(float)
        inner = matrix.reshape(9, 9, -1)[2:-3, 2:-3] @ plane
        if kind == "centralDifference":
            np.testing.assert_allclose(inner, 0, atol=1e-9)

    def test_bad_calls(self):
        for call in ((7, "sideways"), (7, "centralDifference", 7)):
            with pytest.raises(ValueError):
                delta_basis.regularisation_matrix(*call)
        with pytest.raises(ValueError, match="odd"):
            delta_basis.delta_basis(4)

    def test_all_the_sum_in_one_image(self, rng):
        values = rng.normal(size=(25, 3))
        moved, images = delta_basis.zero_sum(values, 5)
        np.testing.assert_allclose(
            np.tensordot(moved.T, images, 1), values.T.reshape(3, 5, 5), atol=1e-12
        )
        np.testing.assert_allclose(images.sum((1, 2)), [1] + [0] * 24)

    @pytest.mark.parametrize(
        "kind", ["absolute", "relative", "minimizeBiasedRisk", "minimizeUnbiasedRisk"]
    )
    def test_every_way_to_choose_lambda(self, rng, kind):
        config = PsfMatchConfigDF(lambda_type=kind, lambda_step=0.5)
        columns = rng.normal(size=(200, 25))
        truth = gaussian(1.0, 2).ravel()
        matrix, vector = columns.T @ columns, columns.T @ (columns @ truth + rng.normal(size=200))
        penalty = delta_basis.regularisation_matrix(5)
        strength, risks = delta_basis.choose_lambda(matrix, vector, penalty, config)
        assert strength > 0
        assert len(risks) == (7 if kind.startswith("minimize") else 0)
        if risks:
            assert strength == min(risks, key=lambda r: r[1])[0]

    def test_regularised_kernel_is_closer_to_the_truth(self):
        field = Field([ROUND], noise=50.0)
        images = delta_basis.delta_basis(13)
        errors = []
        for use in (False, True):
            config = PsfMatchConfigDF(
                use_regularization=use, lambda_type="relative", lambda_scaling=1e-2
            )
            penalty = clipping._penalty(images, config)
            fit = build_candidate(field.candidates[0], field.pair, images, config, penalty)
            kernel = np.tensordot(fit.coefficients, images, 1)
            errors.append(np.square(kernel - ROUND).sum())
        assert errors[1] < 0.5 * errors[0]


class TestPcaBasis:
    def test_finds_the_direction_in_which_kernels_differ(self, rng):
        mode = BASIS[3]
        kernels = [s * (BASIS[0] + a * mode) for s, a in rng.uniform(0.5, 2, (20, 2))]
        images = pca_basis(kernels, 5)
        assert len(images) == 2  # the mean and one direction: the others hold nothing
        assert images[0].sum() == pytest.approx(1, abs=1e-12)
        assert abs(np.sum(images[1] * mode)) == pytest.approx(1, abs=1e-6)

    def test_without_the_mean(self, rng):
        kernels = [BASIS[0] + a * BASIS[3] for a in rng.uniform(-0.1, 0.1, 9)]
        assert len(pca_basis(kernels, 5, subtract_mean=False)) == 2

    def test_bad_data(self):
        with pytest.raises(NotEnoughStars):
            pca_basis([ROUND])
        with pytest.raises(SingularFit, match="equal"):
            pca_basis([ROUND, 2 * ROUND])
        with pytest.raises(NotEnoughStars):
            pca_basis([ROUND, np.full_like(ROUND, np.nan)])
        with pytest.raises(SingularFit, match="sum of 0"):
            renormalised(BASIS[1:])


class TestCells:
    @pytest.mark.parametrize("size", [(64, 64), (100, 77), (500, 500), (32, 260)])
    def test_cover_every_pixel_once(self, size):
        seen = np.zeros((130, 261), int)
        for cell in make_cells(seen.shape, *size).cells:
            seen[cell.y0 : cell.y1, cell.x0 : cell.x1] += 1
            assert cell.x0 <= cell.centre[0] < cell.x1
        assert np.all(seen == 1)

    def test_best_first_and_the_same_for_any_order_of_the_list(self, rng):
        every = [KernelCandidate(i, *rng.uniform(-0.4, 99.4, 2), float(i % 3)) for i in range(40)]
        cells = make_cells((100, 100), 50, 50, every)
        assert len(cells.candidates) == 40
        again = make_cells((100, 100), 50, 50, every[::-1])
        for one, other in zip(cells.cells, again.cells, strict=True):
            assert [c.id for c in one.candidates] == [c.id for c in other.candidates]
            keys = [(-c.rating, c.id) for c in one.candidates]
            assert keys == sorted(keys)

    def test_a_rejected_one_is_replaced_by_the_next_of_its_cell(self):
        every = [KernelCandidate(i, 10.0 * i, 5.0, 10.0 - i) for i in range(4)]
        cells = make_cells((10, 40), 40, 40, every)
        assert [c.id for c in cells.active(2)] == [0, 1]
        every[0].reject("ksum")
        assert [c.id for c in cells.active(2)] == [1, 2]
        assert len(cells.active(-1)) == 3
        assert cells.counts() == {
            "n_total": 4, "n_good": 0, "n_bad": 1, "n_unknown": 3, "n_bad_ksum": 1
        }  # fmt: skip
        assert list(cells.table()["reason"]) == ["ksum", "none", "none", "none"]

    def test_bad_calls(self):
        with pytest.raises(ValueError, match="unknown reason"):
            KernelCandidate(0, 1, 1, 1).reject("whim")
        with pytest.raises(ValueError, match="positive size"):
            make_cells((10, 10), 0, 10)
        assert len(make_cells((10, 10), 5, 5).table()) == 0

    def test_positions(self):
        from astropy import units as u
        from astropy.table import QTable

        table = QTable({"x": [1.5, 2] * u.pix, "y": [3, 4.0] * u.pix})
        for value in (table, np.array([[1.5, 3], [2, 4]]), [(1.5, 3), (2, 4)]):
            np.testing.assert_array_equal(positions(value), [[1.5, 3], [2, 4]])
        assert positions([]).shape == (0, 2)
        with pytest.raises(ValueError, match="columns x and y"):
            positions(table[["x"]])
        with pytest.raises(ValueError, match=r"\(3, 3\)"):
            positions(np.ones((3, 3)))


class TestSingleFit:
    @pytest.mark.parametrize("images", [BASIS, delta_basis.delta_basis(5)], ids=["AL", "DF"])
    def test_design_equals_its_twin(self, rng, images):
        stamp = rng.normal(size=(21, 23))
        np.testing.assert_allclose(_design(stamp, images, True), naive.design(stamp, images),
                                   atol=1e-12)  # fmt: skip

    def test_noise_free_kernel(self):
        field = Field([ROUND], noise=0, background=7.0)
        fit = build_candidate(field.candidates[0], field.pair, BASIS, SETTINGS)
        kernel = np.tensordot(fit.coefficients, BASIS, 1)
        # float32 images of 2e5 ADU: 2^-24 relative
        np.testing.assert_allclose(kernel, ROUND, atol=1e-6 * ROUND.max())
        assert fit.kernel_sum == pytest.approx(ROUND.sum(), rel=1e-6)
        assert fit.background == pytest.approx(7.0, abs=1e-3)

    @pytest.mark.parametrize("constant", [True, False])
    @pytest.mark.parametrize("iterate", [True, False])
    def test_residuals_are_noise(self, constant, iterate):
        field = Field([ROUND] * 9)
        config = PsfMatchConfigAL(
            constant_variance_weighting=constant, iterate_single_kernel=iterate,
            calculate_kernel_uncertainty=True,
        )  # fmt: skip
        fits = [build_candidate(c, field.pair, BASIS, config) for c in field.candidates]
        n = 17 * 17
        assert np.mean([f.mean for f in fits]) == pytest.approx(0, abs=5 / np.sqrt(9 * n))
        # eight unknowns are fitted to 289 pixels
        chi2 = np.mean([f.chi2 for f in fits])
        assert chi2 == pytest.approx(1, abs=5 * np.sqrt(2 / (9 * n)))
        pulls = [(f.kernel_sum - ROUND.sum()) / f.kernel_sum_error for f in fits]
        assert np.sqrt(np.mean(np.square(pulls))) < 2.2  # nine pulls: beyond it in 1e-4

    def test_bad_stamps_are_reasons_not_errors(self):
        field = Field([ROUND])
        one = field.candidates[0]
        no_variance = Pair(*[field.pair.target.replace(variance=np.zeros(field.shape))] * 2)
        assert build_candidate(one, no_variance, BASIS, SETTINGS) == "variance"
        config = PsfMatchConfigAL(check_condition_number=True, max_condition_number=10)
        assert build_candidate(one, field.pair, BASIS, config) == "cond"

    def test_empty_stamp_is_solved_without_its_dead_modes(self):
        field = Field([ROUND])
        empty = field.pair.convolved.replace(image=np.zeros(field.shape))
        fit = build_candidate(field.candidates[0], Pair(field.pair.target, empty), BASIS, SETTINGS)
        assert fit.notes == ("truncated",)
        assert np.isfinite(fit.coefficients).all()
        assert fit.std > SETTINGS.candidate_residual_std_max

    def test_condition_number(self):
        matrix = np.diag([4.0, -2.0, 1.0])
        assert condition_number(matrix) == pytest.approx(4)
        assert condition_number(matrix, "SVD") == pytest.approx(4)
        assert condition_number(np.zeros((2, 2))) == np.inf

    def test_solution_of_a_regular_system_is_exact(self, rng):
        columns = rng.normal(size=(50, 6)) * 10.0 ** np.arange(-6, 6, 2)
        truth = rng.normal(size=6) / 10.0 ** np.arange(-6, 6, 2)
        solution, notes = solve_symmetric(columns.T @ columns, columns.T @ columns @ truth, 1e8)
        np.testing.assert_allclose(solution, truth, rtol=1e-9)
        assert notes == ()

    def test_core_statistics(self):
        field = Field([ROUND])
        one = field.candidates[0]
        config = SETTINGS.model_copy(update={"use_core_stats": True, "candidate_core_radius": 2})
        assert residuals(one, field.pair, ROUND, 0.0, config).n_pixels == 25


class TestDegreesByBic:
    @pytest.mark.parametrize(
        ("kernel", "expected"), [(kernel_of(1.2), (0, 0)), (LOPSIDED, (2, 0)), (ROUND, (2, 0))]
    )
    def test_no_more_than_the_kernel_needs(self, kernel, expected):
        field = Field([kernel] * 4, flux=1e5)
        degrees, scores = degrees_by_bic(
            field.candidates, field.pair, 6, [1.0, 2.0], (2, 0), SETTINGS
        )
        assert degrees == expected
        assert set(scores) == {(0, 0), (2, 0)}

    def test_nothing_to_choose_by(self):
        field = Field([ROUND])
        field.candidates[0].reject("mask")
        assert degrees_by_bic(field.candidates, field.pair, 6, [1.0, 2.0], (2, 0), SETTINGS) == (
            (2, 0), {}
        )  # fmt: skip


class TestSpatialFit:
    def test_equals_the_full_least_squares(self):
        kernels = [kernel_of(1.2, 0.1 * np.sin(i), 0.05 * i, 0.1) for i in range(16)]
        field = Field(kernels, background=3.0)
        fits = [build_candidate(c, field.pair, BASIS, SETTINGS) for c in field.candidates]
        model = SpatialModel(1, 0, 1)
        kernel, condition = solve_spatial(
            field.candidates, fits, BASIS, field.shape, model, SETTINGS
        )
        centres = [(c.x, c.y) for c in field.candidates]
        inner = [tuple(slice(s.start + 6, s.stop - 6) for s in c.box) for c in field.candidates]
        expected = naive.spatial_fit(
            [naive.design(field.pair.convolved.image[c.box], BASIS) for c in field.candidates],
            [field.pair.target.image[box].astype(float) for box in inner],
            centres, model.degrees(len(BASIS)), field.shape, [1 / (2 * NOISE**2)] * 16,
        )  # fmt: skip
        assert condition > 1
        assert kernel.coef[0, 1:].tolist() == [0, 0]
        for got, wanted in zip([*kernel.coef, kernel.background], expected, strict=True):
            np.testing.assert_allclose(got[: len(wanted)], wanted, atol=1e-6)

    @pytest.mark.parametrize("order", [1, 2])
    def test_noise_free_parameters(self, order):
        from psflib.image.polynomial import evaluate, n_terms

        rng = np.random.default_rng(5)
        field = Field([ROUND] * 25, noise=0)
        truth = np.zeros((len(BASIS), n_terms(order)))
        truth[1:] = rng.normal(0, 0.03, truth[1:].shape)
        truth[0, 0] = 1.3
        kernels = [
            np.tensordot(truth @ evaluate(order, c.x, c.y, field.shape), BASIS, 1)
            for c in field.candidates
        ]
        field = Field(kernels, noise=0)
        fits = [build_candidate(c, field.pair, BASIS, SETTINGS) for c in field.candidates]
        kernel, _ = solve_spatial(
            field.candidates, fits, BASIS, field.shape, SpatialModel(order, 0, 0), SETTINGS
        )
        np.testing.assert_allclose(kernel.coef, truth, atol=3e-6)

    def test_delta_functions_keep_the_sum_in_one_image(self):
        field = Field([ROUND] * 9, noise=0)
        images = delta_basis.delta_basis(13)
        config = PsfMatchConfigDF(lambda_type="relative", lambda_scaling=1e-9)
        penalty = clipping._penalty(images, config)
        fits = [build_candidate(c, field.pair, images, config, penalty) for c in field.candidates]
        kernel, _ = solve_spatial(
            field.candidates, fits, images, field.shape, SpatialModel(1, 1, 0), config
        )
        for x, y in ((60, 60), (20, 100)):
            assert kernel.kernel_sum(x, y) == pytest.approx(ROUND.sum(), rel=1e-2)
            assert kernel.at(x, y).sum() == pytest.approx(float(kernel.kernel_sum(x, y)), rel=1e-9)

    @pytest.mark.parametrize(
        ("count", "span", "order"), [(1, 1, 0), (5, 1, 0), (6, 1, 1), (12, 1, 2), (50, 0.2, 0),
                                     (50, 0.4, 1)]
    )  # fmt: skip
    def test_few_or_crowded_together_candidates_lower_the_order(self, rng, count, span, order):
        some = [
            KernelCandidate(i, *(span * 260 * p), 1.0)
            for i, p in enumerate(np.r_[[[0, 0], [1, 1]], rng.uniform(size=(50, 2))][:count])
        ]
        model, notes = model_for(some, SHAPE, 2, 0, 1)
        assert model == SpatialModel(order, 0, min(order, 1))
        assert bool(notes) == (order < 2)
        if notes:
            assert str(count) in notes[0]


class TestClipping:
    """One step of the order at a time, on candidates made to fail it."""

    def rounds(self, field, **settings):
        config = SETTINGS.model_copy(update=settings)
        return clipping.Rounds(field.cells(), field.pair, BASIS, config)

    def match(self, field, **settings):
        config = SETTINGS.model_copy(update=settings)
        cells = field.cells()
        kernel, metadata = clipping.match(cells, field.pair, BASIS, config)
        return kernel, metadata, {c.id: c.reason for c in cells.candidates}

    def test_good_ones_are_all_used(self):
        kernel, metadata, reasons = self.match(Field([ROUND] * 9))
        assert set(reasons.values()) == {""}
        assert (metadata["n_good"], metadata["n_used"], metadata["iterations"]) == (9, 9, 1)
        assert metadata["spatial_kernel_sum"] == pytest.approx(ROUND.sum(), rel=2e-3)
        assert np.isfinite(metadata["spatial_condition_num"])
        np.testing.assert_allclose(kernel.at(50, 50), ROUND, atol=0.01 * ROUND.max())

    def test_the_mean_is_looked_at_before_the_scatter(self):
        one = KernelCandidate(0, 1, 1, 1)
        for mean, std, reason in (
            (0.3, 9.0, "mean"), (-0.3, 1.0, "mean"), (0.25, 1.51, "std"), (0.25, 1.5, ""),
            (np.nan, 1.0, "mean"), (0.0, np.nan, "std"),
        ):  # fmt: skip
            one.accept()
            clipping.clip_residuals(one, mean, std, SETTINGS)
            assert one.reason == reason

    def test_single_fits_come_before_the_kernel_sum(self):
        """A candidate that fails both is rejected by its residuals, and biases no sum."""
        field = Field([ROUND] * 12)
        image = field.pair.target.image
        image[field.candidates[4].box] *= 3
        image[field.candidates[4].box][10:12, 10:12] += 4000  # no kernel makes a square corner
        _, metadata, reasons = self.match(field)
        assert reasons[4] == "std"
        assert metadata["n_rejected_single"] == 1
        assert metadata["n_rejected_ksum"] == metadata["n_rejected_spatial"] == 0

    def test_variable_star_is_rejected_by_its_kernel_sum(self):
        field = Field([ROUND] * 11 + [1.5 * ROUND])
        _, metadata, reasons = self.match(field)
        assert reasons == {i: "" if i < 11 else "ksum" for i in range(12)}
        assert metadata["iterations"] == 1  # a rejection by the sum is no round of its own
        assert metadata["kernel_sum_mean"] == pytest.approx(ROUND.sum(), rel=5e-3)

    def test_a_kernel_of_its_own_is_rejected_by_the_spatial_fit(self):
        _, metadata, reasons = self.match(Field([ROUND] * 15 + [LOPSIDED], flux=2e4))
        assert reasons[15] == "spatial std"
        assert metadata["iterations"] == 2
        assert metadata["n_rejected_spatial"] == 1

    @pytest.mark.parametrize(
        ("only", "odd", "spoilt", "reason"),
        [
            ("single_kernel_clipping", ROUND, 400, "std"),
            ("kernel_sum_clipping", 1.5 * ROUND, 0, "ksum"),
            ("spatial_kernel_clipping", LOPSIDED, 0, "spatial std"),
        ],
    )
    def test_each_clipping_alone_and_off(self, only, odd, spoilt, reason):
        field = Field([ROUND] * 15 + [odd], flux=2e4)
        field.pair.target.image[field.candidates[15].box][10:12, 10:12] += spoilt
        every = ("single_kernel_clipping", "kernel_sum_clipping", "spatial_kernel_clipping")
        _, _, reasons = self.match(field, **{name: name == only for name in every})
        assert reasons == {i: "" if i < 15 else reason for i in range(16)}
        field = Field([ROUND] * 15 + [odd], flux=2e4)
        _, _, reasons = self.match(field, **dict.fromkeys(every, False))
        assert set(reasons.values()) == {""}

    def test_a_rejected_candidate_is_replaced(self):
        field = Field([1.5 * ROUND] + [ROUND] * 15)
        config = SETTINGS.model_copy(update={"n_star_per_cell": 11})
        cells = field.cells()
        _, metadata = clipping.match(cells, field.pair, BASIS, config)
        used = {c.id for c in cells.candidates if c.status == "good"}
        assert used == set(range(1, 12))
        assert (metadata["n_unknown"], metadata["n_used"]) == (4, 11)

    def test_lone_candidate_survives_the_kernel_sum(self):
        kernel, metadata, reasons = self.match(Field([ROUND]))
        assert reasons == {0: ""}
        assert metadata["notes"] == ["a single candidate: the kernel is constant"]
        assert kernel.order == 0

    def test_what_comes_too_late_is_not_used(self):
        """The last round rejects; candidates that take these places have no fit of their own."""
        field = Field([LOPSIDED] + [ROUND] * 15, flux=2e4)
        config = SETTINGS.model_copy(update={"n_star_per_cell": 12, "max_spatial_iterations": 1})
        cells = field.cells()
        _, metadata = clipping.match(cells, field.pair, BASIS, config)
        reasons = {c.id: c.reason for c in cells.candidates}
        assert reasons[0] == "spatial std"
        assert {reasons[i] for i in range(12, 16)} == {"late"}
        assert metadata["n_used"] == 11

    def test_nothing_left(self):
        field = Field([ROUND] * 4)
        field.pair.target.image[:] = np.random.default_rng(1).normal(0, 500, field.shape)
        with pytest.raises(NotEnoughStars, match=r"kernel candidates of 4 \(4 std"):
            self.match(field)

    def test_principal_components(self):
        kernels = [kernel_of(1.2, 0.01 * (i - 8), 0.0, 0.1) for i in range(16)]
        config = PsfMatchConfigDF(
            n_star_per_cell=-1, spatial_kernel_order=1, spatial_bg_order=0,
            lambda_type="relative", lambda_scaling=1e-3,
        )  # fmt: skip
        field = Field(kernels)
        cells = field.cells()
        kernel, metadata = clipping.match(cells, field.pair, delta_basis.delta_basis(13), config)
        assert len(kernel.basis) <= config.num_principal_components
        assert metadata["n_used"] >= 14
        assert kernel.kernel_sum(80, 80) == pytest.approx(1.2, rel=0.02)
        assert all(c.fit.matrix.size == 0 for c in cells.candidates if c.fit)

    def test_clipped_mean_equals_its_twin(self, rng):
        values = np.r_[rng.normal(3, 0.1, 40), 9, -7]
        np.testing.assert_allclose(clipping.clipped_mean(values), naive.clipped_mean(values))
        assert clipping.clipped_mean([4.0]) == (4.0, 0.0)

    def test_every_reason_is_a_sentence(self):
        assert all(REASONS.values())
        assert PsfMatchConfig().candidate_residual_mean_max == 0.25
