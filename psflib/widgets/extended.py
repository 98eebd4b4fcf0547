"""`ExtendedPsfPanel`: the profile, and what it becomes when core and wings meet elsewhere."""

import ipywidgets as ipw
import traitlets

from psflib import figures, products
from psflib.psf.wings import ExtendedSettings, extended_psf
from psflib.widgets.panel import Panel, set_range, slider


class ExtendedPsfPanel(Panel):
    """Profile, encircled energy and picture, stitched anew at a radius of your choice.

    Attributes
    ----------
    match_radius, feather_width : float
        Where the wings are matched to the core, and the width of the seam, px.
    stored : ExtendedPsfField
        As the workflow made it.
    extended : ExtendedPsfField
        As it is drawn.
    """

    products = ("extended_psf.fits", "epsf.fits", "stars.ecsv", "exposure.fits")

    match_radius = traitlets.Float(8.0)
    feather_width = traitlets.Float(4.0)

    def make_controls(self):
        late = {"continuous_update": False}  # a new stack of bright stars at each change
        return {
            "match_radius": slider(ipw.FloatSlider, "stitch radius [px]", 8, 1, 20, 0.5, **late),
            "feather_width": slider(ipw.FloatSlider, "seam width [px]", 4, 0.5, 10, 0.5, **late),
        }

    def load(self):
        self.stored = products.read_extended_psf(self.path("extended_psf.fits"))
        self.psf = products.read_psf(self.path("epsf.fits"))
        self.stars = products.read_stars(self.path("stars.ecsv"))
        self.exposure = products.read_exposure(self.path("exposure.fits"))
        reach = (self.stored.core.shape[0] / self.stored.oversample - 1) / 2
        set_range(self.controls["match_radius"], 1.0, reach)
        self.match_radius = self.stored.match_radius
        self.feather_width = self.stored.feather_width

    def draw(self):
        self.extended = self._stitch()
        return figures.extended_psf(self.extended)

    def _stitch(self):
        wanted = (self.match_radius, self.feather_width)
        if wanted == (self.stored.match_radius, self.stored.feather_width):
            return self.stored
        settings = ExtendedSettings(match_radius=wanted[0], feather_width=wanted[1])
        return extended_psf(self.exposure, self.stars, self.psf, settings)
