"""`StarSelectionPanel`: the cuts of the selection, and what they would select."""

import ipywidgets as ipw
import traitlets

from psflib import figures, products
from psflib.stars.select import StarSettings, select_stars
from psflib.widgets.panel import Panel, slider


class StarSelectionPanel(Panel):
    """The star selection with other settings than those of the run.

    The controls have the names and the meaning of the section `select_stars` of config.yaml.

    Attributes
    ----------
    min_snr, max_ellipticity : float
    fwhm_range : tuple
        (min_fwhm, max_fwhm), px.
    exposure : Exposure
    stars : QTable
        As the workflow made it.
    selection : QTable
        As it is drawn.
    """

    products = ("stars.ecsv", "exposure.fits")

    min_snr = traitlets.Float(30.0)
    max_ellipticity = traitlets.Float(0.2)
    fwhm_range = traitlets.Tuple((0.8, 20.0))

    def make_controls(self):
        late = {"continuous_update": False}  # the stars are detected again at each change
        return {
            "min_snr": slider(ipw.FloatSlider, "S/N min", 30.0, 5.0, 500.0, 5.0, **late),
            "max_ellipticity": slider(
                ipw.FloatSlider, "ellipticity max", 0.2, 0.01, 1.0, 0.01, **late
            ),
            "fwhm_range": slider(
                ipw.FloatRangeSlider, "FWHM range [px]", (0.8, 20.0), 0.5, 20.0, 0.1, **late
            ),
        }

    def load(self):
        path = self.path("stars.ecsv")
        self.stars = products.read_stars(path)
        self.exposure = products.read_exposure(self.path("exposure.fits"))
        self.used = StarSettings(**(products.read_provenance(path)["settings"] or {}))
        self.min_snr, self.max_ellipticity = self.used.min_snr, self.used.max_ellipticity
        self.fwhm_range = (self.used.min_fwhm, self.used.max_fwhm)

    def draw(self):
        low, high = self.fwhm_range
        cuts = {"min_fwhm": low, "max_fwhm": high, "min_snr": self.min_snr}
        settings = self.used.model_copy(update={**cuts, "max_ellipticity": self.max_ellipticity})
        self.selection = select_stars(self.exposure, settings)
        self.say(self._comparison())
        return figures.star_selection(self.selection, self.exposure.shape, self.fwhm_range)

    def _comparison(self):
        chosen, before = self.selection["selected"].sum(), self.stars["selected"].sum()
        relaxed = ", ".join(self.selection.meta.get("relaxed", ()))
        return f"{chosen} of {len(self.selection)} detections selected; {before} by the run." + (
            f" With reservations: {relaxed}." if relaxed else ""
        )
