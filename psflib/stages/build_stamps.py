"""The stage `build_stamps`."""

import logging

from psflib.products.images import read_exposure
from psflib.products.models import write_stamps
from psflib.products.tables import read_stars
from psflib.stamps import build as cutouts

log = logging.getLogger(__name__)


def build_stamps(exposure, stars, stamps, settings) -> None:
    """Cut-outs of the selected stars."""
    image, table = read_exposure(exposure), read_stars(stars)
    made = cutouts.build_stamps(image, table, settings)
    log.info("%d stamps of %d px", len(made.data), made.data.shape[-1])
    write_stamps(stamps, made, settings)
