"""Masks of other people: bits, codes, names; and planes of noise of any kind."""

import numpy as np
import pytest
from astropy.io import fits

from psflib.errors import BadFile
from psflib.files import read
from psflib.files.choice import Choice, parse_choice
from psflib.files.planes import to_variance
from psflib.image.exposure import MaskBit

SHAPE = (20, 30)
VALUES = {(1, 1): 0, (1, 2): 1, (1, 3): 2, (1, 4): 32, (1, 5): 33, (1, 6): 64}


def write(path, dtype=np.int32, header=None, values=VALUES):
    """An image with a mask in the HDU DQ."""
    mask = np.zeros(SHAPE, dtype)
    for place, value in values.items():
        mask[place] = value
    pixels = np.random.default_rng(1).normal(100, 3, SHAPE).astype(np.float32)
    hdus = [fits.ImageHDU(pixels, name="SCI"), fits.ImageHDU(mask, header, name="DQ")]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    return path


def bad(exposure):
    return {tuple(map(int, place)) for place in np.argwhere(~exposure.usable)}


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64])
class TestNumbers:
    def test_any_nonzero(self, tmp_path, dtype):
        exposure = read(write(tmp_path / "a.fits", dtype), mask_hdu="DQ")
        assert bad(exposure) == set(VALUES) - {(1, 1)}

    @pytest.mark.parametrize("bits", ["0 5", [0, 5], (0, "5"), "0x21", np.array([0, 5])])
    def test_bad_bits(self, tmp_path, dtype, bits):
        exposure = read(write(tmp_path / "a.fits", dtype), mask_hdu="DQ", mask_bits=bits)
        assert bad(exposure) == {(1, 2), (1, 4), (1, 5)}
        assert exposure.meta["mask_names"]["bit 6"] == 1 / 600

    def test_ignored_bits(self, tmp_path, dtype):
        exposure = read(write(tmp_path / "a.fits", dtype), mask_hdu="DQ", mask_ignore=5)
        assert bad(exposure) == {(1, 2), (1, 3), (1, 5), (1, 6)}

    def test_codes(self, tmp_path, dtype):
        exposure = read(write(tmp_path / "a.fits", dtype), mask_hdu="DQ", mask_codes="1 33")
        assert bad(exposure) == {(1, 2), (1, 5)}


class TestNames:
    HEADER = fits.Header({"MP_BAD": 0, "HIERARCH MP_DETECTED": 5, "MP_SAT": 1, "MP_CR": 6})

    def test_header_names_what_is_bad(self, tmp_path):
        """A mask that names its bits as LSST's do is no matter of any nonzero value."""
        path = write(tmp_path / "a.fits", header=self.HEADER)
        exposure = read(path, mask_hdu="DQ", format="none")
        assert bad(exposure) == {(1, 2), (1, 3), (1, 5), (1, 6)}
        assert exposure.mask[1, 3] == MaskBit.SAT and exposure.mask[1, 6] == MaskBit.CR
        assert any("DETECTED" in note for note in exposure.meta["notes"])

    def test_chosen_names(self, tmp_path):
        path = write(tmp_path / "a.fits", header=self.HEADER)
        assert bad(read(path, mask_hdu="DQ", mask_bits="sat DETECTED")) == {
            (1, 3), (1, 4), (1, 5),
        }  # fmt: skip
        assert bad(read(path, mask_hdu="DQ", mask_ignore=["BAD", "CR"])) == {
            (1, 3), (1, 4), (1, 5),
        }  # fmt: skip

    def test_names_by_value(self, tmp_path):
        header = fits.Header({"MSKNAM00": "SAT", "MSKVAL00": 1, "MSKNAM01": "STARCORE",
                              "MSKVAL01": 32})  # fmt: skip
        path = write(tmp_path / "a.fits", header=header)
        assert bad(read(path, mask_hdu="DQ", mask_bits="SAT")) == {(1, 2), (1, 5)}

    def test_unknown_name(self, tmp_path):
        path = write(tmp_path / "a.fits", header=self.HEADER)
        with pytest.raises(BadFile, match=r"does not know the bit 'CROSSTALK'\. It knows BAD"):
            read(path, mask_hdu="DQ", mask_bits="CROSSTALK")
        bare = write(tmp_path / "b.fits")
        with pytest.raises(BadFile, match="It names no bits: give numbers"):
            read(bare, mask_hdu="DQ", mask_ignore="DETECTED")


def test_a_bit_that_the_type_does_not_have(tmp_path):
    """34 as a value is two bits: the message tells them."""
    path = write(tmp_path / "a.fits", np.int16)
    with pytest.raises(BadFile, match=r"mask of 16 bits.*the bits 1 5 \(or write 0x22\)"):
        read(path, mask_hdu="DQ", mask_ignore=34)


def test_the_sign_is_a_bit_as_any_other(tmp_path):
    path = write(tmp_path / "a.fits", np.int16, values={(2, 2): -32768, (3, 3): -32767})
    assert bad(read(path, mask_hdu="DQ", mask_ignore="15")) == {(3, 3)}


