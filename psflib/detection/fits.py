"""Fits of the PSF to all candidates at once: place, flux, and what the pixels under it say."""

import dataclasses

import numpy as np
from scipy import ndimage

from psflib.image.difference import Difference
from psflib.loops import candidates as loops

REACH = 0.6  # FWHM, from the peak of the score to the best fit of the PSF
STEPS = 8  # of that fit, at most ...
SETTLED = 0.01  # px, the last
CORE = 0.02  # of the peak of the PSF, above which its pixels tell whether it fits
BEYOND = 12  # px that the coefficients of the splines reach further than the PSF, as scipy's do
BATCH = 1000  # candidates at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Fits:
    """What the fits found; arrays (n,), fluxes in ADU, NaN where no pixel of the PSF is usable.

    Parameters
    ----------
    y, x : ndarray of int
        Peak of the score.
    dy, dx : ndarray
        From there to the best fit, px.
    flux, power : ndarray
        PSF flux, and Σ psf² / variance.
    masked : ndarray
        Share of the PSF's light in its core that falls on unusable pixels.
    count : ndarray
        Usable pixels in the core, and ...
    chi2 : ndarray
        ... the sum of their squared residuals over their variances.
    centre_weight, centre_off : ndarray
        Of the central pixel: inverse variance (0 if unusable), and what the fit leaves of it.
    peak : ndarray
        Of the PSF.
    """

    y: np.ndarray
    x: np.ndarray
    dy: np.ndarray
    dx: np.ndarray
    flux: np.ndarray
    power: np.ndarray
    masked: np.ndarray
    count: np.ndarray
    chi2: np.ndarray
    centre_weight: np.ndarray
    centre_off: np.ndarray
    peak: np.ndarray


def fit_candidates(difference: Difference, weights, psf, score, y, x, fwhm) -> Fits:
    """Fit the PSF to the difference around each peak of the score.

    Gauss-Newton steps on the difference itself: beside bright stars the peak of a score is off
    towards smaller errors (0.7 px and 10 % of the flux, where the errors of the PSFs are in it).
    A fit that leaves the peak's surroundings, to a neighbour say, stays at the start.

    Parameters
    ----------
    difference : Difference
    weights : ndarray (ny, nx) float32
        Variance that weighs the pixels, ADU².
    psf : VaryingKernel
        The PSF turned by 180 degrees, between nodes bilinear (`reversed_psf`).
    score : ndarray (ny, nx) float32
    y, x : ndarray (n,) of int
        Peaks.
    fwhm : float
        px.
    """
    usable = difference.usable & (weights > 0)
    planes = difference.image, weights, usable
    size = psf.images.shape[-1]
    images = np.pad(psf.images[:, ::-1, ::-1], ((0, 0), (BEYOND, BEYOND), (BEYOND, BEYOND)), "edge")
    splines = np.array([ndimage.spline_filter(i, order=3, mode="nearest") for i in images])
    start = np.stack([_vertex(score, y, x, axis) for axis in (0, 1)], 1)
    shift, facts = np.empty((len(y), 2)), np.empty((len(y), 9))
    for first in range(0, len(y), BATCH):
        part = slice(first, first + BATCH)
        at = y[part], x[part]
        mixed = np.tensordot(psf.weights.at_points(at[1], at[0]).T, splines, 1)
        shift[part] = _settled(planes, at, mixed, start[part], size, REACH * fwhm)
        loops.fit_facts(*planes, *at, mixed, shift[part], size, CORE, facts[part])
    power, signal, core, seen, count, rest, weight, off, peak = facts.T  # as in `fit_facts`
    with np.errstate(invalid="ignore", divide="ignore"):
        flux, masked = signal / power, 1 - seen / core
    dy, dx = shift.T
    return Fits(y, x, dy, dx, flux, power, masked, count, rest, weight, off, peak)


def _settled(planes, at, splines, start, size, reach):
    """Shift (n, 2) of the best fit of each; its start where the fit does not come to an end."""
    best, shift = start.copy(), start.copy()
    active = np.arange(len(start))
    for _ in range(STEPS):
        if not active.size:
            break
        matrix, vector = np.empty((len(active), 3, 3)), np.empty((len(active), 3))
        places = [axis[active] for axis in at]
        loops.fit_sums(*planes, *places, splines[active], shift[active], size, matrix, vector)
        known = np.flatnonzero(vector[:, 0] != 0)
        known = known[np.linalg.cond(matrix[known]) < 1e8]
        active = active[known]
        flux, *change = np.linalg.solve(matrix[known], vector[known][:, :, None])[:, :, 0].T
        change = np.divide(change, flux, out=np.zeros((2, len(flux))), where=flux != 0)
        step = np.clip(change.T, -0.5, 0.5)
        shift[active] += step
        near = np.hypot(*(shift[active] - start[active]).T) <= reach
        done = near & (np.abs(step).max(axis=1) < SETTLED)
        best[active[done]] = shift[active[done]]
        active = active[near & ~done]
    return best


def _vertex(score, y, x, axis):
    """Offset (n,) of the maximum of a parabola through three pixels of |score|, within 0.5 px."""
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
