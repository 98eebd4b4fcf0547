"""The matching kernel: recovered where it is known, and of one mind about itself."""

import numpy as np
import pytest
from scipy import linalg, signal

from psflib.errors import NotEnoughStars, SingularFit
from psflib.image import polynomial
from psflib.matching import MatchingKernel, fit_kernel, solve
from psflib.matching import prior as priors
from psflib.matching.basis import DEGREES, LARGER, alard_lupton, members, sized_for

SHAPE = (320, 340)
FWHM_SHARP, FWHM_BROAD = 2.8, 3.6
SIGMA = 10.0
ORDERS = (1, 1, 1)


def gaussian(sigma, half=12):
    r = np.arange(-half, half + 1)
    image = np.exp(-(r[:, None] ** 2 + r**2) / (2 * sigma**2))
    return image / image.sum()


def sharp_image(n_stars=150, seed=6):
    """Stars of Gaussian profile between 10³ and 10⁵ ADU, in a frame wider by 20 px."""
    rng = np.random.default_rng(seed)
    image = np.zeros((SHAPE[0] + 40, SHAPE[1] + 40))
    flux = 10 ** rng.uniform(3, 5, n_stars)
    y, x = np.indices(image.shape)
    width = FWHM_SHARP / 2.3548
    for f in flux:
        j, i = rng.uniform(0, image.shape[0]), rng.uniform(0, image.shape[1])
        box = np.s_[max(int(j) - 14, 0) : int(j) + 15, max(int(i) - 14, 0) : int(i) + 15]
        profile = np.exp(-((x[box] - i) ** 2 + (y[box] - j) ** 2) / (2 * width**2))
        image[box] += f * profile / (2 * np.pi * width**2)
    return image


def convolved_with(image, kernel):
    return signal.fftconvolve(image, kernel, "same")[20:-20, 20:-20]


def fit(target, convolved, noise=(SIGMA, SIGMA), orders=ORDERS, usable=None, seed=8):
    """Fit with variance planes of the noise given; the noise is added if `seed` is not None."""
    rng = np.random.default_rng(seed)
    usable = np.ones(SHAPE, bool) if usable is None else usable
    planes = []
    for image, sigma in zip((target, convolved), noise, strict=True):
        drawn = image if seed is None else image + rng.normal(0, sigma, SHAPE)
        planes.append((drawn.astype(np.float32), np.full(SHAPE, sigma**2, np.float32), usable))
    return fit_kernel(*planes, (FWHM_BROAD, FWHM_SHARP), orders=orders)


WIDTH = np.sqrt(FWHM_BROAD**2 - FWHM_SHARP**2) / 2.3548


@pytest.fixture(scope="module")
def sharp():
    return sharp_image()


class TestNoiseFree:
    """Variance planes of small noise, images of none: what is left is the model's own error."""

    @pytest.fixture(scope="class", params=["centred", "shifted", "round and long"])
    @staticmethod
    def case(request, sharp):
        truth = {
            "centred": gaussian(WIDTH),
            "shifted": np.roll(gaussian(WIDTH), 1, 1) * 0.3 + gaussian(WIDTH) * 0.7,
            "round and long": 0.5 * gaussian(WIDTH) + 0.5 * _elongated(),
        }[request.param]
        kernel = fit(
            1.7 * convolved_with(sharp, truth) + 3.0, sharp[20:-20, 20:-20], (0.1, 0.1), seed=None
        )
        return truth, kernel

    def test_flux_scale_and_background(self, case):
        _, kernel = case
        for x, y in ((170, 160), (60, 60), (280, 260)):
            assert kernel.flux_scale(x, y) == pytest.approx(1.7, rel=2e-3)
            # sky pixels have an error of 0.1 / sqrt(2e4); the wings of 10⁵ ADU leave more
            assert kernel.background_at(x, y) == pytest.approx(3.0, abs=0.1)

    def test_kernel_image(self, case):
        truth, kernel = case
        image = kernel.at(170, 160)
        half = image.shape[0] // 2
        expected = 1.7 * np.pad(truth, max(half - 12, 0))
        cut = expected.shape[0] // 2 - half
        expected = expected[cut : cut + 2 * half + 1, cut : cut + 2 * half + 1]
        # stars do not see the kernel beyond their own resolution: compare what they see
        seen = [signal.fftconvolve(k, gaussian(FWHM_SHARP / 2.3548)) for k in (image, expected)]
        assert np.abs(seen[0] - seen[1]).max() < 2e-3 * seen[1].max()


