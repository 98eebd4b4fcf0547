"""Fluxes in both images, kinds, neighbours, sky and magnitudes of candidates on a pair."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from psflib.detection.columns import COLUMNS
from psflib.detection.detect import DetectSettings, detect
from psflib.detection.forced import matching_error
from psflib.detection.neighbours import template_sources
from psflib.errors import BadImage
from psflib.image.exposure import Exposure, MaskBit
from psflib.judging.metrics import values
from psflib.matching import MatchingKernel
from tests.detection.test_detect import (
    ERROR,
    NOISE,
    WIDTH,
    add,
    difference,
    nearest,
    noise,
    sky_wcs,
)

SHAPE = (420, 440)
SHARP = 1.2  # px, sigma of the template's PSF
#: x, y, flux in science and template, in units of the error of a flux
PLACES = {
    "new": (60, 80, 60, 0), "variable": (140, 80, 160, 100), "faded": (220, 80, 100, 160),
    "gone": (300, 80, 0, 60), "moved": (60, 200, 50, 0), "moved too": (72, 204, 0, 50),
    "on its host": (224.0, 201.0, 60, 0),
}  # fmt: skip
HOST = (220.0, 200.0, 400, 4.0)  # x, y, flux, sigma
STARS = 60


def kernel(shape):
    """From the template's Gaussian to that of the science image."""
    half, width = 8, np.sqrt(WIDTH**2 - SHARP**2)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    image = np.exp(-(x**2 + y**2) / (2 * width**2))
    return MatchingKernel(
        (image / image.sum())[None], np.ones((1, 1)), 0, 0, np.array([2.0]), 0, shape
    )


