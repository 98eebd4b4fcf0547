"""Bright stars and their haloes, removed from an image."""

from psflib.lazy import lazy_names

_HOMES = {
    "HaloFit": "psflib.haloes.fit",
    "HaloSettings": "psflib.settings.subtract_stars",
    "Starless": "psflib.haloes.starless",
    "StarsAndPsf": "psflib.haloes.pair",
    "SubtractStarsSettings": "psflib.settings.subtract_stars",
    "fit_haloes": "psflib.haloes.fit",
    "interpolate_saturated": "psflib.haloes.removal",
    "stars_and_psf": "psflib.haloes.pair",
    "subtract_stars": "psflib.haloes.removal",
    "without_haloes": "psflib.haloes.pair",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
