"""Exposure: whatever a user's arrays look like, the planes inside keep their promises."""

import dataclasses
import pickle

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS

from psflib.image.exposure import UNUSABLE, Exposure, MaskBit, as_exposure

SHAPE = (12, 17)
NO_DATA, BAD = int(MaskBit.NO_DATA), int(MaskBit.BAD)


@pytest.fixture
def image():
    return np.random.default_rng(1).normal(100, 5, SHAPE).astype(np.float32)


def sky_wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 150.0, 2.0
    wcs.wcs.crpix = 5.0, 6.0
    wcs.wcs.cdelt = -1e-4, 1e-4
    wcs.wcs.set()
    return wcs


class TestImage:
    @pytest.mark.parametrize("dtype", [">f4", "<f4", ">f8", ">i2", "u1", "u2", "i8", "?"])
    def test_any_dtype_becomes_native_float32(self, dtype):
        values = np.arange(204).reshape(SHAPE).astype(dtype)
        exposure = Exposure(values)
        assert exposure.image.dtype == np.dtype(np.float32) and exposure.image.dtype.isnative
        assert exposure.image.flags.c_contiguous
        np.testing.assert_array_equal(exposure.image, values.astype(np.float32))

    def test_transposed_and_strided_arrays(self, image):
        for view in (image.T, image[::2, ::3], image[::-1]):
            exposure = Exposure(view)
            assert exposure.image.flags.c_contiguous
            np.testing.assert_array_equal(exposure.image, view)

    def test_not_finite_becomes_no_data(self, image):
        image[2, 3], image[4, 5], image[6, 7] = np.nan, np.inf, -np.inf
        exposure = Exposure(image)
        lost = np.zeros(SHAPE, bool)
        lost[[2, 4, 6], [3, 5, 7]] = True
        np.testing.assert_array_equal(exposure.mask == NO_DATA, lost)
        assert np.all(exposure.image[lost] == 0) and np.isfinite(exposure.image).all()
        np.testing.assert_array_equal(exposure.usable, ~lost)

    def test_list_of_lists(self):
        assert Exposure([[1, 2], [3, 4]]).shape == (2, 2)


class TestVariance:
    @pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
    def test_bad_variance_is_no_data(self, image, value):
        variance = np.full(SHAPE, 25.0)
        variance[3, 4] = value
        exposure = Exposure(image, variance)
        assert exposure.mask[3, 4] == NO_DATA
        assert exposure.image[3, 4] == exposure.variance[3, 4] == exposure.weight()[3, 4] == 0
        assert (exposure.mask == 0).sum() == exposure.image.size - 1

    def test_nan_pixel_has_no_weight(self, image):
        image[3, 4] = np.nan
        weight = Exposure(image, np.full(SHAPE, 25.0)).weight()
        assert weight[3, 4] == 0
        assert weight[0, 0] == pytest.approx(1 / 25)

    def test_weight_is_zero_on_each_unusable_bit(self, image):
        mask = np.zeros(SHAPE, np.uint16)
        for column, bit in enumerate(MaskBit):
            mask[0, column] = bit
        weight = Exposure(image, np.full(SHAPE, 4.0), mask, mask_bits="psflib").weight()
        for column, bit in enumerate(MaskBit):
            assert weight[0, column] == (0 if bit & UNUSABLE else 0.25), bit

    def test_weight_before_prepare(self, image):
        with pytest.raises(ValueError, match=r"psflib\.prepare"):
            Exposure(image).weight()


