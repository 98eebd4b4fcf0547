"""`Panel`: what the panels of all stages share.

A panel keeps *state* (its traits) apart from *view* (its controls and its picture).  Setting
``panel.angle = 30`` from code and moving the slider are the same act: controls are linked to the
traits, one observer reads products when the field or epoch changes, and one `draw` makes the
figure.  So anything done by hand can be replayed by code.
"""

import contextlib
import html
from typing import ClassVar

import ipywidgets as ipw
import traitlets

from psflib import figures
from psflib.errors import PsflibError
from psflib.widgets.folder import EMPTY, find_epochs, output_folder

WIDE = {"description_width": "120px"}
#: Of buttons that stand in one line.
BUTTONS = {**WIDE, "button_width": "95px"}


class Panel(ipw.VBox):
    """A stage of one field and epoch, with controls that redraw its figure.

    A subclass names the `products` it needs, declares a trait a control, and writes
    `make_controls`, `load` and `draw`.

    Parameters
    ----------
    output : path-like, optional
        Output folder of a run; default `$PSFLIB_OUTPUT`, else ``../results``.

    Attributes
    ----------
    field, epoch : str
        What is shown; set them to show another.
    controls : dict of str to Widget
        The control of each trait, by the trait's name.
    picture : ipywidgets.Image
        The figure as PNG.
    note : ipywidgets.HTML
        A sentence about what is shown, or what went wrong.
    """

    products: ClassVar[tuple[str, ...]] = ()

    field = traitlets.Unicode().tag(state=True)
    epoch = traitlets.Unicode().tag(state=True)

    def __init__(self, output=None):
        super().__init__()
        self.folder = output_folder(output)
        self.found = find_epochs(self.folder, self.products)
        self.note = ipw.HTML()
        self.picture = ipw.Image(format="png", layout={"max_width": "100%"})
        self.controls: dict[str, ipw.Widget] = {}
        self._quiet = False
        if not self.found:
            self._complain(f"No {' and '.join(self.products)} in {self.folder}", EMPTY)
            self.children = (self.note,)
            return
        self._build()
        self._arrive("field")

    def make_controls(self) -> dict[str, ipw.Widget]:
        """The controls of this stage, by the name of the trait that each sets."""
        raise NotImplementedError

    def load(self):
        """Read the products of the field and epoch and adapt the ranges of the controls."""
        raise NotImplementedError

    def draw(self):
        """The figure (matplotlib.figure.Figure) for the present state."""
        raise NotImplementedError

    def path(self, name, epoch=None):
        """Path of a product of the present field and epoch."""
        return self.folder / self.field / (epoch or self.epoch) / name

    def say(self, text):
        """Show a sentence below the controls."""
        self.note.value = html.escape(text)

    def _build(self):
        fields = list(self.found)
        self.controls = {
            "field": ipw.Dropdown(options=fields, description="field", style=WIDE),
            "epoch": ipw.Dropdown(options=self.found[fields[0]], description="epoch", style=WIDE),
            **self.make_controls(),
        }
        self.field, self.epoch = fields[0], self.found[fields[0]][0]
        for name, control in self.controls.items():
            traitlets.link((self, name), (control, "value"))
        self.observe(self._changed, names=list(self.controls))
        choice, *rest = _in_rows(list(self.controls.values()))
        self.children = (choice, *rest, self.note, self.picture)

    def _changed(self, change):
        if not self._quiet:
            self._arrive(change["name"])

    def _arrive(self, name):
        """Bring products and picture up to date after trait `name` changed."""
        self.note.value = ""
        try:
            with self._silence():
                if name == "field":
                    self._offer_epochs()
                if name in ("field", "epoch"):
                    self.load()
            self.picture.value = figures.to_png(self.draw())
        except (PsflibError, ValueError, OSError) as error:
            self._complain(str(error))
            self.picture.value = figures.to_png(figures.message("No picture: see above why."))

    def _offer_epochs(self):
        if self.field not in self.found:
            raise ValueError(f"no field {self.field!r} in {self.folder}: {', '.join(self.found)}")
        epochs = self.found[self.field]
        kept = self.epoch if self.epoch in epochs else epochs[0]
        self.controls["epoch"].options = epochs
        self.epoch = kept

    def _complain(self, text, remedy=""):
        text = html.escape(text) + (f": {remedy}" if remedy else "")
        self.note.value = f"<b style='color:#b34700'>{text}</b>"

    @contextlib.contextmanager
    def _silence(self):
        """No redraw while ranges of controls are adapted: one change, one picture."""
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False


def slider(kind, description, value, low, high, step, **options):
    """A slider whose label has room, `kind` being a class of ipywidgets."""
    return kind(
        value=value, min=low, max=high, step=step, description=description, style=WIDE,
        layout={"width": "420px"}, **options,
    )  # fmt: skip


def set_range(control, low, high):
    """Give a slider new ends, in the order that keeps min <= max at each moment."""
    if low > control.max:
        control.max, control.min = high, low
    else:
        control.min, control.max = low, high


def _in_rows(controls, wide=2):
    """Controls two by two in rows."""
    return [ipw.HBox(controls[i : i + wide]) for i in range(0, len(controls), wide)]
