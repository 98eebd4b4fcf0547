"""Peaks of a score, of both signs."""

import numpy as np
from scipy import spatial

from psflib.image.where import true_pixels
from psflib.loops import footprints

LOST = 0.06  # of a peak's height in the parabolas' tops, times the sum of the second moments


def find_peaks(score, threshold: float, moments, fwhm: float):
    """Local extrema of a score that may be higher than the threshold, strongest first.

    A peak stands between pixels, and the highest pixel is lower by up to exp(-tr L / 8): 5 % at a
    FWHM of 3.5 px, 16 % at 2 px.  Pixels from there on count, if the tops of the parabolas through
    them and their neighbours are near the threshold.

    Parameters
    ----------
    score : ndarray (ny, nx) float32
    threshold : float
        Of the peak itself, sigma.
    moments : ndarray (2, 2)
        L of the score, see `alarms`.
    fwhm : float
        px; none of its sign stands within that of a stronger one.

    Returns
    -------
    y, x : ndarray (n,) of int
    """
    trace = float(np.trace(moments))
    strength = np.abs(score)
    found = np.zeros(score.shape, bool)
    least = np.float32(threshold * np.exp(-trace / 8))
    radius = max(1, round(0.5 * fwhm))
    footprints.mark_peaks(
        strength, np.nextafter(least, np.float32(0)), strength >= least, radius, found
    )
    y, x = true_pixels(found)
    high = tops(strength, y, x) >= threshold * (1 - min(LOST * trace, 0.5))
    y, x = y[high], x[high]
    order = np.argsort(-strength[y, x], kind="stable")
    y, x = y[order], x[order]
    keep = np.ones(len(y), bool)
    if len(y) > 1:
        pairs = spatial.cKDTree(np.c_[x, y]).query_pairs(fwhm, output_type="ndarray")
        alike = score[y[pairs[:, 0]], x[pairs[:, 0]]] * score[y[pairs[:, 1]], x[pairs[:, 1]]] > 0
        keep[pairs.max(axis=1)[alike]] = False
    return y[keep], x[keep]


def tops(strength, y, x):
    """Heights (n,) of the parabolas through each pixel and its neighbours, both axes added up."""
    top = strength[y, x].astype(float)
    middle = top.copy()
    for (j, i), n, at in (((1, 0), strength.shape[0], y), ((0, 1), strength.shape[1], x)):
        inside = (at > 0) & (at < n - 1)
        row, column = y[inside], x[inside]
        low = strength[row - j, column - i].astype(float)
        high = strength[row + j, column + i].astype(float)
        curve = 2 * middle[inside] - low - high
        top[inside] += np.divide(
            (low - high) ** 2, 8 * curve, out=np.zeros(len(row)), where=curve > 0
        )
    return top


def vertex(score, y, x, axis):
    """Offset (n,) along an axis of the top of the parabola through three pixels of |score|, within
    0.5 px."""
    at = (y, x)[axis]
    inside = (at > 0) & (at < score.shape[axis] - 1)
    low, mid, high = (
        np.abs(score[(y + step, x) if axis == 0 else (y, x + step)]).astype(float)
        for step in (np.where(inside, -1, 0), 0, np.where(inside, 1, 0))
    )
    curve = low - 2 * mid + high
    bent = inside & (curve < 0)
    offset = np.divide(0.5 * (low - high), curve, out=np.zeros(len(y)), where=bent)
    return np.clip(offset, -0.5, 0.5)
