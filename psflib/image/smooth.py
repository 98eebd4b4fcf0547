"""Gaussian averages of whole planes."""

import numpy as np

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
    out = np.empty_like(wide)
    loops.smooth(wide, taps, out)
    return out[half:-half, half:-half]


def own_share(sigma: float, reach: float = 4.0, within: int = 0) -> float:
    """What a pixel's own value, and those of pixels so near, count in its average of `smoothed`."""
    taps = taps_of(sigma, reach)[: within + 1]
    return float(2 * taps.sum() - taps[0]) ** 2


def taps_of(sigma, reach):
    """Of the Gaussian (px; `reach` in sigma), unit sum of both sides, the central one first."""
    taps = np.exp(-0.5 * np.square(np.arange(int(np.ceil(reach * sigma)) + 1) / sigma))
    return (taps / (2 * taps.sum() - 1)).astype(np.float32)
