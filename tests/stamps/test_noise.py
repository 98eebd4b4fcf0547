"""Weights of stamps: no bias of fluxes, other sources' light left out, the error of the sky."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from psflib.image.exposure import Exposure, MaskBit
from psflib.products import read_stamps, write_stamps
from psflib.psf import fit_stars
from psflib.simulation.psf_model import PsfModel
from psflib.simulation.scene import Scene, render
from psflib.stamps.build import StampSettings, build_stamps, pixels
from psflib.stamps.noise import sky_error, weigh
from psflib.stars.neighbors import distances
from psflib.stars.profile import fit_profile, masked_medians, offsets

SHAPE, FWHM, SIZE, OVERSAMPLE = (560, 560), 2.8, 25, 5
SKY_VARIANCE, GAIN = 100.0, 2.0
PSF = PsfModel(FWHM, g1=0.1, shape=SHAPE)


def field(seed=0, snr=(20.0, 1000.0), extra=(), n=13):
    """Stars on a loose grid: image, true variance, star table.  `extra`: (dx, dy, share) of all."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(*(np.linspace(25, SHAPE[1] - 26, n),) * 2)
    x, y = (a.ravel() + rng.uniform(-0.5, 0.5, a.size) for a in (x, y))
    aim = snr[0] * (snr[1] / snr[0]) ** rng.random(x.size)
    pixels_of_noise = 4 * np.pi * (FWHM / 2.355) ** 2
    half = aim**2 / GAIN / 2
    flux = half + np.sqrt(half**2 + aim**2 * pixels_of_noise * SKY_VARIANCE)
    scene = Scene.points(x, y, flux)
    for dx, dy, share in extra:
        scene = scene + Scene.points(x + dx, y + dy, flux * share)
    light = render(scene, PSF, SHAPE, 10.0)
    variance = SKY_VARIANCE + light / GAIN
    image = light + rng.normal(size=SHAPE) * np.sqrt(variance)
    stars = QTable({"id": np.arange(len(x)), "x": x * u.pix, "y": y * u.pix})
    stars["flux"], stars["snr"] = flux * u.adu, aim
    stars["selected"], stars["reserved"] = True, False
    stars.meta["fwhm"] = FWHM
    return image, variance, stars


def epsf():
    return PSF.at(280, 280, size=SIZE * OVERSAMPLE, step=1 / OVERSAMPLE)


def fit(stamps, stars, weight):
    """Fluxes over the true ones, their errors, reduced chi² and skies, under the true PSF."""
    rows = np.searchsorted(stars["id"], stamps.table["id"])
    x, y, flux = (pixels(stars[c])[rows] for c in ("x", "y", "flux"))
    half = SIZE // 2
    delta = np.column_stack([y - stamps.table["row0"] - half, x - stamps.table["col0"] - half])
    found = fit_stars(epsf(), stamps.data, delta, oversample=OVERSAMPLE, weight=weight)
    error = np.sqrt(found.covariance[:, 0, 0]) / flux
    return found.flux / flux, error, found.chi2 / found.dof, found.background


def windows(plane, stamps):
    corners = zip(stamps.table["row0"], stamps.table["col0"], strict=True)
    return np.array([plane[r : r + SIZE, c : c + SIZE] for r, c in corners], np.float32)


@pytest.mark.parametrize("plane", ["true", "noisy"])
def test_fluxes_are_as_with_the_true_variance(plane):
    """From S/N 20 to 1000, also if the variance follows the noise of every pixel."""
    shift, errors, skies, raw = [], [], [], []
    for seed in range(4):
        image, variance, stars = field(seed)
        given = variance if plane == "true" else np.maximum(SKY_VARIANCE + image / GAIN, 1.0)
        stamps = build_stamps(Exposure(image, given, sky=0.0), stars, StampSettings(size=SIZE))
        assert len(stamps.data) == len(stars) and (stamps.weight > 0).all()
        assert abs(stamps.meta["photon_slope"] * GAIN - 1) < 0.01
        best, error, _, sky = fit(stamps, stars, 1 / windows(variance, stamps))
        ours, _, chi2, background = fit(stamps, stars, stamps.weight)
        dof = SIZE**2 - 4
        # The mean of n reduced chi² is known to sqrt(2/(n dof)); 1 % is for the smooth variance.
        assert abs(chi2.mean() - 1) < 5 * np.sqrt(2 / dof / len(chi2)) + 0.01
        shift.append((ours - best) / error)
        skies.append(background - sky)
        raw.append(fit(stamps, stars, 1 / windows(given, stamps))[3] - sky)
        errors.append((ours - 1) / error)
    shift, errors, skies, raw = (np.concatenate(a) for a in (shift, errors, skies, raw))
    assert abs(shift.mean()) < 0.02  # of a star's own error
    assert abs(errors.mean()) < 5 / np.sqrt(len(errors))
    assert 0.9 < errors.std() < 1.1
    assert abs(skies.mean()) < 0.02  # ADU
    if plane == "noisy":  # the probe sees what it is for: weights 1/(σ² + n/g) pull by -1/g
        assert abs(raw.mean() + 1 / GAIN) < 0.1


