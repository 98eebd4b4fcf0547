"""The page of a field's light curves: what varies most, drawn, and every object as a table."""

import base64
import html

import numpy as np

from psflib import figures
from psflib.report.page import fill
from psflib.report.sortable import sortable

MOST_ROWS = 500
COLUMNS = (
    "object", "ra", "dec", "x", "y", "n_epochs", "n_found", "n_clean", "max_snr", "mean_snr",
    "chi2", "log_p", "amplitude", "neumann",
)  # fmt: skip
DPI = 80


def lightcurve_page(field: str, table, found) -> str:
    """HTML of the light curves of a field.

    Parameters
    ----------
    field : str
    table : FieldsTable
    found : psflib.lightcurves.curves.LightCurves
    """
    head = f'<nav><a href="index.html">{html.escape(field)}</a> · '
    body = [f'{head}<a href="../../report.html">all fields</a></nav>', _facts(found)]
    body.append('<div class="pairs">')
    for row, cutouts in zip(found.objects, found.cutouts, strict=False):
        points = found.points[found.points["object"] == row["object"]]
        figure = figures.light_curve(points, cutouts, _title(row))
        data = base64.b64encode(figures.to_webp(figure, DPI)).decode()
        name = f"Light curve of object {row['object']}"
        body.append(f'<figure id="object-{row["object"]}"><img alt="{name}" loading="lazy" '
                    f'src="data:image/webp;base64,{data}"></figure>')  # fmt: skip
    names = [name for name in COLUMNS if name in found.objects.colnames]
    body.append("</div><h2>Objects</h2>")
    if len(found.objects) > MOST_ROWS:
        body.append(f"<p>The first {MOST_ROWS} of {len(found.objects)}; all: objects.ecsv.</p>")
    body.append(sortable(found.objects[:MOST_ROWS], names))
    return fill(f"{field}, light curves", table.path, body)


def _facts(found):
    clean = int(np.sum(found.objects["n_clean"] > 0))
    text = (
        f"{len(found.objects)} objects in {len(found.epochs)} epochs, {clean} of them found "
        "without a flag at least once. Every object is measured in every epoch, found or not; "
        "grey points and arrows are epochs that did not find it."
    )
    return f"<p>{text}</p>"


def _title(row):
    place = f"{row['ra'].value:.5f} {row['dec'].value:+.5f}" if "ra" in row.colnames else (
        f"x {row['x'].value:.1f}, y {row['y'].value:.1f}")  # fmt: skip
    return (
        f"{row['object']}: {place}, found in {row['n_found']} of {row['n_epochs']} epochs, "
        f"up to {row['max_snr']:+.1f}σ"
    )
