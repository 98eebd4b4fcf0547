"""The report is made whatever the products are, and says what is wrong with them."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from psflib import products, stages
from psflib.files import read_fields
from psflib.report import pictures
from psflib.report.summary import COLUMNS, READERS, Epoch, epochs, summarise
from psflib.settings.report import ReportSettings
from tests.fake_products import DAMAGES

pytest_plugins = ["tests.output_folder"]
ROWS = "field,epoch,image\ntiny,template,t.fits\ntiny,night1,s.fits\n"
SMALL = {"dpi": 30, "stamps": 3, "candidates": 2}


@pytest.fixture
def folder(results, tmp_path):
    """The products of a good run, to be spoilt."""
    shutil.copytree(results, tmp_path / "out")
    return tmp_path / "out"


def report(folder, rows=ROWS, **options):
    """All pages, the index first, and the summary of a folder of products."""
    table = folder.parent / "fields.csv"
    table.write_text(rows)
    page, summary = folder / "report.html", folder / "summary.ecsv"
    stages.stage("report")(table, folder, page, summary, ReportSettings(**SMALL), **options)
    told = products.read_summary(summary)
    images = [folder / "pages" / row["field"] / row["epoch"] / "index.html" for row in told]
    return "".join(one.read_text() for one in (page, *images)), told


def untold(page):
    """Titles of pictures of an epoch that are neither shown nor said to be lacking."""
    said = re.findall('alt="([^"]*)"', page)
    for sentence in re.findall("Not drawn: ([^.]*)", page):
        said += sentence.split(", ")
    optional = {"The brightest star removed", "What would have been found"}
    return {title for title, *_ in pictures.DRAWINGS} - set(said) - optional


def row_of(summary, epoch):
    return summary[np.asarray(summary["epoch"]) == epoch][0]


def test_a_good_run_has_all_pictures_and_verdicts_first(folder):
    page, summary = report(folder)
    assert summary.colnames[:4] == ["verdict", "reasons", "field", "epoch"]
    assert set(summary.colnames) == {"field", "epoch", *COLUMNS}
    assert list(summary["verdict"]) == ["good", "good"], list(summary["reasons"])
    assert "not measurable" in row_of(summary, "night1")["reasons"]
    # 5 of each image and 7 of the difference; the halo is only drawn on request
    assert page.count("data:image/webp;base64,") == 2 * 5 + 7 and "Not drawn" not in page
    assert not untold(page)
    index = (folder / "report.html").read_text()
    for name in ("pages/tiny/template/", "pages/tiny/night1/"):
        assert f'href="{name}index.html"' in index and f'src="{name}small.webp"' in index
        assert (folder / name / "small.webp").read_bytes().startswith(b"RIFF")
    field = (folder / "pages/tiny/index.html").read_text()
    assert 'href="night1/index.html"' in field and "<h2>Summary" in field


def row_and_pictures(folder):
    """Of the science epoch alone."""
    epoch = Epoch(folder, "tiny", "night1")
    row = summarise([epoch])[0]
    return row, "\n".join(pictures.pictures(epoch, ReportSettings(**SMALL)))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_epoch_has_its_row_and_pictures_or_says_why_not(folder, damage):
    for name in READERS:
        DAMAGES[damage](folder / "tiny/night1" / name)
    row, page = row_and_pictures(folder)
    assert not untold(page) and row["verdict"]
    if damage in ("truncated", "gone", "no bytes"):
        assert row["verdict"] == "bad" and "<img" not in page
        assert row["missing"] != "none" or "exposure.fits" in row["problem"]


def test_one_damaged_epoch_does_not_take_others_along(folder, undrawn):
    for name in READERS:
        DAMAGES["truncated"](folder / "tiny/night1" / name)
    page, summary = report(folder)
    assert list(summary["verdict"]) == ["good", "bad"]
    assert page.count("data:image/webp;base64,") == 5 and "Damaged: " in page


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are put together but not drawn, which takes most of the time."""
    monkeypatch.setattr(pictures.figures, "to_webp", lambda figure, dpi: b"png")


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(pictures, "DRAWINGS", [])


@pytest.mark.parametrize("name", READERS)
def test_one_damaged_product_costs_its_own_pictures(folder, undrawn, name):
    DAMAGES["truncated"](folder / "tiny/night1" / name)
    row, page = row_and_pictures(folder)
    assert name in row["problem"] and name in row["reasons"] and row["verdict"] != "good"
    assert "Not drawn" in page and "<img" in page and not untold(page)