class TestMask:
    def test_booleans_are_bad(self, image):
        mask = np.zeros(SHAPE, bool)
        mask[1, 2] = True
        exposure = Exposure(image, mask=mask)
        assert exposure.mask.dtype == np.uint16
        assert exposure.mask[1, 2] == BAD and exposure.mask.sum() == BAD

    @pytest.mark.parametrize("dtype", ["u2", ">u2"])
    def test_own_bits_are_asked_for_by_name(self, image, dtype):
        mask = np.zeros(SHAPE, dtype)
        mask[1, 2], mask[3, 4] = MaskBit.CR, MaskBit.DETECTED
        exposure = Exposure(image, mask=mask, mask_bits="psflib")
        assert exposure.mask.dtype == np.uint16 and exposure.mask.dtype.isnative
        np.testing.assert_array_equal(exposure.mask, mask)
        assert not exposure.usable[1, 2] and exposure.usable[3, 4]

    @pytest.mark.parametrize("dtype", ["u2", ">u2", "i2", "i4", "u1", ">i8", "f4"])
    def test_foreign_planes_are_bad_where_not_zero(self, image, dtype):
        mask = np.zeros(SHAPE, dtype)
        mask[1, 2], mask[3, 4] = 64, 1
        exposure = Exposure(image, mask=mask)
        assert set(np.unique(exposure.mask)) == {0, BAD}
        assert exposure.mask[1, 2] == exposure.mask[3, 4] == BAD

    def test_bits_are_kept_when_a_pixel_has_no_data(self, image):
        mask = np.zeros(SHAPE, np.uint16)
        mask[1, 2] = MaskBit.SAT
        image[1, 2] = np.inf
        exposure = Exposure(image, mask=mask, mask_bits="psflib")
        assert exposure.mask[1, 2] == MaskBit.SAT | MaskBit.NO_DATA

    def test_bits_stay_what_they_are_in_copies(self, image):
        mask = np.zeros(SHAPE, np.uint16)
        mask[1, 2], mask[3, 4] = MaskBit.CR, MaskBit.DETECTED
        exposure = Exposure(image, mask=mask, mask_bits="psflib")
        for copy in (
            exposure.replace(image=image + 1),
            dataclasses.replace(exposure, gain=2.0),
            exposure.cutout(slice(0, 12), slice(0, 17)),
            pickle.loads(pickle.dumps(exposure)),
        ):
            np.testing.assert_array_equal(copy.mask, mask[: copy.shape[0], : copy.shape[1]])

    def test_a_new_mask_is_foreign_unless_it_is_said(self, image):
        mask = np.full(SHAPE, 64, np.uint16)
        exposure = Exposure(image)
        assert not exposure.replace(mask=mask).usable.any()
        assert exposure.replace(mask=mask, mask_bits="psflib").usable.all()

    @pytest.mark.parametrize(("dtype", "word"), [("f4", "psflib"), ("u2", "lsst")])
    def test_wrong_words_and_types_are_refused(self, image, dtype, word):
        with pytest.raises(ValueError, match="mask"):
            Exposure(image, mask=np.zeros(SHAPE, dtype), mask_bits=word)


class TestBadCalls:
    @pytest.mark.parametrize(
        "bad", [np.zeros(5), np.zeros((2, 3, 4)), np.zeros((2, 3), complex), np.array([["a"]])]
    )
    def test_image(self, bad):
        with pytest.raises(ValueError, match="2-D array of real numbers"):
            Exposure(bad)

    @pytest.mark.parametrize("name", ["variance", "mask"])
    def test_shapes(self, image, name):
        with pytest.raises(ValueError, match=rf"{name} has shape \(12, 16\), the image \(12, 17\)"):
            Exposure(image, **{name: np.ones((12, 16))})

    @pytest.mark.parametrize("name", ["gain", "read_noise", "saturation"])
    @pytest.mark.parametrize("value", [-1, np.nan, np.inf])
    def test_numbers(self, image, name, value):
        with pytest.raises(ValueError, match=name):
            Exposure(image, **{name: value})

    def test_zero(self, image):
        assert Exposure(image, read_noise=0).read_noise == 0
        with pytest.raises(ValueError, match="gain must be a positive number; got 0"):
            Exposure(image, gain=0)

    def test_it_is_frozen(self, image):
        with pytest.raises(dataclasses.FrozenInstanceError):
            Exposure(image).gain = 2


