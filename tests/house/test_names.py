"""docs/names.md is that of its data, and each test it names exists."""

from pathlib import Path

import pytest
import yaml

from tests.conftest import benchmark_script

ROOT = Path(__file__).parents[2]
DATA = yaml.safe_load((ROOT / "docs/names.yaml").read_text(encoding="utf-8"))
ROWS = [entry for section in DATA["sections"] for entry in section["rows"]]


def test_the_page_is_that_of_the_data():
    page = benchmark_script("names").page(DATA)
    assert (ROOT / "docs/names.md").read_text(encoding="utf-8") == page, "make names"


@pytest.mark.parametrize("entry", ROWS, ids=lambda entry: entry["theirs"][:40])
def test_each_row_can_be_held(entry):
    assert entry["theirs"] and entry["ours"]
    path, _, name = entry.get("test", "").partition("::")
    if path:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert f"class {name}" in text or f"def {name}(" in text or not name


def test_a_row_with_another_column_is_refused():
    with pytest.raises(ValueError, match="remark"):
        benchmark_script("names").cells({"theirs": "a", "ours": "b", "remark": "c"})
