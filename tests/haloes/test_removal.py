"""Bright stars with haloes removed: the truth, the order, the variance, bad input."""

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable, vstack

from psflib.haloes import (
    HaloSettings,
    SubtractStarsSettings,
    fit_haloes,
    interpolate_saturated,
    subtract_stars,
)
from psflib.haloes.choice import choose_stars
from psflib.haloes.equations import cut_patch, neighbours, solve
from psflib.haloes.model import boxes, overlap, profiles, reach_of, unit_halo
from psflib.image.exposure import Exposure, MaskBit, has_bits
from psflib.image.fill import fill_masked
from psflib.simulation.halo_psf import HaloPsf
from psflib.simulation.haloes import halo_field

PSF = HaloPsf(fwhm=3.5)
SKY_SIGMA = np.sqrt(125.0)  # of `halo_field`, ADU
RINGS = ((10, 15), (15, 30), (30, 60), (60, 100))  # px


@pytest.fixture(scope="module")
def field():
    return halo_field((512, 512), seed=4, n_bright=12, n_faint=400, psf=PSF)


def moved(stars, sigma, seed=1):
    """Positions as a detection gives them: off by `sigma` px."""
    rng, out = np.random.default_rng(seed), stars["id", "x", "y"].copy()
    for name in ("x", "y"):
        out[name] += rng.normal(0, sigma, len(out)) * u.pix
    return out


@pytest.fixture(scope="module")
def starless(field):
    return subtract_stars(field.exposure, moved(field.stars, 0.3), PSF)


def ring_means(field, light):
    """Mean of true less removed light on rings about each star, in sigma of the sky (n, rings).

    Without the inner 10 px of all stars: no fit has seen these.
    """
    ny, nx = field.exposure.shape
    y, x = np.mgrid[:ny, :nx]
    left = (field.light - light - np.median(field.light - light)) / SKY_SIGMA
    places = zip(field.stars["x"].value, field.stars["y"].value, strict=True)
    r = [np.hypot(x - x_, y - y_) for x_, y_ in places]
    outside = np.min(r, axis=0) >= RINGS[0][0]
    return np.array([[left[(d >= a) & (d < b) & outside].mean() for a, b in RINGS] for d in r])


def test_nothing_of_overlapping_haloes_is_left(field, starless):
    before, after = ring_means(field, 0 * field.light), ring_means(field, starless.light)
    assert np.abs(before)[:, 0].mean() > 5
    assert starless.removed["ok"].all()
    assert np.abs(after).max() < 1, "sigma of one pixel, mean of a ring"


def test_fluxes_positions_and_their_errors(field, starless):
    table = starless.removed
    relative = table["flux"] / field.stars["flux"] - 1
    # the fit leaves 3 FWHM out; fluxes of 1e6 ADU are known to 1 to 2 % from the halo alone
    assert np.sqrt(np.mean(relative**2)) < 0.02
    pulls = (table["flux"] - field.stars["flux"]) / table["flux_err"]
    assert np.sqrt(np.mean(pulls**2)) < 3
    off = np.hypot(table["x"] - field.stars["x"], table["y"] - field.stars["y"])
    bright = field.stars["flux"] > 5e6 * u.adu
    assert np.median(off[bright]) < 0.1 * u.pix


def test_the_order_of_the_stars_does_not_matter(field):
    stars = moved(field.stars, 0.3)
    order = np.random.default_rng(0).permutation(len(stars))
    one = fit_haloes(field.exposure, stars, PSF).table
    other = fit_haloes(field.exposure, stars[order], PSF).table
    for name in ("flux", "flux_err", "sky", "x", "y", "chi2"):
        assert np.allclose(one[name][order], other[name], rtol=1e-9, atol=0), name
    assert (one["id"][order] == other["id"]).all()


def test_one_by_one_is_not_the_joint_solution(field):
    """What the joint equations are for: alone, a star takes its neighbours' light."""
    x, y = field.stars["x"].value, field.stars["y"].value
    apart = np.hypot(x[:, None] - x, y[:, None] - y) + 1e9 * np.eye(len(x))
    close = np.flatnonzero(apart.min(axis=1) < 40)
    assert len(close) >= 2
    truth = field.stars["flux"].value[close]
    alone = [fit_haloes(field.exposure, field.stars[[i]], PSF).table["flux"][0] for i in close]
    joint = fit_haloes(field.exposure, field.stars, PSF).flux[close]
    error = np.abs([float(flux.value) for flux in alone] - truth)
    assert np.abs(joint - truth).mean() < 0.5 * error.mean()


