"""Zero points and times as headers tell them: which card, what contradicts, what is none."""

import numpy as np
import pytest
from astropy.io import fits

import psflib
from psflib.files.calibration import find_time, find_zero_point
from psflib.files.fields import read_fields

MJD = 58849.25  # 2020-01-01T06:00:00


def header(**cards):
    return fits.Header({name.replace("_", "-"): value for name, value in cards.items()})


def zero_point(exposure_time=60.0, **cards):
    return find_zero_point([header(**cards)], exposure_time)


class TestZeroPoint:
    @pytest.mark.parametrize("card", ["MAGZP", "MAGZERO", "PHOTZP", "ZEROPT", "ZP"])
    def test_of_the_image(self, card):
        value, notes = zero_point(**{card: 26.3})
        assert value == 26.3 and card in notes[0]

    def test_a_word_that_is_a_number(self):
        assert zero_point(MAGZEROP="24.5")[0] == 24.5

    def test_flux_of_magnitude_zero(self):
        assert zero_point(FLUXMAG0=10**10.8)[0] == pytest.approx(27.0)

    def test_of_a_second(self):
        assert zero_point(100.0, MAGZPT=22.0)[0] == pytest.approx(27.0)
        assert zero_point(100.0, MAGZPT=22.0, BUNIT="adu/s")[0] == 22.0
        value, notes = zero_point(None, MAGZPT=22.0)
        assert value is None and "EXPTIME" in notes[0]

    @pytest.mark.parametrize(
        ("unit", "value"),
        [("nanomaggy", 22.5), ("nanomaggies", 22.5), ("nJy", 31.4), ("Jy/pixel", 8.9)],
    )
    def test_of_a_unit(self, unit, value):
        assert zero_point(BUNIT=unit)[0] == value

    def test_of_a_surface_brightness(self):
        value, notes = find_zero_point([fits.Header({"BUNIT": "MJy/sr", "PIXAR_SR": 1e-13})], 60.0)
        # 1 MJy/sr is 1e-7 Jy in such a pixel
        assert value == pytest.approx(8.9 + 17.5) and "PIXAR_SR" in notes[0]
        assert zero_point(BUNIT="MJy/sr")[0] is None

    def test_of_an_electron_a_second(self):
        """ACS, F814W: 25.94 mag AB (ACS Data Handbook); of 100 s, 5 mag more."""
        cards = {"PHOTFLAM": 7.07e-20, "PHOTPLAM": 8045.0}
        assert zero_point(100.0, BUNIT="ELECTRONS/S", **cards)[0] == pytest.approx(25.94, abs=0.03)
        assert zero_point(100.0, BUNIT="ELECTRONS", **cards)[0] == pytest.approx(30.94, abs=0.03)
        assert zero_point(None, BUNIT="ELECTRONS", **cards)[0] is None

    def test_two_that_agree(self):
        assert zero_point(100.0, MAGZP=27.05, MAGZPT=22.0)[0] == 27.05

    def test_two_that_contradict_each_other(self):
        value, notes = zero_point(MAGZP=27.0, PHOTZP=25.0)
        assert value is None and "MAGZP 27.000 and PHOTZP 25.000" in notes[0]

    @pytest.mark.parametrize("value", [99.0, -1.0, "unknown", True])
    def test_no_magnitude(self, value):
        found, notes = zero_point(MAGZP=value)
        assert found is None and "MAGZP" in notes[0]

    def test_nothing_said(self):
        assert zero_point() == (None, []) and zero_point(MAGZP=0.0) == (None, [])


class TestTime:
    def test_middle_of_the_exposure(self):
        told, notes = find_time([header(DATE_OBS="2020-01-01T06:00:00.000")], 864.0)
        assert told["mjd"] == pytest.approx(MJD + 0.005, abs=1e-9) and not notes
        assert told["date_obs"] == "2020-01-01T06:00:00.000"

    def test_date_and_clock_apart(self):
        told, _ = find_time([header(DATE_OBS="2020-01-01", TIME_OBS="06:00:00")], None)
        assert told["mjd"] == pytest.approx(MJD, abs=1e-9)

    def test_number_alone(self):
        told, _ = find_time([header(MJD_OBS=MJD)], None)
        assert told == {"mjd": MJD, "date_obs": "2020-01-01T06:00:00.000"}

    def test_middle_that_is_told(self):
        told, _ = find_time([header(MJD_AVG=MJD)], 864.0)
        assert told["mjd"] == MJD and told["date_obs"] == "2020-01-01T05:52:48.000"

    def test_a_day_is_no_time(self):
        known, notes = find_time([header(DATE_OBS="2020-01-01")], 10.0)
        assert known == {} and "'2020-01-01' tells no moment" in notes[0]
        assert find_time([header(DATE_OBS="2020-01-01", MJD_OBS=MJD)], None)[0]["mjd"] == MJD

    def test_contradictions(self):
        told, notes = find_time([header(DATE_OBS="2020-01-01T06:00:00", MJD_OBS=MJD + 0.1)], 60.0)
        assert told == {} and "contradict" in notes[0]

    def test_nonsense(self):
        known, notes = find_time([header(DATE_OBS="yesterday", MJD_OBS=0.0)], 60.0)
        assert known == {} and "'yesterday' tells no moment" in notes[0]


def test_on_the_way_from_file_to_exposure(tmp_path):
    """From the header, from the table of images, and refused."""
    pixels = np.random.default_rng(1).normal(100, 5, (40, 50)).astype(np.float32)
    path = tmp_path / "a.fits"
    cards = header(MJD_OBS=MJD, EXPTIME=86.4, MAGZP=27.5)
    fits.PrimaryHDU(pixels, cards).writeto(path)
    meta = psflib.read(path).meta
    assert meta["zero_point"] == 27.5 and meta["mjd"] == pytest.approx(MJD + 0.0005, abs=1e-9)
    table = tmp_path / "fields.csv"
    table.write_text("field,epoch,image,zero_point\nf,1,a.fits,25.5\n")
    assert read_fields(table, until="psf").row("f", "1").read().meta["zero_point"] == 25.5
    with pytest.raises(ValueError, match="zero_point must be a positive number"):
        psflib.read(path, zero_point=-3.0)
