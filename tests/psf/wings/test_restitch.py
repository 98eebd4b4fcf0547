"""Core and wing joined elsewhere, without a look at the stars."""

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from psflib.image.exposure import Exposure
from psflib.psf.extended import on_native, radii, raised_cosine, stitch_psf
from psflib.psf.wings.field import ExtendedPsfField, PowerLaw
from psflib.psf.wings.restitch import restitch, star_profiles
from psflib.psf.wings.result import radial_profile
from psflib.simulation.halo_psf import HaloPsf
from tests.fake_products import moffat


@pytest.fixture(scope="module")
def extended():
    core = moffat(3 * 31, 3 * 3.0) * 9
    wing = HaloPsf(3.0, spikes=0.0).at(81)
    made = stitch_psf(core, 3, wing, match_radius=8.0, feather_width=4.0, ee_aperture_radius=15.0)
    plane = whole(made.core, made.wing)
    stars = QTable({"id": [1, 2], "x": [60.2, 50.0] * u.pix, "y": [61.0, 49.7] * u.pix})
    stars["flux"], stars["background"] = [1e6, np.nan] * u.adu, [3.0, 0.0] * u.adu
    stars["ok"] = [True, True]
    return ExtendedPsfField(
        made.core, 3, made.wing, 8.0, 4.0, 15.0, radial_profile(plane), stars,
        tail=PowerLaw(40.0, float(plane[40, 80]), 2.5, 1e-7, 0.1),
    )  # fmt: skip


def whole(core, wing):
    """Core and wing on one grid, as the class defines it."""
    share = raised_cosine(radii(wing.shape), 8.0, 4.0)
    return (1 - share) * on_native(core, 3, len(wing)) + wing


def test_each_star_gives_its_own_profile(extended):
    light = 3.0 + 1e6 * np.pad(extended.at(), 20)
    exposure = Exposure(np.roll(light, (1, 0), (0, 1)), np.ones(light.shape))
    points = star_profiles(exposure, extended)
    assert set(points["id"]) == {1}, "a star without flux says nothing"
    r, value = points["r"].value, np.asarray(points["value"])
    expected = np.interp(r, extended.profile["r"].value, np.asarray(extended.profile["value"]))
    far = r > 12
    assert np.allclose(value[far], expected[far], rtol=0.15)


def test_the_same_radii_give_the_same_psf(extended):
    again = restitch(extended, 8.0, 4.0, 15.0)
    assert np.allclose(again.at(), extended.at(), rtol=0.02, atol=1e-9)


def test_energy_within_the_aperture_stays_one(extended):
    moved = restitch(extended, 9.0, 3.0, 18.0)
    side = len(moved.wing)
    assert moved.at()[radii((side, side)) <= 18].sum() == pytest.approx(1, abs=1e-9)
    assert (moved.match_radius, moved.feather_width, moved.ee_radius) == (9.0, 3.0, 18.0)
    assert np.isfinite(np.asarray(moved.profile["error"])).all()


def test_seams_that_do_not_fit_are_refused(extended):
    with pytest.raises(ValueError, match=r"match_radius = 90"):
        restitch(extended, 90.0, 4.0, 15.0)


def test_without_usable_stars_there_are_no_points(extended):
    stars = extended.stars.copy()
    stars["ok"] = False
    none = dataclasses.replace(extended, stars=stars)
    assert len(star_profiles(None, none)) == 0
