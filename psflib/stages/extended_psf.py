"""The stage `extended_psf`."""

from psflib.products.images import read_exposure
from psflib.products.models import read_psf, write_extended_psf
from psflib.products.tables import read_stars
from psflib.psf.wings import stage as psf_wings
from psflib.stages.notes import log_notes


def extended_psf(exposure, stars, epsf, extended_psf, settings) -> None:
    """Core and wings in one PSF."""
    image, table = read_exposure(exposure), read_stars(stars)
    made = psf_wings.extended_psf(image, table, read_psf(epsf), settings)
    log_notes(made.meta.get("notes", ()))
    write_extended_psf(extended_psf, made, settings)
