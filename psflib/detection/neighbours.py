"""What stands near a candidate in the template: the nearest star, the nearest galaxy."""

import dataclasses

import numpy as np
from scipy import spatial

from psflib.detection.peaks import vertex
from psflib.image.exposure import Exposure
from psflib.image.noise import clipped
from psflib.image.smooth import smoothed
from psflib.image.where import true_pixels
from psflib.loops import footprints

SEEN = 5.0  # S/N of a source under a Gaussian of the seeing
TELLING = 15.0  # S/N from which its width can be told
WIDE = 1.8  # of the seeing: the second Gaussian, under which a galaxy has more of its light
WIDER = 0.08  # relative excess there, from which a source is extended ...
SIGNIFICANT = 4.0  # ... if it is that many times its noise
FEWEST = 20  # sources that tell how much a star has
SAMPLE = 100_000  # pixels that tell the sky's level and scatter


@dataclasses.dataclass(frozen=True, eq=False)
class TemplateSources:
    """Lone maxima of a template: positions (n,) in px, S/N, and whether they are extended."""

    y: np.ndarray
    x: np.ndarray
    snr: np.ndarray
    extended: np.ndarray


def template_sources(template: Exposure, fwhm: float) -> TemplateSources:
    """Sources of an image without sky, in one pass of two Gaussians.

    A galaxy has more light under the wider Gaussian than stars have: these are the narrowest of
    what is bright, so that the 20 % quantile of the ratio is theirs.

    Parameters
    ----------
    template : Exposure
        Prepared.
    fwhm : float
        Of its stars, px.
    """
    sigma = max(fwhm, 1.0) / 2.355
    usable = template.usable & (template.variance > 0)
    image = np.where(usable, template.image, np.float32(0))
    narrow, wide = smoothed(image, sigma), smoothed(image, WIDE * sigma)
    step = max(1, image.size // SAMPLE)
    sky = narrow.ravel()[::step][usable.ravel()[::step]]
    if not sky.size:
        nothing = np.zeros(0)
        return TemplateSources(nothing, nothing, nothing, np.zeros(0, bool))
    level, spread = clipped(sky)
    typical = float(np.median(template.variance.ravel()[::step][usable.ravel()[::step]]))
    # what the noise of a resampled image has more than white noise, and crowds more than noise
    factor = max(1.0, spread / (np.sqrt(typical) / (2 * np.sqrt(np.pi) * sigma)))
    top = np.zeros(image.shape, bool)
    least = np.float32(level + SEEN * spread)
    footprints.mark_peaks(narrow, least, usable, max(1, round(0.5 * fwhm)), top)
    y, x = true_pixels(top)
    noise = factor * np.sqrt(template.variance[y, x]) / (2 * np.sqrt(np.pi) * sigma)
    peak = narrow[y, x] - level
    keep = peak > SEEN * noise
    y, x, peak, noise = y[keep], x[keep], peak[keep], noise[keep]
    snr = peak / noise
    extended = _extended((wide[y, x] - level) / peak, snr)
    top_y, top_x = (at + vertex(narrow, y, x, axis) for axis, at in enumerate((y, x)))
    return TemplateSources(top_y, top_x, snr, extended)


def _extended(ratio, snr):
    """Sources with more of their light under the wider Gaussian than stars have."""
    bright = snr > TELLING
    if bright.sum() < FEWEST:
        return np.zeros(len(snr), bool)
    star = np.quantile(ratio[bright], 0.2)
    error = np.hypot(1, 1 / WIDE) / np.maximum(snr, 1)  # of ratio / star, for white noise
    excess = ratio / star - 1
    return bright & (excess > WIDER) & (excess > SIGNIFICANT * error)


def nearest(x, y, sources_x, sources_y) -> np.ndarray:
    """Distance (n,) in px from each place to the nearest source; NaN where there is none."""
    if not len(sources_x) or not len(x):
        return np.full(len(x), np.nan)
    distance, _ = spatial.cKDTree(np.c_[sources_x, sources_y]).query(np.c_[x, y])
    return distance
