"""Gaussian averages of whole planes."""

import numpy as np

from psflib.image.threads import bands, for_each
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
    taps = _taps(sigma, reach)
    half = len(taps) - 1
    wide = np.pad(plane.astype(np.float32, copy=False), half, mode="symmetric")
    out = np.empty(plane.shape, np.float32)

    def smooth_rows(rows):
        part = wide[rows.start : rows.stop + 2 * half]
        smooth = np.empty_like(part)
        loops.smooth(part, taps, smooth)
        out[rows] = smooth[half:-half, half:-half]

    for_each(smooth_rows, bands(len(plane)))
    return out


def own_share(sigma: float, reach: float = 4.0) -> float:
    """What a pixel's own value counts in its average of `smoothed`."""
    return float(_taps(sigma, reach)[0]) ** 2


def _taps(sigma, reach):
    """Of unit sum in both directions together, the central one first, float32."""
    taps = np.exp(-0.5 * np.square(np.arange(int(np.ceil(reach * sigma)) + 1) / sigma))
    return (taps / (2 * taps.sum() - 1)).astype(np.float32)