def test_the_joint_system_is_that_of_all_unknowns():
    """Against plain least squares of two stars and one sky on one common patch, without noise."""
    image = np.zeros((61, 61))
    haloes = [unit_halo(PSF, x, 30.0, 60, image.shape) for x in (24.0, 37.3)]
    for halo, flux in zip(haloes, (3e4, 5e4), strict=True):
        image[halo.box] += flux * halo.light
    image += 7 + np.random.default_rng(0).normal(0, 1, image.shape)
    exposure = Exposure(image, np.ones(image.shape), meta={"fwhm": 3.5})
    patches = [cut_patch(exposure, exposure.weight(), 30.0, 30.0, 0, 100, 1) for _ in range(2)]
    near = neighbours(patches, haloes)
    got = solve(patches, haloes, near, [patch.weight for patch in patches])
    design = np.stack([h.light.ravel() for h in haloes] + [t.ravel() for t in patches[0].terms])
    normal = design @ design.T
    expected = np.linalg.solve(normal, design @ exposure.image.ravel().astype(float))
    assert np.allclose(got.flux, expected[:2], rtol=1e-6)
    assert np.allclose(got.covariance, np.linalg.inv(normal)[:2, :2], rtol=1e-5)


def test_variance_grows_by_the_errors_of_flux_and_profile(field):
    doubtful = dataclasses.replace(PSF, error=0.05)
    settings = SubtractStarsSettings(refit_background=False)
    made = subtract_stars(field.exposure, field.stars, doubtful, settings)
    added = made.exposure.variance - field.exposure.variance
    ok = np.asarray(made.removed["ok"])
    squares = np.zeros(field.light.shape)
    for row in made.removed[ok]:
        halo = unit_halo(PSF, row["x"].value, row["y"].value, row["radius"].value, squares.shape)
        doubt = np.hypot(0.05 * row["flux"].value, row["flux_err"].value)
        squares[halo.box] += (doubt * halo.light) ** 2
    where = squares > 1
    # flux_err holds the root of chi2 too, by which the covariance is not scaled
    assert np.allclose(added[where], squares[where], rtol=0.1)
    plain = subtract_stars(field.exposure, field.stars, PSF, settings)
    assert (plain.exposure.variance <= made.exposure.variance).all()


def test_cores_stay_masked_hold_zero_and_haloes_are_flagged(field, starless):
    old, new = field.exposure, starless.exposure
    saturated = has_bits(old.mask, MaskBit.SAT)
    assert (has_bits(new.mask, MaskBit.SAT) == saturated).all()
    filled = has_bits(new.mask, MaskBit.INTERP)
    assert filled.sum() > 0.9 * saturated.sum() and not (filled & ~saturated).any()
    assert (new.image[filled] == 0).all()
    assert (has_bits(new.mask, MaskBit.HALO) == (starless.light > 0.1 * SKY_SIGMA)).mean() > 0.99
    assert np.isfinite(new.image).all() and (new.variance[new.usable] > 0).all()


def test_the_background_is_estimated_anew(field):
    off = field.exposure.replace(image=field.exposure.image + 20)
    made = subtract_stars(off, field.stars, PSF)
    sky = made.exposure.usable & (field.light + 1 > 0)
    assert abs(np.median(made.exposure.image[sky])) < 0.2 * SKY_SIGMA
    assert made.exposure.sky == pytest.approx(20, abs=0.3 * SKY_SIGMA)


def test_saturated_cores_are_filled_for_convolution_and_stay_masked(field):
    filled = interpolate_saturated(field.exposure, field.stars, PSF)
    core = has_bits(filled.mask, MaskBit.INTERP)
    assert core.any() and (has_bits(filled.mask[core], MaskBit.SAT)).all()
    assert not filled.usable[core].any()
    bright = core & (field.light > 1e4)
    error = filled.image[bright] / field.light[bright] - 1
    assert np.median(np.abs(error)) < 0.1  # positions are known to a tenth of a px
    same = ~core
    assert (filled.image[same] == field.exposure.image[same]).all()
    image, _ = fill_masked(filled)
    assert (image[core] == filled.image[core]).all(), "no other filling touches them"


