"""Part of an image as the bytes of a FITS file, for packets that carry it."""

import io

import numpy as np
from astropy.io import fits

from psflib.image.cutout import cutout


def cutout_bytes(image: np.ndarray, x: float, y: float, side: int) -> bytes:
    """The image about a place, NaN outside of it.

    Parameters
    ----------
    image : ndarray (ny, nx)
    x, y : float
        0-based px.
    side : int
        px, odd.

    Returns
    -------
    bytes
        FITS, float32; CRVAL1P and CRVAL2P are the 1-based pixel of the image that its first is.
    """
    hdu = fits.PrimaryHDU(cutout(image, x, y, side).astype(np.float32))
    for keyword, at in (("CRVAL1P", x), ("CRVAL2P", y)):
        hdu.header[keyword] = round(at) - side // 2 + 1
    buffer = io.BytesIO()
    hdu.writeto(buffer)
    return buffer.getvalue()
