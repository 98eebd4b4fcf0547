"""Bright stars and their haloes, removed from an image."""

from psflib.haloes.fit import HaloFit, fit_haloes
from psflib.haloes.removal import interpolate_saturated, subtract_stars
from psflib.haloes.settings import Starless, SubtractStarsSettings

__all__ = [
    "HaloFit",
    "Starless",
    "SubtractStarsSettings",
    "fit_haloes",
    "interpolate_saturated",
    "subtract_stars",
]
