"""The page of one image: its figures, with pictures of every stage, in one file; and its row."""

import html
import json
from collections.abc import Iterator
from pathlib import Path

from psflib.exports.regions import crtf_regions, ds9_regions
from psflib.files.atomic import atomic_path
from psflib.files.fields import TEMPLATE
from psflib.injection import words
from psflib.psf.facts import doubts, facts
from psflib.report.gallery import GALLERY, gallery_page
from psflib.report.page import fill, verdict_word
from psflib.report.pictures import pictures, thumbnail
from psflib.report.rows import ROW, SMALL
from psflib.report.summary import Epoch, row_of
from psflib.settings.report import ReportSettings
from psflib.version import __version__


def write_page(path: str | Path, table, epoch: Epoch, settings: ReportSettings) -> dict:
    """Write the page on an image, and beside it its row (`ROW`) and a small picture (`SMALL`).

    Parameters
    ----------
    path : path
        The HTML file.
    table : path
        The table of images.
    epoch : Epoch
    settings : ReportSettings

    Returns
    -------
    dict
        The row, see `psflib.report.summary.row_of`.
    """
    row, field = row_of(epoch), html.escape(epoch.field)
    word = TEMPLATE if epoch.epoch == TEMPLATE else f"epoch {epoch.epoch}"
    body = [f"<p>{verdict_word(row['verdict'])} {html.escape(row['reasons'])}</p>"]
    body.append(f'<nav><a href="../index.html">{field}</a> · <a href="../../../report.html">all'
                "</a></nav>")  # fmt: skip
    if epoch.difference:
        body.append(f'<p><a href="{GALLERY}">Cut-outs of all candidates</a></p>')
    body += [f'<p class="warning">{html.escape(w)}</p>' for w in _warnings(epoch)]
    body += [f"<p>{html.escape(text)}</p>" for text in _depth(epoch)]
    body += [_assumed(epoch), _psf_table(epoch), *pictures(epoch, settings), _log_table(epoch)]
    text = fill(f"{epoch.field}, {word}", table, body)
    for file, content in (
        *_of_candidates(epoch, table, settings).items(),
        (SMALL, thumbnail(epoch)),
        (ROW, json.dumps({"difference": epoch.difference, "row": row}, indent=1).encode()),
        (Path(path).name, text.encode()),
    ):
        with atomic_path(Path(path).parent / file) as temporary:
            temporary.write_bytes(content)
    return row


def _of_candidates(epoch, table, settings) -> dict[str, bytes]:
    """The page of cut-outs and the regions, by the names of their files; none without candidates"""
    if not epoch.difference:
        return {}
    found = epoch.read("candidates.ecsv")
    names = ("exposure.fits", "difference.fits", "decorrelated.fits")
    planes = [epoch.read(name) for name in names]
    place = epoch.field, epoch.epoch
    page = None
    if found is not None and all(plane is not None for plane in planes):
        page = epoch.attempt(
            "the cut-outs", gallery_page, place, table, found, planes, settings.gallery
        )
    if page is None:
        title, text = f"{epoch.field}, epoch {epoch.epoch}, candidates", "There are no candidates."
        page = fill(title, table, [f"<p>{text}</p>"])
    regions = {"candidates.reg": ds9_regions, "candidates.crtf": crtf_regions}
    made = {} if found is None else {file: write(found) for file, write in regions.items()}
    return {name: text.encode() for name, text in ({GALLERY: page} | made).items()}


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


def _depth(epoch) -> Iterator[str]:
    """How deep the search went, and how many of its candidates are false."""
    found = epoch.read("candidates.ecsv") if epoch.difference else None
    if found is not None:
        yield from words.depth(found.meta)
        yield from words.false_alarms(found.meta)


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
