"""Core and wing joined elsewhere, without a look at the stars."""

import dataclasses

import numpy as np
import pytest
from fake_products import extended as an_extended_psf

from psflib.psf.extended import radii
from psflib.psf.restitch import restitch, star_profiles


@pytest.fixture(scope="module")
def extended():
    made = an_extended_psf()
    return restitch(made, 8.0, 4.0, 15.0)


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
