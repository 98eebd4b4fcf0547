"""Star selection where stars are hard to tell: galaxies, a varying PSF, no header, a catalogue."""

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from scipy.spatial import cKDTree

from psflib.image.exposure import Exposure
from psflib.simulation import PsfModel, Scene, make_wcs, render
from psflib.stars.catalog import known_kinds
from psflib.stars.locus import stellar_locus
from psflib.stars.saturation import expected_peak, peak_scale, turn_over
from psflib.stars.select import select_stars


def sky(n_stars, n_galaxies, psf, seed=1, response=None, steepness=1.2):
    """Exposure without saturation level, positions of the stars, positions of the galaxies."""
    rng, (ny, nx) = np.random.default_rng(seed), psf.shape
    n = n_stars + n_galaxies
    x, y = rng.uniform(0, nx, n), rng.uniform(0, ny, n)
    flux = 1500 * rng.uniform(size=n) ** -steepness
    size = np.where(np.arange(n) < n_stars, 0, np.exp(rng.uniform(np.log(0.7), np.log(5), n)))
    scene = Scene(x, y, flux, size, np.ones(n), rng.uniform(0.3, 1, n), rng.uniform(0, np.pi, n))
    light = render(scene, psf, psf.shape)
    image = light + rng.normal(0, np.sqrt(100 + light / 2))
    if response is not None:
        image = response(image)
    exposure = Exposure(image, variance=100 + light / 2, gain=2.0, sky=0.0)
    where = np.c_[x, y]
    return exposure, where[:n_stars], where[n_stars:]


def nearest_is_star(stars, points, others):
    """For each selected star whether a true star is the nearest source."""
    chosen = stars[stars["selected"]]
    at = np.c_[chosen["x"].value, chosen["y"].value]
    return cKDTree(points).query(at)[0] < cKDTree(others).query(at)[0]


def test_locus_follows_the_field_and_leaves_galaxies_out():
    rng = np.random.default_rng(6)
    n, shape = 300, (1000, 1000)
    x, y = rng.uniform(0, 1000, (2, n))
    trend = 3 * (1 + 0.2 * (x / 500 - 1) - 0.1 * (y / 500 - 1) ** 2)
    galaxy = np.arange(n) < 0.7 * n
    size = trend * np.exp(rng.normal(0, 0.015, n))
    size[galaxy] *= rng.uniform(1.15, 3, galaxy.sum())
    locus = stellar_locus(x, y, size, np.full(n, 100.0), shape, 0.1)
    assert locus.order >= 2 and locus.state == "clear"
    assert locus.member[~galaxy].mean() > 0.95
    assert locus.member[galaxy].mean() < 0.03
    # 90 stars of scatter 0.015 and 6 to 10 terms: 0.005 rms, 3 times that at the border
    assert np.max(np.abs(np.log(locus.size(x, y) / trend))) < 0.03


def test_few_sources_make_no_locus():
    three = stellar_locus([1, 2, 3], [1, 2, 3], [3.0, 3.1, 9.0], [50, 50, 50], (9, 9), 0.1)
    np.testing.assert_array_equal(three.member, [True, True, False])
    assert three.state == "too few" and three.order == -1
    np.testing.assert_allclose(three.size(5, 5), np.sqrt(3.0 * 3.1))
    assert stellar_locus([], [], [], [], (9, 9), 0.1).state == "too few"


@pytest.mark.parametrize("variation", [0.0, 0.25])
def test_stars_among_three_times_as_many_galaxies(variation):
    psf = PsfModel(3.2, variation=variation, shape=(700, 700))
    exposure, stars, galaxies = sky(120, 360, psf)
    table = select_stars(exposure)
    right = nearest_is_star(table, stars, galaxies)
    assert table.meta["locus"] == "clear" and not table.meta["relaxed"]
    assert len(right) > 30
    assert right.mean() >= 0.97


def test_galaxies_alone_are_no_clear_locus():
    exposure, _, _ = sky(0, 360, PsfModel(3.2, shape=(700, 700)))
    table = select_stars(exposure)
    assert table.meta["locus"] == "doubtful"
    assert "doubtful stellar locus" in table.meta["relaxed"]


