"""`EpsfPanel`: the PSF anywhere in the field, cuts through it, and its residuals."""

import ipywidgets as ipw
import traitlets

from psflib import figures, products
from psflib.widgets.panel import Panel, set_range, slider


class EpsfPanel(Panel):
    """The core ePSF at a place of the field.

    Attributes
    ----------
    x, y : float
        Position in px.
    angle : float
        Of the cut through the PSF, degrees from +x towards +y.
    psf : PsfField
    """

    products = ("epsf.fits", "stamps.fits")

    x = traitlets.Float(0.0)
    y = traitlets.Float(0.0)
    angle = traitlets.Float(0.0)

    def make_controls(self):
        return {
            "x": slider(ipw.FloatSlider, "x [px]", 0.0, 0.0, 0.0, 1.0),
            "y": slider(ipw.FloatSlider, "y [px]", 0.0, 0.0, 0.0, 1.0),
            "angle": slider(ipw.FloatSlider, "angle of the cut [°]", 0.0, 0.0, 180.0, 5.0),
        }

    def load(self):
        self.psf = products.read_psf(self.path("epsf.fits"))
        self.stamps = products.read_stamps(self.path("stamps.fits"))
        centre_sliders(self, self.psf.shape)

    def draw(self):
        return figures.epsf(self.psf, self.stamps, self.x, self.y, self.angle)


def centre_sliders(panel, shape):
    """Let the x and y sliders of `panel` span an image, and start from its middle."""
    for name, size in zip(("y", "x"), shape, strict=True):
        set_range(panel.controls[name], 0.0, size - 1.0)
        setattr(panel, name, (size - 1) // 2 * 1.0)
