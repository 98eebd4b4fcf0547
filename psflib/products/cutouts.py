"""Part of an image as the bytes of a FITS file, for packets that carry it."""

import io

import numpy as np
from astropy.io import fits


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
    half = side // 2
    left, bottom = round(x) - half, round(y) - half
    ny, nx = image.shape
    out = np.full((side, side), np.nan, np.float32)
    y0, y1, x0, x1 = max(bottom, 0), min(bottom + side, ny), max(left, 0), min(left + side, nx)
    if y0 < y1 and x0 < x1:
        out[y0 - bottom : y1 - bottom, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    hdu = fits.PrimaryHDU(out)
    hdu.header["CRVAL1P"], hdu.header["CRVAL2P"] = left + 1, bottom + 1
    buffer = io.BytesIO()
    hdu.writeto(buffer)
    return buffer.getvalue()
