"""The stage `prepare`."""

from psflib.files.fields import read_fields
from psflib.preparation import prepare as preparation
from psflib.products.images import write_exposure
from psflib.stages.notes import log_notes


def prepare(fields, field, epoch, exposure, settings) -> None:
    """A row of the table of images becomes an exposure without sky."""
    # a PSF can do without a WCS, and a subtraction may: it is `subtract` that refuses; nor does it
    # matter here whether a field is complete
    row = read_fields(fields, until="psf").row(field, epoch)
    raw = row.read(unreadable_wcs="note")
    ready = preparation.prepare(raw, settings)
    log_notes(ready.meta.get("notes", ()))
    write_exposure(exposure, ready, settings)
