"""Cut-outs of stars."""

import numpy as np
import pytest

from psflib.stamps.build import build_stamp
from tests.psf import naive_psf as naive


def star(size=31, delta=(0.2, -0.3), flux=1e4, sky=50.0):
    return flux * naive.moffat(size, 2.5, 3, delta) + sky


def test_stamp_keeps_the_original_values_and_records_the_offset():
    cutout = star(delta=(2.3, -3.2))
    found = build_stamp(cutout, 15, error=None, mask=None)
    assert found.origin == (15 + 2 - 7, 15 - 3 - 7)
    np.testing.assert_array_equal(found.stamp, cutout[10:25, 5:20])
    # A windowed moment pulls the offset a little, never by a tenth of a pixel here.
    np.testing.assert_allclose(found.delta, (0.3, -0.2), atol=0.1)
    assert np.abs(found.delta).max() <= 0.5 and found.error is None and found.valid.all()
    assert isinstance(found.delta, tuple) and all(isinstance(d, float) for d in found.delta)


def test_stamp_marks_bad_pixels_but_keeps_them():
    cutout = star().astype(np.float32)
    error = np.full(cutout.shape, 3, np.float32)
    mask = np.zeros(cutout.shape, bool)
    mask[10, 10], error[11, 11], cutout[12, 12] = True, 0, np.nan
    found = build_stamp(cutout, 21, error=error, mask=mask)
    row, col = found.origin
    for i in (10, 11, 12):
        assert not found.valid[i - row, i - col]
    assert (~found.valid).sum() == 3
    assert found.stamp[10 - row, 10 - col] == cutout[10, 10]
    assert found.stamp.dtype == np.float64 and found.error.shape == (21, 21)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fwhm, max_iter", [(3.0, 10), (2.0, 1), (4.0, 0), (3.0, 50)])
def test_build_stamp_equals_naive(dtype, fwhm, max_iter):
    rng = np.random.default_rng(7)
    for seed in range(6):
        delta = rng.uniform(-3, 3, 2)
        cutout = (star(31, delta) + rng.normal(0, 5, (31, 31))).astype(dtype)
        error = np.full(cutout.shape, 5, dtype)
        mask = rng.random(cutout.shape) < 0.05
        cutout[rng.random(cutout.shape) < 0.02] = np.nan
        error[rng.random(cutout.shape) < 0.02] = [0, -1, np.nan, np.inf][seed % 4]
        valid = np.isfinite(cutout) & ~mask & np.isfinite(error) & (error > 0)
        found = build_stamp(cutout, 21, error=error, mask=mask, weight_fwhm=fwhm, max_iter=max_iter)
        twin = naive.stamp(cutout.astype(float), 21, valid, fwhm, max_iter)
        stamp, use, offset, centroid, origin = twin
        np.testing.assert_array_equal(found.stamp, stamp)
        np.testing.assert_array_equal(found.valid, use)
        np.testing.assert_allclose(found.delta, offset, atol=1e-11)
        np.testing.assert_allclose(found.centroid, centroid, atol=1e-11)
        assert found.origin == origin and found.stamp.dtype == found.error.dtype == np.float64


def test_half_a_pixel_is_rounded_away_from_zero():
    cutout = np.zeros((30, 30))
    cutout[14:16, 14:16] = 1.0
    found = build_stamp(cutout, 11)
    np.testing.assert_array_equal(found.delta, [-0.5, -0.5])
    assert found.origin == (10, 10) and found.stamp[5, 5] == 1


def test_no_stamp():
    assert build_stamp(np.full((21, 21), 5.0), 11) is None
    assert build_stamp(np.full((21, 21), np.nan), 11) is None
    few = np.ones((21, 21), bool)
    few[10, 9:12] = False  # three pixels: one less than a centroid needs
    assert build_stamp(star(21), 11, mask=few) is None
    few[9, 10] = False
    assert build_stamp(star(21), 11, mask=few) is not None
    assert build_stamp(star(delta=(9.0, 0.0)), 21) is None
    assert build_stamp(star(), 11, max_iter=0) is not None


@pytest.mark.parametrize(
    "change, words",
    [
        ({"stamp_size": 12}, "stamp_size must be odd"),
        ({"stamp_size": 33}, "exceeds the cutout"),
        ({"cutout": np.ones((31, 31), int)}, "cutout must be a 2-D numpy array"),
        ({"error": np.ones((31, 31), np.float32)}, "error must be"),
        ({"error": np.ones((31, 30))}, "error shape"),
        ({"mask": np.ones((31, 31), int)}, "mask must be"),
        ({"mask": np.ones((31, 30), bool)}, "mask shape"),
        ({"cutout": [[1.0]]}, "cutout must be a 2-D numpy array"),
        ({"weight_fwhm": 0.0}, "weight_fwhm must be finite and > 0; got 0.0"),
    ],
)
def test_build_stamp_refuses(change, words):
    with pytest.raises(ValueError, match=words):
        build_stamp(**{"cutout": star(), "stamp_size": 15, **change})


def test_numbers_of_the_wrong_kind():
    with pytest.raises(OverflowError):
        build_stamp(star(), -15)
    with pytest.raises(OverflowError):
        build_stamp(star(), 15, max_iter=-1)
    with pytest.raises(TypeError):
        build_stamp(star(), 15.0)
    with pytest.raises(TypeError):
        build_stamp(star(), 15, np.ones((31, 31)))