def _elongated(half=12):
    r = np.arange(-half, half + 1)
    image = np.exp(-(r[:, None] ** 2 / 1.2**2 + r**2 / 0.8**2) / 2)
    return image / image.sum()


#: Pixels beyond the footprints do not hold the wings of the kernel, and the flux in them is free:
#: over 8 fields of 150 stars the scale scatters by 0.21 % (of 40 stars by 1.5 %), not biased.
OF_SCALE = 4 * 0.0021


class TestNoisy:
    @pytest.fixture(scope="class")
    @staticmethod
    def kernel(sharp):
        return fit(1.3 * convolved_with(sharp, gaussian(WIDTH)), sharp[20:-20, 20:-20])

    def test_flux_scale(self, kernel):
        assert kernel.flux_scale(170, 160) == pytest.approx(1.3, rel=OF_SCALE)

    def test_residuals_are_noise(self, kernel):
        assert kernel.meta["chi2"] == pytest.approx(1, abs=4 * np.sqrt(2 / kernel.meta["n_pixels"]))
        assert kernel.meta["n_clipped"] < 0.01 * kernel.meta["n_pixels"]

    def test_noise_of_the_convolved_image_does_not_bias(self, sharp):
        """Ten fits with a noisy template: the regressors' noise would shrink the flux scale."""
        target = convolved_with(sharp, gaussian(WIDTH))
        scales = [
            fit(target, sharp[20:-20, 20:-20], (2.0, 40.0), (0, 0, 0), seed=seed).flux_scale(
                170, 160
            )
            for seed in range(10)
        ]
        error = np.std(scales, ddof=1) / np.sqrt(10)
        assert np.mean(scales) == pytest.approx(1, abs=3 * error + 5e-4)

    def test_masked_pixels_do_not_count(self, sharp):
        usable = np.ones(SHAPE, bool)
        usable[100:140, 100:160] = False
        target = 1.3 * convolved_with(sharp, gaussian(WIDTH))
        target[~usable] = 1e6
        kernel = fit(target, sharp[20:-20, 20:-20], usable=usable)
        assert kernel.flux_scale(170, 160) == pytest.approx(1.3, rel=OF_SCALE)

    def test_variable_stars_do_not_count(self, sharp):
        rng = np.random.default_rng(3)
        template = sharp[20:-20, 20:-20].copy()
        target = 1.3 * convolved_with(sharp, gaussian(WIDTH))
        for _ in range(8):  # new stars of 5e4 ADU
            j, i = rng.integers(40, SHAPE[0] - 40), rng.integers(40, SHAPE[1] - 40)
            target[j - 12 : j + 13, i - 12 : i + 13] += 5e4 * gaussian(FWHM_BROAD / 2.3548)
        kernel = fit(target, template)
        assert kernel.flux_scale(170, 160) == pytest.approx(1.3, rel=OF_SCALE)

    def test_no_stars(self):
        empty = np.zeros(SHAPE)
        with pytest.raises(NotEnoughStars):
            fit(empty, empty)


