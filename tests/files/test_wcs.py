"""World coordinates: what headers say twice, wrongly, or not at all."""

import numpy as np
import pytest
from astropy.io import fits

from psflib.errors import BadImage
from psflib.files import read
from psflib.files.wcs import celestial_wcs

N = 2048
CORNERS = np.array([[0.0, 0.0], [N, 0.0], [N, N], [0.0, N], [300.0, 1500.0]])
TAN = {
    "NAXIS1": N, "NAXIS2": N, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 1000.0,
    "CRPIX2": 1100.0, "CRVAL1": 150.0, "CRVAL2": 20.0, "CD1_1": -7e-5, "CD1_2": 1e-6,
    "CD2_1": 2e-6, "CD2_2": 7e-5,
}  # fmt: skip
TPV = {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"}
SIP = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 2e-6, "B_0_2": -3e-6}
IDENTITY = {f"PV{axis}_{term}": float(term == 1) for axis in (1, 2) for term in (0, 1, 2)}
FIRST = {"PV1_0": 1e-4, "PV1_1": 1.001, "PV1_2": 2e-4, "PV2_0": -1e-4, "PV2_1": 0.999,
         "PV2_2": 1e-4}  # fmt: skip
FOURTH = {**FIRST, "PV1_4": 4e-3, "PV2_4": -3e-3}
FIFTH = {**FOURTH, "PV1_5": 1e-3, "PV2_6": 2e-3}


def header(**cards):
    made = fits.Header()
    made.update({**TAN, **cards})
    return made


def sky(**cards):
    return celestial_wcs(header(**cards))[0].all_pix2world(CORNERS, 0)


class TestScamp:
    @pytest.mark.parametrize("terms", [FIRST, FOURTH, FIFTH, {"PV1_4": 4e-3, "PV2_4": 1e-3}])
    def test_tan_with_pv_is_tpv(self, terms):
        np.testing.assert_allclose(sky(**terms), sky(**terms, **TPV), rtol=0, atol=1e-12)
        assert np.abs(sky(**terms) - sky()).max() > 1e-6

    @pytest.mark.parametrize(
        "terms",
        [IDENTITY, {"PV1_1": 1.0, "PV2_1": 1.0}, {"PV1_1": 1.0}, {"PV2_1": 1.0},
         {**IDENTITY, "PV1_5": 0.0}],
    )  # fmt: skip
    @pytest.mark.parametrize("kind", [{}, TPV])
    def test_identity_is_harmless(self, terms, kind):
        np.testing.assert_allclose(sky(**terms, **kind), sky(), rtol=0, atol=1e-11)

    def test_the_native_pole_stays_what_it_is(self):
        pole = {"PV1_1": 0.0, "PV1_2": 90.0, "PV1_3": 180.0}
        np.testing.assert_allclose(sky(**pole), sky(), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("terms", [IDENTITY, FIRST, FIFTH])
    @pytest.mark.parametrize("suffix", ["", "-SIP"])
    def test_beside_sip_it_is_not_added(self, terms, suffix):
        types = {f"CTYPE{i}": TAN[f"CTYPE{i}"] + suffix for i in (1, 2)}
        cards = {**types, **SIP}
        alone = sky(**{**cards, "CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"})
        np.testing.assert_allclose(sky(**cards, **terms), alone, rtol=0, atol=1e-12)

    def test_written_and_read_again(self, tmp_path):
        path = tmp_path / "a.fits"
        fits.writeto(path, np.ones((20, 20), np.float32), header(**FOURTH))
        wcs = read(path).wcs
        again = celestial_wcs(wcs.to_header(relax=True))[0]
        np.testing.assert_allclose(
            again.all_pix2world(CORNERS, 0), wcs.all_pix2world(CORNERS, 0), rtol=0, atol=1e-9
        )


class TestRefused:
    @pytest.mark.parametrize(
        ("cards", "said"),
        [
            ({"CTYPE1": "RA---TNX", "CTYPE2": "DEC--TNX"}, "CTYPE1 = RA---TNX.*not part of FITS"),
            ({"CTYPE1": "RA---ZPX", "CTYPE2": "DEC--ZPX"}, "CTYPE1 = RA---ZPX"),
            ({"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"}, "XYZ in CTYPE1"),
            ({"CTYPE2": "GLAT-TAN"}, "CTYPE2"),
            ({"CTYPE2": "LINEAR"}, "CTYPE2 = LINEAR"),
            ({"CD1_1": 0.0, "CD1_2": 0.0}, "CD1_1 and CD1_2 are zero"),
            ({"CD1_1": "abc"}, "CD1_1 = 'abc' is no number"),
            ({"CRVAL1": "10:00:00"}, "CRVAL1 = '10:00:00' is no number"),
            ({"PV1_1": "x", "PV2_1": 1.0}, "PV1_1 = 'x'"),
            ({"CUNIT1": "furlong"}, "CUNIT1"),
            ({"CRVAL2": 95.0}, "CTYPE1 = RA---TAN"),
            ({"CD1_1": 1e300}, r"CD1_1 = 1e\+300"),
        ],
    )
    def test_the_card_is_named(self, tmp_path, cards, said):
        path = tmp_path / "a.fits"
        fits.writeto(path, np.ones((20, 20), np.float32), header(**cards))
        with pytest.raises(BadImage, match=rf"a\.fits: the WCS.*{said}.*Mend the card"):
            read(path)

    def test_a_card_that_cannot_be_parsed(self):
        made = header()
        del made["CRVAL1"]
        made.append(fits.Card.fromstring("CRVAL1  = 1.2.3.4 'x"), end=True)
        with pytest.raises(BadImage, match="the card CRVAL1 has no value that can be read"):
            celestial_wcs(made)


class TestTolerated:
    @pytest.mark.parametrize(
        "card", ["GAIN    = 1.2.3.4 'x", "OBSERVER= O'Neil / who", "DATE-OBS= 2020-1.2 'x",
                 "FOO     = nan nan"],
    )  # fmt: skip
    def test_an_unreadable_card_elsewhere(self, card):
        made = header()
        made.append(fits.Card.fromstring(card), end=True)
        wcs, _ = celestial_wcs(made)
        np.testing.assert_allclose(wcs.all_pix2world(CORNERS, 0), sky(), rtol=0, atol=1e-12)

    def test_numbers_in_quotes(self):
        """wcslib warns, and reads 0 in their place."""
        found = sky(CRVAL1="150.0", CD1_1="-7e-5", CRPIX1=" 1000. ")
        np.testing.assert_allclose(found, sky(), rtol=0, atol=1e-12)

    def test_a_frame_without_a_name(self):
        wcs, notes = celestial_wcs(header(RADESYS="FOO"))
        assert notes == ["RADESYS = FOO names no frame: ignored"]
        np.testing.assert_allclose(wcs.all_pix2world(CORNERS, 0), sky(), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("cards", [{"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}, {"CTYPE1": "",
                                       "CTYPE2": ""}, {"CTYPE1": "X", "CTYPE2": "Y"}])  # fmt: skip
    def test_no_sky_is_no_wcs(self, cards):
        assert celestial_wcs(header(**cards)) == (None, [])
