"""The notebooks are clean in the repository, and run from top to bottom without a browser."""

from pathlib import Path

import nbformat
import pytest

pytest_plugins = ["tests.output_folder"]

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
names = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_is_one_notebook_a_stage_and_one_to_compare():
    assert [path.stem for path in NOTEBOOKS] == [
        "01_star_selection",
        "02_stamps",
        "03_core_epsf",
        "04_extended_psf",
        "05_subtraction",
        "06_decorrelation",
        "07_compare_methods",
        "08_injection",
    ]


@names
def test_notebook_is_valid_clean_and_short(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert len(notebook.cells) <= 6, "a page of a few cells; the rest belongs to the panel"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            assert len(cell.source.splitlines()) < 10


def execute(path, output, monkeypatch):
    """The notebook after a headless run on the products in `output`, and its widgets by id."""
    nbclient = pytest.importorskip("nbclient", reason="the notebooks extra is not installed")
    monkeypatch.setenv("PSFLIB_OUTPUT", str(output))
    notebook = nbformat.read(path, 4)
    client = nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    return notebook, notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]


def notes(state):
    """Texts of all HTML widgets: a panel's sentence, or its complaint."""
    return [w["state"]["value"] for w in state.values() if "HTMLModel" in w["model_name"]]


def pictures(state):
    """PNG data (base64) of all images."""
    return [
        buffer["data"]
        for widget in state.values()
        if widget["model_name"] == "ImageModel"
        for buffer in widget.get("buffers", [])
        if buffer["data"]
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the Jupyter client's own threads and sockets
@names
def test_notebook_runs_and_shows_a_picture(path, results, monkeypatch):
    notebook, state = execute(path, results, monkeypatch)
    assert pictures(state)
    assert not any("<b" in text for text in notes(state)), notes(state)
    last = notebook.cells[-1]
    assert last.outputs, "the last cell shows numbers"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_notebook_without_products_says_what_to_do(tmp_path, monkeypatch):
    _, state = execute(NOTEBOOKS[0], tmp_path, monkeypatch)
    assert any("make demo" in text for text in notes(state))
    assert not pictures(state)
