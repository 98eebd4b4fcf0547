"""Bright stars and their haloes, removed from an image."""

from psflib.haloes.fit import HaloFit, fit_haloes
from psflib.haloes.pair import StarsAndPsf, stars_and_psf, without_haloes
from psflib.haloes.removal import interpolate_saturated, subtract_stars
from psflib.haloes.starless import Starless
from psflib.settings.subtract_stars import HaloSettings, SubtractStarsSettings

__all__ = [
    "HaloFit",
    "HaloSettings",
    "Starless",
    "StarsAndPsf",
    "SubtractStarsSettings",
    "fit_haloes",
    "interpolate_saturated",
    "stars_and_psf",
    "subtract_stars",
    "without_haloes",
]