def test_stars_that_cannot_be_fitted_say_why(field):
    nx = field.exposure.shape[1]
    extra = QTable(
        {
            "id": [100, 101, 102],
            "x": [5 * nx, field.stars["x"][0].value + 0.5, np.nan] * u.pix,
            "y": [10.0, field.stars["y"][0].value, 3] * u.pix,
        }
    )
    hole = field.light.argmin()
    row, col = np.unravel_index(hole, field.light.shape)
    dark = field.exposure.image.copy()
    y, x = np.indices(dark.shape)
    r = np.hypot(y - row, x - col)
    dark -= (300 / (1 + r / 10)).astype(np.float32)
    dip = QTable({"id": [103], "x": [float(col)] * u.pix, "y": [float(row)] * u.pix})
    table = vstack([field.stars["id", "x", "y"][1:], extra, dip])
    made = subtract_stars(field.exposure.replace(image=dark), table, PSF)
    rows = {row["id"]: row for row in made.removed}
    assert 102 not in rows, "no position, no row"
    assert rows[100]["reason"] == "fewer than 20 pixels"
    assert rows[103]["reason"] == "no positive amplitude"
    for k in (100, 103):
        assert not rows[k]["ok"] and np.isnan(rows[k]["flux"]) and np.isnan(rows[k]["radius"])


def test_a_detection_within_another_star_is_given_up(field):
    first = field.stars[0]
    twice = QTable(
        {
            "id": [1, 2],
            "x": [first["x"].value, first["x"].value + 1] * u.pix,
            "y": [first["y"].value, first["y"].value] * u.pix,
            "flux": [2.0, 1.0] * u.adu,
        }
    )
    table = fit_haloes(field.exposure, twice, PSF).table
    assert list(table["reason"]) == ["none", "in the core of a brighter star"]


def test_galaxies_and_faint_stars_are_left(field):
    n = len(field.stars)
    table = field.stars["id", "x", "y", "flux"].copy()
    table["reason"] = np.array(["saturated"] * n, dtype="U30")
    table["reason"][:2] = "not on the stellar locus"
    mean, _ = profiles(PSF, 400)
    rows, _ = choose_stars(field.exposure, table, mean, 3.5, HaloSettings())
    assert set(rows) <= set(range(2, n)) and len(rows) > n // 2
    table["reason"] = "none"
    table["flux"] = 100 * u.adu
    assert len(choose_stars(field.exposure, table, mean, 3.5, HaloSettings())[0]) == 0


def test_no_star_changes_nothing(field):
    made = subtract_stars(field.exposure, field.stars[:0], PSF)
    assert len(made.removed) == 0 and not made.light.any()
    assert (made.exposure.image == field.exposure.image).all()


def test_all_masked_and_tiny_images(field):
    blind = field.exposure.replace(mask=np.full(field.light.shape, MaskBit.BAD, np.uint16))
    made = subtract_stars(blind, field.stars, PSF)
    assert not made.removed["ok"].any() and np.isnan(made.removed["flux"]).all()
    tiny = field.exposure.cutout(slice(0, 9), slice(0, 7))
    made = subtract_stars(tiny, QTable({"x": [3.0] * u.pix, "y": [4.0] * u.pix}), PSF)
    assert not made.removed["ok"].any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": {"core": 40.0}}, "core = 40.0, fwhm = 3.5 px .core radius 140 px.*100.0"),
        ({"settings": {"fit_radius": 900.0}}, "fit_radius = 900.0 px, max_radius = 400 px"),
        ({"columns": ["id", "x"]}, "no column y"),
        ({"variance": None}, "no variance"),
        ({"meta": {}}, "fwhm"),
    ],
)
def test_bad_calls_are_refused_with_numbers(field, change, words):
    exposure, stars = field.exposure, field.stars
    exposure = exposure.replace(**{k: v for k, v in change.items() if k in ("variance", "meta")})
    stars = stars[change.get("columns", stars.colnames)]
    settings = SubtractStarsSettings(**change.get("settings", {}))
    with pytest.raises(ValueError, match=words):
        subtract_stars(exposure, stars, PSF, settings)


def test_boxes_at_the_border_and_overlaps():
    image, stamp = boxes(1.2, 2.9, 4, (10, 12))
    assert image == (slice(0, 8), slice(0, 6)) and stamp == (slice(1, 9), slice(3, 9))
    assert overlap(image, boxes(30.0, 2.0, 4, (10, 40))[0]) is None
    here, there = overlap(image, (slice(5, 9), slice(4, 12)))
    assert here == (slice(5, 8), slice(4, 6)) and there == (slice(0, 3), slice(0, 2))


def test_the_reach_is_where_the_light_ends():
    _, top = profiles(PSF, 200)
    for flux in (1e4, 1e6):
        reach = int(reach_of([flux], top, 0.5)[0])
        light = flux * PSF.at(401)
        y, x = np.mgrid[-200:201, -200:201]
        r = np.rint(np.hypot(x, y))
        assert light[(r >= reach) & (r <= 200)].max() <= 0.5
        assert light[r == reach - 1].max() > 0.5
    assert reach_of([-1.0, 0.0], top, 0.5).tolist() == [0, 0]