class TestOneMind:
    """`at`, `kernel_sum`, `background_at` and the convolution say the same."""

    @pytest.fixture(scope="class", params=[(0, 0), (1, 0), (1, 2), (2, 1), (2, 2)], ids=str)
    @staticmethod
    def kernel(request):
        order, flux_order = request.param
        basis = sized_for(FWHM_SHARP, FWHM_BROAD).images[:6]
        rng = np.random.default_rng(2)
        layout = solve.Layout(len(basis), order, flux_order, 2)
        coef, background = layout.split(rng.normal(0, 0.2, len(layout.index)))
        coef[0, 0] = 1.5
        return MatchingKernel(basis, coef, order, flux_order, background, 2, SHAPE)

    places = ((0, 0), (339, 319), (170, 160), (33, 287))

    def test_sum(self, kernel):
        for x, y in self.places:
            assert kernel.at(x, y).sum() == pytest.approx(kernel.kernel_sum(x, y), abs=1e-9)
            assert kernel.flux_scale(x, y) == pytest.approx(kernel.kernel_sum(x, y))

    def test_sum_broadcasts(self, kernel):
        x, y = np.arange(0, 340, 50)[None, :], np.arange(0, 320, 50)[:, None]
        sums = kernel.kernel_sum(x, y)
        assert sums.shape == (7, 7)
        assert sums[3, 5] == pytest.approx(kernel.kernel_sum(250, 150))

    def test_background(self, kernel):
        plane = kernel.background_map()
        for x, y in self.places:
            assert plane[y, x] == pytest.approx(kernel.background_at(x, y), abs=1e-6)

    def test_convolution_of_a_point_is_the_kernel_there(self, kernel):
        half = kernel.basis.shape[1] // 2
        for x, y in ((170, 160), (60, 250)):
            image = np.zeros(SHAPE, np.float32)
            image[y, x] = 1000
            out = kernel.varying().convolve(image)
            # each output pixel has its own kernel; seen from there the point is at -offset
            for dy, dx in ((0, 0), (2, -3), (-5, 1)):
                expected = 1000 * kernel.at(x + dx, y + dy)[half + dy, half + dx]
                assert out[y + dy, x + dx] == pytest.approx(expected, abs=1e-3)

    def test_varying_is_exact(self, kernel):
        for x, y in self.places:
            np.testing.assert_allclose(kernel.varying().at(x, y), kernel.at(x, y), atol=1e-12)

    def test_squared_propagates_white_noise(self, kernel):
        out = kernel.squared(nodes=9).convolve(np.ones(SHAPE, np.float32))
        for x, y in ((170, 160), (60, 250)):
            assert out[y, x] == pytest.approx(np.sum(kernel.at(x, y) ** 2), rel=0.05)

    def test_convolved_science_has_the_inverse_scale(self, kernel):
        other = MatchingKernel(
            kernel.basis, kernel.coef, kernel.order, kernel.flux_order, kernel.background, 2, SHAPE,
            "science",
        )  # fmt: skip
        assert other.flux_scale(170, 160) == pytest.approx(1 / kernel.flux_scale(170, 160))


class TestBasis:
    def test_sums_and_norms(self):
        for basis in (alard_lupton(9, (0.8, 1.5, 3.0), (4, 2, 2)), sized_for(2.8, 3.6)):
            images = basis.images
            assert images.shape[1:] == (2 * basis.half + 1,) * 2
            assert images[0].sum() == pytest.approx(1, abs=1e-12)
            np.testing.assert_allclose(images[1:].sum((1, 2)), 0, atol=1e-12)
            np.testing.assert_allclose(np.square(images[1:]).sum((1, 2)), 1, rtol=1e-12)

    def test_the_larger_basis_holds_the_smaller_one(self):
        small, large = sized_for(2.8, 3.6), sized_for(2.8, 3.6, LARGER)
        known = members(DEGREES, LARGER)
        np.testing.assert_allclose(large.images[known], small.images, atol=1e-15)

    def test_equal_seeing(self):
        assert np.isfinite(sized_for(3.0, 3.0).images).all()
        assert np.isfinite(sized_for(3.1, 3.0).images).all()

    @pytest.mark.parametrize(
        "call", [(5, (1.0,), (2, 2)), (0, (1.0,), (2,)), (5, (0.0,), (2,)), (5, (1.0,), (-1,))]
    )
    def test_bad_calls(self, call):
        with pytest.raises(ValueError):
            alard_lupton(*call)


