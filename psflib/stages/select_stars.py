"""The stage `select_stars`."""

import logging

from psflib.files.catalogs import read_catalog
from psflib.products.images import read_exposure
from psflib.products.tables import write_stars
from psflib.stars import select as selection

log = logging.getLogger(__name__)


def select_stars(exposure, stars, settings, catalog=None) -> None:
    """Every detection, and why it is or is not a PSF star; a catalogue of the sky may help."""
    known = read_catalog(catalog) if catalog else None
    table = selection.select_stars(read_exposure(exposure), settings, known)
    log.info("%d stars selected of %d detections", table["selected"].sum(), len(table))
    write_stars(stars, table, settings)
