"""Light curves: fluxes as injected whether found or not, objects joined over grids, bad epochs."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable, Table
from astropy.wcs import WCS

from psflib import products
from psflib.detection.detect import detect
from psflib.detection.flags import CandidateFlag, set_flags
from psflib.errors import BadFile, BadImage
from psflib.image.exposure import MaskBit
from psflib.image.sky_frames import icrs_to_pixel
from psflib.lightcurves.curves import Epoch, light_curves
from psflib.lightcurves.objects import find_objects
from psflib.lightcurves.photometry import forced_fluxes
from psflib.lightcurves.statistics import MEANING, statistics
from psflib.matching import MatchingKernel
from psflib.settings.lightcurves import LightcurveSettings
from tests.detection.test_detect import ERROR, add, difference, noise

SHAPE = (220, 240)
SOURCES = np.array([[60.3, 70.8], [150.6, 60.2], [100.0, 160.0]])  # x, y
LIGHT = np.array([  # S/N by source and epoch
    [30, 20, 10, 0, 0], [0, 2, 12, 3, -9], [8, 8, 8, 8, 8.0],
])  # fmt: skip
MJD = [60003.5, 60001.5, 60002.5, 60005.25, 60004.5]  # not in order


def tan(shift=0.0, angle=0.0):
    """A WCS about the centre, moved by px and turned by deg."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.crpix = (359.9999, -30.0), (120.0 + shift, 110.0 - shift)
    turn = np.deg2rad(angle)
    wcs.wcs.cd = 1e-4 * np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return wcs


def epoch(number, light, wcs=None):
    """Difference and candidates of an epoch with these S/N."""
    x, y = SOURCES.T
    if wcs is not None:
        x, y = wcs.all_world2pix(*tan().all_pix2world(x, y, 0), 0)
    made = difference(add(noise(number, SHAPE), x, y, light * ERROR), wcs=wcs)
    found = detect(made)
    found.meta |= {"mjd": MJD[number], "zero_point": 25.0}
    return Epoch(f"night{number}", found, lambda: made), (x, y)


@pytest.fixture(scope="module")
def five():
    """Five epochs, each on a grid of its own."""
    frames = [tan(3.3 * n, 7.0 * n) for n in range(5)]
    return [epoch(n, LIGHT[:, n], frames[n]) for n in range(5)]


def test_fluxes_are_those_injected_found_or_not(five):
    made = light_curves([one for one, _ in five])
    assert made.epochs == ["night1", "night2", "night0", "night4", "night3"]
    objects, points = made.objects, made.points
    assert np.all(np.diff(points["mjd"].reshape(-1, 5).value, axis=1) > 0)
    ra, dec = tan().all_pix2world(*SOURCES.T, 0)
    order = [1, 2, 0, 4, 3]
    for number in range(3):
        off = np.hypot((objects["ra"].value - ra[number]) * np.cos(np.deg2rad(30)),
                       objects["dec"].value - dec[number])  # fmt: skip
        row = objects[np.argmin(off)]
        assert off.min() < 0.2e-4  # 0.2 px: the S/N of all detections together is 12 or more
        own = points[points["object"] == row["object"]]
        truth = LIGHT[number, order]
        pull = (own["flux"].value - truth * ERROR) / own["flux_err"].value
        assert np.all(np.abs(pull) < 4)
        # candidates above 5 sigma; within 2 of it the noise decides
        sure = np.abs(np.abs(truth) - 5) > 2
        assert np.array_equal(np.asarray(own["found"])[sure], (np.abs(truth) > 5)[sure])
        lost = ~np.asarray(own["found"])
        assert np.allclose(own["limit"][lost], 5 * own["flux_err"][lost], rtol=1e-12)
        assert np.all(np.isnan(own["limit"][~lost])) and np.all(own["candidate"][lost] == -1)
        assert set(own["flags"][lost]) <= {"not found"}
        bright = own["flux"] > 0
        flux = own["flux"][bright].value
        assert np.allclose(own["mag"][bright].value, 25 - 2.5 * np.log10(flux), atol=1e-6)
        assert row["n_epochs"] == 5 and row["n_found"] == np.sum(~lost)
    # the middle of the cut-outs of the steady one: 8 sigma of its own pixels, +- 1
    assert np.all(made.cutouts[0, :, 11:14, 11:14].sum((1, 2)) / 3 > 4)


