"""The stage `lightcurves`."""

import functools
import logging
from pathlib import Path

from psflib.errors import PsflibError
from psflib.exports.tables import write_parquet
from psflib.files.atomic import atomic_path
from psflib.files.fields import read_fields
from psflib.lightcurves.curves import Epoch, light_curves
from psflib.products.images import read_difference
from psflib.products.tables import read_candidates, write_light_curves, write_objects
from psflib.report.lightcurves import lightcurve_page

log = logging.getLogger(__name__)


def lightcurves(fields, output, field, objects, points, parquet, page, settings) -> None:
    """Forced photometry of all that any epoch of a field has found, in every epoch."""
    table = read_fields(fields)
    folders = [Path(output, field, epoch) for epoch in table.epochs(field)]
    epochs = [epoch for epoch in map(_epoch, folders) if epoch]
    found = light_curves(epochs, settings)
    write_objects(objects, found.objects, settings)
    write_light_curves(points, found.points, settings)
    write_parquet(parquet, found.points)
    with atomic_path(page) as temporary:
        temporary.write_text(lightcurve_page(field, table, found), encoding="utf-8")


def _epoch(folder):
    """None of an epoch that failed or is damaged: it takes no other along."""
    if not (folder / "candidates.ecsv").exists() or not (folder / "decorrelated.fits").exists():
        return None
    try:
        found = read_candidates(folder / "candidates.ecsv")
    except PsflibError as error:
        log.warning("epoch %s is left out: %s", folder.name, error)
        return None
    return Epoch(
        folder.name, found, functools.partial(read_difference, folder / "decorrelated.fits")
    )
