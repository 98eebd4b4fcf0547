"""Detection of sources on a sky-free image, and a first guess of the FWHM of its stars."""

import logging
import math

import numpy as np
import sep
from astropy.table import Table

from psflib.exposure import UNUSABLE, MaskBit
from psflib.loops.moments import adaptive_moments

log = logging.getLogger(__name__)

FWHM_OF_SIGMA = 2 * math.sqrt(2 * math.log(2))
# The adaptive Gaussian follows the wings: it is 13 % wider than a Moffat of beta 3 at half maximum,
# 10 % for beta 4, 16 % for beta 2.5, 2 % for a Gaussian (3.5-sigma cut). Widths are divided by:
WINGS = 1.12
FIRST_FWHM = 3.0  # px, of the matched filter before anything is known
DEFAULT_FWHM = 2.5  # px, when no source can be measured
APERTURE = 1.5  # FWHM, radius of the aperture of fluxes
FEWEST_STARS = 5  # to speak of a typical size
MERGED = 1  # sep's flag of a deblended source


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
        Of the filter, px; None takes a first pass to measure it (`estimate_fwhm`).
    threshold : float
        Of the filtered image, in standard deviations.
    min_area : int
        Pixels above the threshold.

    Returns
    -------
    Table
        x, y (px, centroid of the adaptive Gaussian), flux, flux_err (ADU, aperture of radius
        1.5 FWHM), snr, fwhm (px), ellipticity (a-b)/(a+b), both of the adaptive Gaussian (fwhm is
        right within 5 % for Moffat profiles of beta 2.5 to 5, 9 % low for a Gaussian),
        e1, e2 (ellipticity times cos and sin of twice the angle of the major axis from +x),
        peak (ADU), merged (bool: deblended from a neighbour), converged (bool: the adaptive
        Gaussian was found; else x, y, fwhm and ellipticity come from the isophote).
        meta['fwhm'] is that of the filter.
    """
    if fwhm is None:
        fwhm = estimate_fwhm(image, variance, mask)
    image, error, bad = _planes(image, variance, mask)
    found = _extract(image, error, bad, fwhm, threshold, min_area)
    table = _measure(image, error, bad, found, fwhm)
    table.meta["fwhm"] = float(fwhm)
    return table


def estimate_fwhm(image, variance, mask) -> float:
    """Typical FWHM (px) of the stars on a sky-free image: a first guess.

    The lower edge of the sizes of well-exposed sources is where the stars are: their FWHM is the
    densest of all windows 15 % wide.  2.5 px, with a warning, if nothing can be measured.
    Parameters as in `detect_sources`.
    """
    image, error, bad = _planes(image, variance, mask)
    fwhm = FIRST_FWHM
    for _ in range(2):
        found = _extract(image, error, bad, fwhm, 8.0, 5)
        table = _measure(image, error, bad, found, fwhm)
        unsaturated = ~_touches(mask & np.uint16(UNUSABLE) > 0, table["x"], table["y"], fwhm)
        good = table["converged"] & unsaturated & (table["snr"] > 20)
        if not good.any():
            log.warning("no source to measure the FWHM on; %.1f px assumed", DEFAULT_FWHM)
            return DEFAULT_FWHM
        fwhm = float(np.exp(densest(np.log(table["fwhm"][good]), np.log(1.15))))
    return fwhm


def densest(values, width) -> float:
    """Median of the values in the densest window of the given width (the lowest of equals)."""
    values = np.sort(np.asarray(values, float))
    last = np.searchsorted(values, values + width, side="right")
    start = int(np.argmax(last - np.arange(len(values))))
    return float(np.median(values[start : last[start]]))


def _planes(image, variance, mask):
    """Native arrays for sep: image, standard deviation, boolean mask (saturation left in)."""
    bad = (mask & np.uint16(UNUSABLE & ~MaskBit.SAT)) != 0
    known = (variance > 0) & np.isfinite(variance)
    # A saturated pixel may have been given no variance; it only has to be seen.
    typical = math.sqrt(float(np.median(variance[known]))) if known.any() else 1.0
    error = np.sqrt(variance, where=known, out=np.full(image.shape, typical, np.float32))
    bad |= ~np.isfinite(image)
    image = np.where(bad, 0, image)
    return (
        np.ascontiguousarray(image, np.float32),
        np.ascontiguousarray(error, np.float32),
        np.ascontiguousarray(bad),
    )


def _extract(image, error, bad, fwhm, threshold, min_area):
    """sep's sources; where deblending gives up, again with a higher threshold."""
    sep.set_extract_pixstack(max(1_000_000, image.size // 2))
    sep.set_sub_object_limit(8192)
    # clean=True takes real stars of S/N 25 for the wings of a star 35 px away; not used
    # (tests/test_stars.py, test_faint_star_near_a_bright_one_is_detected).
    for attempt in range(4):
        try:
            return sep.extract(
                image, threshold * 2**attempt, err=error, mask=bad, minarea=min_area,
                filter_kernel=_gaussian(fwhm), filter_type="matched",
                deblend_nthresh=32, deblend_cont=0.005, clean=False,
            )  # fmt: skip
        except Exception as error_of_sep:  # sep raises bare Exception
            problem = error_of_sep
            log.warning("detection at %g sigma: %s", threshold * 2**attempt, problem)
    raise ValueError(f"sources cannot be separated even at {threshold * 8:g} sigma: {problem}")


def _gaussian(fwhm):
    half = max(1, math.ceil(fwhm))
    axis = np.arange(-half, half + 1)
    profile = np.exp(-0.5 * (axis * FWHM_OF_SIGMA / fwhm) ** 2)
    return np.outer(profile, profile).astype(np.float32)


def _measure(image, error, bad, found, fwhm):
    """Table of measurements of sep's sources; see `detect_sources`."""
    shape = np.zeros((len(found), 6))
    sigma = WINGS * fwhm / FWHM_OF_SIGMA
    adaptive_moments(
        image, ~bad, found["x"], found["y"], sigma, 8 * sigma, max(1.5, 0.7 * fwhm), shape
    )
    converged = shape[:, 5] > 0
    x = np.where(converged, shape[:, 0], found["x"])
    y = np.where(converged, shape[:, 1], found["y"])
    flux, flux_err, _ = sep.sum_circle(image, x, y, APERTURE * fwhm, err=error, mask=bad, subpix=5)
    major, minor = _axes(shape[:, 2], shape[:, 3], shape[:, 4])
    major = np.where(converged, major, found["a"])
    minor = np.where(converged, minor, found["b"])
    angle = 0.5 * np.arctan2(2 * shape[:, 3], shape[:, 2] - shape[:, 4])
    angle = np.where(converged, angle, found["theta"])
    ellipticity = (major - minor) / np.maximum(major + minor, 1e-9)
    return Table(
        {
            "x": x,
            "y": y,
            "flux": flux,
            "flux_err": flux_err,
            "snr": np.divide(flux, flux_err, out=np.zeros_like(flux), where=flux_err > 0),
            "fwhm": FWHM_OF_SIGMA / WINGS * np.sqrt(major * minor),
            "ellipticity": ellipticity,
            "e1": ellipticity * np.cos(2 * angle),
            "e2": ellipticity * np.sin(2 * angle),
            "peak": found["peak"].astype(float),
            "merged": (found["flag"] & MERGED) > 0,
            "converged": converged,
        }
    )


def _axes(cxx, cxy, cyy):
    """Standard deviations along the major and the minor axis of covariances."""
    mean, half = (cxx + cyy) / 2, np.hypot((cxx - cyy) / 2, cxy)
    return np.sqrt(mean + half), np.sqrt(np.maximum(mean - half, 0))


def _touches(plane, x, y, radius):
    """True for each position that has a True pixel of `plane` within `radius` px."""
    total, _, _ = sep.sum_circle(plane.astype(np.float32), x, y, radius, subpix=1)
    return total > 0
