"""Stamps, core PSF and wings against simulated truth."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from psflib.errors import NotEnoughStars
from psflib.image import polynomial
from psflib.image.exposure import Exposure, MaskBit
from psflib.psf.core.field import PsfField
from psflib.psf.core.stage import EpsfSettings, core_epsf
from psflib.psf.wings.stage import ExtendedSettings, extended_psf, radial_profile
from psflib.stamps.build import Stamps, StampSettings, build_stamps
from tests.psf import naive_psf as naive

SKY_VARIANCE = 100.0
FWHM = 2.6


def profile(size, delta, fwhm=FWHM):
    """A lopsided PSF: a Moffat with a fainter, broader companion beside it."""
    side = (delta[0] + 0.1 * fwhm, delta[1] - 0.15 * fwhm)
    main = naive.moffat(size, fwhm, 3.0, delta)
    return 0.85 * main + 0.15 * naive.moffat(size, 1.2 * fwhm, 3.0, side)


def scene(n=60, shape=(420, 440), seed=2, fluxes=(5e3, 1e5), reach=61, apart=25):
    """Exposure, star table and true fluxes; stars keep `apart` px from each other."""
    rng = np.random.default_rng(seed)
    places = []
    while len(places) < n:
        y, x = rng.uniform(25, shape[0] - 25), rng.uniform(25, shape[1] - 25)
        if all(np.hypot(y - b, x - a) > apart for a, b in places):
            places.append((x, y))
    x, y = np.transpose(places)
    flux = fluxes[0] * (fluxes[1] / fluxes[0]) ** rng.random(n)
    light = np.zeros((shape[0] + 2 * reach, shape[1] + 2 * reach))
    for x_, y_, f in zip(x, y, flux, strict=True):
        row, col = round(y_), round(x_)
        box = np.s_[row + reach // 2 + 1 : row + 3 * reach // 2 + 1]
        side = np.s_[col + reach // 2 + 1 : col + 3 * reach // 2 + 1]
        light[box, side] += f * profile(reach, (y_ - row, x_ - col))
    light = light[reach:-reach, reach:-reach]
    variance = SKY_VARIANCE + light
    image = light + rng.normal(size=shape) * np.sqrt(variance)
    stars = QTable({"id": np.arange(n), "x": x * u.pix, "y": y * u.pix, "flux": flux * u.adu})
    stars["snr"] = flux / np.sqrt(flux + 50 * SKY_VARIANCE)
    stars["selected"], stars["reserved"] = np.ones(n, bool), np.arange(n) % 5 == 0
    stars["reason"] = np.full(n, "none", dtype="U20")
    stars.meta["fwhm"] = FWHM
    return Exposure(image, variance, sky=0.0), stars, flux


@pytest.fixture(scope="module")
def built():
    exposure, stars, flux = scene()
    stamps = build_stamps(exposure, stars)
    return exposure, stars, flux, stamps, core_epsf(stamps, exposure.shape)


def test_stamps_are_cut_where_the_table_says(built):
    exposure, stars, _, stamps, _ = built
    assert len(stamps.data) == len(stars) and stamps.data.shape[1] == 27
    row, col = stamps.table["row0"][3], stamps.table["col0"][3]
    np.testing.assert_array_equal(stamps.data[3], exposure.image[row : row + 27, col : col + 27])
    x = stamps.table["col0"] + 13 + stamps.delta[:, 1]
    np.testing.assert_allclose(stamps.table["x"].value, x)
    # The centroid of a lopsided star is off by some hundredths; noise at S/N 50 adds 0.03 px.
    assert np.abs(x - stars["x"].value).max() < 0.3
    np.testing.assert_array_equal(stamps.table["reserved"], stars["reserved"])


def test_stamps_mask_neighbours_and_bad_pixels():
    exposure, stars, _ = scene(n=12)
    x, y = stars["x"][0].value, stars["y"][0].value
    mask = exposure.mask.copy()
    mask[round(y) + 5, round(x)] = MaskBit.BAD
    stars.add_row(stars[0])
    stars["x"][-1] = (x + 8) * u.pix
    stars["id"][-1], stars["selected"][-1] = 99, False
    stars["x"][1] = 2 * u.pix  # its stamp leaves the image
    exposure = exposure.replace(mask=mask, mask_bits="psflib")
    stamps = build_stamps(exposure, stars, StampSettings(size=25))
    assert len(stamps.data) == 11 and 1 not in stamps.table["id"]
    row, col = round(y) - stamps.table["row0"][0], round(x) - stamps.table["col0"][0]
    weight = stamps.weight[0]
    assert weight[row, col] > 0 and weight[row + 5, col] == 0 and weight[row, col + 8] == 0
    # The disc of 1.5 FWHM about the neighbour, and more, for it is bright; never the star's core.
    y, x = np.ogrid[-row : 25 - row, -col : 25 - col]
    assert not weight[np.hypot(y, x - 8) < 1.4 * FWHM].any()
    assert (weight[np.hypot(y, x) < 0.8 * FWHM] > 0).all() and (weight > 0).mean() > 0.7
    np.testing.assert_allclose(stamps.table["masked"][0], (weight == 0).mean())


def test_no_stamp_left():
    exposure, stars, _ = scene(n=3)
    stars["selected"] = False
    with pytest.raises(NotEnoughStars):
        build_stamps(exposure, stars)
    with pytest.raises(ValueError, match="odd"):
        StampSettings(size=24)


def test_core_psf_is_the_truth(built):
    _, _, flux, _, psf = built
    found = psf.at(*psf.centre)
    # Where the centre of a lopsided PSF lies is a convention: compare at the best shift.
    shifts = np.linspace(-0.1, 0.1, 21)
    truths = [profile(27, (a, b)) for a in shifts for b in shifts]
    best = min(np.linalg.norm(found - t / t.sum()) / np.linalg.norm(t) for t in truths)
    assert best < 0.03
    reserved = psf.stars["reserved"]
    ratio = psf.stars["flux"].value / flux / profile(27, (0, 0)).sum()
    error = np.sqrt(flux + 30 * SKY_VARIANCE) / flux  # about 30 px count in a fit of this PSF
    assert abs(np.median(ratio) - 1) < 0.005 + 1.25 * np.median(error) / np.sqrt(len(flux))
    # χ² of one star of 700 px scatters by 0.05; 12 stars, so 0.015, and 5 % for the model.
    assert abs(np.median(psf.stars["chi2"][reserved]) - 1) < 0.08
    assert psf.stars["ok"].all() and psf.meta["n_fitted"] == (~reserved).sum()
    assert abs(psf.fwhm() - FWHM) < 0.35  # the pixel and the companion broaden it


def test_positions_are_better_than_centroids(built):
    _, stars, _, _, psf = built
    dx = psf.stars["x"].value - stars["x"].value
    dy = psf.stars["y"].value - stars["y"].value
    # A centroid error of FWHM/(2.35·S/N)·1.5: S/N 50 to 300 gives 0.03 px and less.
    assert np.std(dx) < 0.03 and np.std(dy) < 0.03


def test_field_evaluation(built):
    psf = built[4]
    stamp = psf.at(100, 100, 41)
    assert stamp.shape == (41, 41) and abs(stamp.sum() - 1) < 1e-12
    assert np.unravel_index(stamp.argmax(), stamp.shape) == (20, 20)
    with pytest.raises(ValueError, match="odd"):
        psf.at(0, 0, 20)
    image = psf.render([30.0, 60.0], [40.0, 20.0], [2.0, 3.0], (80, 90))
    # Unit sum in every phase, but for what Catmull-Rom and the edge of the stamp make of it.
    np.testing.assert_allclose(image.sum(), 5, rtol=1e-4)
    np.testing.assert_allclose(image[27:54, 17:44], 2 * psf.at(0, 0), rtol=1e-4)
    assert psf.render([-300.0, 0.0], [5.0, 0.0], [1.0, 1.0], (20, 20)).sum() < 1


def test_varying_field_uses_the_polynomial():
    terms = (
        np.array([profile(27 * 3, (0, 0), 3 * FWHM)] * 3) * np.array([1, 0.2, -0.1])[:, None, None]
    )
    terms[1] = np.roll(terms[1], 2, axis=1)
    psf = PsfField(terms, 3, 1, (100, 200), QTable())
    weights = polynomial.evaluate(1, 180, 10, (100, 200))
    expected = np.tensordot(weights, terms, 1)
    np.testing.assert_allclose(psf.epsf(180, 10), expected * 9 / expected.sum(), rtol=1e-12)
    with pytest.raises(ValueError, match="terms must be"):
        PsfField(terms, 3, 2, (100, 200), QTable())


def test_bad_star_is_left_out(built):
    exposure, _, _, stamps, psf = built
    data = stamps.data.copy()
    data[1, 8:19, 16:24] += 3000.0  # a bright neighbour nobody saw
    spoiled = core_epsf(Stamps(data, stamps.weight, stamps.table), exposure.shape)
    # Its pixels are given up, or the star is: either way the PSF is what it was.
    change = spoiled.at(*psf.centre) - psf.at(*psf.centre)
    assert np.linalg.norm(change) < 0.004 * np.linalg.norm(psf.at(*psf.centre))
    assert (
        not spoiled.stars["ok"][1]
        or abs(spoiled.stars["flux"][1] / psf.stars["flux"][1] - 1) < 0.02
    )


def test_few_stars_take_the_reserved_ones(built):
    exposure, _, _, stamps, _ = built
    few = Stamps(stamps.data[:3], stamps.weight[:3], stamps.table[:3])
    psf = core_epsf(few, exposure.shape, EpsfSettings(oversample=5))
    assert psf.meta["used_reserved"] and psf.meta["n_fitted"] == 3
    truth = profile(27, (0, 0))
    assert np.linalg.norm(psf.at(0, 0) - truth) < 0.15 * np.linalg.norm(truth)
    dead = Stamps(few.data, np.zeros_like(few.weight), few.table)
    with pytest.raises(NotEnoughStars):
        core_epsf(dead, exposure.shape)


def test_wings_follow_the_truth():
    exposure, stars, _ = scene(
        n=16, shape=(640, 640), fluxes=(5e6, 3e7), seed=4, reach=161, apart=100
    )
    image, mask = exposure.image.copy(), exposure.mask.copy()
    hot = image > 0.7 * image.max()  # the brightest are saturated
    image[hot], mask[hot] = 0, MaskBit.SAT
    stars["reason"][stars["flux"].value > 1.8e7] = "saturated"
    exposure = exposure.replace(image=image, mask=mask, mask_bits="psflib")
    psf = core_epsf(build_stamps(exposure, stars), exposure.shape)
    made = extended_psf(exposure, stars, psf, ExtendedSettings(size=81))
    truth = radial_profile(profile(81, (0, 0)))
    edge = int(made.ee_radius)
    ratio = made.profile["value"] / truth["value"] * truth["enclosed"][edge]
    assert made.meta["fallback"] == "" and abs(made.profile["enclosed"][edge] - 1) < 0.01
    # At 20 px this PSF has 4e-7 per px: 120 px of 16 stars of 1.5e7 ADU, sky noise 10 ADU, 4 %.
    # The outer core is drawn towards a Moffat, which this PSF is not.
    assert np.abs(ratio[:12] - 1).max() < 0.08
    assert np.abs(ratio[12:21] - 1).max() < 0.08
    assert made.at(51).shape == (51, 51)


def test_no_bright_star_leaves_the_core(built):
    exposure, stars, _, _, psf = built
    made = extended_psf(exposure, stars, psf, ExtendedSettings(min_snr=1e9))
    assert "0 bright stars" in made.meta["fallback"] and not made.wing.any()
    np.testing.assert_allclose(made.at(27), psf.at(*psf.centre), rtol=1e-9)
