"""Real pairs, untuned, by the same functions that make docs/validation.md."""

import importlib.util
from pathlib import Path

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow]

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "real_pairs.py"


@pytest.fixture(scope="module")
def pairs():
    spec = importlib.util.spec_from_file_location("real_pairs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(pairs):
    path = pairs.data_folder()
    if not path.is_dir():
        pytest.skip(f"{path}: no survey images there; set PSFLIB_DATA to their folder")
    return path


def test_goto(pairs, folder):
    figures = pairs.goto(folder)
    assert figures["found"] >= 34
    assert figures["other positive"] + figures["other negative"] < 100


def test_eaba_is_a_null_test(pairs, folder):
    figures = pairs.eaba(folder)
    assert all(count <= 10 for count in figures.values()), figures


def test_decam_variable_source(pairs, folder):
    figures = pairs.decam(folder)
    assert figures["04a - 18a"]["found"], figures
    assert figures["18a - 04a"]["found"], figures
