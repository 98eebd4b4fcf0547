"""The eleven debug variables: what each shows, and that nothing is drawn unasked."""

import matplotlib.figure
import numpy as np
import pytest

from psflib import figures
from psflib.image.exposure import MaskBit
from psflib.lsst import ImagePsfMatchTask
from psflib.lsst.debug import MatchView
from psflib.simulation import simulate_pair
from tests.lsst import pages

CONFIG = {"mode": "lsst", "al": {"spatial_kernel_order": 0, "size_cell_x": 64, "size_cell_y": 64}}
PICTURES = {
    "displayCandidates": "display_candidates",
    "displayKernelBasis": "display_kernel_basis",
    "displayKernelMosaic": "display_kernel_mosaic",
    "plotKernelSpatialModel": "plot_kernel_spatial_model",
    "displayTemplate": "display_template",
    "displaySciIm": "display_sci_im",
    "displaySpatialCells": "display_spatial_cells",
    "displayDiffIm": "display_diff_im",
}


@pytest.fixture(scope="module")
def images():
    return simulate_pair(shape=(150, 160), seed=5, n_stars=50, brightest=2e5, noise_science=10.0)


@pytest.fixture(scope="module")
def view(images):
    """What a callable gets to see, of a match with rejected candidates."""
    science, template, truth = images
    task = ImagePsfMatchTask(CONFIG, debug={"display": True}, show=lambda seen: seen)
    xy = [*zip(truth["x"].value, truth["y"].value, strict=True), (2.0, 2.0)]
    return task.subtractExposures(template, science, candidateList=xy).shown


def with_switches(view, **switches):
    debug = type(view.debug)(display=True, **switches)
    return MatchView(debug, view.science, view.template, view.pair, view.kernel, view.cells,
                     view.difference)  # fmt: skip


class TestFigures:
    def test_all_variables_are_here(self):
        rest = {"display", "maskTransparency", "showBadCandidates"}
        assert set(PICTURES) | rest == set(pages.DEBUG) and len(pages.DEBUG) == 11

    @pytest.mark.parametrize("name", PICTURES)
    def test_one_by_one(self, view, name):
        shown = figures.debug_figures(with_switches(view, **{name: True}))
        assert list(shown) == [PICTURES[name]]
        assert isinstance(shown[PICTURES[name]], matplotlib.figure.Figure)
        assert figures.to_png(shown[PICTURES[name]], dpi=30).startswith(b"\x89PNG")

    def test_all_at_once_in_the_order_of_the_work(self, view):
        shown = figures.debug_figures(with_switches(view, **dict.fromkeys(PICTURES, True)))
        assert set(shown) == set(PICTURES.values())
        assert next(iter(shown)) == "display_template"

    def test_bad_candidates(self, view):
        """Red crosses come and go: the legend of the cells names them or does not."""
        drawn = {}
        for bad in (True, False):
            made = figures.debug_figures(
                with_switches(view, displaySpatialCells=True, showBadCandidates=bad)
            )["display_spatial_cells"]
            texts = [t.get_text() for axes in made.axes for t in axes.get_legend().get_texts()]
            drawn[bad] = " ".join(texts)
        assert "border" in drawn[True] and "border" not in drawn[False]
        assert any(c.status == "bad" for c in view.cells.candidates)  # the view is as it was

    @pytest.mark.parametrize("transparency", [0, 80])
    def test_mask_transparency(self, view, transparency):
        mask = view.science.mask.copy()
        mask[20:40, 20:40] |= np.uint16(MaskBit.BAD)
        masked = MatchView(
            type(view.debug)(display=True, displaySciIm=True, maskTransparency=transparency),
            view.science.replace(mask=mask), *[getattr(view, n) for n in (
                "template", "pair", "kernel", "cells")],
        )  # fmt: skip
        made = figures.debug_figures(masked)["display_sci_im"]
        layers = [image.get_alpha() for image in made.axes[0].images]
        assert layers == [None, pytest.approx(1 - transparency / 100)]


class TestSwitches:
    def test_nothing_without_display(self, images, view):
        science, template, _ = images
        calls = []
        task = ImagePsfMatchTask(CONFIG, debug={"displayDiffIm": True}, show=calls.append)
        assert task.subtractExposures(template, science).shown is None and not calls
        debug = view.debug.model_copy(update={"display": False, "display_diff_im": True})
        seen = MatchView(debug, view.science, view.template, view.pair, view.kernel, view.cells)
        assert figures.debug_figures(seen) == {}

    def test_a_match_has_no_difference(self, images):
        science, template, _ = images
        task = ImagePsfMatchTask(
            CONFIG, debug={"displayDiffIm": True, "displaySciIm": True}, show=figures.debug_figures
        )
        task.debug.display = True  # can be changed on the task
        assert list(task.matchExposures(template, science).shown) == ["display_sci_im"]

    @pytest.mark.parametrize("mode", ["psflib", "lsst"])
    def test_both_modes(self, images, mode):
        science, template, _ = images
        task = ImagePsfMatchTask(
            {**CONFIG, "mode": mode}, debug={"display": True, "displayCandidates": True},
            show=figures.debug_figures,
        )  # fmt: skip
        assert list(task.subtractExposures(template, science).shown) == ["display_candidates"]

    def test_bad_calls(self, images):
        science, template, _ = images
        with pytest.raises(ValueError, match=r"psflib\.figures\.debug_figures"):
            ImagePsfMatchTask(CONFIG, debug={"display": True}).matchExposures(template, science)
        with pytest.raises(ValueError, match="did you mean 'displayDiffIm'"):
            ImagePsfMatchTask(debug={"displayDifIm": True})
        with pytest.raises(ValueError, match="debug is a Debug"):
            ImagePsfMatchTask(debug=True)
        with pytest.raises(ValueError, match="less than or equal to 100"):
            ImagePsfMatchTask().debug.maskTransparency = 101
