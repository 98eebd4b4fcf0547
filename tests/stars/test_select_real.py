"""Star selection on real survey images, untuned."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from psflib.image.exposure import Exposure
from psflib.preparation.prepare import prepare
from psflib.stars.select import select_stars

pytestmark = pytest.mark.real
DATA = Path(os.environ.get("PSFLIB_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))

# FWHM: Moffat profiles fitted to the selected stars once; they must agree within 6 %.
# Least number of stars: half of what was found then.
CASES = [
    ("goto_pair/goto_virgo_ref.fits.fz", 3.75, 110),
    ("goto_pair/goto_virgo_sci.fits.fz", 3.70, 90),
    ("eaba_eso085/aligned_eso085-030-004.fits.fz", 2.67, 40),
    ("eaba_eso085/aligned_eso085-030-005.fits.fz", 2.66, 40),
    ("sdss_fpC/fpC-005754-r3-0280.fit.gz", 3.28, 30),
    ("decam_stamps/DEC-OBS04a.mini.fits.fz", 4.8, 3),
    ("decam_stamps/DEC-OBS18a.mini.fits.fz", 3.57, 3),
    pytest.param("des_coadd/des0353-4831_g_south.fits.fz", 4.29, 75, marks=pytest.mark.slow),
]


def first_image(path):
    """Pixels and header of the first 2-D HDU."""
    with fits.open(path) as hdus:
        for hdu in hdus:
            if getattr(hdu, "data", None) is not None and hdu.data.ndim == 2:
                return np.array(hdu.data), hdu.header
    raise AssertionError(f"no image in {path}")


@pytest.mark.parametrize(("name", "fwhm", "fewest"), CASES)
@pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning")
def test_enough_stars_of_the_right_size(name, fwhm, fewest):
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not in {DATA}")
    image, header = first_image(DATA / name)
    numbers = {k: header.get(k) for k in ("GAIN", "SATURATE")}
    gain, saturation = (
        v if isinstance(v, int | float) and v > 0 else None for v in numbers.values()
    )
    stars = select_stars(prepare(Exposure(image, gain=gain, saturation=saturation)))
    assert np.sum(stars["selected"]) >= fewest
    assert stars.meta["fwhm"] == pytest.approx(fwhm, rel=0.06)
    assert np.all((stars["reason"] == "none") == stars["selected"])
    assert stars.meta["locus"] == "clear"
    assert "turn_over" not in stars.meta