class TestSolve:
    layout = solve.Layout(4, 1, 1, 1)

    def equations(self, seed=1, n=400, noise=0.0):
        """Normal equations of a linear model of 15 unknowns, its design and its truth."""
        rng = np.random.default_rng(seed)
        m = len(self.layout.index)
        truth = rng.normal(size=m)
        design = rng.normal(size=(n, m))
        target = design @ truth
        seen = design + noise * rng.normal(size=(n, m)) * (np.arange(m) < self.layout.n_kernel)
        return seen.T @ seen, seen.T @ target, truth, n

    def test_without_noise_it_is_least_squares(self):
        matrix, vector, truth, _ = self.equations()
        found = solve.solve(self.layout, matrix, vector, None)
        np.testing.assert_allclose(found, linalg.solve(matrix, vector), rtol=1e-6)
        np.testing.assert_allclose(found, truth, rtol=1e-6)

    def test_noise_of_the_regressors_is_corrected(self):
        shrunk, corrected = [], []
        for seed in range(20):
            matrix, vector, truth, n = self.equations(seed, noise=0.5)
            kernel = self.layout.n_kernel
            expected = n * 0.25 * np.eye(kernel)
            for noise, found in ((None, shrunk), (expected, corrected)):
                result = solve.solve(self.layout, matrix, vector, noise)[:kernel]
                found.append(result @ truth[:kernel] / (truth[:kernel] @ truth[:kernel]))
        error = np.std(corrected, ddof=1) / np.sqrt(20)
        assert np.mean(shrunk) == pytest.approx(1 / 1.25, abs=4 * error)
        assert np.mean(corrected) == pytest.approx(1, abs=4 * error)

    def test_modes_of_pure_noise_stay_small(self):
        """Without the floor a mode of eigenvalue 1.01 would be blown up a hundredfold."""
        n = self.layout.n_kernel
        m = len(self.layout.index)
        matrix, vector = np.eye(m), np.full(m, 0.1)
        found = solve.solve(self.layout, 1.01 * matrix, vector, matrix[:n, :n])
        np.testing.assert_allclose(found[:n], 0.1 / solve.EIGEN_FLOOR, rtol=1e-6)
        strong = solve.solve(self.layout, 100 * matrix, vector, matrix[:n, :n])
        np.testing.assert_allclose(strong[:n], 0.1 / 99, rtol=1e-6)

    def test_units_do_not_matter(self):
        matrix, vector, _, n = self.equations(noise=0.3)
        noise = 0.09 * n * np.eye(self.layout.n_kernel)
        scale = np.geomspace(1e-4, 1e4, len(vector))
        k = self.layout.n_kernel
        one = solve.solve(self.layout, matrix, vector, noise)
        two = solve.solve(
            self.layout, matrix * np.outer(scale, scale), vector * scale,
            noise * np.outer(scale, scale)[:k, :k],
        )  # fmt: skip
        np.testing.assert_allclose(two * scale, one, rtol=1e-6)

    def test_singular(self):
        matrix, vector, _, n = self.equations()
        no_sky = matrix.copy()
        no_sky[self.layout.n_kernel :] = no_sky[:, self.layout.n_kernel :] = 0
        with pytest.raises(SingularFit, match="background"):
            solve.solve(self.layout, no_sky, vector, None)
        bad_noise = -n * np.eye(self.layout.n_kernel)
        with pytest.raises(SingularFit, match="too few stars"):
            solve.solve(self.layout, matrix, vector, bad_noise)

    def test_assembly_equals_the_full_design(self):
        """Blocks of constant polynomials: the sum over blocks is the whole normal matrix."""
        layout = solve.Layout(2, 2, 1, 1)
        rng = np.random.default_rng(3)
        blocks, per_block, m = 30, 5, 3
        design = rng.normal(size=(blocks, per_block, m))
        target = rng.normal(size=(blocks, per_block))
        x, y = rng.uniform(0, 339, blocks), rng.uniform(0, 319, blocks)
        terms = polynomial.evaluate(layout.top, x, y, SHAPE)
        gram = np.einsum("bpi,bpj->bij", design, design)
        right = np.einsum("bpi,bp->bi", design, target)
        matrix, vector = solve.assemble(layout, gram[:, *np.triu_indices(m)], right, terms)
        full = np.einsum("bpm,qb->bpmq", design, terms).reshape(blocks * per_block, -1)
        full = full[:, layout.index]
        np.testing.assert_allclose(matrix, full.T @ full, atol=1e-10)
        np.testing.assert_allclose(vector, full.T @ target.ravel(), atol=1e-10)

    def test_split_puts_unknowns_where_they_belong(self):
        layout = solve.Layout(3, 1, 2, 0)
        coef, background = layout.split(np.arange(1.0, len(layout.index) + 1))
        np.testing.assert_array_equal(coef[0], [1, 2, 3, 4, 5, 6])
        np.testing.assert_array_equal(coef[1], [7, 8, 9, 0, 0, 0])
        np.testing.assert_array_equal(background, [13])

    def test_join_is_the_inverse_of_split(self):
        for layout in (solve.Layout(3, 1, 2, 0), solve.Layout(3, 3, 1, 2)):
            solution = np.arange(1.0, len(layout.index) + 1)
            np.testing.assert_array_equal(layout.join(*layout.split(solution)), solution)


