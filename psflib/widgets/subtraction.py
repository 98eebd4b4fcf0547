"""`SubtractionPanel`: the kernel anywhere; its candidates; blink science, template, difference."""

import ipywidgets as ipw
import traitlets

from psflib import figures, products
from psflib.lsst.assess import judge_candidates
from psflib.widgets.epsf import centre_sliders
from psflib.widgets.panel import BUTTONS, Panel, slider

VIEWS = ("science", "template", "difference", "kernel", "candidates")


class SubtractionPanel(Panel):
    """One plane at a time, beside the kernel that matched the images at (x, y).

    Attributes
    ----------
    view : str
        "science", "template", "difference"; "kernel" for its maps over the field; "candidates"
        for the sources that should agree with it, and why they do not.
    x, y : float
        Position in px.
    zoom : int
        Side of the part that is drawn around (x, y) is the field's longer side / zoom.
    science, template : Exposure
    difference : Difference
    kernel : MatchingKernel
    cells : SpatialCellSet or None
        The candidates, each with its status and reason; None until they are looked at.
    """

    products = ("difference.fits", "kernel.fits", "template.fits", "exposure.fits")

    view = traitlets.Enum(VIEWS, "science")
    x = traitlets.Float(0.0)
    y = traitlets.Float(0.0)
    zoom = traitlets.Int(1)

    def make_controls(self):
        return {
            "view": ipw.ToggleButtons(options=VIEWS, description="blink", style=BUTTONS),
            "zoom": slider(ipw.IntSlider, "zoom", 1, 1, 16, 1),
            "x": slider(ipw.FloatSlider, "x [px]", 0.0, 0.0, 0.0, 1.0),
            "y": slider(ipw.FloatSlider, "y [px]", 0.0, 0.0, 0.0, 1.0),
        }

    def load(self):
        self.science = products.read_exposure(self.path("exposure.fits"))
        self.template = products.read_exposure(self.path("template.fits"))
        self.difference = products.read_difference(self.path("difference.fits"))
        self.kernel = products.read_kernel(self.path("kernel.fits"))
        self.cells = self.pair = None
        centre_sliders(self, self.kernel.shape)

    def draw(self):
        if self.view == "kernel":
            return figures.kernel(self.kernel, x=self.x, y=self.y)
        if self.view == "candidates":
            return self._draw_candidates()
        return figures.blink(
            getattr(self, self.view), self.kernel, (self.x, self.y), self.zoom, title=self.view,
            sigma=self.view == "difference",
        )  # fmt: skip

    def _draw_candidates(self):
        if self.cells is None:
            self.cells, self.pair = judge_candidates(self.science, self.template, self.kernel)
        counts = self.cells.counts()
        reasons = [f"{v} {k[6:].replace('_', ' ')}" for k, v in counts.items() if "n_bad_" in k]
        self.say(
            f"{counts['n_total']} candidates: {counts['n_good']} agree with the kernel; rejected: "
            f"{', '.join(reasons) or 'none'}."
        )
        return figures.kernel_fate(
            self.science, self.cells, self.pair, self.kernel, (self.x, self.y)
        )
