"""`EpsfPanel`: the PSF anywhere in the field, how it fits all its stars, and how it fits one."""

import ipywidgets as ipw
import traitlets

from psflib import figures, products
from psflib.psf.facts import star_states
from psflib.widgets.panel import WIDE, Panel, set_range, slider

NO_STAR = -1
_PSF = ("(none: the PSF)", NO_STAR)


class EpsfPanel(Panel):
    """The core ePSF at a place of the field, or one of its stars.

    Attributes
    ----------
    x, y : float
        Position in px.
    angle : float
        Of the cut through the PSF, degrees from +x towards +y.
    star : int
        id of the star that is shown with its model; -1 shows the PSF.
    psf : PsfField
    """

    products = ("epsf.fits", "stamps.fits")

    x = traitlets.Float(0.0)
    y = traitlets.Float(0.0)
    angle = traitlets.Float(0.0)
    star = traitlets.Int(NO_STAR)

    def make_controls(self):
        return {
            "x": slider(ipw.FloatSlider, "x [px]", 0.0, 0.0, 0.0, 1.0),
            "y": slider(ipw.FloatSlider, "y [px]", 0.0, 0.0, 0.0, 1.0),
            "angle": slider(ipw.FloatSlider, "angle of the cut [°]", 0.0, 0.0, 180.0, 5.0),
            "star": ipw.Dropdown(options=[_PSF], description="one star", style=WIDE),
        }

    def load(self):
        self.psf = products.read_psf(self.path("epsf.fits"))
        self.stamps = products.read_stamps(self.path("stamps.fits"))
        centre_sliders(self, self.psf.shape)
        states = zip(self.stamps.table["id"], star_states(self.psf.stars), strict=True)
        self.controls["star"].options = [_PSF, *((f"{n}: {text}", int(n)) for n, text in states)]
        self.star = NO_STAR

    def draw(self):
        if self.star != NO_STAR:
            return figures.epsf_star(self.psf, self.stamps, self.star)
        return figures.epsf(self.psf, self.stamps, self.x, self.y, self.angle)


def centre_sliders(panel, shape):
    """Let the x and y sliders of `panel` span an image, and start from its middle."""
    for name, size in zip(("y", "x"), shape, strict=True):
        set_range(panel.controls[name], 0.0, size - 1.0)
        setattr(panel, name, (size - 1) // 2 * 1.0)