def test_a_figure_that_fails_says_so(folder, monkeypatch, undrawn, caplog):
    def fail(*_):
        raise KeyError("no such thing")

    drawings = [(title, needed, fail) for title, needed, _ in pictures.DRAWINGS[:1]]
    monkeypatch.setattr(pictures, "DRAWINGS", [*drawings, *pictures.DRAWINGS[1:2]])
    page, _ = report(folder)
    assert page.count("Not drawn: Image. KeyError") == 2 and "no such thing" in caplog.text
    assert page.count("data:image/webp;base64,") == 2


def test_logs_of_any_kind(folder, no_pictures):
    logs = folder / "logs/tiny/night1"
    logs.mkdir(parents=True)
    (logs / "subtract.log").write_bytes(b"\xff\x00\n2026 WARNING psflib.x: a doubt: it is odd\n")
    (logs / "detect.log").mkdir()
    (logs / "prepare.log").write_text("took 1.50 s, peak memory 70 MB\n")
    page, summary = report(folder)
    assert row_of(summary, "night1")["seconds"].value == 1.5
    assert "<td>a doubt: it is odd</td>" in page


def test_the_failure_of_a_stage_is_the_reason(folder, no_pictures):
    for name in list(READERS)[5:]:
        (folder / "tiny/night1" / name).unlink()
    logs = folder / "logs/tiny/night1"
    logs.mkdir(parents=True)
    (logs / "subtract.log").write_text("2026 ERROR psflib.stages: subtract failed: no sky\n")
    page, summary = report(folder)
    row = row_of(summary, "night1")
    assert row["verdict"] == "bad" and row["missing"] == "template.fits"
    assert "template.fits could not be made: subtract failed: no sky" in row["reasons"]
    assert "no sky" in page


def test_what_was_assumed_stands_near_the_top_doubts_first(folder, undrawn):
    logs = folder / "logs/tiny/night1"
    logs.mkdir(parents=True)
    line = "2026-11-28 09:00:00,000 WARNING psflib.matching.fit: the kernel is to sharpen\n"
    (logs / "subtract.log").write_text(line)
    path, notes = folder / "tiny/night1/exposure.fits", ["no gain given", "variance measured"]
    exposure = products.read_exposure(path)
    products.write_exposure(path, exposure.replace(meta={**exposure.meta, "notes": notes}))
    found = Epoch(folder, "tiny", "night1").assumptions()
    assert found[0] == ("subtract", "the kernel is to sharpen", True)
    assert [text for stage, text, _ in found if stage == "exposure"] == notes
    page, _ = report(folder)
    part = page[page.index("<h1>tiny, epoch night1") :]
    assert f"What was assumed ({len(found)}, 1 of them doubts)" in part
    assert part.index("What was assumed") < part.index("<figure>")


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (ROWS, {"until": "psf"}),
        (ROWS.replace("tiny,template,t.fits\n", ""), {}),
        (ROWS.replace("tiny,night1,s.fits\n", ""), {}),
    ],
)
def test_psfs_alone(folder, undrawn, rows, options):
    """No section, column or problem of differences, though some of them be there."""
    page, summary = report(folder, rows, **options)
    count = rows.count("\n") - 1
    assert list(summary["verdict"]) == ["good"] * count
    assert list(summary["missing"]) == ["none"] * count
    assert page.count("data:image/webp;base64,") == 5 * count and "Not drawn" not in page


def test_a_run_without_any_product(tmp_path):
    (tmp_path / "out").mkdir()
    page, summary = report(tmp_path / "out")
    assert list(summary["verdict"]) == ["bad", "bad"] and "Not drawn" in page
    assert not re.search("Traceback", page)


def test_rows_are_those_of_the_table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "field,epoch,image\nb,x,1.fits\nb,template,2.fits\na,template,3.fits\na,y,4.fits\n"
    )
    table = read_fields(path)
    found = epochs(table, Path("nowhere"))
    assert [(e.field, e.epoch) for e in found] == [
        ("b", "template"), ("b", "x"), ("a", "template"), ("a", "y"),
    ]  # fmt: skip
    assert len(summarise(found)) == 4
