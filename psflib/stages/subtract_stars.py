"""The stage `subtract_stars`."""

from psflib import haloes
from psflib.products.images import read_exposure, write_starless
from psflib.products.models import read_extended_psf, read_psf
from psflib.products.tables import read_stars


def subtract_stars(exposure, stars, epsf, extended_psf, starless, settings) -> None:
    """Bright stars with their haloes out of an image."""
    image, table = read_exposure(exposure), read_stars(stars)
    wings, core = read_extended_psf(extended_psf), read_psf(epsf)
    made = haloes.subtract_stars(image, table, wings, settings, core)
    write_starless(starless, made, settings)
