"""Metrics: counts on tables made by hand, whiteness of noise that is known."""

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from scipy import ndimage, signal

from psflib.decorrelation.reduced import reduced
from psflib.errors import BadFile
from psflib.image.convolve import blend_nodes, edge_grid
from psflib.image.difference import Difference
from psflib.image.exposure import Exposure, MaskBit
from psflib.judging import metrics, validation
from psflib.judging.metrics import Recovery, Whiteness, recovery, values, whiteness

AREA = 2e6


def truth(*rows):
    """Rows (kind, x, y, delta_flux, snr)."""
    kind, x, y, flux, snr = (np.array(c) for c in zip(*rows, strict=True))
    return QTable(
        {"kind": kind, "x": x * u.pix, "y": y * u.pix, "delta_flux": flux * u.adu, "snr": snr}
    )


def candidates(*rows):
    """Rows (x, y, flux, flux_err, clean)."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * 5
    x, y, flux, error = (np.array(c, float) for c in columns[:4])
    return QTable(
        {
            "x": x * u.pix, "y": y * u.pix, "flux": flux * u.adu, "flux_err": error * u.adu,
            "clean": np.array(columns[4], bool),
        }
    )  # fmt: skip


TRUE = truth(
    ("transient", 100.0, 100.0, 1000.0, 20.0),
    ("transient", 200.0, 100.0, -500.0, -10.0),
    ("transient", 300.0, 100.0, 300.0, 6.0),  # below the limit
    ("variable", 400.0, 100.0, 800.0, 16.0),
    ("star", 500.0, 100.0, 0.0, 0.0),
)


class TestRecovery:
    def test_counts(self):
        found = candidates(
            (100.5, 100.0, 1100.0, 50.0, True),  # the first
            (200.0, 101.4, -550.0, 50.0, True),  # the second
            (300.0, 100.0, 300.0, 50.0, True),  # not expected, but true
            (400.0, 100.0, 800.0, 50.0, True),  # the variable
            (500.0, 100.0, 300.0, 50.0, True),  # a residual of a constant star
            (700.0, 700.0, 300.0, 50.0, True),  # nothing there
            (800.0, 700.0, 300.0, 50.0, False),  # flagged: does not count
        )
        result = recovery(found, TRUE, AREA)
        assert (result.expected, result.found, result.others) == (2, 2, 2)
        assert result.others_per_mpx == pytest.approx(1.0)
        assert result.flux_bias == pytest.approx(0.10)  # both 10 % high
        assert result.flux_error == pytest.approx(1 / np.sqrt(20**2 + 10**2))
        assert result.pull_std == pytest.approx(np.std([2.0, -1.0]))

    def test_bias_is_weighted_by_squared_snr(self):
        found = candidates((100, 100, 1000, 50, True), (200, 100, -600, 50, True))
        assert recovery(found, TRUE, AREA).flux_bias == pytest.approx(0.2 * 100 / 500)

    def test_radius(self):
        found = candidates((100, 100 + metrics.RADIUS - 0.01, 1000, 50, True))
        assert recovery(found, TRUE, AREA).found == 1
        found = candidates((100, 100 + metrics.RADIUS + 0.01, 1000, 50, True))
        result = recovery(found, TRUE, AREA)
        assert (result.found, result.others) == (0, 0)  # neither found nor an intruder
        assert np.isnan(result.flux_bias)

    def test_a_flagged_candidate_is_not_found(self):
        assert recovery(candidates((100, 100, 1000, 50, False)), TRUE, AREA).found == 0

    def test_no_candidates(self):
        result = recovery(candidates(), TRUE, AREA)
        assert (result.expected, result.found, result.others) == (2, 0, 0)
        assert result.others_per_mpx == 0 and np.isnan(result.flux_bias)

    def test_limit(self):
        found = candidates((300, 100, 300, 50, True))
        assert recovery(found, TRUE, AREA, snr_min=5).expected == 3
        assert recovery(found, TRUE, AREA, snr_min=5).found == 1

    def test_nothing_changed(self):
        calm = truth(("star", 100.0, 100.0, 0.0, 0.0))
        result = recovery(candidates((100, 100, 500, 50, True)), calm, AREA)
        assert (result.expected, result.found, result.others) == (0, 0, 1)

    def test_an_empty_truth(self):
        result = recovery(candidates((100, 100, 500, 50, True)), TRUE[:0], AREA)
        assert (result.expected, result.found, result.others) == (0, 0, 1)


def test_values_strips_units_and_nothing_else():
    table = QTable({"x": [1.0, 2.0] * u.pix, "n": [3, 4]})
    for name in ("x", "n"):
        assert type(values(table, name)) is np.ndarray
    np.testing.assert_array_equal(values(table, "x"), [1, 2])


SHAPE = (400, 400)


def difference(image, variance=4.0, score=None, mask=None):
    mask = np.zeros(SHAPE, np.uint16) if mask is None else mask
    variance = np.full(SHAPE, variance, np.float32)
    return Difference(
        image.astype(np.float32), variance, mask, None, None, score=score, meta={}
    )  # fmt: skip


class TestWhiteness:
    kernel = np.array([[0, 0.2, 0], [0.2, 1.0, 0.2], [0, 0.2, 0]])

    def run(self, clean_image, raw_image=None, avoid=None, mask=None):
        rng = np.random.default_rng(3)
        science = Exposure(rng.normal(0, 1, SHAPE), np.ones(SHAPE), sky=0.0, meta={"fwhm": 3.0})
        score = rng.normal(0, 1.0, SHAPE)
        raw = difference(clean_image if raw_image is None else raw_image, mask=mask)
        return whiteness(raw, difference(clean_image, score=score, mask=mask), science, avoid)

    def test_known_noise(self):
        white = np.random.default_rng(4).normal(0, 2, SHAPE)
        coloured = ndimage.convolve(white, self.kernel)
        result = self.run(white, coloured)
        error = 1 / np.sqrt(result.n_pixels)
        expected = 2 * 0.2 / np.sum(self.kernel**2)
        assert result.correlation_before == pytest.approx(expected, abs=6 * error)
        assert abs(result.correlation_after) < 4.5 * error
        # MAD of normal values: 1.17 / sqrt(n)
        assert result.std == pytest.approx(1, abs=4 * 1.17 * error)
        assert result.score_std == pytest.approx(1, abs=4 * 1.17 * error)
        assert result.n_pixels > 0.99 * SHAPE[0] * SHAPE[1]

    def test_noise_of_twice_the_claim(self):
        noise = np.random.default_rng(4).normal(0, 4, SHAPE)
        assert self.run(noise).std == pytest.approx(2, rel=0.02)

    def test_sign_is_kept(self):
        white = np.random.default_rng(4).normal(0, 2, SHAPE)
        sharpened = ndimage.convolve(white, np.where(self.kernel == 1, 1, -self.kernel))
        assert self.run(sharpened).correlation_after < -0.2

    def test_changes_are_left_out(self):
        noise = np.random.default_rng(4).normal(0, 2, SHAPE)
        noise[190:211, 190:211] += 100
        avoid = np.array([200.2]), np.array([199.7])
        clean = self.run(noise, avoid=avoid)
        assert abs(clean.correlation_after) < 4.5 / np.sqrt(clean.n_pixels)
        assert self.run(noise).correlation_after > 0.01
        assert self.run(noise).n_pixels - clean.n_pixels == 25**2

    def test_avoid_at_the_border(self):
        noise = np.random.default_rng(4).normal(0, 2, SHAPE)
        places = np.array([0.0, 399.0, -20.0]), np.array([399.0, 0.0, 500.0])
        assert self.run(noise).n_pixels - self.run(noise, avoid=places).n_pixels == 2 * 13**2

    def test_masked_pixels_do_not_count(self):
        mask = np.zeros(SHAPE, np.uint16)
        mask[:200] = MaskBit.BAD
        noise = np.random.default_rng(4).normal(0, 2, SHAPE)
        noise[:200] = 1e5
        result = self.run(noise, mask=mask)
        assert result.n_pixels <= 200 * 400
        assert result.std == pytest.approx(1, abs=0.02)


class TestFigures:
    good = Recovery(20, 19, 2, 2.0, 0.01, 0.005, 1.0)
    white = Whiteness(1.01, 0.2, -0.01, 1.0, 10000)

    def reached(self, found=None, noise=None):
        figures = validation.Figures(
            "e1",
            dataclasses.replace(self.good, **found or {}),
            dataclasses.replace(self.white, **noise or {}),
        )
        return [goal[2] for goal in figures.goals]

    def test_all_reached(self):
        assert all(self.reached())

    @pytest.mark.parametrize(
        ("goal", "found", "noise"),
        [
            (0, {"found": 17}, {}),
            (1, {"others_per_mpx": 5.1}, {}),
            (2, {}, {"std": 0.94}),
            (3, {}, {"correlation_after": -0.03}),
            (4, {}, {"correlation_before": -0.005}),
            (5, {"flux_bias": -0.03}, {}),
            (5, {"flux_bias": np.nan}, {}),
        ],
    )
    def test_each_goal_can_be_missed(self, goal, found, noise):
        reached = self.reached(found, noise)
        assert not reached[goal] and sum(reached) == 5

    def test_limits_count_as_reached(self):
        assert all(self.reached({"found": 18, "others_per_mpx": 5.0}, {"correlation_after": 0.02}))


def test_no_truth_table(tmp_path):
    with pytest.raises(BadFile, match="make demo"):
        validation.judge(tmp_path, tmp_path / "truth.ecsv")


class TestNoiseCorrelation:
    """Maps of the noise's correlation over the field."""

    def coloured(self, seed, share=0.2, shape=(640, 640)):
        white = np.random.default_rng(seed).normal(0, 2, shape)
        kernel = np.array([[0, share, 0], [share, 1.0, share], [0, share, 0]])
        return ndimage.convolve(white, kernel), kernel

    def maps(self, image, variance=4.0, select=None, **options):
        select = np.ones(image.shape, bool) if select is None else select
        variance = np.full(image.shape, variance, np.float32)
        return metrics.noise_correlation(image.astype(np.float32), variance, select, **options)

    def test_shapes_and_places(self):
        maps = self.maps(self.coloured(1)[0][:400, :600], blocks=4, max_lag=2)
        assert maps.correlation.shape == maps.error.shape == (4, 4, 5, 5)
        assert maps.variance.shape == maps.n_pixels.shape == (4, 4)
        np.testing.assert_allclose(maps.x, [74.5, 224.5, 374.5, 524.5])
        np.testing.assert_allclose(maps.y, [49.5, 149.5, 249.5, 349.5])
        np.testing.assert_array_equal(maps.at_lag(1, 0), maps.nearest()[..., 2])
        np.testing.assert_array_equal(maps.at_lag(1, -1), maps.nearest()[..., 1])
        np.testing.assert_array_equal(maps.at_lag(-1, 1), maps.at_lag(1, -1))
        assert np.all(maps.at_lag(0, 0) == 1) and np.all(maps.error[..., 2, 2] == 0)

    @pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
    def test_errors_are_the_scatter(self, share):
        image, kernel = self.coloured(5, share)
        maps = self.maps(image, np.sum(kernel**2) * 4, blocks=16, max_lag=2)
        rho = signal.correlate2d(kernel, kernel) / np.sum(kernel**2)
        pulls = (maps.correlation - rho) / np.where(maps.error > 0, maps.error, 1)
        lags = [(2, 3), (3, 2), (3, 3), (3, 1), (2, 4)]
        scatter = np.array([pulls[..., i, j].std() for i, j in lags])
        # 256 blocks: 4.4 % error of a standard deviation; blocks of 40 px lose pairs at their rims
        np.testing.assert_allclose(scatter, 1, atol=4.5 * 0.044)
        assert np.abs(pulls.mean((0, 1))).max() < 4.5 / 16 + 0.15  # of the block's own median
        pulls = (maps.variance - 1) / maps.variance_error
        assert pulls.std() == pytest.approx(1, abs=4.5 * 0.044)

    def test_white_noise_is_at_the_floor(self):
        maps = self.maps(self.coloured(3, 0.0)[0], blocks=4)
        assert maps.floor == pytest.approx(1 / 160, rel=1e-6)
        assert maps.rms == pytest.approx(maps.floor, rel=4 / np.sqrt(2 * 64))
        assert maps.largest < 4.5 / 160

    def test_where_it_is_correlated(self):
        white, coloured = self.coloured(3, 0.0)[0], self.coloured(3, 0.2)[0]
        image = np.where(np.arange(640) < 320, white, coloured)
        near = np.abs(self.maps(image, blocks=2).nearest()[..., 0])
        assert near[:, 0].max() < 0.02 and near[:, 1].min() > 0.3
        assert self.maps(image, blocks=2).largest > 0.3

    def test_too_little_sky(self):
        image = self.coloured(3, 0.0)[0]
        select = np.ones(image.shape, bool)
        select[:320, :320] = False
        select[320:, 320:] = False
        select[330, 330] = True
        maps = self.maps(image, select=select, blocks=2)
        nothing = np.array([[True, False], [False, True]])
        assert maps.n_pixels.tolist() == [[0, 320**2], [320**2, 1]]
        for values_ in (maps.at_lag(0, 1), maps.error[..., 1, 2], maps.variance):
            np.testing.assert_array_equal(np.isnan(values_), nothing)
        assert np.isfinite([maps.largest, maps.rms, maps.floor]).all()

    def test_bad_calls(self):
        for options in ({"blocks": 0}, {"max_lag": 0}):
            with pytest.raises(ValueError, match="at least 1"):
                self.maps(np.ones((20, 20)), **options)


