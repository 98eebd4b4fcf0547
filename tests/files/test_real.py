"""Headers from the wild: all real files are read, with warnings as errors."""

import os
from pathlib import Path

import numpy as np
import pytest

from psflib.errors import BadFile
from psflib.files import read

DATA = Path(os.environ.get("PSFLIB_DATA", Path(__file__).parents[3] / "shared" / "data"))
IMAGES = sorted(p for p in DATA.glob("*/*.fit*") if not p.name.startswith(("fpM", "psField")))

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not IMAGES, reason=f"no real images in {DATA} (set PSFLIB_DATA)"),
]


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_every_image_is_read(path):
    exposure = read(path)
    assert exposure.usable.mean() > 0.5
    assert np.ptp(exposure.image) > 0 or "_ood_" in path.name  # one mask plane is all zero
    assert exposure.meta["name"] and not exposure.meta["name"].endswith(".fits")


def found(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is missing")
    return path


def test_des_mask_plane_and_header():
    exposure = read(found("des_coadd/des0353-4831_g_south.fits.fz"), mask_hdu="MASK")
    assert exposure.shape == (2000, 4106)
    assert exposure.gain == pytest.approx(52.36909485331)
    assert 0 < (~exposure.usable).mean() < 0.5


def test_weight_in_another_file():
    image = found("decam_legacypipe/c4d_170316_062107_ooi_z_ls9.N2.fits")
    names = {w: image.with_name(image.name.replace("ooi", w)) for w in ("oow", "ood")}
    exposure = read(image, weight=names["oow"], mask=names["ood"])
    assert exposure.variance is not None and 0.5 < exposure.usable.mean() < 1


@pytest.mark.parametrize("name", ["goto_pair/goto_virgo_ref.fits.fz", "panoptes/solved.fits.fz"])
def test_sip_survives(name):
    assert read(found(name)).wcs.sip is not None


def test_tables_are_refused():
    with pytest.raises(BadFile, match="no 2-D image"):
        read(found("sdss_fpC/fpM-005754-r3-0280.fit"))
