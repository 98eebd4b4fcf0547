"""The report: one self-contained page, a section a field with pictures of every stage."""

import base64
import html
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from astropy.table import QTable

from psflib import figures
from psflib.files import TEMPLATE, FieldsTable, atomic_path
from psflib.image.noise import empty_sky, noise_correlation
from psflib.judging import metrics
from psflib.psf.facts import doubts, facts
from psflib.report.page import PAGE
from psflib.report.settings import ReportSettings
from psflib.report.summary import COLUMNS, Epoch
from psflib.version import __version__

log = logging.getLogger(__name__)

NO_SKY = "Too little empty sky to measure the noise in."
MINUS_IS_NONE = ("candidates", "clean", "psf_order")


def write_report(
    path: str | Path,
    table: FieldsTable,
    output: Path,
    summary: QTable,
    settings: ReportSettings | None = None,
) -> None:
    """Write the page on all that was made, and say what was not.

    Parameters
    ----------
    path : path
        The HTML file.
    table : FieldsTable
    output : Path
        Folder of the products.
    summary : QTable
        From `psflib.report.summary.summarise`.
    settings : ReportSettings, optional
    """
    settings = settings or ReportSettings()
    sections = "".join(_field_section(table, output, f, settings) for f in table.fields)
    links = " · ".join(f'<a href="#{_id(f)}">{html.escape(f)}</a>' for f in table.fields)
    text = PAGE.substitute(
        version=__version__,
        table=html.escape(str(table.path)),
        links=links,
        summary=_summary_table(summary),
        sections=sections,
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _field_section(table, output, field, settings):
    parts = [f'<section id="{_id(field)}"><h2>{html.escape(field)}</h2>']
    for name in (TEMPLATE, *table.epochs(field)):
        epoch = Epoch(output, field, name)
        word = "template" if name == TEMPLATE else f"epoch {html.escape(name)}"
        parts.append(f'<h3 id="{_id(field, name)}">{word}</h3>')
        parts += [f'<p class="warning">{html.escape(w)}</p>' for w in _warnings(epoch)]
        parts.append(_psf_table(epoch))
        parts += _pictures(epoch, settings)
        parts.append(_log_table(epoch))
    return "\n".join(parts) + "</section>"


def _warnings(epoch) -> Iterator[str]:
    """What a reader must know before believing the pictures."""
    if epoch.missing:
        yield f"{epoch.missing} could not be made. {epoch.problem}"
    others = {v for v in epoch.provenance().values() if v != __version__}
    if others:
        yield (
            f"Some products were written by psflib {', '.join(sorted(map(str, others)))}, this is "
            f"{__version__}: delete {epoch.folder} and run again to have all of one version."
        )


def _pictures(epoch, settings) -> Iterator[str]:
    for title, needed, draw in _DRAWINGS:
        values = [epoch.read(name) for name in needed]
        if any(value is None for value in values):
            continue
        picture = figures.to_png(draw(settings, *values), settings.dpi)
        del values  # or the next products are read while these are still held
        data = base64.b64encode(picture).decode()
        source = f"data:image/png;base64,{data}"
        yield f'<figure><img alt="{title}" loading="lazy" src="{source}"></figure>'


def _draw_noise(settings, raw, clean, science):
    planes = {"raw": raw, "decorrelated": clean}
    sky = _sky(raw, clean, science)
    if sky.sum() < 100:
        return figures.message(NO_SKY)
    correlations = {
        name: noise_correlation(plane.image, plane.variance, sky, settings.max_lag)
        for name, plane in planes.items()
    }
    return figures.noise(correlations, planes)


def _draw_noise_field(settings, raw, clean, science):
    sky = _sky(raw, clean, science)
    maps = {
        name: metrics.noise_correlation(
            plane.image, plane.variance, sky, settings.blocks, settings.max_lag
        )
        for name, plane in {"raw": raw, "decorrelated": clean}.items()
    }
    if not any(np.isfinite(one.variance).any() for one in maps.values()):
        return figures.message(NO_SKY)
    return figures.noise_field(maps)


def _sky(raw, clean, science):
    usable = raw.usable & clean.usable
    return empty_sky(science.image, science.variance, usable, science.meta["fwhm"])


def _draw_halo(_, exposure, starless):
    removed = starless.removed[np.asarray(starless.removed["ok"])]
    if not len(removed):
        return figures.message("No star of this image has a halo to be removed.")
    star = removed[np.argmax(removed["flux"].value)]
    return figures.halo(exposure, starless, star["x"].value, star["y"].value)


#: (title, products needed, figure from them) in the order of the work
_DRAWINGS: list[tuple[str, tuple[str, ...], Callable]] = [
    (
        "Image",
        ("exposure.fits",),
        lambda _, exposure: figures.overview(exposure),
    ),
    (
        "Star selection",
        ("stars.ecsv", "exposure.fits"),
        lambda _, stars, exposure: figures.star_selection(stars, exposure.shape),
    ),
    (
        "Stamps",
        ("stamps.fits",),
        lambda settings, stamps: figures.stamp_gallery(stamps, settings.stamps),
    ),
    (
        "Core ePSF",
        ("epsf.fits", "stamps.fits"),
        lambda _, psf, stamps: figures.epsf(psf, stamps),
    ),
    (
        "Extended PSF",
        ("extended_psf.fits",),
        lambda _, extended: figures.extended_psf(extended),
    ),
    (
        "The brightest star removed",
        ("exposure.fits", "starless.fits"),
        _draw_halo,
    ),
    (
        "Matching kernel",
        ("kernel.fits",),
        lambda _, kernel: figures.kernel(kernel),
    ),
    (
        "Subtraction",
        ("exposure.fits", "template.fits", "difference.fits"),
        lambda _, *images: figures.triplet(*images),
    ),
    (
        "Noise",
        ("difference.fits", "decorrelated.fits", "exposure.fits"),
        _draw_noise,
    ),
    (
        "Noise over the field",
        ("difference.fits", "decorrelated.fits", "exposure.fits"),
        _draw_noise_field,
    ),
    (
        "Significance",
        ("decorrelated.fits", "candidates.ecsv"),
        lambda _, clean, found: figures.score_map(clean, found),
    ),
    (
        "Candidates",
        ("decorrelated.fits", "candidates.ecsv", "exposure.fits", "template.fits"),
        lambda settings, clean, found, science, template: figures.candidate_gallery(
            clean, found, science, template, top=settings.candidates
        ),
    ),
]


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
