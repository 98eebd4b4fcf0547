"""Writes an image as a camera would: what a user of psflib starts from."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from psflib.files.atomic import atomic_path
from psflib.image.exposure import Exposure, MaskBit


def write_image(path: str | Path, exposure: Exposure) -> None:
    """Write the pixels (NaN without data), WCS, gain, read noise and saturation; nothing else."""
    header = fits.Header() if exposure.wcs is None else exposure.wcs.to_header()
    for keyword, value, comment in (
        ("GAIN", exposure.gain, "e-/ADU"),
        ("RDNOISE", exposure.read_noise, "e-"),
        ("SATURATE", exposure.saturation, "ADU"),
    ):
        if value is not None:
            header[keyword] = (value, comment)
    header["BUNIT"] = "adu"
    no_data = (np.asarray(exposure.mask) & np.uint16(MaskBit.NO_DATA)) != 0
    pixels = np.where(no_data, np.float32(np.nan), exposure.image)
    with atomic_path(path) as temporary:
        fits.PrimaryHDU(pixels, header).writeto(temporary, overwrite=True)
