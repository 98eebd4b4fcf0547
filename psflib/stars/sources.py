"""Detection of sources on a sky-free image, and what is measured of each."""

import logging
import math

import numpy as np
import sep
from astropy.table import Table

from psflib.image.exposure import UNUSABLE, MaskBit
from psflib.image.weights import weight_variance
from psflib.loops.moments import (
    LEAST_WEIGHT,
    MOST_HIDDEN,
    adaptive_moments,
    fill_holes,
    fourth_moments,
)
from psflib.stars.isophotes import FWHM_OF_SIGMA, isophotes
from psflib.stars.saturation import without_light_around
from psflib.stars.widths import estimate_fwhm, smallest_crowd

log = logging.getLogger(__name__)

# The adaptive Gaussian follows the wings: it is 21 % wider than a Moffat of beta 2 at half maximum,
# 13 % for beta 3, 1 % for a Gaussian.  The fourth moment tells by how much.  With t = <q²> - 2, and
# u the width of the weight over the source's (1 unless undersampled), it is
# 1 + 0.67 t / u^0.5 + 0.73 t² / u^4: fitted to Moffats of beta 2 to infinity with and without 3 %
# of wing; within 0.5 % at u = 1, within 3 % at u = 1.8 (FWHM 1.3 px).
WINGS = (0.67, 0.73)
UNDERSAMPLED = 2.0  # px, FWHM; below, moments of single stars depend on where the pixels fall
NARROWEST = 0.355  # px, standard deviation of the minor axis; below is a cosmic ray or hot pixel
APERTURE = 1.5  # FWHM, radius of the aperture of fluxes


def detect_sources(image, variance, mask, fwhm=None, threshold=5.0, min_area=3) -> Table:
    """Find sources by a matched filter with a Gaussian and measure each.

    Parameters
    ----------
    image : ndarray (ny, nx) float32
        Free of sky, ADU.
    variance : ndarray (ny, nx) float32
        ADU²; 0 where there are no data.
    mask : ndarray (ny, nx) uint16
        `MaskBit` values.  Unusable pixels are ignored, except that saturated ones count as light,
        so that saturated stars are found too.
    fwhm : float, optional
        Of the filter, px; None measures it (`widths.estimate_fwhm`).
    threshold : float
        Of the filtered image, in standard deviations.
    min_area : int
        Pixels above the threshold.

    Returns
    -------
    Table
        x, y (px, centroid of the adaptive Gaussian), flux, flux_err (ADU, aperture of radius
        1.5 FWHM), snr, fwhm (px; full width at half maximum of the pixel-integrated profile,
        geometric mean of both axes; from the adaptive Gaussian, corrected by one factor for the
        wings of this image's stars), ellipticity (a-b)/(a+b) of the adaptive Gaussian,
        e1, e2 (ellipticity times cos and sin of twice the angle of the major axis from +x),
        peak (ADU), hidden (part of its light that falls on unusable pixels within the aperture,
        where fluxes hold what its Gaussian says), merged (bool: deblended from a neighbour),
        converged (bool: the adaptive Gaussian was found; else x, y, fwhm and ellipticity come from
        the isophote).
        meta['fwhm'] is that of the filter.
    """
    if fwhm is None:
        fwhm = estimate_fwhm(image, variance, mask)
    image, error, bad = _planes(image, variance, mask)
    found = isophotes(image, error, bad, fwhm, threshold, min_area)
    table = _measure(image, error, bad, found, fwhm)
    table.meta["fwhm"] = float(fwhm)
    return table


def typical_fwhm(table) -> float | None:
    """Size (px) of the stars among the sources of `detect_sources`, or None without any."""
    good = table["converged"] & (table["snr"] > 20) & (table["minor"] > NARROWEST)
    return _typical(np.asarray(table["fwhm"][good]))[0] if good.any() else None


def _typical(width):
    """Size of the stars among these widths (px), and which of them are like it (bool)."""
    crowd = smallest_crowd(np.log(width))
    if np.exp(crowd) >= UNDERSAMPLED:
        return float(np.exp(crowd)), np.abs(np.log(width) - crowd) < np.log(1.15)
    # the mean over sub-pixel phases is right, no single star is
    near = np.abs(np.log(width) - crowd) < np.log(1.35)
    return float(np.sqrt(np.mean(width[near] ** 2))), near


def _planes(image, variance, mask):
    """Native arrays for sep: image, standard deviation, boolean mask (saturation left in)."""
    bad = (mask & np.uint16(UNUSABLE & ~MaskBit.SAT)) != 0
    known = (variance > 0) & np.isfinite(variance)
    # A saturated pixel may have been given no variance; it only has to be seen.
    typical = math.sqrt(float(np.median(variance[known]))) if known.any() else 1.0
    bad |= ~np.isfinite(image)
    bad |= without_light_around(image, ((mask & np.uint16(MaskBit.SAT)) != 0) & ~bad)
    image = np.where(bad, 0, image)
    error = np.full(image.shape, typical, np.float32)
    np.sqrt(weight_variance(image, variance, known & ~bad), where=known, out=error)
    return (
        np.ascontiguousarray(image, np.float32),
        np.ascontiguousarray(error, np.float32),
        np.ascontiguousarray(bad),
    )


