"""Panels are driven as a user would, without a browser: set a control, look at the picture."""

import numpy as np
import pytest

pytest.importorskip("ipywidgets", reason="the notebooks extra is not installed")

from psflib import widgets
from psflib.widgets.folder import find_epochs, output_folder

pytest_plugins = ["tests.output_folder"]

PANELS = [getattr(widgets, name) for name in widgets.__all__]
every_panel = pytest.mark.parametrize("kind", PANELS, ids=widgets.__all__)

#: (panel, control, another value or a function of the panel that gives it): each must change the
#: picture at once.
CHANGES = [
    ("StarSelectionPanel", "min_snr", 200.0),
    ("StarSelectionPanel", "max_ellipticity", 0.02),
    ("StarSelectionPanel", "fwhm_range", (3.0, 4.0)),
    ("StampPanel", "index", 3),
    ("StampPanel", "show_weight", False),
    ("StampPanel", "show_all", True),
    ("EpsfPanel", "x", 20.0),
    ("EpsfPanel", "y", 30.0),
    ("EpsfPanel", "angle", 45.0),
    ("EpsfPanel", "star", lambda panel: panel.controls["star"].options[2][1]),
    ("ExtendedPsfPanel", "match_radius", 6.0),
    ("ExtendedPsfPanel", "feather_width", 2.5),
    ("ExtendedPsfPanel", "ee_radius", 20.0),
    ("ExtendedPsfPanel", "view", "halo"),
    ("ExtendedPsfPanel", "star", 1),
    ("SubtractionPanel", "view", "template"),
    ("SubtractionPanel", "view", "difference"),
    ("SubtractionPanel", "view", "kernel"),
    ("SubtractionPanel", "view", "candidates"),
    ("SubtractionPanel", "zoom", 4),
    ("SubtractionPanel", "x", 25.0),
    ("SubtractionPanel", "y", 25.0),
    ("DecorrelationPanel", "max_lag", 5),
    ("DecorrelationPanel", "show", "raw"),
    ("DecorrelationPanel", "show", "decorrelated"),
    ("DecorrelationPanel", "nodes", 1),
    ("DecorrelationPanel", "rank", 2),
    ("DecorrelationPanel", "view", "noise"),
    ("DecorrelationPanel", "view", "score"),
    ("DecorrelationPanel", "view", "candidates"),
    ("InjectionPanel", "share", 70),
    ("InjectionPanel", "place", "sky"),
    ("InjectionPanel", "clean", True),
    ("ComparisonPanel", "star", 1),
    ("ComparisonPanel", "injected", 10),
    ("ComparisonPanel", "seed", 2),
]


@pytest.fixture(scope="session")
def opened(results):
    """Panels by name, opened once on the tiny results."""
    return {kind.__name__: kind(results) for kind in PANELS}


def png(panel):
    """The picture as bytes (ipywidgets gives a view of them)."""
    return bytes(panel.picture.value)


@every_panel
def test_panel_opens_with_a_picture(opened, kind):
    panel = opened[kind.__name__]
    assert panel.field == "tiny"
    assert png(panel).startswith(b"\x89PNG")
    assert "<b" not in panel.note.value


@pytest.mark.parametrize(("name", "control", "value"), CHANGES)
def test_control_changes_the_picture(opened, name, control, value):
    panel = opened[name]
    before, initial = png(panel), getattr(panel, control)
    value = value(panel) if callable(value) else value
    panel.controls[control].value = value
    assert getattr(panel, control) == value
    assert png(panel) != before
    assert "<b" not in panel.note.value
    setattr(panel, control, initial)  # the same from code, back again
    assert panel.controls[control].value == initial
    assert png(panel) == before


def test_every_control_is_tried():
    untried = {
        (kind.__name__, name)
        for kind in PANELS
        for name in kind.class_own_traits()
        if (kind.__name__, name) not in {change[:2] for change in CHANGES}
    }
    assert untried == set()


@every_panel
def test_one_change_draws_one_picture(opened, kind, monkeypatch):
    panel = opened[kind.__name__]
    drawn = []
    draw = panel.draw
    monkeypatch.setattr(panel, "draw", lambda: drawn.append(1) or draw())
    _, control, value = next(change for change in CHANGES if change[0] == kind.__name__)
    initial = getattr(panel, control)
    setattr(panel, control, value)
    assert len(drawn) == 1
    setattr(panel, control, initial)


def test_epochs_of_a_field_are_offered_and_loaded(opened):
    panel = opened["StampPanel"]
    assert panel.controls["epoch"].options == ("night1", "template")
    before = panel.stamps
    panel.controls["epoch"].value = "template"
    assert panel.stamps is not before
    panel.epoch = "night1"
    assert np.array_equal(panel.stamps.data, before.data)


def test_one_star_can_be_chosen_by_id_and_is_forgotten_with_its_epoch(opened):
    panel = opened["EpsfPanel"]
    text, name = panel.controls["star"].options[1]
    assert name in panel.stamps.table["id"] and ("fitted" in text or "reserved" in text)
    panel.star = name
    shown = png(panel)
    initial = panel.epoch
    panel.epoch = "template"
    assert panel.star == -1
    panel.epoch = initial
    assert panel.star == -1 and png(panel) != shown


def test_only_complete_epochs_are_offered(opened):
    assert opened["SubtractionPanel"].controls["epoch"].options == ("night1",)


@every_panel
def test_empty_folder_says_what_to_do(kind, tmp_path):
    panel = kind(tmp_path / "nothing")
    assert "make demo" in panel.note.value
    assert panel.children == (panel.note,)
    assert panel.found == {}


def test_damaged_product_is_a_sentence_and_the_panel_goes_on(results, tmp_path):
    for epoch, content in (("a", b"no FITS"), ("b", None)):
        folder = tmp_path / "F" / epoch
        folder.mkdir(parents=True)
        whole = (results / "tiny" / "night1" / "stamps.fits").read_bytes()
        (folder / "stamps.fits").write_bytes(content or whole)
    panel = widgets.StampPanel(tmp_path)
    assert "stamps.fits" in panel.note.value
    panel.epoch = "b"
    assert panel.note.value == ""
    assert png(panel).startswith(b"\x89PNG")


def test_impossible_choice_is_a_sentence_instead_of_an_old_picture(opened):
    panel = opened["StarSelectionPanel"]
    before, initial = png(panel), panel.fwhm_range
    panel.fwhm_range = (15.0, 16.0)  # px; no star is so large
    assert "0 usable stars" in panel.note.value
    assert png(panel) != before
    panel.fwhm_range = initial
    assert png(panel) == before


def test_default_folder_is_the_environment_s_or_results_beside_the_notebooks(monkeypatch):
    monkeypatch.delenv("PSFLIB_OUTPUT", raising=False)
    assert str(output_folder()) == "../results"
    monkeypatch.setenv("PSFLIB_OUTPUT", "elsewhere")
    assert str(output_folder()) == "elsewhere"
    assert str(output_folder("here")) == "here"


def test_fields_and_epochs_are_found_in_order(tmp_path):
    for place in ("B/2", "B/1", "A/x", "C/y"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "one").touch()
        if place != "C/y":
            (tmp_path / place / "two").touch()
    assert find_epochs(tmp_path, ("one", "two")) == {"A": ["x"], "B": ["1", "2"]}
