"""Every way in which an astronomer's image may come, and every way in which it may be broken."""

import gzip

import numpy as np
import pytest
from astropy.io import fits

from psflib.errors import BadFile, BadImage
from psflib.files import read
from psflib.image.exposure import MaskBit

PIXELS = np.random.default_rng(1).integers(100, 60000, (40, 50)).astype(np.uint16)
TAN = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRPIX1": 25.0,
    "CRPIX2": 20.0,
    "CRVAL1": 150.0,
    "CRVAL2": 2.0,
    "CD1_1": -1e-4,
    "CD1_2": 0.0,
    "CD2_1": 0.0,
    "CD2_2": 1e-4,
}
SIP = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-4, "B_0_2": -2e-4}


def write(path, *arrays, names=(), compress=False, **keywords):
    """A FITS file: one array in the primary HDU, several in extensions; keywords to the last."""
    if len(arrays) == 1 and not compress:
        hdus = [fits.PrimaryHDU(arrays[0])]
    else:
        kind = fits.CompImageHDU if compress else fits.ImageHDU
        hdus = [fits.PrimaryHDU(), *(kind(a) for a in arrays)]
    for hdu, name in zip(hdus[1:], names, strict=False):
        hdu.name = name
    for key, value in keywords.items():
        hdus[-1].header[key] = value
    fits.HDUList(hdus).writeto(path)
    return path


def with_header(path, header, array=PIXELS):
    fits.writeto(path, array, fits.Header(header))
    return path


class TestNumberTypes:
    @pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_all_types_and_byte_orders(self, tmp_path, dtype, order):
        array = (PIXELS % 128).astype(order + dtype)
        exposure = read(write(tmp_path / "a.fits", array))
        assert exposure.image.dtype == np.dtype(np.float32) and exposure.image.dtype.isnative
        np.testing.assert_array_equal(exposure.image, PIXELS % 128)

    @pytest.mark.parametrize("name", ["a.fits", "a.fits.gz", "a.fit", "b.with.dots.fits"])
    def test_unsigned_by_bzero(self, tmp_path, name):
        exposure = read(write(tmp_path / name, PIXELS))
        np.testing.assert_array_equal(exposure.image, PIXELS)
        assert exposure.meta["name"] == name.split(".fit")[0]

    def test_scaled_by_bscale(self, tmp_path):
        hdu = fits.PrimaryHDU(PIXELS.astype(np.float64))
        hdu.scale("int16", bscale=0.5 * 60000 / 32000, bzero=30000)
        hdu.writeto(tmp_path / "a.fits")
        # a stored step is 0.94 ADU, rounding errs by half of it
        np.testing.assert_allclose(read(tmp_path / "a.fits").image, PIXELS, atol=0.48)

    @pytest.mark.parametrize("array", [PIXELS, PIXELS.astype(np.float32)])
    def test_tile_compressed(self, tmp_path, array):
        kind = {"compression_type": "GZIP_2", "quantize_level": 0.0}
        hdus = [fits.PrimaryHDU(), fits.CompImageHDU(array, name="SCI", **kind)]
        fits.HDUList(hdus).writeto(tmp_path / "a.fits.fz")
        np.testing.assert_array_equal(read(tmp_path / "a.fits.fz").image, array)

    @pytest.mark.parametrize("unsigned", [True, False])
    def test_blank_is_no_data(self, tmp_path, unsigned):
        array = PIXELS if unsigned else (PIXELS // 2).astype(np.int16)
        path = write(tmp_path / "a.fits", array, BLANK=int(array[3, 4]) - 32768 * unsigned)
        exposure = read(path)
        assert exposure.mask[3, 4] & MaskBit.NO_DATA and exposure.image[3, 4] == 0
        good = array != array[3, 4]
        np.testing.assert_array_equal(exposure.image[good], array[good])

    def test_beyond_float32_is_no_data(self, tmp_path):
        array = PIXELS.astype(float)
        array[0, 0] = 1e300
        assert read(write(tmp_path / "a.fits", array)).mask[0, 0] == MaskBit.NO_DATA


class TestExtensions:
    def test_first_image_number_and_name(self, tmp_path):
        path = write(tmp_path / "a.fits", PIXELS, PIXELS + 1, names=["SCI", "OTHER"])
        assert read(path).image[0, 0] == PIXELS[0, 0]
        for hdu in (2, "OTHER", "other"):
            assert read(path, hdu=hdu).image[0, 0] == PIXELS[0, 0] + 1

    def test_missing_hdu_lists_what_is_there(self, tmp_path):
        path = write(tmp_path / "a.fits", PIXELS, PIXELS, names=["SCI", "DQ"])
        for hdu in (7, "NOISE"):
            with pytest.raises(BadFile, match=r"a\.fits: has no HDU .*1 SCI: a 50x40 image; 2 DQ"):
                read(path, hdu=hdu)

    def test_table_is_no_image(self, tmp_path):
        table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.ones(3))])
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "a.fits")
        with pytest.raises(BadFile, match=r"HDU 1 holds a table, not a 2-D image"):
            read(tmp_path / "a.fits", hdu=1)
        with pytest.raises(BadFile, match=r"has no 2-D image.*1 \(no name\): a table"):
            read(tmp_path / "a.fits")

    def test_cube(self, tmp_path):
        path = write(tmp_path / "a.fits", np.stack([PIXELS] * 3))
        with pytest.raises(BadFile, match="50x40x3 cube"):
            read(path)
        with pytest.raises(BadFile, match="Save the wanted plane"):
            read(path, hdu=0)

    def test_axes_of_length_one_are_dropped(self, tmp_path):
        path = with_header(tmp_path / "a.fits", TAN, PIXELS[None, None])
        exposure = read(path)
        np.testing.assert_array_equal(exposure.image, PIXELS)
        assert exposure.wcs.naxis == 2


class TestBrokenFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(BadFile, match=r"no\.fits: no such file\. Check the path") as caught:
            read(tmp_path / "no.fits")
        assert caught.value.path == str(tmp_path / "no.fits")

    def test_folder_and_empty(self, tmp_path):
        (tmp_path / "empty.fits").touch()
        with pytest.raises(BadFile, match="is not a file"):
            read(tmp_path)
        with pytest.raises(BadFile, match="is empty"):
            read(tmp_path / "empty.fits")

    def test_web_page(self, tmp_path):
        (tmp_path / "a.fits").write_text("<!DOCTYPE html><html>404</html>")
        with pytest.raises(BadFile, match=r"not a FITS file.*web page"):
            read(tmp_path / "a.fits")

    @pytest.mark.parametrize("content", [b"not an image\n" * 300, b"\x00" * 5760, b"SIMPLE"])
    def test_not_fits(self, tmp_path, content):
        (tmp_path / "a.fits").write_bytes(content)
        with pytest.raises(BadFile):
            read(tmp_path / "a.fits")
        (tmp_path / "a.fits.gz").write_bytes(gzip.compress(content))
        with pytest.raises(BadFile):
            read(tmp_path / "a.fits.gz")

    @pytest.mark.parametrize("kind", ["plain", "gz", "fz", "extension"])
    def test_truncated_at_any_length(self, tmp_path, kind):
        """Either an error, or (only the last padding is gone) all pixels: never wrong ones."""
        whole = tmp_path / ("whole.fits.gz" if kind == "gz" else "whole.fits")
        arrays = [PIXELS, PIXELS] if kind == "extension" else [PIXELS]
        write(whole, *arrays, compress=kind == "fz")
        content = whole.read_bytes()
        path = tmp_path / whole.name.replace("whole", "cut")
        refused = 0
        for part in np.linspace(0.001, 0.999, 40):
            path.write_bytes(content[: int(part * len(content))])
            try:
                exposure = read(path, hdu=2 if kind == "extension" else None)
            except BadFile as error:
                assert str(path) in str(error) and error.remedy
                refused += 1
            else:
                np.testing.assert_array_equal(exposure.image, PIXELS)
        assert refused >= 25

    def test_truncation_behind_the_wanted_image_does_no_harm(self, tmp_path):
        path = write(tmp_path / "a.fits", PIXELS, PIXELS)
        path.write_bytes(path.read_bytes()[:-4000])
        np.testing.assert_array_equal(read(path).image, PIXELS)
        with pytest.raises(BadFile, match="truncated"):
            read(path, hdu=2)

    def test_all_nan(self, tmp_path):
        path = write(tmp_path / "a.fits", np.full((40, 50), np.nan, np.float32))
        with pytest.raises(BadImage, match=r"a\.fits: no pixel of the image is finite"):
            read(path)


