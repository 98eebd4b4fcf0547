"""An image without its bright stars."""

import dataclasses

import numpy as np
from astropy.table import QTable

from psflib.image.exposure import Exposure


@dataclasses.dataclass(frozen=True, eq=False)
class Starless:
    """An image without its bright stars.

    Parameters
    ----------
    exposure : Exposure
        Saturated cores hold 0, the model less the model, and stay masked (SAT and INTERP); the
        variance has grown by the error of what was removed.
    removed : QTable
        id, x, y (px), flux, flux_err (ADU), sky (ADU, local, not subtracted), radius (px, to which
        the halo was followed), chi2 (per degree of freedom, robust), ok, reason.
    light : ndarray (ny, nx) float32
        What was removed, ADU.
    """

    exposure: Exposure
    removed: QTable
    light: np.ndarray
