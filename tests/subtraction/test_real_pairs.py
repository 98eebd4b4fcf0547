"""Real pairs, untuned, by the same functions that make docs/validation.md."""

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture
def folder(real_pairs):
    path = real_pairs.data_folder()
    if not path.is_dir():
        pytest.skip(f"{path}: no survey images there; set PSFLIB_DATA to their folder")
    return path


def test_goto(real_pairs, folder):
    figures = real_pairs.goto(folder)
    assert figures["found"] >= 35
    assert figures["other positive"] + figures["other negative"] <= 45


def test_eaba_is_a_null_test(real_pairs, folder):
    figures = real_pairs.eaba(folder)
    assert all(count <= 4 for count in figures.values()), figures


def test_decam_variable_source(real_pairs, folder):
    figures = real_pairs.decam(folder)
    assert figures["04a - 18a"]["found"], figures
    assert figures["18a - 04a"]["found"], figures
