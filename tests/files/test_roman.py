"""Roman's ASDF files, with the packages that read them and without."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from psflib.errors import BadFile
from psflib.files import asdf_tree, read
from psflib.image.exposure import MaskBit
from psflib.preparation.prepare import prepare
from tests.files.survey_files import N, bits, f4, make_sky

HEAD = b"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n"


@pytest.fixture(scope="module")
def sky():
    return make_sky()


@pytest.fixture(scope="module")
def asdf():
    pytest.importorskip("gwcs", reason="the extra `asdf` is not installed")
    return pytest.importorskip("asdf", reason="the extra `asdf` is not installed")


def coordinates(distortion=2e-6):
    """A gwcs: a polynomial, then TAN at (150, 20) deg with 0.11 arcsec a pixel."""
    from astropy import coordinates as coord
    from astropy import units as u
    from astropy.modeling import models
    from gwcs import WCS, coordinate_frames

    centre = models.Shift(-N / 2) & models.Shift(-N / 2)
    bent = models.Mapping((0, 1, 0, 1)) | (
        models.Polynomial2D(2, c1_0=1, c2_0=distortion)
        & models.Polynomial2D(2, c0_1=1, c1_1=-distortion)
    )
    scale = models.Scale(-0.11 / 3600) & models.Scale(0.11 / 3600)
    tan = models.Pix2Sky_TAN() | models.RotateNative2Celestial(150.0, 20.0, 180.0)
    pixels = coordinate_frames.Frame2D(name="detector", unit=(u.pix, u.pix))
    world = coordinate_frames.CelestialFrame(reference_frame=coord.ICRS(), name="world")
    return WCS([(pixels, centre | bent | scale | tan), (world, None)])


def level_2(asdf, path, sky, scale=0.002, wcs=None):
    """DN/s, sigma as float16, dq as uint32."""
    meta = {
        "telescope": "ROMAN",
        "instrument": {"name": "WFI", "detector": "WFI01", "optical_element": "F158"},
        "exposure": {"exposure_time": 139.8},
        "wcs": wcs,
    }
    branch = {
        "meta": meta,
        "data": f4(sky.seen * scale),
        "dq": bits(sky, 1, 1 << 1, (1 << 2) | (1 << 5), np.uint32),
        "err": (np.sqrt(sky.variance) * scale).astype(np.float16),
        "amp33": np.zeros((2, 8, 4), np.uint16),
    }
    asdf.AsdfFile({"roman": branch}).write_to(path)
    return path


@pytest.mark.parametrize("name", ["roman-l2", "auto"])
def test_level_2(asdf, tmp_path, sky, name):
    wcs = coordinates()
    path = level_2(asdf, tmp_path / "r0000101_wfi01_cal.asdf", sky, wcs=wcs)
    exposure = read(path, format=name)
    assert exposure.meta["format"] == "roman-l2" and exposure.meta["name"] == "r0000101_wfi01_cal"
    assert (exposure.gain, exposure.saturation) == (None, None)
    assert exposure.meta["FILTER"] == "F158" and exposure.meta["EXPTIME"] == 139.8
    np.testing.assert_array_equal(exposure.usable, ~sky.bad)
    assert (exposure.mask[sky.full] & MaskBit.SAT).all()
    np.testing.assert_array_equal(exposure.image, f4(sky.seen * 0.002))
    truth = sky.variance * 0.002**2
    good = exposure.usable
    np.testing.assert_allclose(exposure.variance[good], truth[good], rtol=2e-3)  # float16
    ready = prepare(exposure)
    bright = (sky.light > 1000) & ready.usable
    assert np.median(ready.image[bright] / sky.light[bright]) == pytest.approx(0.002, rel=0.01)


def test_its_coordinates_are_fitted(asdf, tmp_path, sky):
    wcs = coordinates()
    exposure = read(level_2(asdf, tmp_path / "a.asdf", sky, wcs=wcs))
    x, y = np.array([0.0, 10, 300, 319]), np.array([0.0, 300, 20, 319])
    found = exposure.wcs.all_pix2world(x, y, 0)
    limit = 0.01 * 0.11 / 3600  # 0.01 px
    np.testing.assert_allclose(found, wcs(x, y), rtol=0, atol=limit)
    assert exposure.wcs.sip is not None


def test_without_coordinates(asdf, tmp_path, sky):
    assert read(level_2(asdf, tmp_path / "a.asdf", sky)).wcs is None


@pytest.mark.parametrize("name", ["roman-l3", "auto"])
def test_level_3(asdf, tmp_path, sky, name):
    branch = {
        "meta": {"wcs": coordinates(0.0), "coadd_info": {"exposure_time": 500.0}},
        "data": f4(sky.seen * 1e-3),
        "err": f4(np.sqrt(sky.variance) * 1e-3),
        "weight": f4(np.full((N, N), 7.0)),
        "context": np.ones((1, N, N), np.uint32),
        "var_poisson": f4(sky.variance),
        "var_rnoise": f4(sky.variance),
    }
    asdf.AsdfFile({"roman": branch}).write_to(tmp_path / "m.asdf")
    exposure = read(tmp_path / "m.asdf", format=name)
    assert exposure.meta["format"] == "roman-l3" and exposure.usable.all()
    np.testing.assert_allclose(exposure.variance, sky.variance * 1e-6, rtol=1e-5)
    assert any("correlated" in note for note in exposure.meta["notes"])
    assert exposure.wcs.all_pix2world([[N / 2, N / 2]], 0) == pytest.approx(
        np.array([[150.0, 20.0]]), abs=1e-8
    )


def test_one_level_named_as_the_other(asdf, tmp_path, sky):
    path = level_2(asdf, tmp_path / "a.asdf", sky)
    with pytest.raises(BadFile, match=r"named as format roman-l3.*is a roman-l2 file"):
        read(path, format="roman-l3")


def test_columns_serve_any_asdf_file(asdf, tmp_path, sky):
    tree = {"data": f4(sky.seen), "rms": f4(np.sqrt(sky.variance)), "flags": sky.bad.astype("u1")}
    asdf.AsdfFile(tree).write_to(tmp_path / "a.asdf")
    exposure = read(tmp_path / "a.asdf", sigma_hdu="RMS", mask_hdu="FLAGS", gain=1.0)
    np.testing.assert_array_equal(exposure.usable, ~sky.bad)
    assert exposure.meta["planes"]["variance"] == "a.asdf[RMS] as sigma"


def test_no_image(asdf, tmp_path):
    asdf.AsdfFile({"roman": {"meta": {}}}).write_to(tmp_path / "a.asdf")
    with pytest.raises(BadFile, match="holds no 2-D array named `data`"):
        read(tmp_path / "a.asdf")


def test_damaged(asdf, tmp_path, sky):
    path = level_2(asdf, tmp_path / "a.asdf", sky)
    (tmp_path / "b.asdf").write_bytes(path.read_bytes()[:200_000])
    with pytest.raises(BadFile, match=r"b\.asdf.*copy or download it again"):
        read(tmp_path / "b.asdf")


@pytest.mark.parametrize("missing", ["asdf", "gwcs"])
def test_without_the_packages(tmp_path: Path, monkeypatch, missing):
    """The error names the extra, and does not call the file damaged."""
    (tmp_path / "a.asdf").write_bytes(HEAD + b"x" * 3000)
    monkeypatch.setattr(asdf_tree, "asdf", None if missing == "asdf" else object())
    found = None if missing == "gwcs" else object()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(BadFile, match=rf"{missing} is not installed.*psflib\[asdf\]") as caught:
        read(tmp_path / "a.asdf")
    assert "damaged" not in str(caught.value)
