"""Star selection against the simulated truth."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

import psflib
from psflib.errors import NotEnoughStars
from psflib.image.exposure import UNUSABLE, Exposure, MaskBit, has_bits
from psflib.loops.moments import adaptive_moments, fill_holes, fourth_moments
from psflib.simulation import PsfModel, Scene, optimal_snr, render
from psflib.simulation.simulate import SimulateSettings, simulate_field, simulate_pair
from psflib.stars import sources, widths
from psflib.stars.contamination import contamination
from psflib.stars.select import StarSettings, select_stars
from tests.stars import naive_stars as naive


@pytest.fixture(scope="module")
def field():
    return simulate_field(SimulateSettings(seed=3))


@pytest.fixture(scope="module", params=["1", "2"])
def epoch(request, field):
    """An epoch's truth, observation, camera, perfectly prepared exposure, and selected stars."""
    seen, name = field.observations[request.param], request.param
    exposure = seen.exposure.replace(
        image=seen.exposure.image - seen.sky, variance=seen.variance, mask=seen.artefacts,
        sky=float(np.median(seen.sky)), mask_bits="psflib",
    )  # fmt: skip
    truth = field.truth[field.truth["epoch"] == name]
    return truth, seen, field.cameras[name], exposure, select_stars(exposure)


def positions(table):
    return np.c_[table["x"].value, table["y"].value]


def test_moments_equal_their_naive_twin():
    rng = np.random.default_rng(1)
    image = PsfModel(3.5, g1=0.1, g2=-0.1, shape=(41, 41)).at(20, 20, 41, dx=0.3, dy=-0.4)
    image = image * 5000 + rng.normal(0, 1, image.shape)
    usable = rng.uniform(size=image.shape) > 0.02
    out = np.zeros((1, 6))
    adaptive_moments(image, usable, np.array([20.0]), np.array([20.0]), 1.5, 10.0, 2.0, out)
    centre, covariance = naive.adaptive_moments(image, usable, 20, 20, 1.5)
    np.testing.assert_allclose(out[0, :2], centre, atol=1e-9)
    np.testing.assert_allclose(out[0, 2:5], covariance[[0, 0, 1], [0, 1, 1]], atol=1e-8)
    assert out[0, 5] == 1


def test_holes_are_filled_as_by_the_naive_twin():
    image = 5000 * PsfModel(3.5, g1=0.1, g2=-0.1, shape=(41, 41)).at(20, 20, 41, dx=0.3, dy=-0.4)
    usable, out, share = np.ones(image.shape, bool), np.zeros_like(image), np.zeros(1)
    usable[20, 21] = usable[22, 19] = usable[2, 2] = False
    covariance = np.array([[2.4, 0.1, 2.2]])
    at = np.array([20.3]), np.array([19.6])
    fill_holes(image, usable, *at, covariance, 5.0, 0.5, share, out)
    expected, part = naive.fill_holes(image, usable, 20.3, 19.6, covariance[0, [[0, 1], [1, 2]]], 5)
    np.testing.assert_allclose(out, expected, atol=1e-9)
    assert share[0] == pytest.approx(part)
    assert out[20, 21] == pytest.approx(image[20, 21], rel=0.15)  # a Moffat is no Gaussian


@pytest.fixture(scope="module")
def crowd():
    """Image (300 ADU of sky, 1.5 e-/ADU) and x, y, flux of its stars, the brightest first."""
    rng, shape = np.random.default_rng(7), (320, 320)
    x, y = rng.uniform(15, 305, (2, 45))
    flux = np.sort(10 ** rng.uniform(3.3, 5, 45))[::-1]
    light = np.zeros(shape)
    PsfModel(3.0, wing=0.0, shape=shape).render(x, y, flux, light)
    image = rng.poisson(1.5 * (light + 300)) / 1.5 + rng.normal(0, 3, shape)
    return image.astype("f4"), x, y, flux


def selected(image, **planes):
    stars = select_stars(psflib.prepare(Exposure(image, gain=1.5, **planes)))
    return stars[stars["selected"]]


