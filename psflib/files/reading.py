"""Reads an image that somebody else made."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from psflib.errors import BadFile, BadImage
from psflib.files.fitsio import open_fits, read_plane, select_hdu
from psflib.files.header import celestial_wcs, find_constants
from psflib.image.exposure import Exposure

#: Header keywords that travel along in `Exposure.meta`, where they are present.
KEPT = ("OBJECT", "DATE-OBS", "MJD-OBS", "FILTER", "EXPTIME", "AIRMASS", "TELESCOP", "INSTRUME")


def read(
    path: str | Path,
    *,
    hdu: int | str | None = None,
    mask: str | Path | None = None,
    mask_hdu: int | str | None = None,
    variance: str | Path | None = None,
    variance_hdu: int | str | None = None,
    weight: str | Path | None = None,
    weight_hdu: int | str | None = None,
    gain: float | None = None,
    read_noise: float | None = None,
    saturation: float | None = None,
) -> Exposure:
    """Read an image with what belongs to it.

    Plain, gzipped and tile-compressed (.fz) FITS of any number type are read.  What is not given
    is taken from the header (of the image's HDU, then the primary one), else left None for
    `psflib.prepare` to measure.

    Parameters
    ----------
    path : path
        FITS file of the image, in ADU.
    hdu : int or str, optional
        Number (0 is the primary) or EXTNAME of the image; default the first 2-D image.
    mask, variance, weight : path, optional
        Files with planes of the same shape: mask (any nonzero is bad), variance in ADU², weight
        = 1/variance (not positive or not finite: no data).  If only the HDU is given, it is one
        of the image's own file.
    mask_hdu, variance_hdu, weight_hdu : int or str, optional
        As `hdu`.
    gain : float, optional
        e-/ADU.
    read_noise : float, optional
        e-.
    saturation : float, optional
        ADU.

    Returns
    -------
    Exposure
        `meta["name"]` is the file's name without suffix, `meta["notes"]` a list of sentences
        that say what was taken from where.

    Raises
    ------
    BadFile
        If a file is missing, damaged or not FITS, or an HDU is missing or not a 2-D image.
    BadImage
        If no pixel is usable.
    ValueError
        If gain or saturation are not positive, or both variance and weight are given.
    """
    path = Path(path)
    given = {"gain": gain, "read_noise": read_noise, "saturation": saturation}
    _check_call(given, (variance, variance_hdu), (weight, weight_hdu))
    image, header_values, wcs, meta = _read_image(path, hdu)
    planes = {
        "mask": _read_companion(path, image.shape, "mask", mask, mask_hdu),
        "variance": _read_companion(path, image.shape, "variance", variance, variance_hdu),
    }
    inverse = _read_companion(path, image.shape, "weight", weight, weight_hdu)
    if inverse is not None:
        planes["variance"] = _variance(inverse)
    if planes["mask"] is not None:
        planes["mask"] = planes["mask"] != 0
    constants = header_values | {k: v for k, v in given.items() if v is not None}
    exposure = Exposure(image, **planes, wcs=wcs, **constants, meta=meta)
    _check_usable(exposure, path, planes)
    return exposure


def _check_call(given, variance, weight):
    for name, value in given.items():
        lowest = 0 if name == "read_noise" else math.ulp(0.0)
        if value is not None and not lowest <= value < math.inf:
            raise ValueError(f"{name} must be a positive number; got {value}")
    if variance != (None, None) and weight != (None, None):
        raise ValueError("give either a variance or a weight, not both")


def _read_image(path, hdu):
    """Pixels, header constants, WCS and meta."""
    with open_fits(path) as hdus:
        chosen = select_hdu(hdus, path, hdu)
        image = read_plane(chosen, path)
        headers = [chosen.header] if chosen is hdus[0] else [chosen.header, hdus[0].header]
        constants, notes = find_constants(headers)
        wcs, wcs_notes = celestial_wcs(chosen.header, hdus)
        meta = {"name": _stem(path), **_kept(headers)}
        notes += [*wcs_notes, *_unit_notes(headers[0])]
    if image.dtype.kind == "f" and not np.isfinite(image).any():
        raise BadImage(f"{path}: no pixel of the image is finite. Check the file or choose an HDU")
    return image, constants, wcs, meta | {"notes": notes}


def _kept(headers):
    kept: dict[str, Any] = {}
    for header in reversed(headers):
        for key in KEPT:
            value = header.get(key)
            if isinstance(value, str | int | float) and str(value).strip():
                kept[key] = value
    if isinstance(kept.get("EXPTIME"), str):  # SDSS writes the number as a string
        try:
            kept["EXPTIME"] = float(kept["EXPTIME"])
        except ValueError:
            del kept["EXPTIME"]
    return kept


def _unit_notes(header):
    unit = str(header.get("BUNIT", "")).strip()
    if re.match(r"(?i)e(-|lec|l?/|$)", unit):
        return [f"BUNIT is {unit!r}: if the pixels are in electrons, the gain must be given as 1"]
    return []


def _read_companion(path, shape, what, file, hdu):
    """The mask, variance or weight plane, or None if none is named."""
    if file is None and hdu is None:
        return None
    file = path if file is None else Path(file)
    if hdu is None and file.resolve() == path.resolve():
        raise BadFile(
            file, f"is named as image and as {what}", f"Say in {what}_hdu which HDU is the {what}"
        )
    with open_fits(file) as hdus:
        plane = read_plane(select_hdu(hdus, file, hdu), file)
    if plane.shape != shape:
        sizes = ["x".join(map(str, reversed(s))) for s in (plane.shape, shape)]
        problem = f"the {what} is {sizes[0]} pixels, the image {sizes[1]}"
        raise BadFile(file, problem, f"Give the {what} that belongs to {path.name}")
    return plane


def _variance(weight):
    """1/weight, and 0 (no data) where the weight is not positive and finite."""
    with np.errstate(invalid="ignore"):
        good = (weight > 0) & np.isfinite(weight)
    return np.divide(1, weight, out=np.zeros(weight.shape, np.float32), where=good)


def _check_usable(exposure, path, planes):
    if exposure.usable.any():
        return
    named = [name for name, plane in planes.items() if plane is not None]
    remedy = f"Check the {' and '.join(named)} (in a mask, nonzero means bad)" if named else ""
    raise BadImage(f"{path}: no pixel is usable. {remedy}".strip())


def _stem(path):
    return re.sub(r"(?i)(\.(fits?|fts|gz|fz|bz2|xz|z))+$", "", path.name) or path.name