def test_tables_are_written_and_read(five, tmp_path):
    made = light_curves([one for one, _ in five])
    products.write_objects(tmp_path / "o.ecsv", made.objects)
    products.write_light_curves(tmp_path / "l.ecsv", made.points)
    assert products.read_objects(tmp_path / "o.ecsv").colnames == made.objects.colnames
    back = products.read_light_curves(tmp_path / "l.ecsv")
    assert back["flux"].unit == u.adu and np.array_equal(back["epoch"], made.points["epoch"])
    assert np.array_equal(Table.read(tmp_path / "l.ecsv")["found"], made.points["found"])


def test_what_an_epoch_does_not_cover_is_not_a_zero():
    made, (x, y) = epoch(0, np.array([20, 20, 20.0]))
    hidden = made.read()
    mask = hidden.mask.copy()
    mask[:, 130:] |= np.uint16(MaskBit.NO_DATA)
    other = hidden.replace(mask=mask)
    second = Epoch("half", detect(other), lambda: other)
    points = light_curves([made, second]).points
    lost = (points["epoch"] == "half") & (points["x"].value > 130)
    assert lost.sum() == 1 and points["flags"][lost][0] == "not covered"
    assert np.isnan(points["flux"][lost][0]) and np.isnan(points["limit"][lost][0])
    forced = forced_fluxes(hidden, [x[0], -300.0, np.nan, 5000.0], [y[0], 10.0, 3.0, 7.0])
    assert np.isfinite(forced.flux).tolist() == [True, False, False, False]
    assert np.array_equal(forced.masked[1:], [1, 1, 1])


def test_forced_fluxes_are_the_naive_sums():
    made, _ = epoch(3, np.array([20, 0, 20.0]))
    image = made.read()
    x, y = np.array([60.3, 1.2, 149.5]), np.array([70.8, 100.0, 60.5])
    forced = forced_fluxes(image, x, y)
    rows, cols = np.indices(SHAPE)
    for number in range(3):
        psf = np.exp(-((cols - x[number]) ** 2 + (rows - y[number]) ** 2) / 4.5) / (4.5 * np.pi)
        near = np.hypot(cols - x[number], rows - y[number]) < 8
        power = np.sum(psf[near] ** 2) / 25
        flux = np.sum((psf * image.image)[near]) / 25 / power
        assert forced.flux[number] == pytest.approx(flux, abs=0.02 / np.sqrt(power))
        assert forced.flux_err[number] == pytest.approx(1 / np.sqrt(power), rel=0.01)


def test_one_epoch_that_cannot_be_read_takes_no_other_along(five, caplog):
    def broken():
        raise BadFile("decorrelated.fits", "is truncated", "make it again")

    epochs = [one for one, _ in five]
    lost = Epoch("lost", epochs[0].candidates, broken)
    # its candidates are known all the same
    made = light_curves([*epochs[1:], lost])
    assert "lost" not in made.epochs and len(made.epochs) == 4
    assert "epoch lost is left out" in caplog.text and len(made.points) == 4 * len(made.objects)
    with pytest.raises(BadImage, match="no epoch"):
        light_curves([lost])
    with pytest.raises(ValueError, match="one name"):
        light_curves([epochs[0], epochs[0]])


def test_a_field_without_candidates_has_empty_tables(tmp_path):
    made, _ = epoch(0, np.zeros(3))
    assert len(made.candidates) == 0
    found = light_curves([made])
    assert len(found.objects) == 0 == len(found.points) and found.epochs == ["night0"]
    products.write_objects(tmp_path / "o.ecsv", found.objects)
    products.write_light_curves(tmp_path / "l.ecsv", found.points)
    assert len(products.read_light_curves(tmp_path / "l.ecsv")) == 0


def test_the_most_often_clean_come_first_and_the_rest_is_told(five, caplog):
    epochs = [one for one, _ in five]
    found = light_curves(epochs, LightcurveSettings(most=1))
    assert len(found.objects) == 1 and found.objects["n_clean"][0] >= 4
    assert "the light of the first 1 is measured" in caplog.text


def table(snr, flag):
    made = QTable({"snr": np.asarray(snr, float)})
    set_flags(made, flag)
    return made