class TestPlanes:
    @pytest.fixture
    def path(self, tmp_path):
        mask = np.zeros(PIXELS.shape, np.int16)
        mask[2, 3], mask[5, 6] = 1, 1024
        variance = np.full(PIXELS.shape, 4, np.float32)
        variance[0] = 0
        weight = np.full(PIXELS.shape, 0.25, np.float32)
        weight[0, :4] = 0, -1, np.nan, np.inf
        names = ["SCI", "DQ", "VAR", "IVM"]
        return write(tmp_path / "a.fits", PIXELS, mask, variance, weight, names=names)

    def test_mask(self, path):
        for name in ({}, {"mask": path}, {"mask": str(path)}):
            mask = read(path, mask_hdu="DQ", **name).mask
            assert mask[2, 3] == mask[5, 6] == MaskBit.BAD
            assert np.count_nonzero(mask) == 2

    def test_variance(self, path):
        exposure = read(path, variance_hdu="VAR")
        assert (exposure.mask[0] == MaskBit.NO_DATA).all() and (exposure.variance[1:] == 4).all()

    def test_weight(self, path):
        exposure = read(path, weight_hdu=4)
        assert (exposure.mask[0, :4] == MaskBit.NO_DATA).all() and exposure.usable[0, 4:].all()
        assert (exposure.variance[1:] == 4).all()

    def test_variance_and_weight(self, path):
        with pytest.raises(ValueError, match="either"):
            read(path, variance_hdu=3, weight_hdu=4)

    @pytest.mark.parametrize("what", ["mask", "variance", "weight"])
    def test_wrong_shape(self, path, tmp_path, what):
        other = write(tmp_path / "small.fits", np.ones((30, 50), np.float32))
        with pytest.raises(
            BadFile, match=f"small.fits: the {what} is 50x30 pixels, the image 50x40"
        ):
            read(path, **{what: other})

    def test_same_file_without_hdu(self, path):
        with pytest.raises(BadFile, match="Say in mask_hdu"):
            read(path, mask=path)

    def test_everything_masked(self, path, tmp_path):
        other = write(tmp_path / "good.fits", np.ones(PIXELS.shape, np.int16))
        with pytest.raises(BadImage, match=r"no pixel is usable.*nonzero means bad"):
            read(path, mask=other)