def test_undersampled_stars_are_selected():
    exposure, stars, _ = sky(150, 0, PsfModel(1.3, shape=(512, 512)))
    table = select_stars(exposure)
    assert table.meta["locus"] == "clear"
    assert table.meta["fwhm"] == pytest.approx(1.3, rel=0.03)
    passed = np.isin(table["reason"], ["none", "more than needed"])
    assert passed.sum() > 0.75 * len(stars)


def test_saturation_is_seen_without_a_level():
    def soft(image):  # 4 % below linear at 8000 ADU, 11 % at 10000
        return np.where(image < 6000, image, 6000 + 4000 * np.tanh((image - 6000) / 4000))

    psf = PsfModel(3.2, shape=(700, 700))
    straight, _, _ = sky(400, 0, psf, steepness=2)
    assert "turn_over" not in select_stars(straight).meta
    bent, _, _ = sky(400, 0, psf, response=soft, steepness=2)
    table = select_stars(bent)
    assert 6000 < table.meta["turn_over"] < 10500
    assert table["peak"][table["selected"]].max().value < 8500
    assert table["peak"][table["reason"] == "saturated"].max().value > 9000


def test_turn_over_needs_stars_and_is_not_made_by_galaxies():
    rng = np.random.default_rng(3)
    flux = 10 ** rng.uniform(3, 6, 90)
    x, y = rng.uniform(0, 100, (2, 90))
    expected = expected_peak(x, y, flux, 3.0)
    peak = 0.9 * expected * np.exp(rng.normal(0, 0.02, 90))
    expected *= peak_scale(peak, expected)
    assert turn_over(peak, expected) is None
    galaxy = rng.uniform(size=90) < 0.5
    assert turn_over(np.where(galaxy, 0.4 * peak, peak), expected) is None
    level = turn_over(np.minimum(peak, 2e4), expected)
    assert 1.8e4 < level < 2.6e4
    assert turn_over(peak[:10], expected[:10]) is None


def test_a_catalogue_only_adds():
    exposure, _, _ = sky(60, 60, PsfModel(3.2, shape=(400, 400)))
    exposure = exposure.replace(wcs=make_wcs(exposure.shape))
    alone = select_stars(exposure)
    assert np.all(select_stars(exposure, catalog=Table({"x": [], "y": []})) == alone)
    first = alone[alone["selected"]][0]
    off = alone[alone["reason"] == "not on the stellar locus"][0]
    # 0.3 arcsec are within the match radius, 2 are not
    catalog = Table(
        {
            "ra": [first["ra"].value, off["ra"].value, off["ra"].value, np.nan],
            "dec": [
                first["dec"].value + 0.3 / 3600, off["dec"].value, off["dec"].value + 2 / 3600, 1.0
            ],
            "parallax": MaskedColumn([1.0, 5.0, 1.0, 9.0], mask=[True, False, False, False]),
            "parallax_error": [0.1, 1.0, 1.0, 1.0],
            "galaxy": [True, False, True, False],
        }
    )  # fmt: skip
    told = select_stars(exposure, catalog=catalog)
    assert told["reason"][first["id"]] == "galaxy in the catalogue"
    assert told["selected"][off["id"]]
    with pytest.raises(ValueError, match="ra, dec"):
        select_stars(exposure, catalog=Table({"name": ["a"]}))
    with pytest.raises(ValueError, match="WCS"):
        select_stars(exposure.replace(wcs=None), catalog=catalog)


def test_motions_count_and_nothing_else_does():
    x = np.arange(5.0)
    catalog = Table(
        {
            "x": x, "y": x, "pmra": [-9.0, 2.0, 0, 0, 9], "pmra_error": np.ones(5),
            "parallax": [0.0, 0, -9, 9, 0], "parallax_error": np.ones(5),
            "in_galaxy_candidates": [False, False, False, False, True],
        }
    )  # fmt: skip
    star, galaxy = known_kinds(catalog, x, x + 0.1, None, 0.5)
    np.testing.assert_array_equal(star, [True, False, False, True, False])
    np.testing.assert_array_equal(galaxy, [False, False, False, False, True])
    star, galaxy = known_kinds(catalog, x + 0.4, x + 0.4, None, 0.5)
    assert not star.any() and not galaxy.any()
