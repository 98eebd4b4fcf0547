"""One sky in many frames: the same pixel is found again."""

import numpy as np
import pytest
from astropy.coordinates import FK4, FK5, SkyCoord
from astropy.wcs import WCS

from psflib.image.exposure import Exposure
from psflib.image.sky_frames import in_frame_of, pixel_to_pixel, to_icrs
from psflib.image.warp import align

CENTRE = SkyCoord(150.0, 20.0, unit="deg", frame="icrs")
SCALE = 1e-4


def tan(types, lon, lat, **cards):
    """TAN with its reference pixel at (30, 20) and north of its own frame up."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crpix, wcs.wcs.cdelt = types, [31, 21], [-SCALE, SCALE]
    wcs.wcs.crval = [lon, lat]
    for name, value in cards.items():
        setattr(wcs.wcs, name, value)
    wcs.wcs.set()
    return wcs


def equatorial(frame=None, **cards):
    at = CENTRE if frame is None else CENTRE.transform_to(frame)
    return tan(["RA---TAN", "DEC--TAN"], at.ra.deg, at.dec.deg, **cards)


FRAMES = {
    "icrs": equatorial(radesys="ICRS"),
    "none": equatorial(),
    "fk5": equatorial(radesys="FK5", equinox=2000.0),
    "fk5 1975": equatorial(FK5(equinox="J1975"), radesys="FK5", equinox=1975.0),
    "fk4": equatorial(FK4(equinox="B1950"), radesys="FK4", equinox=1950.0),
    "galactic": tan(["GLON-TAN", "GLAT-TAN"], CENTRE.galactic.l.deg, CENTRE.galactic.b.deg),
    "latitude first": tan(["DEC--TAN", "RA---TAN"], 20.0, 150.0, radesys="ICRS"),
}


@pytest.mark.parametrize("name", FRAMES)
class TestFrames:
    def test_the_reference_pixel(self, name):
        found = pixel_to_pixel(FRAMES[name], FRAMES["icrs"], np.array([30.0]), np.array([20.0]))
        np.testing.assert_allclose(np.ravel(found), [30, 20], atol=1e-5)

    def test_distances_are_kept(self, name):
        """Axes may be turned against each other, lengths may not change."""
        x, y = np.array([30.0, 90.0, 30.0]), np.array([20.0, 20.0, 120.0])
        found = np.array(pixel_to_pixel(FRAMES[name], FRAMES["icrs"], x, y))
        lengths = np.hypot(*(found[:, 1:] - found[:, :1]))
        np.testing.assert_allclose(lengths, [60, 100], rtol=1e-5)  # TAN: (0.01 deg)^2 / 2

    def test_there_and_back(self, name):
        x, y = np.array([3.0, 90.0]), np.array([50.0, 12.0])
        there = pixel_to_pixel(FRAMES["galactic"], FRAMES[name], x, y)
        back = pixel_to_pixel(FRAMES[name], FRAMES["galactic"], *there)
        np.testing.assert_allclose(back, [x, y], atol=1e-5)

    def test_icrs(self, name):
        wcs = FRAMES[name]
        ra, dec = to_icrs(wcs.all_pix2world([30.0], [20.0], 0), wcs)
        np.testing.assert_allclose([ra[0], dec[0]], [150, 20], atol=1e-8)


def test_equal_frames_are_not_touched():
    sky = FRAMES["icrs"].all_pix2world([1.0], [2.0], 0)
    assert in_frame_of(sky, FRAMES["icrs"], FRAMES["fk5"]) is sky
    assert in_frame_of(sky, FRAMES["galactic"], FRAMES["galactic"]) is sky


@pytest.mark.parametrize("name", ["galactic", "fk4", "fk5 1975", "latitude first"])
def test_an_image_in_another_frame_is_aligned(name):
    shape = (80, 80)
    target = Exposure(np.zeros(shape), np.ones(shape), wcs=FRAMES["icrs"], meta={"fwhm": 3.0})
    place = pixel_to_pixel(FRAMES["icrs"], FRAMES[name], np.array([40.0]), np.array([35.0]))
    y, x = np.indices(shape)
    star = 1e4 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / 8)
    source = Exposure(star, np.ones(shape), wcs=FRAMES[name], meta={"fwhm": 4.7})
    moved, notes = align(source, target)
    assert notes["aligned"] == "by WCS"
    total = moved.image.sum()
    np.testing.assert_allclose((moved.image * x).sum() / total, 40, atol=0.01)
    np.testing.assert_allclose((moved.image * y).sum() / total, 35, atol=0.01)