def _measure(image, error, bad, found, fwhm):
    """Table of measurements of the sources found; see `detect_sources`."""
    shape = np.zeros((len(found["x"]), 6))
    sigma = 1.1 * fwhm / FWHM_OF_SIGMA
    adaptive_moments(
        image, ~bad, found["x"], found["y"], sigma, 8 * sigma, max(1.5, 0.7 * fwhm), shape
    )
    converged = shape[:, 5] > 0
    x = np.where(converged, shape[:, 0], found["x"])
    y = np.where(converged, shape[:, 1], found["y"])
    whole, closed, hidden = _without_holes(image, bad, x, y, shape, fwhm)
    flux, flux_err, _ = sep.sum_circle(
        whole, x, y, APERTURE * fwhm, err=error, mask=closed, subpix=5
    )
    major, minor = _axes(shape[:, 2], shape[:, 3], shape[:, 4])
    major = np.where(converged, major, found["a"])
    minor = np.where(converged, minor, found["b"])
    angle = 0.5 * np.arctan2(2 * shape[:, 3], shape[:, 2] - shape[:, 4])
    angle = np.where(converged, angle, found["theta"])
    ellipticity = (major - minor) / np.maximum(major + minor, 1e-9)
    snr = np.divide(flux, flux_err, out=np.zeros_like(flux), where=flux_err > 0)
    width = FWHM_OF_SIGMA * np.sqrt(major * minor)
    return Table(
        {
            "x": x,
            "y": y,
            "flux": flux,
            "flux_err": flux_err,
            "snr": snr,
            "fwhm": width / _wings(image, bad, shape, width, (snr > 20) & (minor > NARROWEST)),
            "minor": minor,
            "ellipticity": ellipticity,
            "e1": ellipticity * np.cos(2 * angle),
            "e2": ellipticity * np.sin(2 * angle),
            "peak": found["peak"],
            "hidden": hidden,
            "merged": found["merged"],
            "converged": converged,
        }
    )


def _without_holes(image, bad, x, y, shape, fwhm):
    """Image with the sources' own light where their pixels are unusable, the mask that is left,
    and the part of each source's light that is hidden."""
    typical = (fwhm / FWHM_OF_SIGMA) ** 2
    round_ = np.broadcast_to([typical, 0.0, typical], (len(x), 3))
    covariance = np.ascontiguousarray(np.where(shape[:, 5:] > 0, shape[:, 2:5], round_))
    light, hidden = np.zeros_like(image), np.zeros(len(x))
    fill_holes(
        image, ~bad, *(np.ascontiguousarray(v, float) for v in (x, y)), covariance,
        APERTURE * fwhm + 1, MOST_HIDDEN, hidden, light,
    )  # fmt: skip
    filled = light > 0
    return np.where(filled, light, image), bad & ~filled, hidden


def _wings(image, bad, shape, width, good):
    """How much wider the adaptive Gaussian is than half maximum, for the stars of the image."""
    good = good & (shape[:, 5] > 0)
    if not good.any():
        return 1 + WINGS[0] * 0.15
    typical, near = _typical(width[good])
    rows = np.flatnonzero(good)[near]
    covariance = np.ascontiguousarray(shape[rows, 2:5])
    if typical < UNDERSAMPLED:
        covariance[:] = covariance.mean(axis=0)
    sums = np.zeros((len(rows), 2))
    fourth_moments(image, ~bad, *np.ascontiguousarray(shape[rows, :2].T), covariance, sums)
    t = _typical_fourth(sums, typical < UNDERSAMPLED)
    minor2 = np.median(_axes(*covariance.T)[1]) ** 2
    mean2 = (typical / FWHM_OF_SIGMA) ** 2
    more = max(0.0, LEAST_WEIGHT**2 - minor2)  # that the loop adds to both axes
    u = ((1 + more / minor2) * (1 + more * minor2 / mean2**2)) ** 0.25
    return 1 + WINGS[0] * t / np.sqrt(u) + WINGS[1] * t * t / u**4


def _typical_fourth(sums, pooled):
    """t = <q²> - 2 of the stars: their median, or the ratio of means of stars of equal flux."""
    sums = sums[sums[:, 0] > 0]
    if not len(sums):
        return 0.15
    ratio = sums[:, 1] / sums[:, 0]
    t = np.mean(ratio) if pooled else np.median(ratio)
    return float(np.clip(t - 2, 0, 1))


def _axes(cxx, cxy, cyy):
    """Standard deviations along the major and the minor axis of covariances."""
    mean, half = (cxx + cyy) / 2, np.hypot((cxx - cyy) / 2, cxy)
    return np.sqrt(mean + half), np.sqrt(np.maximum(mean - half, 0))
