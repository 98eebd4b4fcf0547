"""`ComparisonPanel`: all methods of subtraction on one field, side by side."""

import ipywidgets as ipw
import traitlets

from psflib import figures, products
from psflib.comparison import compare
from psflib.psf.build import build_psf
from psflib.widgets.panel import BUTTONS, Panel, slider

VIEWS = ("figures", "star")


class ComparisonPanel(Panel):
    """Every method subtracts the same images, with the same sources put into them.

    Attributes
    ----------
    view : str
        "figures" (residuals, noise, recovered sources) or "star" (cut-outs around one star).
    star : int
        Which star is cut out; 0 is the brightest.
    injected : int
        Sources put into the science image.
    seed : int
        Of their places and fluxes.
    made : Comparison
    table : QTable
        A row a method.
    """

    products = ("exposure.fits", "template.fits", "epsf.fits")

    view = traitlets.Enum(VIEWS, "figures")
    star = traitlets.Int(0)
    injected = traitlets.Int(30)
    seed = traitlets.Int(1)

    def make_controls(self):
        return {
            "view": ipw.ToggleButtons(options=VIEWS, description="view", style=BUTTONS),
            "star": slider(ipw.IntSlider, "star, brightest first", 0, 0, 20, 1),
            "injected": slider(ipw.IntSlider, "sources put in", 30, 0, 200, 5),
            "seed": slider(ipw.IntSlider, "other places", 1, 1, 20, 1),
        }

    def load(self):
        self.science = products.read_exposure(self.path("exposure.fits"))
        self.template = products.read_exposure(self.path("template.fits"))
        self.psfs = products.read_psf(self.path("epsf.fits")), build_psf(self.template)
        self.made = None

    def draw(self):
        options = {"injected": self.injected, "seed": self.seed}
        if self.made is None or self._options != options:
            self.made = compare(self.science, self.template, psfs=self.psfs, **options)
            self.table, self._options = self.made.table, options
        if self.view == "star":
            return figures.comparison_star(self.made, self.star)
        return figures.comparison(self.made)