def pair(seed=11):
    """A science image, a template, and their difference by the true kernel."""
    rng = np.random.default_rng(seed)
    science, template = noise(seed, SHAPE), 0.3 * noise(seed + 1, SHAPE)
    x, y, new, old = np.array(list(PLACES.values()), float).T
    sx, sy = np.meshgrid(np.linspace(25, 415, 15), np.linspace(280, 390, 4))
    sx, sy = (axis.ravel() + rng.uniform(-4, 4, STARS) for axis in (sx, sy))
    stars = sx, sy, rng.uniform(30, 300, STARS) * ERROR
    blur = np.sqrt(WIDTH**2 - SHARP**2)
    for image, width, flux in ((science, WIDTH, new), (template, SHARP, old)):
        add(image, x, y, flux * ERROR, width)
        add(image, *stars, width)
        add(image, *HOST[:2], HOST[2] * ERROR, np.hypot(HOST[3], 0 if width == SHARP else blur))
    science += 2.0  # the kernel's background
    made = kernel(SHAPE)
    images = (
        Exposure(
            image.astype(np.float32), np.full(SHAPE, v, np.float32), None, sky_wcs(), gain=1.0,
            sky=0.0, meta={"fwhm": 2.3548 * width},
        )
        for image, v, width in ((science, NOISE**2, WIDTH), (template, (0.3 * NOISE) ** 2, SHARP))
    )  # fmt: skip
    science, template = images
    rest = science.image - made.varying().convolve(template.image) - made.background_map()
    clean = difference(rest, wcs=sky_wcs(), variance=NOISE**2)
    return clean.replace(
        kernel=made, science=science, template=template,
        meta={"convolved": "template", "zero_point": 25.0, "mjd": 59000.5,
              "date_obs": "2020-05-31T12:00:00.000"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def table():
    return detect(pair())


def row(table, name):
    x, y, *_ = PLACES[name]
    found, distance = nearest(table, x, y)
    assert distance[0] < 1
    return table[found[0]]


class TestForcedFluxes:
    @pytest.mark.parametrize("name", ["new", "variable", "faded", "gone"])
    def test_as_they_are(self, table, name):
        one = row(table, name)
        for image, flux in zip(("science", "template"), PLACES[name][2:], strict=True):
            off = one[f"{image}_flux"].value - flux * ERROR
            # a place that is off by its error takes 1e-3 of a bright flux
            assert abs(off) < 4 * one[f"{image}_flux_err"].value + 2e-3 * flux * ERROR

    def test_errors_are_those_of_the_noise(self, table):
        assert values(table, "science_flux_err") == pytest.approx(ERROR, rel=0.02)
        # white noise of the template through the kernel: that of the wider PSF's filter
        width = np.sqrt(WIDTH**2 + (WIDTH**2 - SHARP**2))
        expected = 0.3 * NOISE * np.sqrt(4 * np.pi) * WIDTH**2 / width
        assert values(table, "template_flux_err") == pytest.approx(expected, rel=0.03)

    def test_the_difference_is_the_difference(self, table):
        apart = values(table, "science_flux") - values(table, "template_flux")
        # boxes of different size: independent noise of a tenth of the error
        assert np.abs(apart - values(table, "flux")).max() < 0.5 * ERROR


class TestKinds:
    @pytest.mark.parametrize("name", list(PLACES))
    def test_word(self, table, name):
        expected = {"moved too": "moved", "on its host": "new"}.get(name, name)
        assert row(table, name)["kind"] == expected

    def test_without_images_nothing_is_known(self):
        found = detect(pair().replace(science=None, template=None))
        assert set(found["kind"]) == {"unknown"}
        for name in ("science_flux", "template_flux_err", "star_distance", "host_distance"):
            assert np.isnan(values(found, name)).all()


class TestNeighbours:
    def test_distances(self, table):
        one = row(table, "on its host")
        assert one["host_distance"].value == pytest.approx(np.hypot(4, 1), abs=0.7)
        assert row(table, "variable")["star_distance"].value < 0.3

    def test_stars_are_no_galaxies(self):
        template = pair().template
        found = template_sources(template, 2.3548 * SHARP)
        extended = np.c_[found.x, found.y][found.extended]
        assert np.hypot(*(extended - HOST[:2]).T).min() < 0.5
        # with those of PLACES, one beside the other and one on the host
        assert found.extended.sum() <= 2 and len(found.x) >= STARS + 4

    def test_an_empty_template(self):
        template = pair().template
        empty = template.replace(image=np.zeros_like(template.image))
        assert len(template_sources(empty, 3.0).x) == 0
        nothing = np.full(SHAPE, 2, np.uint16)
        masked = template.replace(mask=nothing, mask_bits="psflib")
        assert len(template_sources(masked, 3.0).x) == 0


def test_what_the_matching_leaves():
    """3 % of the light of static sources, beside their noise, though a fifth of them vary."""
    rng = np.random.default_rng(4)
    light = np.exp(rng.uniform(np.log(100), np.log(3000), 2000))
    rest = rng.normal(0, 1, 2000) + 0.03 * light * rng.normal(0, 1, 2000)
    rest[::10] += 0.5 * light[::10]
    # the median of squares: 5 % of 2000, and what a tenth of outliers adds to it
    assert matching_error(rest, np.ones(2000), light) == pytest.approx(0.03, rel=0.2)
    assert matching_error(rng.normal(0, 1, 2000), np.ones(2000), light) < 0.003
    assert matching_error(rest[:5], np.ones(5), light[:5]) == 0


class TestTable:
    def test_columns_in_their_order(self, table):
        known = [name for name in table.colnames if name in COLUMNS]
        assert known == list(COLUMNS)

    def test_all_are_documented(self):
        text = (Path(__file__).parents[2] / "docs/candidates.md").read_text(encoding="utf-8")
        assert [name for name in COLUMNS if f"`{name}`" not in text] == []

    def test_magnitudes(self, table):
        one = row(table, "new")
        assert one["mag"].value == pytest.approx(25 - 2.5 * np.log10(60 * ERROR), abs=0.1)
        assert one["mag_err"].value == pytest.approx(1.0857 / 60, rel=0.1)
        # 1.0857 / S/N
        assert "mag" not in detect(pair().replace(meta={})).colnames

    def test_shape_of_point_sources(self, table):
        at = [row(table, name)["id"] - 1 for name in ("new", "variable", "faded", "gone")]
        for name in ("elongation", "extent", "sharpness"):
            np.testing.assert_allclose(values(table, name)[at], 1, atol=0.15)  # S/N 60
        np.testing.assert_allclose(values(table, "chi2")[at], 1, atol=0.8)  # 40 px: 4 * 0.2

    def test_read_back_without_psflib(self, table, tmp_path):
        table.write(tmp_path / "c.ecsv")
        back = QTable.read(tmp_path / "c.ecsv")
        assert isinstance(back["sky"], SkyCoord) and len(back) == len(table)
        np.testing.assert_allclose(back["sky"].ra.to_value(u.deg), table["ra"].to_value(u.deg))
        assert back.meta["mjd"] == 59000.5 and back.meta["zero_point"] == 25.0

    def test_threshold_by_false_alarms(self, table):
        rare = detect(pair(), settings=DetectSettings(false_alarms=1.0))
        often = detect(pair(), settings=DetectSettings(false_alarms=1e4))
        # 440 x 420 px of 0.36": 1.8e-3 square degrees
        area = rare.meta["area"] * 1e-8
        assert rare.meta["expected_alarms"] == pytest.approx(area, rel=1e-6)
        assert often.meta["expected_alarms"] == pytest.approx(1e4 * area, rel=1e-6)
        assert rare.meta["threshold"] > 5 > often.meta["threshold"] and len(often) >= len(rare)
        with pytest.raises(BadImage, match="no WCS tells the area of a pixel"):
            detect(pair().replace(wcs=None), settings=DetectSettings(false_alarms=1.0))

    def test_masked_neighbours_do_not_change_a_flux(self):
        """A cosmic ray of the template under the kernel is not counted."""
        made = pair()
        x, y = PLACES["variable"][:2]
        image, mask = made.template.image.copy(), made.template.mask.copy()
        image[y + 2, x + 3], mask[y + 2, x + 3] = 1e5, MaskBit.CR
        broken = made.replace(template=made.template.replace(
            image=image, mask=mask, mask_bits="psflib"))  # fmt: skip
        one, whole = row(detect(broken), "variable"), row(detect(made), "variable")
        assert abs(one["template_flux"] - whole["template_flux"]) < 0.05 * whole["template_flux"]
