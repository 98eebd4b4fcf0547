"""Gaussian averages of whole planes."""

import numpy as np

from psflib.image.threads import bands, for_each
from psflib.loops import footprints as loops


def smoothed(
    plane: np.ndarray, sigma: float, reach: float = 4.0, within: int | None = None
) -> np.ndarray:
    """The plane (ny, nx) convolved with a Gaussian, float32, mirrored at its borders.

    Parameters
    ----------
    plane : ndarray (ny, nx)
    sigma : float
        px.
    reach : float
        Of the Gaussian, in `sigma`.
    within : int, optional
        Only what it takes from pixels so near in both directions.
    """
    taps = taps_of(sigma, reach)[: None if within is None else within + 1]
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


def own_share(sigma: float, reach: float = 4.0, within: int = 0) -> float:
    """What a pixel's own value, and those of pixels so near, count in its average of `smoothed`."""
    taps = taps_of(sigma, reach)[: within + 1]
    return float(2 * taps.sum() - taps[0]) ** 2


def taps_of(sigma, reach):
    """Of the Gaussian (px; `reach` in sigma), unit sum of both sides, the central one first."""
    taps = np.exp(-0.5 * np.square(np.arange(int(np.ceil(reach * sigma)) + 1) / sigma))
    return (taps / (2 * taps.sum() - 1)).astype(np.float32)
