"""Values to HDUs and back: image planes with their WCS, arrays, star tables."""

import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import Column, QTable, Table

from psflib.errors import BadFile
from psflib.files.fitsio import blame, read_array, read_plane
from psflib.files.wcs import celestial_wcs
from psflib.image.exposure import MaskBit
from psflib.products.provenance import find_hdu, find_image
from psflib.words import check_spoken

#: Keywords that describe the array, not the sky: astropy writes them itself.
_STRUCTURE = ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND", "EXTNAME", "EXTVER")


def plane_hdus(image, variance, mask, wcs, cards=()) -> list:
    """IMAGE (NaN without data), VARIANCE (unless None) and MASK, and what the WCS needs more.

    `cards` are (keyword, value, comment) for the IMAGE header.
    """
    header, tables = _wcs_header(wcs)
    no_data = (mask & np.uint16(MaskBit.NO_DATA)) != 0
    hdus = [_image_hdu("IMAGE", np.where(no_data, np.float32(np.nan), image), "adu", header)]
    for keyword, value, comment in cards:
        hdus[0].header[keyword] = (value, comment)
    if variance is not None:
        hdus.append(_image_hdu("VARIANCE", variance, "adu2", header))
    hdus.append(_image_hdu("MASK", np.asarray(mask, np.uint16), None, header))
    for bit in MaskBit:
        hdus[-1].header[f"HIERARCH MP_{bit.name}"] = (bit.value, "mask bit")
    return hdus + tables


def read_planes(hdus: fits.HDUList, path: str | Path):
    """(image, variance or None, mask, wcs or None) as `plane_hdus` wrote them; image has NaN."""
    chosen = find_image(hdus, path, "IMAGE")
    image = read_plane(chosen, path)
    variance = None
    if "VARIANCE" in hdus:
        variance = read_plane(find_image(hdus, path, "VARIANCE"), path)
    mask = read_plane(find_image(hdus, path, "MASK"), path)
    for plane in (variance, mask):
        if plane is not None and plane.shape != image.shape:
            raise BadFile(path, f"has planes of shapes {image.shape} and {plane.shape}")
    wcs, _ = celestial_wcs(chosen.header, hdus)
    return image, variance, mask, wcs


def array_hdu(name, array, unit=None, cards=()):
    """An image HDU of any number of dimensions, with (keyword, value, comment) cards."""
    hdu = _image_hdu(name, np.asarray(array), unit)
    for keyword, value, comment in cards:
        hdu.header[keyword] = (value, comment)
    return hdu


def read_named(hdus, path, name, dtype=None):
    """Array and header of the HDU `name`."""
    hdu = find_hdu(hdus, path, name)
    array = read_array(hdu, path)
    return (array if dtype is None else array.astype(dtype, copy=False)), hdu.header


def card(header, keyword, path):
    """The value of a keyword that the product must have."""
    if keyword not in header:
        raise BadFile(path, f"has no {keyword} in its header")
    return header[keyword]


def table_hdu(name, table):
    """A binary table with the columns, units and descriptions of a QTable (its meta is not)."""
    check_spoken(table)
    plain = Table(table, copy=False)
    plain.meta = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)
        hdu = fits.table_to_hdu(plain)
    hdu.name = name
    for number, column in enumerate(plain.colnames, start=1):
        if plain[column].info.description:
            hdu.header[f"TCOMM{number}"] = plain[column].info.description
    return hdu


def read_table(hdus, path, name, meta=None) -> QTable:
    """The QTable of the HDU `name`, with `meta` as its meta."""
    hdu = find_hdu(hdus, path, name)
    with blame(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # NaN is a value of ours, not a masked one
        table = Table.read(hdu, character_as_bytes=False, mask_invalid=False)
        columns = [
            _native_column(column, hdu.header.get(f"TCOMM{number}"))
            for number, column in enumerate(table.itercols(), start=1)
        ]
    return QTable(columns, meta=dict(meta or {}))


def _native_column(column, description):
    """A copy in the machine's byte order: compiled loops refuse FITS's own."""
    data = np.array(column, dtype=column.dtype.newbyteorder("="))
    return Column(data, column.name, unit=column.unit, description=description)


def _image_hdu(name, array, unit=None, header=None):
    hdu = fits.ImageHDU(array, header=header, name=name)
    if unit is not None:
        hdu.header["BUNIT"] = (unit, "unit of the pixels")
    return hdu


def _wcs_header(wcs):
    """Header of the celestial WCS with all its distortion, and HDUs of lookup tables."""
    if wcs is None:
        return None, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, *tables = wcs.to_fits(relax=True)
    header = first.header.copy()
    for keyword in _STRUCTURE:
        header.remove(keyword, ignore_missing=True)
    return header, tables