@pytest.mark.parametrize("beside", [0, 1])
def test_stars_with_a_hole_are_used(crowd, beside):
    """A NaN in or beside the core of every bright star: they were all dropped."""
    image, x, y, _ = crowd
    broken, bright = image.copy(), slice(0, 30)
    broken[np.rint(y[bright]).astype(int), np.rint(x[bright]).astype(int) + beside] = np.nan
    whole, found = selected(image), selected(broken)
    assert len(found) >= 0.85 * len(whole)
    places, others = positions(whole), positions(found)
    distance = np.hypot(*(places[:, None] - others).T).T
    pair = np.argmin(distance, axis=1)
    same = distance.min(axis=1) < 1
    assert np.percentile(distance.min(axis=1)[same], 90) < 0.1  # px; 0.3 without the filling
    ratio = (found["flux"][pair] / whole["flux"]).value[same]
    assert 0.96 < np.median(ratio) < 1.03  # a Gaussian for a Moffat; 0.86 without


def test_hot_and_dead_pixels_are_no_light(crowd):
    """1e10 above the saturation counted as light: 23 stars became 16, the others crowded."""
    image, x, y, _ = crowd
    broken = image.copy()
    rows, columns = np.rint(y[:4]).astype(int), np.rint(x[:4]).astype(int)
    broken[rows + 5, columns + 4] = 1e10
    broken[rows - 5, columns - 4] = -32768
    made = psflib.prepare(Exposure(broken, gain=1.5, saturation=60000.0))
    assert not has_bits(made.mask, MaskBit.SAT).any()
    assert has_bits(made.mask, MaskBit.BAD)[rows + 5, columns + 4].all()
    assert has_bits(made.mask, UNUSABLE)[rows - 5, columns - 4].all()
    assert np.median(made.variance[rows + 4, columns + 4]) < 2 * np.median(made.variance)
    assert len(selected(broken, saturation=60000.0)) >= len(selected(image)) - 1


@pytest.mark.parametrize("sigma", [0.6, 1.5])  # the weight is wider than the first
def test_fourth_moments_equal_their_naive_twin_and_are_two_for_a_gaussian(sigma):
    row, col = np.indices((25, 25))
    image = np.exp(-((row - 12.2) ** 2 + (col - 11.9) ** 2) / (2 * sigma**2))
    usable, out = np.ones(image.shape, bool), np.zeros((1, 2))
    known = np.array([[sigma**2, 0.0, sigma**2]])
    fourth_moments(image, usable, np.array([11.9]), np.array([12.2]), known, out)
    twin = naive.fourth_moments(image, usable, 11.9, 12.2, np.eye(2) * sigma**2)
    np.testing.assert_allclose(out[0], twin, rtol=1e-12)
    if sigma > 1:  # sampling leaves 2 exp(-2 pi² M) of it, M = sigma²/2; 0.01 lies past 3.5 sigma
        assert out[0, 1] / out[0, 0] == pytest.approx(2, abs=0.02)


# Axes 2:1 with FWHM 1.3 px would leave 0.92 px to the minor axis: less than the pixel itself.
SHAPES = [(60.0, 0.0), (2.5, 0.0), (4.5, 0.0), (60.0, 1 / 3), (3.0, 1 / 3)]


@pytest.mark.parametrize("fwhm", [1.3, 1.6, 2.4, 3.5, 8.0])
def test_fwhm_within_three_percent(fwhm):
    for beta, shear in SHAPES:
        if fwhm == 1.3 and shear:
            continue
        side = int(max(200, 13 * 6 * fwhm))
        psf = PsfModel(fwhm, 0.8 * shear, 0.6 * shear, beta=beta, wing=0, shape=(side, side))
        rng = np.random.default_rng(2)
        grid = np.arange(5 * fwhm + 10, side - 5 * fwhm - 10, max(20, 10 * fwhm))
        x, y = (a.ravel() + rng.uniform(-0.5, 0.5, a.size) for a in np.meshgrid(grid, grid))
        image = render(Scene.points(x, y, 2e4 * max(1, fwhm / 4)), psf, psf.shape)
        image += rng.normal(0, 5, image.shape)
        variance = np.full(image.shape, 25, np.float32)
        found = widths.estimate_fwhm(image.astype("f4"), variance, np.zeros(image.shape, "u2"))
        assert found == pytest.approx(fwhm, rel=0.03), (beta, shear)


