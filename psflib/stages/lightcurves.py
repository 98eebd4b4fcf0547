"""The stage `lightcurves`."""

import functools
from pathlib import Path

from psflib.exports.tables import write_parquet
from psflib.files.atomic import atomic_path
from psflib.files.fields import read_fields
from psflib.lightcurves.curves import Epoch, light_curves
from psflib.products.images import read_difference
from psflib.products.tables import read_candidates, write_light_curves, write_objects
from psflib.report.lightcurves import lightcurve_page


def lightcurves(fields, output, field, objects, points, parquet, page, settings) -> None:
    """Forced photometry of all that any epoch of a field has found, in every epoch."""
    table = read_fields(fields)
    folders = [Path(output, field, epoch) for epoch in table.epochs(field)]
    found = light_curves([_epoch(f) for f in folders if _is_there(f)], settings)
    write_objects(objects, found.objects, settings)
    write_light_curves(points, found.points, settings)
    write_parquet(parquet, found.points)
    with atomic_path(page) as temporary:
        temporary.write_text(lightcurve_page(field, table, found), encoding="utf-8")


def _is_there(folder):
    """An epoch that failed has no difference, and takes no other along."""
    return all((folder / name).exists() for name in ("candidates.ecsv", "decorrelated.fits"))


def _epoch(folder):
    read = functools.partial(read_difference, folder / "decorrelated.fits")
    return Epoch(folder.name, read_candidates(folder / "candidates.ecsv"), read)
