"""Light of objects in one epoch, at places that are known: PSF fluxes, found or not."""

import dataclasses

import numpy as np
from scipy import ndimage

from psflib.decorrelation.score import reversed_psf
from psflib.detection.fits import BATCH, BEYOND, CORE
from psflib.image.difference import Difference
from psflib.image.weights import weight_variance
from psflib.loops import candidates as loops


@dataclasses.dataclass(frozen=True, eq=False)
class Forced:
    """PSF fluxes at given places; arrays (n,), NaN where too little of the PSF is usable.

    Parameters
    ----------
    flux, flux_err : ndarray
        In the unit of the image.
    snr : ndarray
        Flux over the noise alone.
    masked : ndarray
        Share of the PSF's core that is not usable; 1 outside the image.
    """

    flux: np.ndarray
    flux_err: np.ndarray
    snr: np.ndarray
    masked: np.ndarray


def forced_fluxes(difference: Difference, x, y, most_masked: float = 0.5) -> Forced:
    """PSF fluxes on a difference at positions that are not fitted.

    The maximum-likelihood flux of a point source of known place, Σ psf d / v over Σ psf² / v, as
    that of a candidate; its error holds that of the PSF.

    Parameters
    ----------
    difference : Difference
        Decorrelated.
    x, y : ndarray (n,)
        px; may lie outside, or be NaN where a place is not on the grid at all.
    most_masked : float, optional
        Share of the PSF's core beyond which nothing is known of the flux.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    ny, nx = difference.shape
    flux, error, snr = (np.full(len(x), np.nan) for _ in range(3))
    masked = np.ones(len(x))
    with np.errstate(invalid="ignore"):
        inside = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    rows = np.flatnonzero(inside)
    if not len(rows):
        return Forced(flux, error, snr, masked)
    power, signal, core, seen = _sums(difference, x[rows], y[rows])[:4]
    masked[rows] = 1 - seen / core
    rows, good = rows[masked[rows] <= most_masked], masked[rows] <= most_masked
    power, signal = power[good], signal[good]
    scale = difference.meta.get("score_scale", 1.0)
    noise = (scale if np.isfinite(scale) else 1.0) / np.sqrt(power)
    known = getattr(difference.psf, "flux_error", None)
    relative = 0.0 if known is None else np.nan_to_num(known(x[rows], y[rows]))
    unit = difference.meta.get("unit", 1.0)
    flux[rows], snr[rows] = unit * signal / power, signal / power / noise
    error[rows] = unit * np.hypot(noise, relative * signal / power)
    return Forced(flux, error, snr, masked)


def _sums(difference, x, y):
    """Columns of `loops.fit_facts` (9, n) at places inside the image."""
    psf = reversed_psf(difference)
    usable = difference.usable & (difference.variance > 0)
    weights = weight_variance(difference.image, difference.variance, usable)
    planes = difference.image, weights, usable & (weights > 0)
    beyond = (0, 0), (BEYOND, BEYOND), (BEYOND, BEYOND)
    images = np.pad(psf.images[:, ::-1, ::-1], beyond, "edge")
    splines = np.array([ndimage.spline_filter(i, order=3, mode="nearest") for i in images])
    at = np.rint(y).astype(int), np.rint(x).astype(int)
    shift = np.stack([y - at[0], x - at[1]], 1)
    facts, size = np.empty((len(x), 9)), psf.images.shape[-1]
    for first in range(0, len(x), BATCH):
        part = slice(first, first + BATCH)
        mixed = np.tensordot(psf.weights.at_points(x[part], y[part]).T, splines, 1)
        loops.fit_facts(
            *planes, at[0][part], at[1][part], mixed, shift[part], size, CORE, facts[part]
        )
    return facts.T