def test_the_model_of_the_solver_refines_the_weights():
    image, variance, stars = field(1)
    stamps = build_stamps(Exposure(image, variance, sky=0.0), stars, StampSettings(size=SIZE))
    truth = windows(variance, stamps)
    model = (truth - SKY_VARIANCE) * GAIN
    refined = stamps.weight_under(model)
    np.testing.assert_allclose(refined * truth, 1, atol=0.03)  # the sky's variance is measured
    error = np.abs(stamps.weight * truth - 1).max()
    assert np.abs(refined * truth - 1).max() < error < 0.5


def test_neighbours_in_the_table_leave_no_light():
    """10 % of the flux at 3.5 FWHM: what is left of it is below the noise."""
    image, variance, stars = field(2, (100, 1000), extra=[(7.0, 7.0, 0.1)])
    companions = stars.copy()
    companions["x"] += 7 * u.pix
    companions["y"] += 7 * u.pix
    companions["flux"] *= 0.1
    companions["selected"] = False
    companions["id"] += 1000
    table = QTable(np.concatenate([stars.as_array(), companions.as_array()]))
    table.meta.update(stars.meta)
    check_unbiased(image, variance, table, stars)


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
def test_neighbours_nobody_saw_are_found(share):
    image, variance, stars = field(3, (200, 1000), extra=[(7.0, 6.0, share)])
    # In every second star only: what all stars have is taken for the PSF.
    clean, _, _ = field(3, (200, 1000))
    half = np.arange(SHAPE[1]) > SHAPE[1] // 2
    image[:, half] = clean[:, half]
    check_unbiased(image, variance, stars, stars)


def check_unbiased(image, variance, table, stars):
    stamps = build_stamps(Exposure(image, variance, sky=0.0), table, StampSettings(size=SIZE))
    ratio, error, chi2, _ = fit(stamps, stars, stamps.weight)
    assert len(stamps.data) > 0.9 * len(stars)
    assert np.median(np.abs(ratio - 1) / error) < 1.5
    assert np.percentile(chi2, 90) < 1.3
    masked = stamps.table["masked"]
    assert np.count_nonzero(masked > 0.02) > 0.4 * len(stars) and masked.max() < 0.6


def test_what_all_stars_have_is_not_a_neighbour():
    """A blob beside every star belongs to the PSF: it must not be masked."""
    image, variance, stars = field(4, (100, 1000), extra=[(4.0, -3.0, 0.05)])
    stamps = build_stamps(Exposure(image, variance, sky=0.0), stars, StampSettings(size=SIZE))
    assert np.mean(stamps.table["masked"] > 0.01) < 0.05


def test_a_ray_in_the_wing_is_masked():
    image, variance, stars = field(5, (50, 300))
    row, col = (round(stars[c][40].value) for c in ("y", "x"))
    image[row + 6, col - 5 : col - 2] += 400.0
    stamps = build_stamps(Exposure(image, variance, sky=0.0), stars, StampSettings(size=SIZE))
    k = int(np.flatnonzero(stamps.table["id"] == 40)[0])
    r, c = row - stamps.table["row0"][k], col - stamps.table["col0"][k]
    assert not stamps.weight[k, r + 6, c - 5 : c - 2].any() and stamps.weight[k, r, c] > 0


def test_seams_of_the_given_variance_stay():
    image, variance, stars = field(6, (30, 300))
    seam = np.arange(SHAPE[1]) % 37 < 12
    deep = variance.copy()
    deep[:, seam] *= 4
    noise = np.random.default_rng(1).normal(size=SHAPE) * np.sqrt(np.maximum(deep - variance, 0))
    stamps = build_stamps(Exposure(image + noise, deep, sky=0.0), stars, StampSettings(size=SIZE))
    truth = windows(deep, stamps)
    used = stamps.weight > 0
    inside = used & (windows(np.broadcast_to(seam, SHAPE), stamps) > 0)
    # At the very seam 3 × 3 pixels hold both.
    assert abs(np.median(stamps.weight[inside] * truth[inside]) - 1) < 0.1
    assert abs(np.median(stamps.weight[used & ~inside] * truth[used & ~inside]) - 1) < 0.1


