"""`StampPanel`: browse the stamps that the ePSF is made of."""

import ipywidgets as ipw
import traitlets

from psflib import figures, products
from psflib.widgets.panel import WIDE, Panel, set_range, slider


class StampPanel(Panel):
    """One stamp with its weight, or all of them.

    Attributes
    ----------
    index : int
        Row of the stamp, from 0.
    show_weight, show_all : bool
    stamps : Stamps
    """

    products = ("stamps.fits",)

    index = traitlets.Int(0)
    show_weight = traitlets.Bool(True)
    show_all = traitlets.Bool(False)

    def make_controls(self):
        return {
            "index": slider(ipw.IntSlider, "stamp", 0, 0, 0, 1),
            "show_weight": ipw.Checkbox(True, description="show weight", style=WIDE),
            "show_all": ipw.Checkbox(False, description="show all", style=WIDE),
        }

    def load(self):
        self.stamps = products.read_stamps(self.path("stamps.fits"))
        last = max(0, len(self.stamps.data) - 1)
        self.index = min(self.index, last)
        set_range(self.controls["index"], 0, last)

    def draw(self):
        if self.show_all or len(self.stamps.data) == 0:
            return figures.stamp_gallery(self.stamps)
        return figures.one_stamp(self.stamps, self.index, self.show_weight)