def test_a_float_mask(tmp_path):
    path = write(tmp_path / "a.fits", np.float32, values={(2, 2): 32.0, (3, 3): np.nan, (4, 4): 1})
    exposure = read(path, mask_hdu="DQ", mask_ignore="5")
    assert bad(exposure) == {(3, 3), (4, 4)} and exposure.mask[3, 3] == MaskBit.NO_DATA


def test_a_choice_without_a_mask(tmp_path):
    with pytest.raises(BadFile, match="no mask whose bits could be chosen"):
        read(write(tmp_path / "a.fits"), mask_bits="1")


@pytest.mark.parametrize("word", ["-1", "a b!", "", "1.5", "0xg"])
def test_words_that_mean_nothing(word):
    with pytest.raises(ValueError, match="mask_bits"):
        parse_choice(mask_bits=word)


def test_one_way_to_say_it():
    with pytest.raises(ValueError, match="only one of mask_bits, mask_codes"):
        parse_choice(mask_bits="1", mask_codes="2")
    assert parse_choice() == Choice() and not parse_choice()
    assert parse_choice(mask_codes="0x22 7").codes == (34, 7)


class TestNoise:
    @pytest.mark.parametrize(
        ("kind", "value"), [("variance", 4.0), ("sigma", 2.0), ("inverse variance", 0.25)]
    )
    def test_kinds(self, kind, value):
        plane = np.full(SHAPE, value, np.float32)
        plane[0, :4] = 0, -1, np.nan, np.inf
        variance, notes = to_variance(plane, kind)
        assert (variance[0, :4] == 0).all() and not notes
        np.testing.assert_allclose(variance[1:], 4)

    @pytest.mark.parametrize("name", ["variance", "sigma", "weight"])
    def test_columns(self, tmp_path, name):
        values = {"variance": 4.0, "sigma": 2.0, "weight": 0.25}
        image = np.random.default_rng(1).normal(0, 2, SHAPE).astype(np.float32)
        plane = np.full(SHAPE, values[name], np.float32)
        hdus = [fits.ImageHDU(image, name="SCI"), fits.ImageHDU(plane, name="N")]
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "a.fits")
        exposure = read(tmp_path / "a.fits", **{f"{name}_hdu": "N"})
        np.testing.assert_allclose(exposure.variance, 4)
        kind = {"weight": "inverse variance"}.get(name, name)
        assert exposure.meta["planes"] == {
            "image": "a.fits[SCI]",
            "variance": f"a.fits[N] as {kind}",
        }

    @pytest.mark.parametrize("pair", [("variance", "sigma"), ("sigma", "weight_hdu")])
    def test_two_planes_for_one_purpose(self, tmp_path, pair):
        with pytest.raises(ValueError, match="give either a"):
            read(tmp_path / "a.fits", **dict.fromkeys(pair, "x.fits"))

    @pytest.mark.parametrize("kind", ["variance", "sigma", "inverse variance"])
    def test_what_compression_makes_of_zero(self, kind):
        weight = np.full((60, 60), 0.02)
        weight[6, 30] = 1e-9  # measured on a real oow plane
        weight[40:, 40:] = 2.0  # a deep part of a mosaic
        power = {"variance": -1, "sigma": -0.5, "inverse variance": 1}[kind]
        variance, notes = to_variance((weight**power).astype(np.float32), kind)
        assert variance[6, 30] == 0 and (variance == 0).sum() == 1 and len(notes) == 1
        np.testing.assert_allclose(variance[45, 45], 0.5, rtol=1e-6)

    def test_bright_pixels_are_not_below_the_floor(self):
        image = np.random.default_rng(2).normal(0, 10, (60, 60))
        weight = np.full((60, 60), 0.01)
        image[30, 30], weight[30, 30] = 1e4, 1 / (100 + 1e4)
        weight[10, 10] = 1e-4
        variance, _ = to_variance(weight, "inverse variance", 0.1, image)
        assert variance[30, 30] == pytest.approx(10100) and variance[10, 10] == 0

    @pytest.mark.parametrize("method", [-1, 1, 2])
    def test_zeros_that_compression_has_moved_are_no_data(self, tmp_path, method):
        """CFITSIO's default (1) moves them by half a step, the others do not."""
        rng = np.random.default_rng(5)
        image = rng.normal(0, 5, (200, 210)).astype(np.float32)
        weight = rng.normal(0.04, 0.002, image.shape).astype(np.float32)
        weight[50:60], weight[:, 100] = 0, 0
        plane = fits.CompImageHDU(weight, name="W", quantize_method=method, quantize_level=4)
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(image, name="SCI"), plane]
        fits.HDUList(hdus).writeto(tmp_path / "a.fits")
        moved = fits.getdata(tmp_path / "a.fits", "W")[weight == 0] != 0
        assert moved.any() == (method == 1)
        exposure = read(tmp_path / "a.fits", hdu="SCI", weight_hdu="W")
        assert np.array_equal(exposure.usable, weight > 0)
        told = [note for note in exposure.meta["notes"] if "half a step" in note]
        assert len(told) == (method == 1)