class TestReduced:
    """Filters of fewer nodes and terms."""

    @pytest.fixture
    def whitening(self):
        x, y = edge_grid(SHAPE, 5)
        r = np.arange(-6, 7)
        kernels = np.array([
            [np.exp(-(r[:, None] ** 2 + r**2) / (2 * (1 + i / 400 + j / 800) ** 2)) for i in x]
            for j in y
        ])  # fmt: skip
        return blend_nodes(kernels / kernels.sum((2, 3), keepdims=True), x, y, 1e-6)

    def test_all_of_it(self, whitening):
        same = reduced(whitening, SHAPE, 5, 100)
        for x, y in ((0, 0), (130.0, 90.0), (399, 399)):
            np.testing.assert_allclose(same.at(x, y), whitening.at(x, y), atol=1e-6)

    def test_less_is_worse(self, whitening):
        def error(nodes, rank):
            one = reduced(whitening, SHAPE, nodes, rank)
            places = [(i, j) for i in (3, 90, 330) for j in (10, 250)]
            return max(np.abs(one.at(*p) - whitening.at(*p)).sum() for p in places)

        assert error(5, 3) < error(5, 1) < error(5, 0)
        assert error(5, 9) < error(2, 9) < error(1, 9)
        assert reduced(whitening, SHAPE, 1, 9).at(0, 0) == pytest.approx(whitening.at(199.5, 199.5))

    def test_unit_sum(self, whitening):
        for nodes, rank in ((1, 0), (3, 1), (4, 2)):
            assert reduced(whitening, SHAPE, nodes, rank).at(31, 8).sum() == pytest.approx(1)

    def test_bad_calls(self, whitening):
        for nodes, rank in ((0, 1), (2, -1)):
            with pytest.raises(ValueError, match="nodes"):
                reduced(whitening, SHAPE, nodes, rank)
