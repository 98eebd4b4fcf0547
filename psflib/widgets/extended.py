"""`ExtendedPsfPanel`: the profile and its stars, stitched anew at once; a halo removed."""

import ipywidgets as ipw
import numpy as np
import traitlets

from psflib import figures, haloes, products
from psflib.psf.wings.restitch import restitch, star_profiles
from psflib.widgets.panel import BUTTONS, Panel, set_range, slider

VIEWS = ("psf", "halo")


class ExtendedPsfPanel(Panel):
    """Profile, encircled energy and picture, stitched anew at a radius of your choice.

    Attributes
    ----------
    view : str
        "psf", or "halo" for a bright star before and after its removal.
    match_radius : float
        Where the wings are matched to the core, px.
    feather_width : float
        Width of the seam, px.
    ee_radius : float
        Aperture that holds unit energy, px.
    star : int
        Which of the stacked stars is marked, or shown in "halo"; the brightest is 0.
    stored : ExtendedPsfField
        As the workflow made it.
    extended : ExtendedPsfField
        As it is drawn, and as haloes are removed with.
    points : QTable
        What each bright star says of the profile.
    """

    products = ("extended_psf.fits", "epsf.fits", "stars.ecsv", "exposure.fits")

    view = traitlets.Enum(VIEWS, "psf")
    match_radius = traitlets.Float(8.0)
    feather_width = traitlets.Float(4.0)
    ee_radius = traitlets.Float(15.0)
    star = traitlets.Int(0)

    def make_controls(self):
        return {
            "view": ipw.ToggleButtons(options=VIEWS, description="view", style=BUTTONS),
            "star": slider(ipw.IntSlider, "star (by flux)", 0, 0, 9, 1),
            "match_radius": slider(ipw.FloatSlider, "stitch radius [px]", 8, 1, 20, 0.1),
            "feather_width": slider(ipw.FloatSlider, "feather [px]", 4, 0.5, 20, 0.1),
            "ee_radius": slider(ipw.FloatSlider, "unit energy [px]", 15, 1, 50, 0.5),
        }

    def load(self):
        self.stored = products.read_extended_psf(self.path("extended_psf.fits"))
        self.psf = products.read_psf(self.path("epsf.fits"))
        self.stars = products.read_stars(self.path("stars.ecsv"))
        self.exposure = products.read_exposure(self.path("exposure.fits"))
        self.points = star_profiles(self.exposure, self.stored)
        core, wing = self.psf.size // 2, len(self.stored.wing) // 2
        for name, high in (("match_radius", core), ("feather_width", core), ("ee_radius", wing)):
            low = 0.5 if name == "feather_width" else 1.0
            set_range(self.controls[name], low, float(high))
            setattr(self, name, float(np.clip(getattr(self.stored, name), low, high)))
        self._first = self._radii()
        self.extended, self._drawn, self._starless = self.stored, self._first, None

    def draw(self):
        if self._drawn != self._radii():
            as_made = self._radii() == self._first
            self.extended = self.stored if as_made else restitch(self.stored, **self._radii())
            self._drawn, self._starless = self._radii(), None
        reason = self.extended.meta.get("fallback")
        self.say(f"{reason}." if reason else "")
        if self.view == "halo":
            return self._draw_halo()
        return figures.extended_psf(self.extended, points=self.points, marked=self._chosen())

    def _chosen(self):
        """Id of the star that the control names, None without stars."""
        stars = self.stored.stars[np.asarray(self.stored.stars["ok"])]
        order = np.argsort(-np.nan_to_num(stars["flux"].value), kind="stable")
        return stars["id"][order[min(self.star, len(order) - 1)]] if len(order) else None

    def _draw_halo(self):
        if self._starless is None:  # made when it is first looked at
            self._starless = haloes.subtract_stars(
                self.exposure, self.stars, self.extended, core=self.psf
            )
        removed = self._starless.removed[self._starless.removed["ok"]]
        if not len(removed):
            return figures.message("No star of this image has a halo to be removed.")
        same = np.flatnonzero(removed["id"] == self._chosen())
        row = removed[same[0] if len(same) else np.argmax(removed["flux"].value)]
        self.say(f"Star {row['id']}: flux {row['flux']:.4g}, followed to {row['radius']:.0f}.")
        return figures.halo(self.exposure, self._starless, row["x"].value, row["y"].value)

    def _radii(self):
        names = ("match_radius", "feather_width", "ee_radius")
        return {name: getattr(self, name) for name in names}
