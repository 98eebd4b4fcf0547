"""Candidates of one epoch, written for another tool."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from psflib.errors import did_you_mean
from psflib.exports.alerts import alert_packets, write_alerts
from psflib.exports.regions import crtf_regions, ds9_regions
from psflib.exports.tables import write_parquet, write_votable
from psflib.files.atomic import atomic_path
from psflib.products.images import read_difference, read_exposure
from psflib.products.tables import read_candidates


def export(folder: str | Path, to: str, output: str | Path | None = None) -> Path:
    """Write the candidates of an epoch in another format.

    Parameters
    ----------
    folder : path
        Of the epoch's products, ``{output}/{field}/{epoch}``.
    to : str
        One of `FORMATS`: ds9, carta, votable, parquet, avro.
    output : path, optional
        By default `candidates` with the format's ending, in the folder.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    ValueError
        If the format is not known.
    BadFile
        If a product is missing or damaged.
    PsflibError
        If a package is missing that the format needs.
    """
    if to not in FORMATS:
        raise ValueError(
            f"unknown format {to!r}{did_you_mean(str(to), FORMATS)}; one of {', '.join(FORMATS)}"
        )
    ending, write = FORMATS[to]
    folder = Path(folder)
    path = Path(output) if output else folder / f"candidates.{ending}"
    write(path, folder, read_candidates(folder / "candidates.ecsv"))
    return path


def _text(regions) -> Callable:
    def write(path, folder, candidates):
        with atomic_path(path) as temporary:
            temporary.write_text(regions(candidates), encoding="utf-8")

    return write


def _alerts(path, folder, candidates):
    """With cut-outs of the science image, of what was subtracted, and of the difference."""
    science = read_exposure(folder / "exposure.fits")
    difference = read_difference(folder / "difference.fits")
    usable = difference.usable
    images = {
        "science": science.image,
        "template": np.where(usable, science.image - difference.image, np.nan),
        "difference": np.where(usable, difference.image, np.nan),
    }
    place = folder.resolve()
    write_alerts(path, alert_packets(candidates, place.parent.name, place.name, images))


#: Name -> ending of the file, and what writes it.
FORMATS: dict[str, tuple[str, Callable]] = {
    "ds9": ("reg", _text(ds9_regions)),
    "carta": ("crtf", _text(crtf_regions)),
    "votable": ("vot", lambda path, _, candidates: write_votable(path, candidates)),
    "parquet": ("parquet", lambda path, _, candidates: write_parquet(path, candidates)),
    "avro": ("avro", _alerts),
}
