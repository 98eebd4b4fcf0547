"""Light of objects in one epoch, at places that are known: PSF fluxes, found or not."""

import dataclasses

import numpy as np

from psflib.decorrelation.score import reversed_psf
from psflib.detection.alarms import empty_of_candidates, score_noise
from psflib.detection.columns import psf_error
from psflib.detection.detect import scatter_at
from psflib.detection.fits import Splines, fit_planes, psf_fluxes, turned
from psflib.image.difference import Difference


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


def forced_fluxes(difference: Difference, x, y, left=0.0, most_masked: float = 0.5) -> Forced:
    """PSF fluxes on a difference at positions that are not fitted.

    The maximum-likelihood flux of a point source of known place, Σ psf d / v over Σ psf² / v, as
    that of a candidate; its error holds that of the PSF and what the matching leaves.

    Parameters
    ----------
    difference : Difference
        Decorrelated, with its score.
    x, y : ndarray (n,)
        px; may lie outside, or be NaN where a place is not on the grid at all.
    left : ndarray (n,) or float, optional
        Standard error of the flux by the template's light that the matching leaves, in the unit of
        the image.
    most_masked : float, optional
        Share of the PSF's core beyond which nothing is known of the flux.
    """
    x, y, left = (np.broadcast_to(np.asarray(a, float), np.shape(x)) for a in (x, y, left))
    ny, nx = difference.shape
    flux, error, snr = (np.full(len(x), np.nan) for _ in range(3))
    masked = np.ones(len(x))
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero((x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5))
    if len(rows):
        light, power, masked[rows] = _fluxes(difference, x[rows], y[rows])
        good = (masked[rows] <= most_masked) & (power > 0)
        rows, light, power = rows[good], light[good], power[good]
        noise = _scatter(difference, x[rows], y[rows]) / np.sqrt(power)
        relative = psf_error(difference, x[rows], y[rows])
        unit = difference.meta.get("unit", 1.0)
        flux[rows], snr[rows] = unit * light, light / noise
        error[rows] = np.sqrt(
            unit**2 * (noise**2 + (relative * light) ** 2) + np.nan_to_num(left[rows]) ** 2
        )
    return Forced(flux, error, snr, masked)


def _fluxes(difference, x, y):
    """PSF fluxes, Σ psf² / v and masked share of the core at places inside the image."""
    splines = Splines.of(turned(reversed_psf(difference)))
    rows, columns = np.rint(y).astype(int), np.rint(x).astype(int)
    return psf_fluxes(fit_planes(difference), splines, rows, columns, y - rows, x - columns)


def _scatter(difference, x, y):
    """Of the score about places, which the errors of fluxes follow as those of candidates do."""
    if difference.score is None:
        return np.ones(len(x))
    noise = score_noise(difference.score, empty_of_candidates(difference))
    return scatter_at(difference, noise, x, y)
