"""Gaussian averages of whole planes."""

import numpy as np

from psflib.loops import footprints as loops


def smoothed(plane: np.ndarray, sigma: float, reach: float = 4.0) -> np.ndarray:
    """The plane (ny, nx) convolved with a Gaussian, float32, mirrored at its borders.

    Parameters
    ----------
    plane : ndarray (ny, nx)
    sigma : float
        px.
    reach : float
        Of the Gaussian, in `sigma`.
    """
    half = int(np.ceil(reach * sigma))
    taps = np.exp(-0.5 * np.square(np.arange(half + 1) / sigma))
    taps = (taps / (2 * taps.sum() - 1)).astype(np.float32)
    wide = np.pad(plane.astype(np.float32, copy=False), half, mode="symmetric")
    out = np.empty_like(wide)
    loops.smooth(wide, taps, out)
    return out[half:-half, half:-half]
