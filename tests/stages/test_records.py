"""What a product was made from, and whether it still fits."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from psflib.stages import records
from psflib.stages.records import FILES, OF_DIFFERENCE, Record, asked


@pytest.fixture
def made(tmp_path):
    """Record, the file that was read and the one that was written."""
    image, product = tmp_path / "images/1.fits", tmp_path / "out/m88/1/exposure.fits"
    for path, content in ((image, b"what a camera saw"), (product, b"without its sky")):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    record = record_in(tmp_path, asked({"box": 128}, [image], tmp_path, row={"field": "m88"}))
    record.write("prepare", {"exposure": product, "field": "m88"})
    return record, image, product


def record_in(folder, wanted):
    path = folder / "out/made/m88/1/prepare.json"
    return Record(str(path), wanted, str(folder / "out"), str(folder))


def rewrite(path, content, time=None):
    """Another content; by default under the very time that the file had."""
    time = path.stat().st_mtime_ns if time is None else time
    path.write_bytes(content)
    os.utime(path, ns=(time, time))


def test_it_fits_until_something_is_asked_otherwise(made):
    record, image, _ = made
    assert record.fits()
    for other in (
        asked({"box": 64}, [image], record.home, row={"field": "m88"}),
        asked({"box": 128}, [], record.home, row={"field": "m88"}),
        asked({"box": 128}, [image], record.home, row={"field": "m87"}),
        {**record.asked, "version": "0.0"},
    ):
        assert not dataclasses.replace(record, asked=other).fits()


@pytest.mark.parametrize("which", ["read", "written"])
@pytest.mark.parametrize(
    ("content", "time", "fits"),
    [
        (b"shorter", None, False),
        (b"what a camera SAW", 1, False),
        (None, 1, True),
        (None, 2**62, True),
    ],
)
def test_files_by_size_time_and_hash(made, which, content, time, fits):
    record, image, product = made
    path = image if which == "read" else product
    whole = path.read_bytes()
    if content is None:
        content = whole
    elif time is not None:
        content = content[: len(whole)].ljust(len(whole))
    rewrite(path, content, time)
    assert record.fits() is fits


def test_a_file_that_only_was_touched_is_hashed_once(made, monkeypatch):
    record, image, _ = made
    rewrite(image, image.read_bytes(), 5)
    assert record.fits()
    monkeypatch.setattr(records, "_digest", None)
    assert record.fits()


def test_who_may_only_read_compares_all_the_same(made, monkeypatch):
    record, image, _ = made
    rewrite(image, image.read_bytes(), 5)

    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(records, "atomic_path", refuse)
    assert record.fits()


def test_all_may_be_moved_and_a_copy_is_judged_by_its_own_files(made, tmp_path):
    record, *_ = made
    shutil.copytree(tmp_path, tmp_path.parent / "copy")
    other = record_in(tmp_path.parent / "copy", record.asked)
    assert other.fits()
    rewrite(tmp_path.parent / "copy/out/m88/1/exposure.fits", b"another's sky..", 1)
    assert record.fits() and not other.fits()


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"asked": {}}', '{"asked": {}, "read": 3}'])
def test_a_record_that_is_none_fits_nothing(made, text):
    record, *_ = made
    path = Path(record.path)
    if text is None:
        path.unlink()
    else:
        path.write_text(text.replace("{}", json.dumps(record.asked), 1))
    assert not record.fits()


def test_a_product_that_is_gone(made):
    record, _, product = made
    product.unlink()
    assert not record.fits()


def everything(folder, epochs):
    """All products and records of some images of one field."""
    for epoch in epochs:
        for stage, files in FILES.items():
            for path in (
                *(f"m88/{epoch}/{file}" for file in files),
                f"made/m88/{epoch}/{stage}.json",
            ):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).touch()


def left(folder, epoch):
    stages = [s for s in FILES if (folder / f"made/m88/{epoch}/{s}.json").exists()]
    for stage, files in FILES.items():
        for file in files:
            assert (folder / f"m88/{epoch}/{file}").exists() == (stage in stages)
    return stages


@pytest.mark.parametrize(
    ("stage", "gone"),
    [
        ("prepare", list(FILES)[1:]),
        ("core_epsf", list(FILES)[4:]),
        ("extended_psf", ["subtract_stars"]),
        ("subtract_stars", []),
        ("subtract", ["decorrelate", "inject", "detect"]),
        ("inject", ["detect"]),
        ("detect", []),
    ],
)
def test_what_followed_goes_when_a_stage_begins_anew(tmp_path, stage, gone):
    """So that no failure leaves the difference of another image under this one's name."""
    everything(tmp_path, ("template", "1", "2"))
    path = tmp_path / f"made/m88/1/{stage}.json"
    Record(str(path), {}, str(tmp_path), str(tmp_path)).forget_following(stage)
    assert left(tmp_path, "1") == [s for s in FILES if s not in gone]
    assert left(tmp_path, "2") == left(tmp_path, "template") == list(FILES)


def test_a_new_template_takes_the_differences_of_its_field_along(tmp_path):
    everything(tmp_path, ("template", "1", "2"))
    path = tmp_path / "made/m88/template/select_stars.json"
    Record(str(path), {}, str(tmp_path), str(tmp_path)).forget_following("select_stars")
    assert left(tmp_path, "template") == ["prepare", "select_stars"]
    assert (
        left(tmp_path, "1") == left(tmp_path, "2") == [s for s in FILES if s not in OF_DIFFERENCE]
    )