class TestPrior:
    def test_what_it_adds_to_which_unknown(self):
        layout = solve.Layout(3, 2, 1, 1)
        matrix = np.zeros((len(layout.index),) * 2)
        priors.add_to(layout, matrix, priors.Prior(np.diag([7.0, 8, 9]), np.eye(2)))
        # flux (3 terms), two shapes of 6 terms each, background (3 terms)
        varying = [1, 1, *[1 / priors.DEGREE] * 3]
        expected = [7, 0, 0, 8, *varying, 9, *varying, 0, 0, 0]
        np.testing.assert_allclose(np.diag(matrix), expected)
        assert np.count_nonzero(matrix - np.diag(np.diag(matrix))) == 0

    def test_a_core_is_free_and_wings_are_not(self):
        basis = sized_for(2.6, 4.0)
        half, sigma = basis.half, 4.0 / 2.355
        r2 = np.sum(np.square(np.mgrid[-half : half + 1, -half : half + 1]), 0)
        flat = basis.images.reshape(len(basis.images), -1)
        cost = {}
        for name, width in (("core", 1.3), ("wings", 4.5)):
            gauss = np.exp(-0.5 * r2 / width**2)
            coefficients = np.linalg.lstsq(flat.T, (gauss / gauss.sum()).ravel(), rcond=1e-10)[0]
            expected = priors.expected(basis, gauss / gauss.sum(), sigma)
            cost[name] = coefficients @ expected.constant @ coefficients
        assert cost["core"] < 1  # a kernel of unit sum is within one standard deviation
        assert cost["wings"] > 100  # 10 % of it in the wings costs 1

    def test_determinant(self):
        layout = solve.Layout(3, 3, 0, 0)
        matrix = np.zeros((len(layout.index),) * 2)
        expected = priors.Prior(np.zeros((3, 3)), np.array([[2.0, 0.5], [0.5, 1.0]]))
        priors.add_to(layout, matrix, expected)
        varying = [2, 3, 4, 5, 6, 7, 8, 9, 10]
        varying += [v + 10 for v in varying]
        found = np.linalg.slogdet(matrix[np.ix_(varying, varying)])[1]
        assert priors.log_determinant(layout, expected) == pytest.approx(found)

    def test_a_wider_kernel_is_likelier_than_a_ragged_one(self):
        basis = sized_for(2.6, 4.0)
        images = basis.images
        sigma, half = 4.0 / 2.355, images.shape[-1] // 2
        r2 = np.sum(np.square(np.mgrid[-half : half + 1, -half : half + 1]), 0)
        gauss, wide = (np.exp(-0.5 * r2 / s**2) / (2 * np.pi * s**2) for s in (1.3, 1.33))
        expected = priors.precision(basis, gauss, sigma)
        assert np.linalg.eigvalsh(expected).min() > 0
        flat = images[1:].reshape(len(images) - 1, -1)
        wider = np.linalg.lstsq(flat.T, (wide - gauss).ravel(), rcond=1e-10)[0]
        ragged = np.random.default_rng(1).normal(size=(20, len(flat)))
        size = np.linalg.norm(wider @ flat) / np.linalg.norm(ragged @ flat, axis=1)
        costs = np.einsum("ri,ij,rj->r", ragged, expected, ragged) * size**2
        assert wider @ expected @ wider < 0.1 * costs.mean()
