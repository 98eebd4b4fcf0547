"""What `ImagePsfMatchTask` asks of its images before it matches them."""

import numpy as np

from psflib.errors import BadImage
from psflib.image.exposure import Exposure, MaskBit, has_bits
from psflib.image.sky_frames import pixel_to_pixel


def checked(name, exposure) -> Exposure:
    """The exposure, if it holds anything to match; else BadImage."""
    usable = exposure.usable
    if not usable.any():
        raise BadImage(f"{name}: none of {usable.size} pixels is usable")
    values = exposure.image[usable]
    if values.min() == values.max():
        raise BadImage(f"{name}: all usable pixels hold the value {values[0]:g}")
    return exposure


def require_one_shape(template, science):
    if template.shape != science.shape:
        raise ValueError(
            f"template {template.shape} and science {science.shape} differ in shape; images on "
            "different grids need a WCS and match_exposures"
        )


def require_registered(template, science):
    """Same shape and, if both have a WCS, the same sky at their corners within 0.1 px."""
    require_one_shape(template, science)
    if template.wcs is None or science.wcs is None:
        return
    ny, nx = science.shape
    corners = np.array([[0, 0], [nx - 1, 0], [0, ny - 1], [nx - 1, ny - 1]], float)
    there = pixel_to_pixel(science.wcs, template.wcs, *corners.T, distorted=False)
    moved = np.stack(there, 1) - corners
    if not np.abs(moved).max() < 0.1:
        raise ValueError(
            f"images are not registered (corners differ by {np.nanmax(np.abs(moved)):.1f} px) and "
            "do_warping is False"
        )


def removed_sky(raw: Exposure, ready: Exposure) -> np.ndarray | None:
    """The sky (ny, nx) in ADU that `prepare` took off, its median where there are no data.

    None if it took nothing off.  Asked of the pixels: an image that says it has no sky loses what
    `prepare` finds nevertheless, if its noise is still to be measured.
    """
    no_data = has_bits(ready.mask, MaskBit.NO_DATA)
    taken = np.where(no_data, np.float32(0), raw.image - ready.image)
    if not taken.any():
        return None
    taken[no_data] = ready.sky
    return taken
