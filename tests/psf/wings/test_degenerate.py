"""Degenerate input of the wing's equations: no bare error of linear algebra, no NaN."""

import numpy as np
import pytest

from psflib.psf.wings import stage as wings
from psflib.psf.wings.sky import OutsideSky, sky_cells, tukey_mean
from psflib.psf.wings.smooth import radial_shape
from psflib.psf.wings.solve import start_shape
from psflib.psf.wings.stars import WingStar, fit_halo
from psflib.simulation.wing_stamps import WingTruth
from tests.psf.wings.test_stage import scene  # noqa: F401 - a fixture


@pytest.mark.parametrize("size", [3, 5, 7, 9])
def test_a_core_of_few_pixels_can_be_continued(size):
    shape = start_shape(WingTruth(fwhm=1.0).epsf(size, 5), 5, 61, 1.5, 0.6)
    assert np.isfinite(shape.wing).all()
    assert shape.wing[30, 45] > 0


def test_profile_of_saturated_stars_alone():
    """No ring within 25 px is known: inwards a polynomial of degree 4 in log-log runs away."""
    r = np.maximum(np.arange(120.0), 1)
    rng = np.random.default_rng(4)
    mean = r**-2.5 * (1 + rng.normal(0, 0.1, 120))
    variance = (0.1 * mean) ** 2
    mean[:25] = np.nan
    profile = radial_shape(mean, variance, 119)
    assert np.isfinite(profile).all() and (profile > 0).all()
    assert profile.max() < 3 * profile[25]  # level, not more
    np.testing.assert_allclose(profile[30:110], r[30:110] ** -2.5, rtol=0.15)


def test_mean_of_values_that_are_mostly_one():
    values = np.r_[np.full(60, 3.0), np.linspace(-1e3, 1e3, 20)]
    level, error = tukey_mean(values, np.ones(80))
    assert level == pytest.approx(3.0, abs=0.5) and np.isfinite(error)


def test_skies_beyond_what_float32_holds_are_left_out():
    rng = np.random.default_rng(2)
    rest = rng.normal(0, 1, (200, 200)).astype(np.float32)
    haloes = np.zeros((3, 200, 200), np.float32)
    haloes[0, :50], rest[:50] = np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        cells = sky_cells(rest, np.ones_like(rest), haloes, 3.0)
    assert len(cells) >= 8 and np.isfinite(cells).all()
    assert np.isfinite(np.array(OutsideSky(cells, rest.shape).at([100.0], [100.0]))).all()


def test_a_star_with_a_value_that_is_none_gets_a_reason():
    truth = WingTruth()
    shape = start_shape(truth.epsf(25, 3), 3, 61, 7.5, 3.0)
    data = (1e6 * truth.plane(61)).astype(np.float32)
    data[30, 40] = np.nan
    star = WingStar(data, np.ones_like(data), np.zeros(2), 1e6, sky=0.0, sky_error=1.0)
    star.background = np.zeros(3)
    with np.errstate(invalid="ignore"):
        fit_halo(star, shape, 0.01)
    assert star.reason


def test_equations_without_a_solution_leave_the_core(scene, monkeypatch, caplog):  # noqa: F811
    def fails(*_, **__):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(wings, "solve_wing", fails)
    made = wings.extended_psf(*scene[:3])
    assert made.meta["wing"] == "none"
    assert "no solution (SVD did not converge)" in made.meta["notes"][0]
    assert made.meta["notes"][0] in caplog.text
