"""What every product says about itself: version, settings, and the values' `meta`."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from psflib.errors import BadFile
from psflib.files.atomic import atomic_path
from psflib.files.fitsio import blame, check_complete, open_fits, select_hdu
from psflib.version import __version__

log = logging.getLogger(__name__)

REMEDY = "Delete it and run the workflow again, it will be made anew"


def settings_dict(settings: Any) -> dict[str, Any]:
    """Settings (a pydantic model, a mapping or None) as what JSON can hold."""
    if hasattr(settings, "model_dump"):
        return settings.model_dump(mode="json")
    return json_ready(settings or {})


def json_ready(meta: Mapping[str, Any]) -> dict[str, Any]:
    """`meta` as JSON would give it back; entries that JSON cannot hold are left out."""
    kept = {}
    for key, value in meta.items():
        try:
            kept[str(key)] = json.loads(json.dumps(value, default=_plain))
        except (TypeError, ValueError):
            log.debug("meta entry %r (%s) is not written", key, type(value).__name__)
    return kept


def write_product(path, product: str, hdus: list, settings: Any, metas: Mapping[str, Mapping]):
    """Write a FITS product atomically: a primary header, `hdus`, SETTINGS and META tables.

    Nothing in it depends on the time or place of writing: equal values give equal files.
    """
    primary = fits.PrimaryHDU()
    primary.header["PSFLIB"] = (__version__, "version of psflib that wrote this file")
    primary.header["PRODUCT"] = (product, "what this file is")
    rows = [
        (of, key, value) for of, meta in metas.items() for key, value in json_ready(meta).items()
    ]
    tables = [
        _text_table("SETTINGS", [("stage", *row) for row in settings_dict(settings).items()]),
        _text_table("META", rows),
    ]
    with atomic_path(path) as temporary:
        fits.HDUList([primary, *hdus, *tables]).writeto(temporary, overwrite=True)


@contextlib.contextmanager
def open_product(path: str | Path, *products: str) -> Iterator[fits.HDUList]:
    """An open FITS product of one of these kinds; all errors are `BadFile` with a remedy."""
    try:
        with open_fits(path) as hdus:
            with blame(path):
                found = hdus[0].header.get("PRODUCT", "")
                version = hdus[0].header.get("PSFLIB")
            if version is None:
                raise BadFile(path, "is not a product of psflib")
            if found not in products:
                raise BadFile(path, f"is a product {found!r}, not {' or '.join(products)!r}")
            yield hdus
    except BadFile as error:
        remedy = REMEDY if Path(path).exists() else "Run the workflow, it will be made"
        raise BadFile(path, error.problem, remedy) from error


def read_meta(hdus: fits.HDUList, path: str | Path) -> dict[str, dict[str, Any]]:
    """What `write_product` got as `metas`; things without meta are missing."""
    return _read_text_table(hdus, path, "META")


def fits_provenance(path: str | Path, hdus: fits.HDUList) -> dict[str, Any]:
    """Version, kind and settings of an open product."""
    header = hdus[0].header
    settings = _read_text_table(hdus, path, "SETTINGS").get("stage", {})
    return {"version": header["PSFLIB"], "product": header["PRODUCT"], "settings": settings}


def find_hdu(hdus: fits.HDUList, path: str | Path, name: str):
    """The HDU of that name, complete on the disk."""
    with blame(path):
        found = hdus[name] if name in hdus else None
    if found is None:
        raise BadFile(path, f"has no {name}")
    check_complete(found, path)
    return found


def find_image(hdus: fits.HDUList, path: str | Path, name: str):
    """The 2-D image of that name."""
    return select_hdu(hdus, path, name)


def _text_table(name, rows):
    """A table of strings; values are JSON, which keeps their type.

    A table, not header cards: long strings over CONTINUE cards lose blanks at the seams.
    """
    columns: tuple[list[str], ...] = ([], [], [])
    for of, key, value in rows:
        for column, text in zip(columns, (of, key, json.dumps(value)), strict=True):
            column.append(text)
    widths = [max(map(len, column), default=1) for column in columns]
    cards = [
        fits.Column(title, f"{width}A", array=np.array(column, dtype=f"S{width}"))
        for title, width, column in zip(("OF", "NAME", "VALUE"), widths, columns, strict=True)
    ]
    return fits.BinTableHDU.from_columns(cards, name=name)


def _read_text_table(hdus, path, name):
    found: dict[str, dict[str, Any]] = {}
    table = find_hdu(hdus, path, name)
    with blame(path):
        for of, key, value in table.data if table.data is not None else ():
            found.setdefault(str(of), {})[str(key)] = json.loads(str(value))
    return found


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return np.asarray(value).tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError
