"""What a product was made from, and whether it still fits."""

import json
import os

import pytest

from psflib.stages import records
from psflib.stages.records import asked, fits_record, write_record


@pytest.fixture
def made(tmp_path):
    """Record, what was asked, the file that was read and the one that was written."""
    image, product = tmp_path / "image.fits", tmp_path / "exposure.fits"
    image.write_bytes(b"what a camera saw")
    product.write_bytes(b"without its sky")
    wanted = asked({"box": 128}, [image], row={"field": "m88"})
    record = tmp_path / "made/m88/1/prepare.json"
    write_record(record, wanted, "prepare", {"exposure": product, "field": "m88"})
    return record, wanted, image, product


def rewrite(path, content, time=None):
    """Another content; by default under the very time that the file had."""
    time = path.stat().st_mtime_ns if time is None else time
    path.write_bytes(content)
    os.utime(path, ns=(time, time))


def test_it_fits_until_something_is_asked_otherwise(made):
    record, wanted, image, _ = made
    assert fits_record(record, wanted)
    for other in (
        asked({"box": 64}, [image], row={"field": "m88"}),
        asked({"box": 128}, [], row={"field": "m88"}),
        asked({"box": 128}, [image], row={"field": "m87"}),
        {**wanted, "version": "0.0"},
    ):
        assert not fits_record(record, other)


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
    record, wanted, image, product = made
    path = image if which == "read" else product
    same = content is None
    content = path.read_bytes() if same else content.ljust(len(path.read_bytes()))
    content = content[:-1] if content.startswith(b"shorter") else content
    rewrite(path, content, time)
    assert fits_record(record, wanted) is fits


def test_a_file_that_only_was_touched_is_hashed_once(made, monkeypatch):
    record, wanted, image, _ = made
    rewrite(image, image.read_bytes(), 5)
    assert fits_record(record, wanted)
    monkeypatch.setattr(records, "_digest", None)
    assert fits_record(record, wanted)


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", '{"asked": {}}', '{"asked": {}, "files": 3}']
)
def test_a_record_that_is_none_fits_nothing(made, text):
    record, wanted, *_ = made
    if text is None:
        record.unlink()
    else:
        record.write_text(text.replace("{}", json.dumps(wanted), 1))
    assert not fits_record(record, wanted)


def test_a_product_that_is_gone(made):
    record, wanted, _, product = made
    product.unlink()
    assert not fits_record(record, wanted)