class TestConstants:
    @pytest.mark.parametrize(
        ("header", "name", "value"),
        [
            ({"GAIN": 1.8}, "gain", 1.8),
            ({"EGAIN": 2}, "gain", 2),
            ({"GAIN": 0.0, "EGAIN": 2.5}, "gain", 2.5),
            ({"GAIN1": 1.0, "GAIN2": 2.0}, "gain", 1.5),
            ({"CCDGAIN": "1.5"}, "gain", 1.5),
            ({"HIERARCH ESO DET OUT1 CONAD": 1.9, "HIERARCH ESO DET OUT1 GAIN": 0.5}, "gain", 1.9),
            ({"SATURATE": 6e4}, "saturation", 6e4),
            ({"HIERARCH SATUR_LEVEL": 5e4}, "saturation", 5e4),
            ({"SATURATA": 4e4, "SATURATB": 3e4}, "saturation", 3e4),
            ({"RDNOISE": 5.5}, "read_noise", 5.5),
            ({"ENOISE": 7}, "read_noise", 7),
            ({"RDNOISEA": 6.0, "RDNOISEB": 7.0}, "read_noise", 7),
        ],
    )
    def test_from_header(self, tmp_path, header, name, value):
        exposure = read(with_header(tmp_path / "a.fits", header))
        assert getattr(exposure, name) == value
        taken = [note for note in exposure.meta["notes"] if "from" in note]
        assert len(taken) == 1 and taken[0].startswith(name.replace("_", " "))

    @pytest.mark.parametrize("value", [0, -1.0, "unknown", "nan", True, None])
    def test_insane_values_are_ignored_and_noted(self, tmp_path, value):
        exposure = read(with_header(tmp_path / "a.fits", {"GAIN": value}))
        assert exposure.gain is None
        assert "gain: GAIN = " in exposure.meta["notes"][0]

    def test_given_wins(self, tmp_path):
        path = with_header(tmp_path / "a.fits", {"GAIN": 1.8, "SATURATE": 6e4})
        exposure = read(path, gain=2.0, read_noise=0.0)
        assert (exposure.gain, exposure.read_noise, exposure.saturation) == (2.0, 0.0, 6e4)

    @pytest.mark.parametrize("gain", [0, -1.0, np.nan, np.inf])
    def test_given_must_be_positive(self, tmp_path, gain):
        with pytest.raises(ValueError, match="gain must be a positive number"):
            read(write(tmp_path / "a.fits", PIXELS), gain=gain)

    def test_primary_header_stands_in(self, tmp_path):
        primary = fits.PrimaryHDU()
        primary.header.update({"GAIN": 3.0, "RDNOISE": 9.0, "FILTER": "r", "EXPTIME": "53.9"})
        image = fits.ImageHDU(PIXELS)
        image.header["GAIN"] = 2.0
        fits.HDUList([primary, image]).writeto(tmp_path / "a.fits")
        exposure = read(tmp_path / "a.fits")
        assert (exposure.gain, exposure.read_noise, exposure.saturation) == (2.0, 9.0, None)
        assert exposure.meta["FILTER"] == "r" and exposure.meta["EXPTIME"] == 53.9

    def test_electrons_are_noted(self, tmp_path):
        exposure = read(with_header(tmp_path / "a.fits", {"BUNIT": "electron/s"}))
        assert any("electrons" in note for note in exposure.meta["notes"])


class TestWcs:
    def test_tan(self, tmp_path):
        wcs = read(with_header(tmp_path / "a.fits", TAN)).wcs
        np.testing.assert_allclose(wcs.all_pix2world([[24, 19]], 0), [[150, 2]], atol=1e-12)

    @pytest.mark.parametrize("header", [{}, {"CTYPE1": "LINEAR"}, {**TAN, "CD1_1": 0.0}])
    def test_none(self, tmp_path, header):
        assert read(with_header(tmp_path / "a.fits", header)).wcs is None

    def test_deprecated_keywords_are_silent(self, tmp_path):
        header = {**TAN, "RADECSYS": "FK5", "DATE-OBS": "31/12/98", "EQUINOX": 2000.0}
        assert read(with_header(tmp_path / "a.fits", header)).wcs is not None

    def test_sip_with_and_without_suffix(self, tmp_path):
        named = {**TAN, **SIP, "CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}
        first = read(with_header(tmp_path / "a.fits", named))
        second = read(with_header(tmp_path / "b.fits", {**TAN, **SIP}))
        corner = np.array([[0.0, 0.0]])
        sky = first.wcs.all_pix2world(corner, 0)
        np.testing.assert_array_equal(second.wcs.all_pix2world(corner, 0), sky)
        assert not np.allclose(first.wcs.wcs_pix2world(corner, 0), sky, rtol=0, atol=1e-6)
        assert second.wcs.wcs.ctype[0] == "RA---TAN-SIP"
        assert any("SIP" in note for note in second.meta["notes"])

    def test_sip_beside_tpv_is_not_added(self, tmp_path):
        tpv = {**TAN, "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 1.0, "PV2_1": 1.0}
        first = read(with_header(tmp_path / "a.fits", tpv))
        second = read(with_header(tmp_path / "b.fits", {**tpv, **SIP}))
        sky = [e.wcs.all_pix2world([[0.0, 0.0]], 0) for e in (first, second)]
        np.testing.assert_array_equal(*sky)
