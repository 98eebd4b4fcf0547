"""Streaks: found to their ends and masked; what only looks like one is left alone."""

import numpy as np
import pytest

from psflib.decorrelation.decorrelate import DecorrelateSettings, decorrelate
from psflib.decorrelation.lines import binned, lines
from psflib.decorrelation.streaks import Streak, find_streaks, with_streaks
from psflib.detection.detect import detect
from psflib.image.difference import Difference
from psflib.image.exposure import Exposure, MaskBit
from psflib.loops import streaks as loops
from psflib.matching import MatchingKernel
from psflib.products.provenance import json_ready
from tests.decorrelation import naive_decorrelation

SIDE = 400  # px
WIDTH = 1.5  # sigma of the PSF, px
NOISE = 4.0  # ADU


class Psf:
    def at(self, x, y, size=41):
        row, column = np.indices((size, size)) - size // 2
        return np.exp(-(row**2 + column**2) / (2 * WIDTH**2)) / (2 * np.pi * WIDTH**2)


def light(angle, centre=(190.0, 205.0), length=np.inf, width=WIDTH):
    """A streak of peak 1 (SIDE, SIDE); angle in degrees from +x to +y."""
    row, column = np.indices((SIDE, SIDE))
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    along = (column - centre[0]) * cos + (row - centre[1]) * sin
    across = (row - centre[1]) * cos - (column - centre[0]) * sin
    return np.exp(-(across**2) / (2 * width**2)) * (np.abs(along) < length / 2)


def difference(light_in_sigma, seed=1, mask=None):
    image = np.random.default_rng(seed).normal(0, 1, (SIDE, SIDE)) + light_in_sigma
    mask = np.zeros((SIDE, SIDE), np.uint16) if mask is None else mask
    kernel = MatchingKernel(np.ones((1, 1, 1)), np.ones((1, 1)), 0, 0, np.zeros(1), 0, mask.shape)
    variance = np.full(mask.shape, NOISE**2, np.float32)
    return Difference((NOISE * image).astype(np.float32), variance, mask, kernel, Psf())


class TestLoops:
    def test_line_sums(self):
        strip = np.random.default_rng(2).normal(0, 1, (16, 40)).astype(np.float32)
        planes = np.empty((2, 16, 40), np.float32)
        planes[0] = strip
        found = planes[loops.line_sums(planes)]
        np.testing.assert_allclose(found, naive_decorrelation.line_sums(strip), atol=1e-5)

    def test_a_straight_line_is_summed_whole(self):
        strip = np.zeros((2, 32, 64), np.float32)
        strip[0, np.arange(32), 10 + np.arange(32)] = 1
        found = strip[loops.line_sums(strip)]
        assert found[31, 10] == 32 and (found == 32).sum() == 1

    def test_standing_out(self):
        sums = np.random.default_rng(3).normal(0, 1, (3, 50)).astype(np.float32)
        out = np.empty_like(sums)
        loops.standing_out(sums, np.float32(2), out)
        np.testing.assert_allclose(out, naive_decorrelation.standing_out(sums, 2), atol=1e-5)

    @pytest.mark.parametrize("angle", [20.0, 75.0, 90.0, 200.0, 290.0])
    def test_profile_along(self, angle):
        rng = np.random.default_rng(4)
        plane = rng.normal(0, 1, (60, 70)).astype(np.float32)
        known = rng.uniform(size=plane.shape) < 0.9
        sums, counts = np.empty((2, 4, 9))
        direction = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        loops.profile_along(plane, known, 33.3, 31.8, *direction, 9.0, sums, counts)
        expected = naive_decorrelation.profile_along(
            plane, known, (33.3, 31.8), direction, 9.0, sums.shape
        )
        np.testing.assert_array_equal(counts, expected[1])
        np.testing.assert_allclose(sums, expected[0], atol=1e-4)


class TestFound:
    @pytest.mark.parametrize("angle", [0.0, 31.0, 90.0, 134.0])
    def test_faint_ones_at_any_angle(self, angle):
        truth = light(angle)
        found = with_streaks(difference(truth, int(angle)))
        (streak,) = found.meta["streaks"]
        masked = (found.mask & MaskBit.STREAK) > 0
        assert masked[truth > 0.5].mean() > 0.97
        assert masked.mean() < 0.06  # 12 px wide at most
        assert streak["peak"] == pytest.approx(1.0, abs=0.15)
        assert streak["width"] == pytest.approx(2.355 * WIDTH, rel=0.3)
        # the light across a Gaussian of peak 1 sigma
        expected = NOISE * np.sqrt(2 * np.pi) * WIDTH
        assert streak["brightness"] == pytest.approx(expected, rel=0.2)

    def test_ends(self):
        (streak,) = find_streaks(difference(2 * light(40.0, length=200.0)))
        assert streak.length == pytest.approx(200, abs=32)  # two steps
        middle = (streak.x1 + streak.x2) / 2, (streak.y1 + streak.y2) / 2
        assert np.hypot(middle[0] - 190, middle[1] - 205) < 16

    def test_what_stands_in_a_gap_is_left_alone(self):
        truth = light(40.0, (60, 96), 200.0) + light(40.0, (282.1, 282.4), 200.0)
        clean = with_streaks(difference(2 * truth))
        assert len(clean.meta["streaks"]) == 2
        masked = (clean.mask & MaskBit.STREAK) > 0
        assert not masked[179:199, 161:181].any() and masked[truth > 0.5].mean() > 0.85

    def test_of_the_template(self):
        (streak,) = find_streaks(difference(-light(70.0)))
        assert streak.peak < 0 and streak.brightness < 0 and streak.snr > 0

    def test_out_of_focus_and_two_at_once(self):
        both = light(20.0, (200, 100), width=6.0) + 20 * light(110.0, (300, 200))
        found = find_streaks(difference(both))
        assert len(found) == 2
        assert max(s.width for s in found) == pytest.approx(2.355 * 6, rel=0.3)

    def test_candidates_on_it_are_flagged(self):
        clean = with_streaks(difference(30 * light(33.0)))
        table = detect(clean)
        assert not table["clean"].any() and len(table) < 10
        bare = detect(difference(30 * light(33.0)))
        assert len(bare) > 20  # what the mask saves one from


