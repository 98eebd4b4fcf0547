"""`ComparisonPanel`: all methods of subtraction on one field, side by side."""

import ipywidgets as ipw
import traitlets

from psflib import figures, products
from psflib.judging.comparison import compare
from psflib.psf.build import build_psf
from psflib.widgets.panel import Panel, slider


class ComparisonPanel(Panel):
    """Every method subtracts the same images, with the same sources put into them.

    Attributes
    ----------
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

    star = traitlets.Int(0)
    injected = traitlets.Int(30)
    seed = traitlets.Int(1)

    def make_controls(self):
        return {
            "star": slider(ipw.IntSlider, "star, brightest first", 0, 0, 20, 1),
            "injected": slider(ipw.IntSlider, "sources put in", 30, 0, 200, 5),
            "seed": slider(ipw.IntSlider, "other places", 1, 1, 20, 1),
        }

    def load(self):
        self.science = products.read_exposure(self.path("exposure.fits"))
        self.template = products.read_exposure(self.path("template.fits"))
        self.psfs = products.read_psf(self.path("epsf.fits")), build_psf(self.template)
        self._known = {}

    def draw(self):
        key = self.injected, self.seed
        if key not in self._known:
            self._known[key] = compare(
                self.science, self.template, psfs=self.psfs, injected=self.injected, seed=self.seed
            )
        self.made = self._known[key]
        self.table = self.made.table
        return figures.comparison(self.made, self.star)
