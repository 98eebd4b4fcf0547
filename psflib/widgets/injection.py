"""`InjectionPanel`: which injected sources are found, and from which brightness on."""

import ipywidgets as ipw
import numpy as np
import traitlets

from psflib import figures, products
from psflib.injection import fit_completeness, words
from psflib.widgets.panel import BUTTONS, Panel, slider

PLACES = ("anywhere", "sky", "galaxy", "star")


class InjectionPanel(Panel):
    """Completeness over signal-to-noise ratio, and the limit of any share.

    Attributes
    ----------
    place : str
        "anywhere", "sky", "galaxy" (on one) or "star" (near a bright one): whose limit is told.
    clean : bool
        Only those that are found without a flag count as found.
    share : int
        Percent of the sources that are found at the limit.
    injection : QTable
    limit : tuple of float
        S/N at which the share is reached, and its error.
    """

    products = ("injection.ecsv", "candidates.ecsv")

    place = traitlets.Enum(PLACES, "anywhere")
    clean = traitlets.Bool(False)
    share = traitlets.Int(50)

    def make_controls(self):
        return {
            "place": ipw.ToggleButtons(options=PLACES, description="place", style=BUTTONS),
            "clean": ipw.Checkbox(description="found without a flag", value=False),
            "share": slider(ipw.IntSlider, "share that is found [%]", 50, 5, 95, 5),
        }

    def load(self):
        self.injection = products.read_injection(self.path("injection.ecsv"))
        self.candidates = products.read_candidates(self.path("candidates.ecsv"))

    def draw(self):
        table = self.injection
        rows = np.asarray(table["drawn"]) == "sky"
        if self.place != "anywhere":
            rows = np.asarray(table["place"]) == self.place
        found = np.asarray(table["clean" if self.clean else "found"])
        curve = fit_completeness(np.asarray(table["true_snr"])[rows], found[rows])
        self.limit = (np.nan, np.nan) if curve is None else curve.limit(self.share / 100)
        self.say(" ".join([self._told(), *words.false_alarms(self.candidates.meta)]))
        known = self.limit[0] if np.isfinite(self.limit[0]) else None
        return figures.completeness(table, clean=self.clean, limit=known)

    def _told(self):
        value, error = self.limit
        if not np.isfinite(value):
            return f"Where {self.share} % are found is not known."
        return f"{self.share} % are found at S/N {value:.2f} ± {error:.2f}."
