"""`DecorrelationPanel`: the noise before and after, the significance map and the candidates."""

import ipywidgets as ipw
import traitlets

from psflib import figures, products
from psflib.detection.detect import psf_fwhm
from psflib.image.noise import empty_sky, noise_correlation
from psflib.judging import metrics
from psflib.widgets.panel import BUTTONS, Panel, slider

PLANES = ("both", "raw", "decorrelated")
VIEWS = ("field", "noise", "score", "candidates")
BLOCKS = 4


class DecorrelationPanel(Panel):
    """Correlation of the noise in empty sky, and what is significant once it is gone.

    Attributes
    ----------
    view : str
        "field" (noise in blocks), "noise" (of all pixels), "score" or "candidates".
    show : str
        "both", "raw" or "decorrelated": which difference(s) the noise views draw.
    max_lag : int
        Of the correlation, px.
    nodes, rank : int
        Of a simpler filter that view "field" sets beside the one that was applied: known at
        nodes x nodes places, with `rank` terms that vary.
    raw, clean : Difference
    candidates : QTable
    correlations : dict of str to ndarray
    maps : dict of str to NoiseMaps
        What is drawn.
    """

    products = (
        "decorrelated.fits", "difference.fits", "candidates.ecsv", "exposure.fits",
        "template.fits",
    )  # fmt: skip

    view = traitlets.Enum(VIEWS, "field")
    show = traitlets.Enum(PLANES, "both")
    max_lag = traitlets.Int(3)
    nodes = traitlets.Int(3)
    rank = traitlets.Int(1)

    def make_controls(self):
        return {
            "view": ipw.ToggleButtons(options=VIEWS, description="view", style=BUTTONS),
            "show": ipw.ToggleButtons(options=PLANES, description="noise of", style=BUTTONS),
            "max_lag": slider(ipw.IntSlider, "largest lag [px]", 3, 1, 10, 1),
            "nodes": slider(ipw.IntSlider, "simpler filter: nodes an axis", 3, 1, 9, 1),
            "rank": slider(ipw.IntSlider, "its terms that vary", 1, 0, 8, 1),
        }

    def load(self):
        self.raw = products.read_difference(self.path("difference.fits"))
        self.clean = products.read_difference(self.path("decorrelated.fits"))
        self.candidates = products.read_candidates(self.path("candidates.ecsv"))
        self.science = products.read_exposure(self.path("exposure.fits"))
        self.template = products.read_exposure(self.path("template.fits"))
        clean = self.clean
        self.sky = empty_sky(clean.image, clean.variance, clean.usable, psf_fwhm(clean))
        self.sky &= self.raw.usable

    def draw(self):
        if self.view == "score":
            return figures.score_map(self.clean, self.candidates)
        if self.view == "candidates":
            return figures.candidate_gallery(
                self.clean, self.candidates, self.science, self.template
            )
        if self.view == "field":
            return self._draw_field()
        planes = self._shown({"raw": self.raw, "decorrelated": self.clean})
        self.correlations = {
            name: noise_correlation(plane.image, plane.variance, self.sky, self.max_lag)
            for name, plane in planes.items()
        }
        return figures.noise(self.correlations, planes)

    def _shown(self, planes):
        return planes if self.show == "both" else {self.show: planes[self.show]}

    def _draw_field(self):
        planes = self._shown({"raw": self.raw, "decorrelated": self.clean})
        if self.show != "raw":
            name = f"{self.nodes} x {self.nodes} nodes, {self.rank} terms"
            planes[name] = metrics.refiltered(self.raw, self.clean, self.nodes, self.rank)
        self.maps = {
            name: metrics.noise_correlation(
                plane.image, plane.variance, self.sky, BLOCKS, self.max_lag
            )
            for name, plane in planes.items()
        }
        return figures.noise_field(self.maps)
