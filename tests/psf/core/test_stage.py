"""Core PSF that varies over the field, against simulated truth, and data that are no use."""

import dataclasses
import functools

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from psflib.errors import NotEnoughStars, SingularFit
from psflib.products import read_psf, write_psf
from psflib.psf.core.field import area_fwhm, ellipticity
from psflib.psf.core.stage import EpsfSettings, build_epsf_field, core_epsf
from psflib.simulation.epsf_scores import field_shape_errors, relative_l2
from psflib.simulation.star_stamps import EpsfTruth, FieldTruth, simulate_stamps
from psflib.stamps.build import Stamps

FIELD = (900, 1500)  # not square: u and v must not be mixed up
SIZE = 17
PIXELS = SIZE**2 - 4
OS = 3
MOFFAT = EpsfTruth("moffat", 2.5)
RESERVED = 5  # every fifth star


def stamps_of(stars):
    """What `build_stamps` would have made of simulated stars: float32, centroids, a table."""
    n, size = len(stars.data), stars.data.shape[1]
    row0, col0 = (np.round(a).astype(int) - size // 2 for a in (stars.y, stars.x))
    delta = stars.delta_init
    table = QTable({"id": np.arange(n), "row0": row0, "col0": col0})
    table["x"] = (col0 + size // 2 + delta[:, 1]) * u.pix
    table["y"] = (row0 + size // 2 + delta[:, 0]) * u.pix
    table["delta_row"], table["delta_col"] = delta[:, 0] * u.pix, delta[:, 1] * u.pix
    table["reserved"] = np.arange(n) % RESERVED == 0
    return Stamps(stars.data.astype(np.float32), stars.weight.astype(np.float32), table)


@functools.cache
def scene(n, fwhm=0.0, shear=0.0, seed=1, base=MOFFAT):
    """A truth and clean stars of it; do not write into them."""
    truth = FieldTruth(base, FIELD, fwhm, shear)
    return truth, stamps_of(simulate_stamps(truth, n, SIZE, seed=seed, clean=True))


@functools.cache
def solved(n, fwhm=0.0, shear=0.0, seed=1):
    return build_epsf_field(scene(n, fwhm, shear, seed)[1], FIELD, oversample=OS)


def reserve_tolerance(psf):
    """Four standard errors of the mean χ² per degree of freedom of the reserved stars."""
    return 4 * np.sqrt(2 / PIXELS / psf.meta["n_reserved"])


def changed(stamps, **planes):
    """Stamps with other data or weights, or with other columns."""
    columns = {name: planes.pop(name) for name in list(planes) if name in stamps.table.colnames}
    table = stamps.table.copy()
    for name, values in columns.items():
        table[name] = values
    return dataclasses.replace(stamps, table=table, **planes)


def assert_sane(psf):
    assert np.isfinite(psf.terms).all() and np.isfinite(psf.error).all() and (psf.error > 0).all()
    table = psf.stars
    ok = np.asarray(table["ok"])
    assert ok.any()
    np.testing.assert_array_equal(table["reason"] == "none", ok)
    for name in ("x", "y", "flux", "flux_err", "background", "chi2"):
        assert np.isfinite(np.asarray(table[name])[ok]).all(), name
    for x, y in [(0, 0), psf.centre, (FIELD[1], FIELD[0])]:
        np.testing.assert_allclose(psf.at(x, y).sum(), 1, rtol=1e-12)


# --- truth


def test_linear_ellipticity():
    """The goal, 2e-3; 600 stars leave 3e-4."""
    truth, _ = scene(600, shear=0.05)
    psf = solved(600, shear=0.05)
    assert_sane(psf)
    assert psf.order >= 1 and psf.meta["converged"] and not psf.meta["notes"]
    assert (field_shape_errors(psf, truth) < 2e-3).all()
    # Without the variation the errors would be 0.05·√(1/2) over 5 places an axis.
    assert (field_shape_errors(solved(300), truth)[1:] > 0.03).all()


def test_trend_of_the_fwhm():
    """An ePSF is not linear in its FWHM: order 1 leaves 0.0027 of a trend of 10 %."""
    truth, _ = scene(300, fwhm=0.1)
    psf = solved(300, fwhm=0.1)
    assert psf.order >= 1 and psf.meta["converged"]
    assert (field_shape_errors(psf, truth) < [4e-3, 2e-3, 2e-3]).all()
    ny, nx = FIELD
    left, right = psf.fwhm(0, ny / 2), psf.fwhm(nx - 1, ny / 2)
    expected = [area_fwhm(truth.epsf(SIZE, OS, x, ny / 2), OS) for x in (0, nx - 1)]
    np.testing.assert_allclose([left, right], expected, rtol=0.02)  # 0.014 of it by order 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_constant_truth_keeps_order_0(seed):
    truth, _ = scene(100, seed=seed)
    psf = solved(100, seed=seed)
    assert psf.order == 0 and len(psf.terms) == 1 and psf.meta["converged"]
    scores = psf.meta["scores"]
    assert scores["0"] == min(scores.values()) and len(scores) > 1
    # 80 stars; 600 leave 3e-4 for three terms.
    assert (field_shape_errors(psf, truth) < 2e-3).all()


@pytest.mark.parametrize(("fwhm", "shear", "n"), [(0, 0.05, 600), (0.1, 0, 300), (0, 0, 300)])
def test_reserved_stars_have_chi2_1(fwhm, shear, n):
    """The goal is 0.05; what the noise of the fitted stars does to the PSF is the most of it."""
    psf = solved(n, fwhm, shear)
    assert psf.meta["n_reserved"] == n // RESERVED
    assert abs(psf.meta["reserve_chi2"] - 1) < 0.05
    assert psf.meta["reserve_chi2"] > 1 - reserve_tolerance(psf)
    assert abs(psf.meta["noise"] - 1) < 0.02


def test_a_varying_psf_is_worse_served_by_a_constant_one():
    scores = solved(600, shear=0.05).meta["scores"]
    assert scores["0"] > 1.2 and abs(scores["1"] - 1) < 0.05


def test_pulls_of_the_fluxes_of_reserved_stars():
    stars = simulate_stamps(FieldTruth(MOFFAT, FIELD, 0.0, 0.05), 600, SIZE, seed=1, clean=True)
    psf = solved(600, shear=0.05)
    reserved = np.asarray(psf.stars["reserved"])
    faint = reserved & (stars.flux < 5e4)  # the errors of the PSF matter less than the noise
    volume = MOFFAT.epsf(SIZE, OS).sum() / OS**2  # what of a star is in its stamp
    pull = (psf.stars["flux"].value - volume * stars.flux) / psf.stars["flux_err"].value
    n = faint.sum()
    assert abs(pull[faint].mean()) < 4 / np.sqrt(n) + 0.2  # 0.2: 0.1 % of a flux of 5e4
    assert abs(pull[faint].std() - 1) < 4 / np.sqrt(2 * n)


def test_flux_errors_hold_the_error_of_the_psf():
    """Few stars of S/N 40 to 3000: rms of the pulls 2 to 5 without it, and no S/N is left out."""
    pulls, bare = [], []
    volume = MOFFAT.epsf(SIZE, OS).sum() / OS**2
    for seed in range(12):
        flux = np.repeat([2e3, 1.2e4, 6e4], [4, 4, 4]) if seed % 2 else np.full(12, 8e3)
        test = np.repeat([1e3, 1e4, 1e5, 1e6], 5)
        stars = simulate_stamps(
            FieldTruth(MOFFAT, FIELD), 32, SIZE, seed=seed, clean=True,
            flux=np.concatenate([flux, test]),
        )  # fmt: skip
        stamps = stamps_of(stars)
        reserved = np.arange(32) >= 12
        stamps.table["reserved"] = reserved
        psf = build_epsf_field(stamps, FIELD, oversample=OS, order=0)
        use = reserved & np.asarray(psf.stars["ok"])
        total, found = (psf.stars[name].value[use] for name in ("flux_err", "flux"))
        own = found * psf.flux_error(*(psf.stars[axis].value[use] for axis in "xy"))
        off = found - volume * stars.flux[use]
        pulls.append(np.mean(np.square(off / total)))
        bare.append(np.mean(np.square(off) / (total**2 - own**2)))
    # what is common to all stars of a PSF is drawn 12 times
    assert abs(np.sqrt(np.mean(pulls)) - 1) < 3 * np.sqrt(1 / (2 * 12))
    assert np.sqrt(np.mean(bare)) > 2
    assert np.isnan(dataclasses.replace(psf, meta={}).flux_error(3.0, 4.0))


def test_flux_errors_grow_away_from_the_stars_that_tell_of_the_variation():
    psf = solved(600, shear=0.05)
    ny, nx = FIELD
    middle, corner = psf.flux_error(nx / 2, ny / 2), psf.flux_error(0, 0)
    assert 0 < middle < corner < 5 * middle
    assert psf.flux_error(np.zeros((2, 3)), 5.0).shape == (2, 3)


def test_axes_are_not_swapped():
    """Transposed stamps at transposed places give the transposed PSF."""
    _, stamps = scene(150, 0.1, 0.05)
    turned = changed(
        stamps,
        data=np.ascontiguousarray(stamps.data.transpose(0, 2, 1)),
        weight=np.ascontiguousarray(stamps.weight.transpose(0, 2, 1)),
        x=stamps.table["y"], y=stamps.table["x"],
        row0=stamps.table["col0"], col0=stamps.table["row0"],
        delta_row=stamps.table["delta_col"], delta_col=stamps.table["delta_row"],
    )  # fmt: skip
    options = {"oversample": OS, "order": 1}
    one = build_epsf_field(stamps, FIELD, **options)
    other = build_epsf_field(turned, FIELD[::-1], **options)
    for x, y in [(0, 0), (1499, 0), (100, 800)]:
        difference = other.epsf(y, x).T - one.epsf(x, y)
        # Both ended when a step changed the PSF by less than 1e-4.
        assert np.linalg.norm(difference) < 5e-4 * np.linalg.norm(one.epsf(x, y))
    np.testing.assert_allclose(other.stars["x"], one.stars["y"], atol=1e-3)


# --- choice of the order


@pytest.mark.parametrize(("n", "most", "stars"), [(40, 3, 32), (25, 2, 20), (15, 1, 12)])
def test_few_stars_lower_the_order(n, most, stars):
    """Three stars a term; and five reserved stars to choose one."""
    psf = build_epsf_field(scene(n, shear=0.05)[1], FIELD, oversample=OS)
    notes = [note for note in psf.meta["notes"] if note.startswith("order")]
    expected = [] if most == 3 else [f"order at most {most}: {stars} stars"]
    if n < 5 * RESERVED:
        assert psf.order == 0
        expected.append(f"order 0: {n // RESERVED} held-out stars cannot choose a higher one")
    assert notes == expected
    assert psf.order <= most
    assert_sane(psf)


def test_an_order_that_was_asked_for():
    _, stamps = scene(150, 0.1, 0.05)
    assert build_epsf_field(stamps, FIELD, oversample=OS, order=0).terms.shape[0] == 1
    psf = core_epsf(stamps, FIELD, EpsfSettings(oversample=OS, order=2))
    assert psf.order == 2 and psf.terms.shape == (6, OS * SIZE, OS * SIZE)
    assert not psf.meta["notes"] and list(psf.meta["scores"]) == ["0", "1", "2"]
    few = build_epsf_field(scene(15, shear=0.05)[1], FIELD, oversample=OS, order=2)
    assert few.order == 1 and "order lowered from 2 to 1: 12 stars" in few.meta["notes"]


# --- the field itself


def test_written_and_read_back(tmp_path):
    psf = solved(300, fwhm=0.1)
    write_psf(tmp_path / "epsf.fits", psf)
    found = read_psf(tmp_path / "epsf.fits")
    np.testing.assert_array_equal(found.terms, psf.terms)
    np.testing.assert_array_equal(found.error, psf.error)
    assert (found.oversample, found.order, found.shape) == (psf.oversample, psf.order, psf.shape)
    assert found.meta == psf.meta
    assert found.stars.colnames == psf.stars.colnames
    for name in psf.stars.colnames:
        np.testing.assert_array_equal(found.stars[name], psf.stars[name], err_msg=name)
    np.testing.assert_array_equal(found.at(10, 700), psf.at(10, 700))


def test_at_render_and_maps_tell_the_same():
    psf = solved(600, shear=0.05)
    for x, y in [(8, 8), (700, 300), (1491, 891)]:
        image = psf.render(x, y, 5.0, FIELD)
        window = image[y - 8 : y + 9, x - 8 : x + 9]
        np.testing.assert_allclose(window / window.sum(), psf.at(x, y), atol=1e-9)
        # Sampled at the pixels, an ePSF has the sum 1 only as well as it is sampled.
        assert abs(image.sum() / 5 - 1) < 1e-3 and image.sum() == pytest.approx(window.sum())
    table = psf.maps(3)
    assert len(table) == 9 and table["x"].unit == u.pix
    for row in table:
        x, y = row["x"].value, row["y"].value
        assert (row["fwhm"].value, row["e1"], row["e2"]) == psf.shape_at(x, y)
    assert set(zip(table["x"].value, table["y"].value, strict=True)) == {
        (x, y) for x in (0, 749.5, 1499) for y in (0, 449.5, 899)
    }


def test_maps_show_the_truth():
    """g1 grows along x and g2 along y; e of a sheared round PSF is about 2·g, pixel included."""
    truth, _ = scene(600, shear=0.05)
    table = solved(600, shear=0.05).maps(3)
    for row in table:
        x, y = row["x"].value, row["y"].value
        expected = ellipticity(truth.epsf(SIZE, OS, x, y))
        np.testing.assert_allclose([row["e1"], row["e2"]], expected, atol=4e-3)


def test_off_the_image_the_nearest_pixel_counts():
    psf = solved(600, shear=0.05)
    np.testing.assert_array_equal(psf.epsf(-500, 300), psf.epsf(0, 300))
    np.testing.assert_array_equal(psf.at(99999, -3), psf.at(FIELD[1] - 1, 0))
    np.testing.assert_array_equal(psf.shape_at(40, 1e6), psf.shape_at(40, FIELD[0] - 1))


def test_bad_calls():
    _, stamps = scene(15, shear=0.05)
    for options in ({"oversample": 2}, {"oversample": 0}, {"order": 4}, {"order": -1}):
        with pytest.raises(ValueError, match="must be"):
            build_epsf_field(stamps, FIELD, **options)
    for options in ({"oversample": 4}, {"order": 4}, {"solver": "magic"}, {"tol": 0}):
        with pytest.raises(ValueError):
            EpsfSettings(**options)
    with pytest.raises(ValueError, match="odd"):
        solved(300).at(10, 10, 20)
    with pytest.raises(ValueError, match="sover"):
        EpsfSettings(sover="normal")


def test_landweber_as_a_stage():
    truth, stamps = scene(100)
    psf = core_epsf(stamps, FIELD, EpsfSettings(solver="landweber", oversample=OS))
    assert psf.order == 0 and psf.meta["n_fitted"] + psf.meta["n_rejected"] == 80
    assert np.isfinite(psf.terms).all() and np.asarray(psf.stars["ok"]).mean() > 0.9
    assert isinstance(psf.meta["converged"], bool)
    error = relative_l2(psf.epsf(*psf.centre), truth.base, OS)[0]
    assert relative_l2(solved(100).terms[0], truth.base, OS)[0] < error < 0.1


# --- data that are no use


@pytest.mark.parametrize("solver", ["normal", "landweber"])
@pytest.mark.parametrize("blank", ["weight 0", "weight NaN", "data NaN", "delta NaN"])
def test_nothing_to_fit(solver, blank):
    _, stamps = scene(15, shear=0.05)
    name, value = blank.split()
    value = float(value)
    if name == "delta":
        bad = changed(stamps, delta_row=np.full(15, value) * u.pix)
    else:
        bad = changed(stamps, **{name: np.full_like(getattr(stamps, name), value)})
    with pytest.raises(NotEnoughStars, match="0 usable stars, at least 1 needed"):
        core_epsf(bad, FIELD, EpsfSettings(solver=solver))


def test_one_star():
    _, stamps = scene(15, shear=0.05)
    one = Stamps(stamps.data[:1], stamps.weight[:1], stamps.table[:1])
    assert one.table["reserved"].all()
    psf = core_epsf(one, FIELD)
    assert_sane(psf)
    assert psf.order == 0 and psf.meta["used_reserved"] and psf.meta["n_fitted"] == 1
    assert psf.meta["reserve_chi2"] is None
    assert "1 stars in all" in psf.meta["notes"][0] and "at most 0" in psf.meta["notes"][1]


def test_five_stars():
    truth, stamps = scene(15, shear=0.0)
    five = Stamps(stamps.data[:5], stamps.weight[:5], stamps.table[:5])
    psf = core_epsf(five, FIELD)
    assert_sane(psf)
    assert psf.order == 0 and not psf.meta["used_reserved"]
    assert psf.meta["n_fitted"] + psf.meta["n_rejected"] == 4
    assert any("order" in note for note in psf.meta["notes"])
    psi = psf.epsf(*psf.centre)
    error, _ = relative_l2(psi, truth.base, psf.oversample)
    assert error < 3 * np.linalg.norm(psf.error) / np.linalg.norm(psi)


def test_all_stars_at_one_phase():
    """A narrow PSF seen at one sub-pixel phase only is unknown between its samples."""
    truth = EpsfTruth("moffat", 1.5)
    stars = simulate_stamps(truth, 40, SIZE, seed=1, clean=True, phase=(0.2, -0.1), delta_error=0)
    psf = core_epsf(stamps_of(stars), FIELD, EpsfSettings(most_order=0))
    assert_sane(psf)
    assert psf.meta["phases"] < 0.3
    assert any("sub-pixel phases" in note for note in psf.meta["notes"])


def test_offsets_of_some_stars_are_unknown():
    truth, stamps = scene(100)
    delta = stamps.table["delta_col"].copy()
    delta[:10] = np.nan * u.pix
    psf = build_epsf_field(changed(stamps, delta_col=delta), FIELD, oversample=OS)
    ok = np.asarray(psf.stars["ok"])
    assert not ok[:10].any() and ok[10:].all()
    assert (psf.stars["reason"][:10] == "no fit").all()
    assert (field_shape_errors(psf, truth) < 2e-3).all()


@pytest.mark.parametrize("value", [0.0, np.inf, np.nan, -1.0])
def test_pixels_of_useless_weight(value):
    truth, stamps = scene(100)
    bad = np.random.default_rng(1).random(stamps.weight.shape) < 0.05
    data, weight = stamps.data.copy(), stamps.weight.copy()
    data[bad], weight[bad] = 1e5, value
    psf = build_epsf_field(changed(stamps, data=data, weight=weight), FIELD, oversample=OS)
    assert_sane(psf)
    assert psf.order == 0 and abs(psf.meta["reserve_chi2"] - 1) < 0.05
    assert (field_shape_errors(psf, truth) < 2e-3).all()


def test_weights_that_are_refined_leave_unusable_pixels_out():
    """Stamps that know their noise get weights under the solved light: not of pixels without."""
    truth, stamps = scene(100)
    bad = np.random.default_rng(2).random(stamps.weight.shape) < 0.05
    data = np.where(bad, np.float32(np.nan), stamps.data)
    table = stamps.table.copy()
    table["sky_variance"] = np.full(100, 125.0) * u.adu**2
    given = Stamps(data, stamps.weight, table, {"photon_slope": 1.0})
    psf = build_epsf_field(given, FIELD, oversample=OS)
    assert_sane(psf)
    assert abs(psf.meta["reserve_chi2"] - 1) < 0.05 and psf.meta["converged"]
    assert (field_shape_errors(psf, truth) < 2e-3).all()


def test_some_stars_are_masked_altogether():
    truth, stamps = scene(100)
    weight = stamps.weight.copy()
    weight[:20] = 0
    psf = build_epsf_field(changed(stamps, weight=weight), FIELD, oversample=OS)
    ok = np.asarray(psf.stars["ok"])
    assert not ok[:20].any() and ok[20:].all() and psf.meta["n_reserved"] == 16
    assert np.isnan(psf.stars["chi2"][:20]).all()
    assert (field_shape_errors(psf, truth) < 2e-3).all()


def saturated(stamps, share, radius=2):
    """The brightest `share` of the stars with their cores masked."""
    weight = stamps.weight.copy()
    brightest = np.argsort(stamps.data.max(axis=(1, 2)))[::-1][: round(share * len(weight))]
    middle = slice(SIZE // 2 - radius, SIZE // 2 + radius + 1)
    for star in brightest:
        weight[star, middle, middle] = 0
    return changed(stamps, weight=weight)


def test_bright_half_saturated():
    truth, stamps = scene(100)
    psf = build_epsf_field(saturated(stamps, 0.5), FIELD, oversample=OS)
    assert_sane(psf)
    # The core comes from the fainter half, which has a tenth of the light.
    assert (field_shape_errors(psf, truth) < 2e-3 * np.sqrt(10)).all()


def test_all_cores_saturated():
    """No light where the PSF matters: an error, or an uncertainty that says so."""
    _, stamps = scene(100)
    try:
        psf = build_epsf_field(saturated(stamps, 1.0, radius=3), FIELD, oversample=OS)
    except (NotEnoughStars, SingularFit):
        return
    centre = np.s_[OS * (SIZE // 2 - 1) : OS * (SIZE // 2 + 2)]
    assert (psf.error[centre, centre] > 0.2 * psf.terms[0].max()).any() or psf.meta["notes"]


def test_galaxies_only():
    """Sources of many shapes are not of one PSF, and the numbers say so."""
    rng = np.random.default_rng(1)
    parts = []
    for k in range(60):
        angle, g = rng.uniform(0, np.pi), rng.uniform(0, 0.4)
        galaxy = EpsfTruth("moffat", rng.uniform(3, 7), g * np.cos(angle), g * np.sin(angle))
        found = simulate_stamps(FieldTruth(galaxy, FIELD, 0, 0), 1, SIZE, seed=k, clean=True)
        parts.append(stamps_of(found))
    planes = [np.concatenate([getattr(p, name) for p in parts]) for name in ("data", "weight")]
    table = QTable(
        {n: np.concatenate([p.table[n] for p in parts]) for n in parts[0].table.colnames}
    )
    table["reserved"] = np.arange(60) % RESERVED == 0
    psf = core_epsf(Stamps(*planes, table), FIELD, EpsfSettings(most_order=0))
    assert_sane(psf)
    assert psf.meta["model_error"] > 0.05 and psf.meta["reserve_chi2"] > 2


def test_a_reserved_blend_is_told_and_still_judges():
    """A star that would be left out of the fit is `ok` no more for having been reserved."""
    _, stamps = scene(100)
    data, odd = stamps.data.copy(), 10  # every fifth is reserved
    data[odd] += np.float32(0.2) * np.roll(data[odd], 4, axis=1)
    plain, psf = solved(100), build_epsf_field(changed(stamps, data=data), FIELD, oversample=OS)
    row = psf.stars[odd]
    assert row["reserved"] and not row["ok"] and row["reason"] in ("chi2", "core does not fit")
    others = np.asarray(psf.stars["chi2"])[np.asarray(psf.stars["reserved"] & psf.stars["ok"])]
    assert len(others) == 19 and 20 * psf.meta["reserve_chi2"] - others.sum() > 2  # its own chi2
    np.testing.assert_array_equal(
        np.delete(psf.stars["ok"], odd), np.delete(plain.stars["ok"], odd)
    )
