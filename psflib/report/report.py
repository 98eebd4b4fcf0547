"""The report: an index of all images, and a page a field."""

import html
import urllib.parse
from pathlib import Path

from astropy.table import QTable

from psflib.detection.verdict import WORDS, worst
from psflib.files.atomic import atomic_path
from psflib.files.fields import FieldsTable
from psflib.report.page import fill, verdict_word
from psflib.report.rows import SMALL
from psflib.report.summary import COLUMNS

PAGES = "pages"
CURVES = "lightcurves.html"
MOST_ROWS = 1500  # of the index; a row is about 500 bytes
MINUS_IS_NONE = ("candidates", "clean", "psf_order")


def write_report(path: str | Path, table: FieldsTable, summary: QTable) -> None:
    """Write the index of all images, and a page a field, with links to the pages of the images.

    Parameters
    ----------
    path : path
        The HTML file; the others stand in `pages` beside it.
    table : FieldsTable
    summary : QTable
        From `psflib.report.summary.summary_table`, a row an image.
    """
    folder = Path(path).parent / PAGES
    for field in table.fields:
        own = _of_field(summary, field)
        body = [_verdicts(own, ""), "<h2>Summary</h2>", _wide(_summary_table(own))]
        curves = ""
        if table.epochs(field) and (folder / field / CURVES).exists():
            curves = f' · <a href="{CURVES}">light curves</a>'
        body.insert(0, f'<nav><a href="../../report.html">all fields</a>{curves}</nav>')
        _write(folder / field / "index.html", f"{field} {worst(own['verdict'])}", table, body)
    body = [_fields(table, summary)]
    if len(summary) <= MOST_ROWS:
        body.append(_verdicts(summary, f"{PAGES}/"))
    else:
        poor = summary[summary["verdict"] != "good"][:MOST_ROWS]
        body.append(f"<p>{len(summary)} images; of those that are not good, the first {len(poor)}:")
        body.append(_verdicts(poor, f"{PAGES}/"))
    _write(path, "psflib report", table, body)


def _write(path, title, table, body):
    with atomic_path(path) as temporary:
        temporary.write_text(fill(title, table.path, body), encoding="utf-8")


def _wide(text):
    return f'<div class="wide">{text}</div>'


def _fields(table, summary):
    """A row a field: the worst verdict, and how many images have which."""
    rows = []
    for field in table.fields:
        words = list(_of_field(summary, field)["verdict"])
        counts = ", ".join(f"{words.count(w)} {w}" for w in WORDS if w in words)
        link = f'<a href="{PAGES}/{_quoted(field)}/index.html">{html.escape(field)}</a>'
        rows.append(
            f"<tr><td>{verdict_word(worst(words))}</td><td>{link}</td><td>{counts}</td></tr>"
        )
    return f"<table class='verdicts'>{''.join(rows)}</table><h2>Images</h2>"


def _verdicts(summary, pages):
    """A row an image: its verdict, a small picture, and why."""
    rows = []
    for row in summary:
        place = f"{_quoted(row['field'])}/" if pages else ""
        page = f"{pages}{place}{_quoted(row['epoch'])}"
        name = f"{row['field']} {row['epoch']}" if pages else str(row["epoch"])
        small = f'<img class="small" loading="lazy" alt="{html.escape(name)}" src="{page}/{SMALL}">'
        rows.append(
            f"<tr><td>{verdict_word(row['verdict'])}</td>"
            f'<td><a href="{page}/index.html">{html.escape(name)}</a></td>'
            f'<td><a href="{page}/index.html">{small}</a></td>'
            f"<td>{html.escape(row['reasons'])}</td></tr>"
        )
    return _wide(f"<table class='verdicts'>{''.join(rows)}</table>")


def _quoted(name):
    return urllib.parse.quote(str(name))


def _of_field(summary, field):
    return summary[[name == field for name in summary["field"]]]


def _summary_table(summary):
    names = summary.colnames
    head = "".join(_heading(name) for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{_cell(row, n)}</td>' for n in names)}</tr>" for row in summary
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _heading(name):
    _, unit, meaning = COLUMNS.get(name, (None, None, name))
    text = f"{name.replace('_', ' ')}{f' [{unit}]' if unit else ''}"
    return f'<th title="{html.escape(meaning)}">{text}</th>'


def _cell(row, name):
    value = getattr(row[name], "value", row[name])
    if name == "epoch":
        return f'<a href="{_quoted(value)}/index.html">{html.escape(str(value))}</a>'
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return "" if name in MINUS_IS_NONE and value < 0 else html.escape(str(value))
