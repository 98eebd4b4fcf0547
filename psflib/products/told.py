"""What a product of any kind says of itself."""

from pathlib import Path
from typing import Any

from psflib.products.provenance import fits_provenance, open_product, read_meta
from psflib.products.tables import read_with_about

_FITS = (
    "exposure", "stamps", "psf", "extended_psf", "starless", "kernel", "difference", "decorrelated",
)  # fmt: skip


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Version, product and settings of any product.

    Returns
    -------
    dict
        ``version`` and ``product`` (str) and ``settings`` (dict, empty if none were given).

    Raises
    ------
    BadFile
        If it is no product, or damaged.
    """
    if Path(path).suffix == ".ecsv":
        _, about = read_with_about(path)
        return {key: about.get(key) for key in ("version", "product", "settings")}
    with open_product(path, *_FITS) as hdus:
        return fits_provenance(path, hdus)


def read_notes(path: str | Path) -> list[str]:
    """The notes in a product's `meta`: what was assumed or doubted when it was made.

    Raises
    ------
    BadFile
        If it is no product, or damaged.
    """
    if Path(path).suffix == ".ecsv":
        metas = [read_with_about(path)[0].meta]
    else:
        with open_product(path, *_FITS) as hdus:
            metas = list(read_meta(hdus, path).values())
    notes = [str(note) for meta in metas for note in meta.get("notes") or ()]
    return list(dict.fromkeys(notes))
