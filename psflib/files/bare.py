"""Bare planes as FITS files: what a user of STDPipe or HOTPANTS has and expects."""

import os
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from psflib.files.atomic import atomic_path
from psflib.files.fitsio import open_fits, read_array, select_hdu


def read_first_plane(path: str | os.PathLike) -> np.ndarray:
    """The first image (ny, nx) of a FITS file.

    Raises
    ------
    BadFile
        If there is none.
    """
    path = Path(path)
    with open_fits(path) as hdus:
        return read_array(select_hdu(hdus, path), path)


def write_planes(
    path: str | Path, planes: dict[str, np.ndarray], header=None, table: Table | None = None
) -> None:
    """Write images, the first into the primary HDU, each with its name in OBJECT; then a table."""
    hdus: list = []
    for name, plane in planes.items():
        kind = fits.ImageHDU if hdus else fits.PrimaryHDU
        hdu = kind(plane, None if hdus else header)
        hdu.header["OBJECT"] = name
        hdus.append(hdu)
    if not hdus:
        hdus.append(fits.PrimaryHDU(header=header))
    if table is not None:
        hdus.append(fits.table_to_hdu(table))
    with atomic_path(path) as temporary:
        fits.HDUList(hdus).writeto(temporary, overwrite=True)


def write_text(path: str | Path, lines: list[str]) -> None:
    """Write lines of text."""
    with atomic_path(path) as temporary:
        Path(temporary).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