class TestNotFound:
    @pytest.mark.parametrize("seed", range(3))
    def test_noise(self, seed):
        assert find_streaks(difference(0.0, seed)) == []

    def test_columns_and_rows(self):
        scene = np.zeros((SIDE, SIDE))
        scene[:, 150] += 3
        scene[220] -= 2
        scene[:, 300] += 50
        assert find_streaks(difference(scene)) == []

    def test_edge_of_a_stacked_template(self):
        scene = np.where(light(25.0, width=1e9, length=np.inf) > 2, 0, 0.0)
        row, column = np.indices((SIDE, SIDE))
        scene = np.where(row > 0.4 * column + 100, 0.5, 0.0)
        assert find_streaks(difference(scene)) == []

    def test_spikes(self):
        row, column = np.indices((SIDE, SIDE)) - 200
        scene = 20 * (light(45.0, (200, 200)) + light(135.0, (200, 200)))
        scene *= np.exp(-np.hypot(row, column) / 40)
        mask = np.where(np.hypot(row, column) < 8, np.uint16(MaskBit.SAT), np.uint16(0))
        assert find_streaks(difference(scene, mask=mask)) == []

    def test_banding(self):
        rows = 0.3 * np.sin(np.arange(SIDE) / 3.0) * np.ones((1, SIDE))
        assert find_streaks(difference(rows.T * np.ones(SIDE))) == []

    def test_residuals_of_stars(self):
        rng = np.random.default_rng(6)
        scene = np.zeros((SIDE, SIDE))
        row, column = np.indices((31, 31)) - 15
        for y, x in rng.integers(16, SIDE - 16, (120, 2)):
            turn = rng.uniform(0, 2 * np.pi)
            dipole = (column * np.cos(turn) + row * np.sin(turn)) * np.exp(
                -(row**2 + column**2) / (2 * WIDTH**2)
            )
            scene[y - 15 : y + 16, x - 15 : x + 16] += rng.uniform(3, 100) * dipole
        assert find_streaks(difference(scene)) == []

    def test_nothing_usable(self):
        mask = np.full((SIDE, SIDE), MaskBit.BAD, np.uint16)
        clean = with_streaks(difference(0.0, mask=mask))
        assert clean.meta["streaks"] == []


@pytest.fixture(scope="module")
def raw():
    rng = np.random.default_rng(9)
    science, template = (
        Exposure(rng.normal(0, s, (SIDE, SIDE)), np.full((SIDE, SIDE), s**2), meta={"fwhm": 3.5})
        for s in (NOISE, 0.5 * NOISE)
    )
    science = science.replace(image=science.image + 3 * NOISE * light(57.0))
    kernel = MatchingKernel(
        np.ones((1, 1, 1)), np.ones((1, 1)), 0, 0, np.zeros(1), 0, science.shape
    )
    return Difference(
        science.image - template.image, science.variance + template.variance, science.mask,
        kernel, Psf(), None, science, template, meta={"noise_correlation": (None, None)},
    )  # fmt: skip


class TestInDecorrelate:
    def test_the_bit_stands_in_its_mask_and_the_list_in_its_meta(self, raw):
        clean = decorrelate(raw)
        on = light(57.0) > 0.5
        assert ((clean.mask & MaskBit.STREAK) > 0)[on].mean() > 0.97
        assert not clean.score[on & ((clean.mask & MaskBit.STREAK) > 0)].any()
        # as it is written
        assert json_ready(clean.meta)["streaks"] == clean.meta["streaks"] != []
        assert any("1 streak masked" in note for note in clean.meta["notes"])

    def test_not_where_it_is_not_wanted(self, raw):
        clean = decorrelate(raw, DecorrelateSettings(mask_streaks=False))
        assert "streaks" not in clean.meta and not (clean.mask & MaskBit.STREAK).any()


def test_distance_from_a_segment():
    streak = Streak(0, 0, 10, 0, 3.0, 10.0, 1.0, 1.0)
    x, y = np.array([5, -3, 14]), np.array([2, 4, 3])
    np.testing.assert_allclose(streak.distance(x, y), [2, 5, 5])


def test_lines_of_an_empty_plane():
    plane = np.zeros((100, 90), np.float32)
    assert lines(binned(plane, plane > 0, 2), 2) == []