def test_objects_are_joined_within_reach_one_of_each_epoch():
    places = [
        np.array([[10, 10, 0], [10.8, 10, 0], [50, 50, 0.0]]),
        np.array([[10.5, 10, 0], [80, 80, 0.0]]),
        np.zeros((0, 3)),
    ]
    bad = int(CandidateFlag.BAD_EPOCH)
    tables = [table([20, 8, 6], [0, 0, 1]), table([-10, 200], [0, bad]), table([], [])]
    found = find_objects(places, tables, 1.0)
    assert found.candidate.tolist() == [[0, 0, -1], [-1, 1, -1], [2, -1, -1]]
    assert found.clean.tolist() == [3, 0, 0]
    weight = np.array([400, 64, 100.0])
    assert found.place[0, 0] == pytest.approx(np.sum(weight * [10, 10.8, 10.5]) / weight.sum())
    assert len(find_objects([], [], 1.0)) == 0


def test_places_far_outside_a_distorted_image_are_none():
    wcs = tan()
    wcs.wcs.ctype = "RA---TAN-SIP", "DEC--TAN-SIP"
    header = wcs.to_header(relax=True)
    header.update({"A_ORDER": 3, "B_ORDER": 3, "A_3_0": 1e-9, "B_0_3": 1e-9})
    wcs = WCS(header)
    x, y = np.array([3.0, 200.0]), np.array([5.0, 150.0])
    back = icrs_to_pixel(*wcs.all_pix2world(x, y, 0), wcs)
    assert np.allclose(back, [x, y], atol=1e-3)
    assert np.all(np.isnan(icrs_to_pixel(180.0, 30.0, wcs)))


def test_statistics_are_those_of_noise_for_noise_and_tell_what_varies():
    rng = np.random.default_rng(4)
    flux, error = rng.normal(100, 2.0, (4000, 12)), np.full((4000, 12), 2.0)
    none = np.zeros((4000, 12), bool)
    told = statistics(flux, error, none, none)
    assert set(told) == set(MEANING)
    # mean of 4000 chi-squares with 11 degrees of freedom: 1 +- sqrt(2/11/4000)
    assert abs(told["chi2"].mean() - 1) < 4 * np.sqrt(2 / 11 / 4000)
    assert abs(np.mean(10 ** told["log_p"] < 0.1) - 0.1) < 4 * np.sqrt(0.09 / 4000)
    assert abs(told["neumann"].mean() - 2 * 12 / 11 * 11 / 12) < 0.05
    assert np.allclose(told["mean_snr"], told["mean_flux"] / told["mean_flux_err"])
    trend = statistics(np.arange(12.0)[None] * 10, error[:1], none[:1], none[:1])
    assert trend["neumann"][0] < 0.3 and trend["log_p"][0] < -10 and trend["amplitude"][0] == 110
    gone = statistics(np.full((1, 12), np.nan), error[:1], none[:1], none[:1])
    assert gone["n_epochs"][0] == 0 and np.isnan(gone["mean_flux"][0]) and np.isnan(gone["chi2"][0])


def test_a_constant_source_is_constant_whatever_the_scale_of_the_epochs():
    """Flux of a source is that of the template's unit times the kernel's sum."""
    epochs = []
    for number, scale in enumerate((1.0, 3.0, 1.0, 3.0)):
        light = np.array([20.0, 25.0, 0.0]) * scale
        made = difference(add(noise(number + 50, SHAPE), *SOURCES.T, light * ERROR))
        kernel = MatchingKernel(np.ones((1, 1, 1)), np.full((1, 1), scale), 0, 0, np.zeros(1), 0,
                                SHAPE)  # fmt: skip
        made = made.replace(kernel=kernel)
        epochs.append(Epoch(f"n{number}", detect(made), lambda made=made: made))
    found = light_curves(epochs)
    assert sorted(set(found.points["scale"])) == [1.0, 3.0]
    # 3 degrees of freedom: 1 in 30,000 is above 8
    assert len(found.objects) == 2 and np.all(found.objects["chi2"] < 8)
    first = found.points[found.points["object"] == 1]
    assert first["flux"].max() > 2.5 * first["flux"].min()


def test_a_table_of_candidates_of_an_older_version_is_refused(tmp_path):
    path = tmp_path / "candidates.ecsv"
    products.write_candidates(path, QTable({"id": [1], "snr": [5.0]}))
    with pytest.raises(BadFile, match="has no column flag: an older psflib made it"):
        products.read_candidates(path)
