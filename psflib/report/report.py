"""The report: one self-contained page, a section a field with pictures of every stage."""

import html
from collections.abc import Iterator
from pathlib import Path

from astropy.table import QTable

from psflib.detection.verdict import worst
from psflib.files import TEMPLATE, FieldsTable, atomic_path
from psflib.psf.facts import doubts, facts
from psflib.report.page import PAGE
from psflib.report.pictures import pictures
from psflib.report.summary import COLUMNS, Epoch
from psflib.settings.report import ReportSettings
from psflib.version import __version__

MINUS_IS_NONE = ("candidates", "clean", "psf_order")


def write_report(
    path: str | Path,
    table: FieldsTable,
    epochs: list[Epoch],
    summary: QTable,
    settings: ReportSettings | None = None,
) -> None:
    """Write the page on all that was made, and say what was not.

    Parameters
    ----------
    path : path
        The HTML file.
    table : FieldsTable
    epochs : list of Epoch
        All images of the table, from `psflib.report.summary.epochs`.
    summary : QTable
        From `psflib.report.summary.summarise`, a row an epoch.
    settings : ReportSettings, optional
    """
    settings = settings or ReportSettings()
    sections = (
        _field_section(f, [e for e in epochs if e.field == f], summary, settings)
        for f in table.fields
    )
    links = (
        f'<a href="#{_id(f)}">{html.escape(f)}</a> {_word(_of_field(summary, f))}'
        for f in table.fields
    )
    text = PAGE.substitute(
        version=__version__,
        table=html.escape(str(table.path)),
        links=" · ".join(links),
        verdicts=_verdicts(summary),
        summary=_summary_table(summary),
        sections="".join(sections),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _field_section(field, epochs, summary, settings):
    head = f"{html.escape(field)} {_word(_of_field(summary, field))}"
    parts = [f'<section id="{_id(field)}"><h2>{head}</h2>']
    said = {(row["field"], row["epoch"]): row for row in summary}
    for epoch in epochs:
        row, name = said[epoch.field, epoch.epoch], html.escape(epoch.epoch)
        word = "template" if epoch.epoch == TEMPLATE else f"epoch {name}"
        parts.append(f'<h3 id="{_id(field, epoch.epoch)}">{word} {_word(row["verdict"])}</h3>')
        if row["reasons"]:
            parts.append(f"<p>{html.escape(row['reasons'])}</p>")
        parts += [f'<p class="warning">{html.escape(w)}</p>' for w in _warnings(epoch)]
        parts.append(_assumed(epoch))
        parts.append(_psf_table(epoch))
        parts += pictures(epoch, settings)
        parts.append(_log_table(epoch))
    return "\n".join(parts) + "</section>"


def _verdicts(summary):
    """A row an image: its verdict, and why."""
    rows = "".join(
        f"<tr><td>{_word(row['verdict'])}</td>"
        f'<td><a href="#{_id(row["field"], row["epoch"])}">'
        f"{html.escape(row['field'])} {html.escape(row['epoch'])}</a></td>"
        f"<td>{html.escape(row['reasons'])}</td></tr>"
        for row in summary
    )
    return f"<table class='verdicts'>{rows}</table>"


def _word(word):
    return f'<span class="verdict {word}">{word}</span>'


def _of_field(summary, field):
    return worst(row["verdict"] for row in summary if row["field"] == field)


def _warnings(epoch) -> Iterator[str]:
    """What a reader must know before believing the pictures."""
    if epoch.missing:
        yield f"{epoch.missing} could not be made. {epoch.problem}"
    others = {str(v) for v in epoch.provenance().values() if v != __version__}
    yield from (f"Damaged: {text}" for text in epoch.unreadable.values())
    if others:
        yield (
            f"Some products were written by psflib {', '.join(sorted(others))}, this is "
            f"{__version__}: delete {epoch.folder} and run again to have all of one version."
        )


def _assumed(epoch):
    """What the stages took for true of this image without being told, doubts first."""
    found = epoch.assumptions()
    count = sum(doubt for *_, doubt in found)
    style = {True: ' class="warning"', False: ""}
    rows = "".join(
        f"<tr{style[doubt]}><td>{html.escape(stage)}</td><td>{html.escape(text)}</td></tr>"
        for stage, text, doubt in found
    )
    many = f"{len(found)}, {count} of them doubts" if count else str(len(found))
    head = f"<summary>What was assumed ({many})</summary>"
    return f"<details>{head}<table class='log'>{rows}</table></details>"


def _psf_table(epoch):
    """How the core PSF was found, a row a fact; doubts stand out."""
    psf, stars = epoch.read("epsf.fits"), epoch.read("stars.ecsv")
    if psf is None:
        return ""
    rows = [("", name, text) for name, text in facts(psf, stars)]
    rows += [(' class="warning"', "note", text) for text in doubts(psf, stars)]
    body = "".join(
        f"<tr{mark}><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>"
        for mark, name, text in rows
    )
    return f"<table class='facts'><caption>Core ePSF</caption>{body}</table>"


def _log_table(epoch):
    rows = "".join(
        f"<tr><td>{html.escape(stage)}</td><td>{html.escape(line)}</td></tr>"
        for stage, line in epoch.notes()
    )
    return f"<details><summary>Log</summary><table class='log'>{rows}</table></details>"


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
        return f'<a href="#{_id(row["field"], value)}">{html.escape(str(value))}</a>'
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return "" if name in MINUS_IS_NONE and value < 0 else html.escape(str(value))


def _id(*words):
    return html.escape("-".join(map(str, words)), quote=True)