@pytest.mark.parametrize("correlated", [False, True])
def test_sky_error_is_the_scatter_of_the_sky(correlated):
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(7)
    dy, dx = np.mgrid[-12:13, -12:13]
    ring = np.hypot(dy, dx) > 9
    means, errors = [], []
    for _ in range(400):
        noise = rng.normal(size=(45, 45))
        noise = (gaussian_filter(noise, 1.0) if correlated else noise)[10:35, 10:35]
        means.append(noise[ring].mean())
        errors.append(sky_error(noise, ring, dy, dx))
    # Sectors of 50 px know of noise that is correlated over 2 or 3 px.
    assert 0.85 < np.mean(errors) / np.std(means) < 1.35
    assert np.isnan(sky_error(noise, ring & (dy > 11) & (dx > 6), dy, dx))


def test_profile_is_the_psf():
    image, variance, stars = field(8, (200, 1000))
    stamps = build_stamps(Exposure(image, variance, sky=0.0), stars, StampSettings(size=SIZE))
    good = stamps.weight > 0
    profile, flux, sky, _ = fit_profile(stamps.data, good, stamps.delta, FWHM)
    truth = PSF.at(280, 280, size=SIZE)
    found = profile.at(*(a[0] for a in offsets(np.zeros((1, 2)), SIZE)))
    inner = distances(truth.shape, (12, 12)) < 3 * FWHM
    found = found * (truth[inner] @ found[inner]) / (found[inner] @ found[inner])
    assert np.linalg.norm((found - truth)[inner]) < 0.06 * np.linalg.norm(truth[inner])
    assert np.abs(sky).max() < 0.3 * np.sqrt(SKY_VARIANCE)
    assert np.std(flux / pixels(stars["flux"])) < 0.05


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_stars(n):
    image, variance, stars = field(9, (50, 500))
    mask = np.zeros(SHAPE, np.uint16)
    x, y = (round(pixels(stars[c])[0]) for c in ("x", "y"))
    mask[y + 2, x + 1] = MaskBit.BAD
    stars["selected"] = np.arange(len(stars)) < n
    stamps = build_stamps(Exposure(image, variance, mask, sky=0.0), stars, StampSettings(size=SIZE))
    assert len(stamps.data) == n and (stamps.weight[0] == 0).sum() == 1
    assert np.isfinite(stamps.weight).all() and np.isfinite(stamps.table["snr"]).all()
    assert (pixels(stamps.table["background_err"]) > 0).all()
    ratio = stamps.weight * windows(variance, stamps)
    assert np.percentile(np.abs(ratio[stamps.weight > 0] - 1), 99) < 0.3


def test_products_keep_the_noise(tmp_path):
    image, variance, stars = field(1)
    stamps = build_stamps(Exposure(image, variance, sky=0.0), stars, StampSettings(size=SIZE))
    write_stamps(tmp_path / "stamps.fits", stamps)
    again = read_stamps(tmp_path / "stamps.fits")
    assert again.meta == stamps.meta and again.table.colnames == stamps.table.colnames
    for name in stamps.table.colnames:
        np.testing.assert_array_equal(pixels(again.table[name]), pixels(stamps.table[name]))
        assert getattr(again.table[name], "unit", None) == getattr(stamps.table[name], "unit", None)
    model = np.ones(stamps.data.shape)
    np.testing.assert_array_equal(again.weight_under(model), stamps.weight_under(model))


@pytest.mark.parametrize("kind", ["noise", "empty", "negative", "bright", "lost"])
def test_weights_are_finite_whatever_comes(kind):
    rng = np.random.default_rng(10)
    for n, size, fwhm, missing in ((1, 9, 1.3, 0.1), (9, 25, 2.8, 0.9), (4, 21, 6.0, 1.0)):
        data = rng.normal(size=(n, size, size)) * 10
        if kind in ("empty", "negative"):
            data[:] = {"empty": 0.0, "negative": -5.0}[kind]
        if kind == "bright":
            data += 1e5 * np.exp(-0.5 * distances((size, size), (size // 2,) * 2) ** 2)
        good = rng.random(data.shape) > missing
        if kind == "lost":
            good[0] = False
        data[~good] = 0
        variance = np.where(good, 100 + np.maximum(data, 0), 0)
        others = [(rng.uniform(-5, size + 5, (3, 2)), rng.uniform(0, 2, 3)) for _ in range(n)]
        delta = rng.uniform(-0.5, 0.5, (n, 2))
        noise = weigh(data, variance, good, delta, others, fwhm)
        for values in (noise.weight, noise.sky_variance, noise.background_err, noise.snr):
            assert np.isfinite(values).all()
        assert np.isfinite(noise.slope) and not noise.weight[~good].any()


def test_medians_of_stamps():
    rng = np.random.default_rng(8)
    values, use = rng.normal(size=(5, 9, 9)), rng.uniform(size=(5, 9, 9)) < 0.6
    use[3] = False
    found = masked_medians(values, use)
    expected = [np.median(v[u]) if u.any() else np.nan for v, u in zip(values, use, strict=True)]
    np.testing.assert_array_equal(found, expected)
