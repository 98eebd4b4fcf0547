"""Point-spread functions, image differences and their noise, from images to candidates.

Names are imported when they are first used, so that `import psflib` costs nothing.
"""

# ruff: noqa: F401 (the imports for type checkers repeat `_HOMES`; a test compares the two)

from typing import TYPE_CHECKING

from psflib.lazy import lazy_names
from psflib.version import __version__

#: Public name -> module that holds it.
_HOMES = {
    "Difference": "psflib.image.difference",
    "Exposure": "psflib.image.exposure",
    "MaskBit": "psflib.image.exposure",
    "METHODS": "psflib.subtraction",
    "PsflibError": "psflib.errors",
    "align": "psflib.image.warp",
    "build_psf": "psflib.psf.build",
    "build_stamps": "psflib.stamps.build",
    "core_epsf": "psflib.psf.core.stage",
    "decorrelate": "psflib.decorrelation.decorrelate",
    "detect": "psflib.detection.detect",
    "extended_psf": "psflib.psf.wings.stage",
    "inject": "psflib.injection",
    "interpolate_saturated": "psflib.haloes",
    "load_settings": "psflib.config",
    "prepare": "psflib.preparation.prepare",
    "read": "psflib.files",
    "read_fields": "psflib.files",
    "register": "psflib.registration",
    "select_stars": "psflib.stars.select",
    "simulate_field": "psflib.simulation.simulate",
    "simulate_pair": "psflib.simulation.simulate",
    "subtract": "psflib.subtraction",
    "subtract_stars": "psflib.haloes",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:  # what editors and type checkers see
    from psflib.config import load_settings
    from psflib.decorrelation.decorrelate import decorrelate
    from psflib.detection.detect import detect
    from psflib.errors import PsflibError
    from psflib.files import read, read_fields
    from psflib.haloes import interpolate_saturated, subtract_stars
    from psflib.image.difference import Difference
    from psflib.image.exposure import Exposure, MaskBit
    from psflib.image.warp import align
    from psflib.injection import inject
    from psflib.preparation.prepare import prepare
    from psflib.psf.build import build_psf
    from psflib.psf.core.stage import core_epsf
    from psflib.psf.wings.stage import extended_psf
    from psflib.registration import register
    from psflib.simulation.simulate import simulate_field, simulate_pair
    from psflib.stamps.build import build_stamps
    from psflib.stars.select import select_stars
    from psflib.subtraction import METHODS, subtract

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