def test_selected_are_stars(epoch):
    truth, _, _, _, stars = epoch
    tree = cKDTree(positions(truth))
    chosen = stars[stars["selected"]]
    assert len(chosen) > 60
    is_star = []
    for near in tree.query_ball_point(positions(chosen), 2.0):
        brightest = max(near, key=lambda i: truth["flux"][i].value, default=None)
        is_star.append(brightest is not None and truth["kind"][brightest] != "galaxy")
    assert np.mean(is_star) >= 0.97
    distance, _ = tree.query(positions(chosen))
    assert np.median(distance) < 0.1


def test_isolated_bright_stars_are_found(epoch):
    truth, seen, camera, _, stars = epoch
    where, flux = positions(truth), truth["flux"].value
    crowd = contamination(*where.T, flux, camera.psf.fwhm)  # of the truth, not of the detections
    inside = np.all((where > 20) & (where < camera.shape[0] - 20), axis=1)
    good = (truth["kind"] == "star") & inside & (crowd < 0.03) & ~truth["on_galaxy"]
    rows = []
    for k in np.flatnonzero(good):
        r, c = np.rint(where[k, ::-1]).astype(int)
        clean = not seen.artefacts[r - 10 : r + 11, c - 10 : c + 11].any()
        # the aperture's S/N is up to 1.5 times less than the optimal one
        bright = optimal_snr(flux[k], *where[k], camera.psf, seen.variance) > 1.5 * 30
        if clean and bright and seen.expected[r, c] < 0.75 * camera.saturation:
            rows.append(k)
    distance, match = cKDTree(positions(stars)).query(where[rows])
    chosen = stars["selected"][match] | (stars["reason"][match] == "more than needed")
    assert len(rows) > 15
    assert np.mean(chosen & (distance < 0.5)) >= 0.8


def test_galaxies_and_saturated_stars_are_rejected(epoch):
    truth, seen, _, exposure, stars = epoch
    chosen = stars[stars["selected"]]
    r, c = np.rint(positions(chosen)[:, ::-1]).astype(int).T
    assert not (seen.artefacts[r, c] & MaskBit.SAT).any()
    assert chosen["peak"].max().value < 0.8 * exposure.saturation
    full = truth[truth["saturated"] & (truth["kind"] == "star") & (truth["flux"].value > 1e6)]
    assert len(full) > 2
    distance, match = cKDTree(positions(stars)).query(positions(full))
    assert np.all(distance < 12)  # seen, though bleeding pulls the centre
    assert not stars["selected"][match].any()


def test_every_row_has_its_reason(epoch):
    stars = epoch[-1]
    assert np.all((stars["reason"] == "none") == stars["selected"])
    assert sum(stars.meta["counts"].values()) == len(stars)
    assert not stars.meta["relaxed"]
    assert {"ra", "dec"} <= set(stars.colnames)
    assert stars["x"].unit == "pix" and stars["flux"].unit == "adu"
    sky = epoch[2].wcs.pixel_to_world(stars["x"].value, stars["y"].value)
    assert np.max(np.abs(sky.dec - stars["dec"])).to_value("arcsec") < 1e-3


def test_reserved_stars_are_a_fifth_and_chosen_by_the_seed(epoch):
    exposure, stars = epoch[3:]
    assert np.sum(stars["reserved"]) == int(0.2 * np.sum(stars["selected"]))
    assert not np.any(stars["reserved"] & ~stars["selected"])
    chosen = stars[stars["selected"]]
    assert not chosen["reserved"][np.argmax(chosen["flux"])], "the brightest is fitted"
    again = select_stars(exposure)
    for name in stars.colnames:
        np.testing.assert_array_equal(stars[name], again[name])
    other = select_stars(exposure, StarSettings(seed=2))
    np.testing.assert_array_equal(stars["selected"], other["selected"])
    assert not np.array_equal(stars["reserved"], other["reserved"])


def test_faint_star_near_a_bright_one_is_detected():
    psf = PsfModel(3.8, shape=(128, 128))
    light = render(Scene.points([50.0, 84.0], [60.0, 62.0], [21000.0, 4500.0]), psf, psf.shape)
    variance = 17.0**2 + light / 1.8
    image = light + np.random.default_rng(4).normal(0, np.sqrt(variance))
    planes = image.astype("f4"), variance.astype("f4"), np.zeros(image.shape, "u2")
    found = sources.detect_sources(*planes, fwhm=3.8)
    assert np.min(np.hypot(found["x"] - 84, found["y"] - 62)) < 0.5