class TestCutout:
    def test_planes_and_wcs_move_together(self, image):
        mask = np.zeros(SHAPE, np.uint16)
        mask[7, 9] = MaskBit.CR
        planes = (image, image**2, mask, sky_wcs())
        whole = Exposure(*planes, gain=2.0, meta={"name": "a"}, mask_bits="psflib")
        part = whole.cutout(slice(4, 11), slice(3, 15))
        assert part.shape == (7, 12) and part.gain == 2 and part.meta == {"name": "a"}
        assert part.mask[3, 6] == MaskBit.CR
        np.testing.assert_array_equal(part.variance, whole.variance[4:11, 3:15])
        here, there = part.wcs.all_pix2world(6, 3, 0), whole.wcs.all_pix2world(9, 7, 0)
        np.testing.assert_allclose(here, there, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("rows", [slice(-5, None), slice(None), slice(None, -3), slice(7, 99)])
    def test_slices_as_numpy_reads_them(self, image, rows):
        whole = Exposure(image, wcs=sky_wcs())
        part = whole.cutout(rows, slice(-6, None))
        assert part.shape == image[rows, -6:].shape
        first = range(SHAPE[0])[rows][0]
        here, there = part.wcs.all_pix2world(0, 0, 0), whole.wcs.all_pix2world(11, first, 0)
        np.testing.assert_allclose(here, there, rtol=0, atol=1e-12)

    def test_without_variance_and_wcs(self, image):
        part = Exposure(image).cutout(slice(2, 4), slice(2, 4))
        assert part.variance is None and part.wcs is None

    def test_the_whole_is_not_moved(self, image):
        wcs = sky_wcs()
        Exposure(image, wcs=wcs).cutout(slice(4, 8), slice(3, 9))
        assert tuple(wcs.wcs.crpix) == (5, 6)


class TestCcdData:
    def test_round_trip(self, image):
        mask = np.zeros(SHAPE, np.uint16)
        mask[7, 9], mask[2, 2] = MaskBit.CR, MaskBit.DETECTED
        image[5, 5] = np.nan
        one = Exposure(
            image,
            np.full(SHAPE, 9.0),
            mask,
            sky_wcs(),
            2.0,
            5.0,
            6e4,
            0.0,
            meta={"name": "a"},
            mask_bits="psflib",
        )
        ccd = one.to_ccddata()
        assert ccd.unit == u.adu
        np.testing.assert_array_equal(ccd.mask, ~one.usable)
        two = Exposure.from_ccddata(ccd)
        for plane in ("image", "variance", "mask"):
            np.testing.assert_array_equal(getattr(two, plane), getattr(one, plane))
        for name in ("gain", "read_noise", "saturation", "sky", "meta"):
            assert getattr(two, name) == getattr(one, name), name
        assert two.wcs.wcs.compare(one.wcs.wcs)

    @pytest.mark.parametrize(
        "uncertainty",
        [
            StdDevUncertainty(np.full(SHAPE, 5.0)),
            VarianceUncertainty(np.full(SHAPE, 25.0)),
            InverseVariance(np.full(SHAPE, 0.04)),
        ],
        ids=lambda value: value.uncertainty_type,
    )
    def test_every_kind_of_uncertainty(self, image, uncertainty):
        exposure = Exposure.from_ccddata(CCDData(image, unit="adu", uncertainty=uncertainty))
        np.testing.assert_allclose(exposure.variance, 25, rtol=1e-6)  # float32
        assert exposure.usable.all()

    def test_zero_inverse_variance_is_no_data(self, image):
        weight = np.full(SHAPE, 0.04)
        weight[3, 4] = 0
        ccd = CCDData(image, unit="adu", uncertainty=InverseVariance(weight))
        exposure = Exposure.from_ccddata(ccd)
        assert exposure.mask[3, 4] == NO_DATA and exposure.mask.sum() == NO_DATA

    def test_boolean_mask_and_bare_data(self, image):
        mask = np.zeros(SHAPE, bool)
        mask[1, 1] = True
        exposure = Exposure.from_ccddata(CCDData(image, unit="adu", mask=mask))
        assert exposure.mask[1, 1] == BAD and exposure.variance is None
        assert Exposure.from_ccddata(CCDData(image, unit="adu")).usable.all()

    def test_copies_are_independent(self, image):
        exposure = Exposure(image, np.full(SHAPE, 9.0))
        ccd = exposure.to_ccddata()
        ccd.data[:], ccd.flags[:] = -1, 1
        ccd.uncertainty.array[:] = -1
        assert exposure.image[0, 0] != -1 and exposure.variance[0, 0] == 9
        assert exposure.mask.sum() == 0


def test_input_is_not_modified(image):
    variance, mask = np.full(SHAPE, 9, np.float32), np.zeros(SHAPE, np.uint16)
    image[2, 3], variance[4, 5] = np.nan, -1
    before = image.copy(), variance.copy(), mask.copy()
    Exposure(image, variance, mask)
    for now, then in zip((image, variance, mask), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_ccddata_in_another_unit_is_refused():
    with pytest.raises(ValueError, match="convert it to adu"):
        Exposure.from_ccddata(CCDData(np.ones((4, 4)), unit="electron"))


class TestUnits:
    """float32 cannot hold the variance of pixels of 1e-22; their unit is changed, and said."""

    def test_ordinary_images_keep_theirs(self):
        for noise in (1e-10, 1.0, 1e13):
            made = Exposure(np.full((4, 4), noise), variance=np.full((4, 4), noise**2))
            assert "unit" not in made.meta
            assert made.image[0, 0] == np.float32(noise)

    @pytest.mark.parametrize("scale", [1e-22, 1e-16, 1e17])
    def test_beyond_float32(self, scale):
        image = np.random.default_rng(1).normal(50, 3, (20, 20)) * scale
        given = Exposure(
            image, np.full(image.shape, 9 * scale**2), gain=2 / scale, saturation=1e3 * scale,
            sky=10 * scale, meta={"name": "far"},
        )  # fmt: skip
        unit = given.meta["unit"]
        assert np.log2(unit) == round(np.log2(unit))
        np.testing.assert_allclose(given.image.astype(float) * unit, image, rtol=1e-6)
        np.testing.assert_allclose(given.variance.astype(float) * unit**2, 9 * scale**2, rtol=1e-6)
        assert given.gain * given.image[0, 0] == pytest.approx(2 / scale * image[0, 0], rel=1e-6)
        assert (given.saturation * unit, given.sky * unit) == pytest.approx(
            (1e3 * scale, 10 * scale)
        )
        assert given.meta["name"] == "far"
        again = given.replace(image=given.image + 1)  # nothing is changed twice
        assert again.meta["unit"] == unit

    def test_by_hand(self):
        one = Exposure(np.full((3, 3), 8.0), np.full((3, 3), 4.0), gain=1.0)
        two = one.in_unit(2.0)
        assert (two.image[0, 0], two.variance[0, 0], two.gain) == (4, 1, 2)
        assert one.image[0, 0] == 8


class TestWhateverACallerHas:
    image = np.arange(12.0).reshape(3, 4)

    def test_is_taken(self):
        masked = np.ma.masked_greater(self.image, 10)
        for given in (self.image, masked, NDData(self.image), CCDData(self.image, unit="adu"),
                      self.image * u.adu):  # fmt: skip
            made = as_exposure(given)
            np.testing.assert_array_equal(made.image, self.image)
            assert made.usable.sum() == (11 if given is masked else 12)
        assert as_exposure(made) is made

    def test_or_refused(self):
        with pytest.raises(ValueError, match="got list"):
            as_exposure([[1, 2]])
        with pytest.raises(ValueError, match="convert it to adu"):
            as_exposure(self.image * u.Jy)
        with pytest.raises(ValueError, match="NDData in Jy: convert"):
            as_exposure(NDData(self.image, unit="Jy"))

    def test_the_wcs_of_nddata_comes_along(self):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
        assert isinstance(as_exposure(NDData(self.image, wcs=wcs)).wcs, WCS)
