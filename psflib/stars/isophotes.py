"""Sources as areas above a threshold of the matched filter, those that touch told apart.

sep finds and deblends them; the filter is ours.  sep's own multiplies a square of taps, and divides
by the variance of each pixel for each of them, which was four fifths of the time of a detection.
What it does with an image that is filtered already is the same but for areas that hold masked
pixels: it takes the noise of these for infinite, and an area with one of them is not deblended.
"""

import logging
import math

import numpy as np
import sep

from psflib.loops import footprints
from psflib.loops.isophotes import area_sums

log = logging.getLogger(__name__)

FWHM_OF_SIGMA = 2 * math.sqrt(2 * math.log(2))
MERGED = 1  # sep's flag of a deblended source
LIFT = 1e-3  # relative, above the threshold, of the faintest pixels of a source
ROUND = 1 / 12  # px², variance of a pixel, for areas as thin as one
THIN = 0.00694  # px⁴, determinant of moments below which they are: ROUND²


def isophotes(image, error, bad, fwhm, threshold, min_area) -> dict[str, np.ndarray]:
    """Sources by a matched filter with a Gaussian; with a higher threshold where that is too much
    to be told apart.

    Parameters
    ----------
    image, error : ndarray (ny, nx) float32
        Free of sky, 0 where `bad`; standard deviation.
    bad : ndarray (ny, nx) bool
    fwhm : float
        Of the Gaussian, px.
    threshold : float
        Sigma of the filtered image.
    min_area : int
        Pixels above it.

    Returns
    -------
    dict of ndarray (n,)
        x, y, a, b (px), theta (radians): moments of the filtered light in the area; peak (of the
        image); merged (bool: deblended from a neighbour).

    Raises
    ------
    ValueError
        If the sources cannot be told apart at any threshold.
    """
    sep.set_extract_pixstack(max(1_000_000, image.size // 2))
    sep.set_sub_object_limit(8192)
    light, noise, significance = _filtered(image, error, bad, fwhm)
    # clean=True takes real stars of S/N 25 for the wings of a star 35 px away; not used
    # (tests/stars/test_select.py, test_faint_star_near_a_bright_one_is_detected).
    for attempt in range(4):
        least = threshold * 2**attempt
        below = significance < least
        try:
            found, areas = sep.extract(
                _lifted(light, noise, least), least, err=noise, mask=below, minarea=min_area,
                filter_kernel=None, deblend_nthresh=32, deblend_cont=0.005, clean=False,
                segmentation_map=True,
            )  # fmt: skip
        except Exception as error_of_sep:  # sep raises bare Exception
            problem = error_of_sep
            log.warning("detection at %g sigma: %s", least, problem)
        else:
            return _measured(image, light, areas, found)
    raise ValueError(f"sources cannot be separated even at {threshold * 8:g} sigma: {problem}")


def _filtered(image, error, bad, fwhm):
    """Smoothed image, error without that of bad pixels, and significance of a Gaussian."""
    half = max(1, math.ceil(fwhm))
    taps = np.exp(-0.5 * np.square(np.arange(half + 1) * FWHM_OF_SIGMA / fwhm)).astype(np.float32)
    weight = np.divide(1, np.square(error), out=np.zeros_like(error), where=~bad)
    product, significance = image * weight, np.empty_like(image)
    footprints.smooth(product, taps, significance)
    power = product
    footprints.smooth(weight, np.square(taps), power)
    seen = power > 0
    np.divide(significance, np.sqrt(power, out=power), out=significance, where=seen)
    significance[~seen] = 0
    light = weight
    footprints.smooth(image, taps / (2 * taps.sum() - taps[0]), light)
    if bad.any():
        error = np.where(bad, np.median(error[~bad][::7]) if not bad.all() else 1, error)
    return light, error.astype(np.float32, copy=False), significance


def _lifted(light, noise, threshold):
    """Smoothed light, of at least the threshold on the noise of a pixel, in unchanged order.

    That is the lowest level at which sep looks for parts of a source; what is fainter than a single
    pixel's noise allows belongs to the source for its significance.
    """
    level = np.float32(threshold) * noise
    lifted = light / level
    np.clip(lifted, 0, 1, out=lifted)
    lifted += 1
    lifted *= LIFT / 2
    lifted += 1
    lifted *= level
    level *= 1 + LIFT
    np.copyto(lifted, light, where=light > level)
    return lifted


def _measured(image, light, areas, found):
    """Peak and moments of the sources' areas (ny, nx), numbered from 1.

    The centre of a part of a source is sep's, of what lies above the level that parts it.
    """
    sums, peak = np.zeros((len(found), 6)), np.full(len(found), -np.inf)
    area_sums(image, light, areas, sums, peak)
    total = np.where(sums[:, :1] > 0, sums[:, :1], 1)
    mean_x, mean_y, xx, xy, yy = (sums[:, 1:] / total).T
    merged = (found["flag"] & MERGED) > 0
    x, y = np.where(merged, found["x"], mean_x), np.where(merged, found["y"], mean_y)
    xx = xx - 2 * x * mean_x + x * x
    xy = xy - x * mean_y - y * mean_x + x * y
    yy = yy - 2 * y * mean_y + y * y
    thin = xx * yy - xy * xy < THIN
    xx, yy = xx + ROUND * thin, yy + ROUND * thin
    mean, half = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    return {
        "x": x, "y": y, "a": np.sqrt(np.maximum(mean + half, 0)),
        "b": np.sqrt(np.maximum(mean - half, 0)),
        "theta": 0.5 * np.arctan2(2 * xy, xx - yy), "peak": peak, "merged": merged,
    }  # fmt: skip
