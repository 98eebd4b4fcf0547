"""`ExtendedPsfPanel`: the profile, and what it becomes when core and wings meet elsewhere."""

import ipywidgets as ipw
import numpy as np
import traitlets

from psflib import figures, products
from psflib.psf.wings import ExtendedSettings, extended_psf
from psflib.widgets.panel import Panel, set_range, slider


class ExtendedPsfPanel(Panel):
    """Profile, encircled energy and picture, stitched anew at a radius of your choice.

    The controls have the names and the meaning of the section `extended_psf` of config.yaml.

    Attributes
    ----------
    match_radius : float
        Where the wings are matched to the core, px; the seam is half as wide.
    ee_radius : float
        Aperture that holds unit energy, px.
    stored : ExtendedPsfField
        As the workflow made it.
    extended : ExtendedPsfField
        As it is drawn.
    """

    products = ("extended_psf.fits", "epsf.fits", "stars.ecsv", "exposure.fits")

    match_radius = traitlets.Float(8.0)
    ee_radius = traitlets.Float(15.0)

    def make_controls(self):
        late = {"continuous_update": False}  # the bright stars are stacked again at each change
        return {
            "match_radius": slider(ipw.FloatSlider, "stitch radius [px]", 8, 1, 20, 0.1, **late),
            "ee_radius": slider(ipw.FloatSlider, "unit energy [px]", 15, 1, 50, 0.5, **late),
        }

    def load(self):
        path = self.path("extended_psf.fits")
        self.stored = products.read_extended_psf(path)
        self.used = ExtendedSettings(**(products.read_provenance(path)["settings"] or {}))
        self.psf = products.read_psf(self.path("epsf.fits"))
        self.stars = products.read_stars(self.path("stars.ecsv"))
        self.exposure = products.read_exposure(self.path("exposure.fits"))
        reach = {"match_radius": self.psf.size // 2, "ee_radius": len(self.stored.wing) // 2}
        for name, high in reach.items():
            set_range(self.controls[name], 1.0, float(high))
            setattr(self, name, float(np.clip(getattr(self.stored, name), 1, high)))
        self.extended, self._drawn = self.stored, self._radii()

    def draw(self):
        if self._drawn != self._radii():
            settings = self.used.model_copy(update=self._radii())
            self.extended = extended_psf(self.exposure, self.stars, self.psf, settings)
            self._drawn = self._radii()
        reason = self.extended.meta.get("fallback")
        self.say(f"The core alone, without wings: {reason}." if reason else "")
        return figures.extended_psf(self.extended)

    def _radii(self):
        return {"match_radius": self.match_radius, "ee_radius": self.ee_radius}
