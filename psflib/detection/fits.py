"""Fits of the PSF to all candidates at once: place, flux, and what the pixels under it say."""

import dataclasses
from typing import Any

import numpy as np
from scipy import ndimage

from psflib.detection.peaks import vertex
from psflib.image.convolve import VaryingKernel
from psflib.image.difference import Difference
from psflib.image.weights import weight_variance
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
    dy_err, dx_err : ndarray
        Standard errors of the place, px: of the fit of flux and place together, white noise.
    flux, power : ndarray
        PSF flux, and Σ psf² / variance.
    flux_err : ndarray
        Standard error of the flux, of the same fit.
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
    elongation, extent : ndarray
        Axis ratio (at least 1) and size of the light, under a Gaussian of the PSF's width, in
        units of what the PSF has in the same pixels: 1 and 1 of a point source.  NaN where noise
        leaves no positive moments.
    """

    y: np.ndarray
    x: np.ndarray
    dy: np.ndarray
    dx: np.ndarray
    dy_err: np.ndarray
    dx_err: np.ndarray
    flux: np.ndarray
    power: np.ndarray
    flux_err: np.ndarray
    masked: np.ndarray
    count: np.ndarray
    chi2: np.ndarray
    centre_weight: np.ndarray
    centre_off: np.ndarray
    peak: np.ndarray
    elongation: np.ndarray
    extent: np.ndarray

    def take(self, rows) -> "Fits":
        """Some of the candidates."""
        return Fits(**{f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)})


@dataclasses.dataclass(frozen=True, eq=False)
class Splines:
    """The cubic B-splines of a PSF that varies over the field.

    Parameters
    ----------
    images : ndarray (r, m, m)
        Coefficients of its terms, `BEYOND` px wider than the PSF on each side.
    weights : BilinearWeights
        Of the terms.
    """

    images: np.ndarray
    weights: Any

    @classmethod
    def of(cls, psf: VaryingKernel) -> "Splines":
        """Of a PSF as a kernel that is not turned."""
        return cls(spline_coefficients(psf.images), psf.weights)

    @property
    def size(self) -> int:
        return self.images.shape[-1] - 2 * BEYOND

    def at(self, x, y) -> np.ndarray:
        """Coefficients (n, m, m) at positions (n,)."""
        return np.tensordot(self.weights.at_points(x, y).T, self.images, 1)


def spline_coefficients(images) -> np.ndarray:
    """Cubic B-splines (..., m, m) of images (..., k, k), `BEYOND` px wider on each side."""
    pads = [(0, 0)] * (images.ndim - 2) + [(BEYOND, BEYOND)] * 2
    wide = np.pad(images, pads, "edge")
    flat = wide.reshape(-1, *wide.shape[-2:])
    made = [ndimage.spline_filter(image, order=3, mode="nearest") for image in flat]
    return np.array(made).reshape(wide.shape)


def turned(psf: VaryingKernel) -> VaryingKernel:
    """A kernel turned by 180 degrees."""
    return dataclasses.replace(psf, images=psf.images[:, ::-1, ::-1])


def fit_planes(difference: Difference):
    """What `fit_candidates` sees of a difference: image, variance that weighs it, and usable."""
    usable = difference.usable & (difference.variance > 0)
    weights = weight_variance(difference.image, difference.variance, usable)
    return difference.image, weights, usable & (weights > 0)


def fit_candidates(planes, splines: Splines, score, y, x, fwhm) -> Fits:
    """Fit the PSF to the difference around each peak of the score.

    Gauss-Newton steps on the difference itself: beside bright stars the peak of a score is off
    towards smaller errors (0.7 px and 10 % of the flux, where the errors of the PSFs are in it).
    A fit that leaves the peak's surroundings, to a neighbour say, stays at the start.

    Parameters
    ----------
    planes : tuple of ndarray (ny, nx)
        Difference (ADU), variance that weighs its pixels (ADU²), float32, and usable, bool.
    splines : Splines
        Of the difference's PSF.
    score : ndarray (ny, nx) float32
    y, x : ndarray (n,) of int
        Peaks.
    fwhm : float
        px.
    """
    start = np.stack([vertex(score, y, x, axis) for axis in (0, 1)], 1)
    shift, facts = np.empty((len(y), 2)), np.empty((len(y), loops.FACTS))
    matrix = np.empty((len(y), 3, 3))
    for first in range(0, len(y), BATCH):
        part = slice(first, first + BATCH)
        at = y[part], x[part]
        mixed = splines.at(at[1], at[0])
        shift[part] = _settled(planes, at, mixed, start[part], splines.size, REACH * fwhm)
        last = *planes, *at, mixed, shift[part], splines.size
        loops.fit_facts(*last, CORE, fwhm / 2.355, facts[part])
        loops.fit_sums(*last, matrix[part], np.empty((len(at[0]), 3)))
    power, signal, core, seen, count, rest, weight, off, peak = facts[:, : loops.MOMENTS].T
    with np.errstate(invalid="ignore", divide="ignore"):
        flux, masked = signal / power, 1 - seen / core
    flux_err, dy_err, dx_err = _errors(matrix, flux)
    moments = facts[:, loops.MOMENTS :].reshape(-1, 2, 4)
    dy, dx = shift.T
    return Fits(
        y, x, dy, dx, dy_err, dx_err, flux, power, flux_err, masked, count, rest, weight, off, peak,
        *_shapes(moments),
    )  # fmt: skip


def psf_fluxes(planes, splines: Splines, y, x, dy, dx):
    """PSF fluxes (n,) at given places, ADU, Σ psf² / variance, and the masked share of the core.

    Arguments as of `Fits`.
    """
    facts = np.empty((len(y), loops.FACTS))
    shift = np.stack([dy, dx], 1).astype(float)
    for first in range(0, len(y), BATCH):
        part = slice(first, first + BATCH)
        mixed = splines.at(x[part], y[part])
        last = y[part], x[part], mixed, shift[part], splines.size
        loops.fit_facts(*planes, *last, CORE, 1.0, facts[part])
    power, signal = facts[:, loops.POWER], facts[:, loops.SIGNAL]
    with np.errstate(invalid="ignore", divide="ignore"):
        return signal / power, power, 1 - facts[:, loops.SEEN] / facts[:, loops.CORE]


def _errors(matrix, flux):
    """Standard errors (n,) of flux, y and x: the inverse of the normal equations (Fisher matrix).

    Where pixels are missing the three depend on each other, and all errors grow.
    """
    known = np.isfinite(matrix).all(axis=(1, 2)) & (matrix[:, 0, 0] > 0)
    known[known] = np.linalg.cond(matrix[known]) < 1e12
    errors = np.full((len(flux), 3), np.nan)
    variances = np.diagonal(np.linalg.inv(matrix[known]), axis1=1, axis2=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        errors[known] = np.sqrt(variances)
        errors[:, 1:] /= np.abs(flux)[:, None]
    return errors.T


def _shapes(moments):
    """Elongation and extent (n,) of light whose moments (n, 2, 4) stand beside those of the PSF."""
    with np.errstate(invalid="ignore", divide="ignore"):
        yy, xx, xy = np.moveaxis(moments[:, :, 1:] / moments[:, :, :1], -1, 0)
        det = yy * xx - xy**2
        # of M = (moments of the PSF)^-1 (moments of the light)
        mean = (xx[:, 1] * yy[:, 0] + yy[:, 1] * xx[:, 0] - 2 * xy[:, 1] * xy[:, 0]) / det[:, 1] / 2
        product = det[:, 0] / det[:, 1]
        apart = np.sqrt(np.maximum(mean**2 - product, 0))
        good = (mean > apart) & (product > 0) & (det[:, 1] > 0)
        ratio, size = np.sqrt((mean + apart) / (mean - apart)), product**0.25
    return np.where(good, ratio, np.nan), np.where(good, size, np.nan)


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