def test_few_stars_are_kept_and_said_so():
    science, _, truth = simulate_pair((128, 128), n_stars=4, faintest=1500, brightest=2500, seed=2)
    stars = select_stars(science)
    assert 1 <= np.sum(stars["selected"]) <= len(truth)
    assert stars.meta["relaxed"] and stars.meta["locus_order"] == -1
    assert not stars["reserved"].any()


def test_no_star_at_all():
    rng = np.random.default_rng(0)
    empty = Exposure(rng.normal(0, 5, (64, 64)), variance=np.full((64, 64), 25.0), sky=0.0)
    with pytest.raises(NotEnoughStars) as caught:
        select_stars(empty)
    assert caught.value.found == 0
    with pytest.raises(ValueError, match="variance"):
        select_stars(Exposure(rng.normal(0, 5, (64, 64))))


def test_all_masked_is_not_a_crash():
    image = np.ones((64, 64), np.float32)
    masked = Exposure(image, variance=image, mask=np.ones((64, 64), bool), sky=0.0)
    with pytest.raises(NotEnoughStars):
        select_stars(masked)


def test_trailed_stars_are_stars():
    psf = PsfModel(3.5, g1=0.3, g2=0.1, shape=(256, 256))
    rng = np.random.default_rng(5)
    x, y = (a.ravel() + rng.uniform(-3, 3, 25) for a in np.mgrid[28:229:50, 28:229:50])
    light = render(Scene.points(x, y, rng.uniform(5e3, 5e4, 25)), psf, psf.shape)
    image = light + rng.normal(0, 5, psf.shape)
    stars = select_stars(Exposure(image, variance=25 + light / 2, gain=2.0, sky=0.0))
    assert np.sum(stars["selected"]) >= 20
    assert "ellipticity" not in stars.meta["counts"]


def test_cells_share_the_stars_out():
    science, _, _ = simulate_pair((512, 512), n_stars=150, faintest=5000, seed=7)
    settings = StarSettings(cell=128, per_cell=2, most=20, enough=1)
    stars = select_stars(science, settings)
    chosen = stars[stars["selected"]]
    cells = np.c_[chosen["x"].value // 128, chosen["y"].value // 128]
    assert np.unique(cells, axis=0, return_counts=True)[1].max() <= 2
    assert len(chosen) == 20
    assert stars.meta["counts"]["more than needed"] > 10


def test_contamination_counts_neighbours_by_light_and_distance():
    x, y = np.array([0.0, 6.0, 100.0]), np.zeros(3)
    share = contamination(x, y, np.array([100.0, 10.0, np.nan]), 3.0)
    overlap = (1 + (2 / 1.32) ** 2) ** -2.6  # 2 FWHM apart
    np.testing.assert_allclose(share[:2], [0.1 * overlap, 10 * overlap])
    assert share[2] == np.inf


def test_reserved_stars_are_like_the_others():
    science, _, _ = simulate_pair((768, 768), n_stars=250, faintest=3000, seed=7)
    stars = select_stars(science, StarSettings(per_cell=100))
    kept, held = (stars[stars["selected"] & (stars["reserved"] == r)] for r in (False, True))
    n = len(held)
    assert n == int(0.2 * (n + len(kept))) and n > 20
    # one star of each run of five fluxes: the medians differ by far less than by chance
    middle = np.searchsorted(np.sort(kept["flux"]), np.median(held["flux"])) / len(kept)
    assert abs(middle - 0.5) < 2 / n
    quarter = (held["x"].value > 384) * 2 + (held["y"].value > 384)
    expected = (kept["x"].value > 384) * 2 + (kept["y"].value > 384)
    share = np.bincount(expected, minlength=4) * n / len(kept)
    assert np.all(np.abs(np.bincount(quarter, minlength=4) - share) <= 0.2 * share + 1)


def test_reasons_of_none_are_told():
    science, _, _ = simulate_pair((96, 96), n_stars=4, faintest=3000, brightest=5000, seed=2)
    with pytest.raises(
        NotEnoughStars, match=r"4 detections \(size 4; see the section select_stars"
    ):
        select_stars(science, StarSettings(fwhm=3.6, max_fwhm=2.0, edge=0))
