"""A first guess of the FWHM of an image's stars, before anything else is known of it.

The brightest peaks are fitted by Moffat profiles, and where their widths crowd are the stars.
Fits, not moments: pixels may be missing, stars may be smaller than a pixel, and a neighbour that
lies further out than the core does no harm (moments were 12.1 px for 2.1 on undersampled images
full of galaxies, 16 for 12 in crowds, and gave nothing where most of the image is masked).
"""

import logging
import math

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from psflib.image.exposure import UNUSABLE, MaskBit, has_bits
from psflib.image.where import true_pixels
from psflib.loops import profiles as loops

log = logging.getLogger(__name__)

DEFAULT_FWHM = 2.5  # px, when no source can be measured
WINDOWS = 1.04, 1.15  # ratios of the widest to the narrowest of the stars
AROUND = 0.5  # in the logarithm of the width, beside a window, tells what is usual
WIDTH = 1.15  # the ratio, to the typical one, of what passes for a star
UNDERSAMPLED = 2.0  # px, FWHM; below, the widths of single stars scatter more
WIDER = 1.35  # the ratio there
COST_BELOW = 0.2  # of a source below the stars' sizes, against the gain of one among them
NARROWEST = 0.75  # px, FWHM across the narrow side; rays and hot pixels are below (0.4 to 0.7)
THRESHOLD = 10.0  # sigma of a smoothed peak
SMOOTHING = 1.0  # px, standard deviation, before anything is known
MOST = 300  # peaks that are fitted, the brightest, and of one patch at least
LEAST_OF_PATCH = 75
WIDEST = 60  # px, FWHM
SAMPLE = 512, 1024**2  # px, side of patches of larger images, and pixels of all of them
ENOUGH = 40  # stars in patches; with fewer the whole image is looked at
BETAS = 2.0, 2.5, 3.0, 4.0, 6.0, 60.0  # exponents that are tried, the last as good as a Gaussian
NARROW = np.geomspace(0.7, 2.8, 21)  # px, FWHM that are tried below `UNDERSAMPLED`
STEADY = 0.02  # of the amplitude, that profiles differ from a Moffat: bright stars do not rule
FIRST_BETA = 3.0
ROUND = np.array([1.0, 0.0, 1.0])
WORST = 25.0  # of what a fit leaves of a star, relative to what it should
SEVERAL = 40  # stars that tell the profile, the brightest
COVERED = 0.6  # share of the pixels of a star's core that must be usable


def estimate_fwhm(image, variance, mask) -> float:
    """Typical FWHM (px) of the stars on a sky-free image; see `estimate_widths`."""
    return estimate_widths(image, variance, mask)[0]


def estimate_widths(image, variance, mask) -> tuple[float, float]:
    """FWHM (px) of the stars, and that across their narrow side.

    Of the pixel-integrated profile, geometric mean of both axes.  Stars are the smallest of the
    bright sources: their FWHM is that around which most of them crowd and few lie below.  The
    second is smaller where stars are trailed or elongated.

    Parameters
    ----------
    image : ndarray (ny, nx) float32
        Free of sky, any unit.
    variance : ndarray (ny, nx) float32
        In that unit squared; 0 where there are no data.
    mask : ndarray (ny, nx) uint16
        `MaskBit` values.

    Returns
    -------
    fwhm, narrow : float
        2.5 px both, with a warning, if nothing can be measured.
    """
    return measure_widths(image, variance, mask)[:2]


def measure_widths(image, variance, mask) -> tuple[float, float, np.ndarray]:
    """As `estimate_widths`, and the (x, y) (n, 2) px of the stars that told them."""
    for boxes in _samples(image.shape):
        fits = _of_boxes(boxes, image, variance, mask, SMOOTHING)
        wide = _crowd(fits)[0] if len(fits) else 0.0
        if wide > 5 and len(fits) < ENOUGH:  # noise hides the peaks of wide stars
            smoothing = min(wide, WIDEST) / 2.355
            deeper = _of_boxes(boxes, image, variance, mask, smoothing)
            fits = deeper if len(deeper) >= len(fits) else fits
        if len(fits) >= ENOUGH or len(boxes) == 1:
            break
    if not len(fits):
        log.warning("no source to measure the FWHM on; %.1f px assumed", DEFAULT_FWHM)
        return DEFAULT_FWHM, DEFAULT_FWHM, np.empty((0, 2))
    fwhm, near = _crowd(fits)
    e1, e2 = np.median(fits[near, 1]), np.median(fits[near, 2])
    if fwhm < UNDERSAMPLED:  # the ellipticity of a single star is that of the pixels
        e = math.hypot(e1, e2)
    else:
        e = float(np.median(np.hypot(*fits[near, 1:3].T)))
    return fwhm, fwhm * math.sqrt((1 - e) / (1 + e)), fits[near, 3:5]


def smallest_crowd(values, windows=WINDOWS) -> float:
    """Middle of the window with most values beyond what its surroundings foretell, and few below.

    Stars scatter by a few per cent, or more where the PSF varies; sizes of galaxies are spread
    over factors.  n values in a window where b are expected are worth n ln(n/b) - n + b (log
    likelihood of Poisson's law); a value below the window costs `COST_BELOW`.

    Parameters
    ----------
    values : array (n,)
        Logarithms of widths.
    windows : tuple of float
        Ratios of the widest to the narrowest that are tried.
    """
    values = np.sort(np.asarray(values, float))
    below = np.arange(len(values))
    best, middle = -np.inf, values[0]
    for width in np.log(windows):
        last = np.searchsorted(values, values + width, side="right")
        above = np.searchsorted(values, values + width + AROUND, side="right") - last
        lower = below - np.searchsorted(values, values - AROUND)
        count = last - below
        expected = np.maximum(np.maximum(above, lower), 1) * width / AROUND
        worth = np.where(count > expected, count * np.log(count / expected) - count + expected, 0)
        worth = worth - COST_BELOW * below
        start = int(np.argmax(worth))
        if worth[start] > best:
            best, middle = worth[start], np.median(values[start : last[start]])
    return float(middle)


def _samples(shape):
    """Boxes to look at: patches all over a large image first, and the whole image."""
    side, most = SAMPLE
    ny, nx = shape
    if ny * nx > 2 * most and min(shape) > 2 * side:
        a = round(math.sqrt(most / side**2))
        starts = [np.linspace(0, n - side, 2 * a + 1).astype(int)[1::2] for n in shape]
        yield [(slice(y, y + side), slice(x, x + side)) for y in starts[0] for x in starts[1]]
    yield [(slice(None), slice(None))]


def _of_boxes(boxes, image, variance, mask, smoothing):
    most = max(MOST // len(boxes), LEAST_OF_PATCH)
    parts = []
    for box in boxes:
        cut = [np.ascontiguousarray(plane[box]) for plane in (image, variance, mask)]
        part = _fitted(cut[0], cut[1], cut[2], smoothing, most)
        part[:, 3:] += [box[1].start or 0, box[0].start or 0]
        parts.append(part)
    return np.concatenate(parts)


def _fitted(image, variance, mask, smoothing, most):
    """(n, 5): FWHM (px), e1, e2, x and y (px) of the brightest sources that are no rays."""
    usable = ~has_bits(mask, UNUSABLE) & (variance > 0) & np.isfinite(image)
    if not usable.any():
        return np.empty((0, 5))
    smooth, rows, cols = _peaks(image, variance, usable, smoothing)
    first = np.empty(len(rows))
    loops.half_widths(smooth, usable, rows, cols, WIDEST, first)
    first = np.sqrt(np.maximum(np.square(first) - (2.355 * smoothing) ** 2, 0.8**2))
    first = np.nan_to_num(first, nan=2.355 * smoothing)  # blends hide how wide they are
    keep = np.flatnonzero(_alone(rows, cols, first))[:most]
    keep = keep[~_near_saturated(mask, rows[keep], cols[keep], first[keep])]
    values = _profiles(image, usable, rows[keep], cols[keep], first[keep], FIRST_BETA)
    values = values[: most // 3]  # in a crowd the brightest are the least disturbed
    if not len(values):
        return np.empty((0, 5))
    fwhm, stars = _crowd(values)
    noise = float(np.median(variance[usable][::7]))
    if fwhm < UNDERSAMPLED:
        values[stars, 0] *= _common(image, usable, values[stars][:SEVERAL], noise) / fwhm
        return values[:, :5]
    beta = _best_beta(image, usable, values[stars][:SEVERAL], noise)
    if beta != FIRST_BETA:
        values = _profiles(image, usable, values[:, 4], values[:, 3], values[:, 0], beta)
    return values[:, :5]


def _peaks(image, variance, usable, smoothing):
    """Smoothed image in sigma, and its peaks (row, col), the brightest first."""
    z = np.zeros(image.shape, np.float32)
    np.divide(image, np.sqrt(variance), out=z, where=usable)
    smooth = ndimage.gaussian_filter(z, smoothing, truncate=3)
    limit = THRESHOLD / (2 * math.sqrt(math.pi) * smoothing)
    reach = 2 * round(2 * smoothing) + 1
    top = (smooth == ndimage.maximum_filter(smooth, reach)) & (smooth > limit) & usable
    rows, cols = true_pixels(top)
    # the image's own height, in units that a bright star's noise does not shrink
    order = np.argsort(-image[rows, cols], kind="stable")
    return smooth, rows[order], cols[order]


def _alone(rows, cols, width):
    """Peaks (bool) that are not on the slope of a brighter one."""
    alone = np.ones(len(width), bool)
    if len(rows) < 2:
        return alone
    places = np.c_[rows, cols].astype(float)
    tree = cKDTree(places)
    for k in range(min(len(rows), 20 * MOST)):
        if alone[k]:
            near = np.array(tree.query_ball_point(places[k], 1.5 * width[k]))
            alone[near[near > k]] = False
    return alone


def _near_saturated(mask, rows, cols, width):
    """Whether a saturated pixel lies within a FWHM."""
    full = has_bits(mask, MaskBit.SAT)
    if not full.any() or not len(rows):
        return np.zeros(len(rows), bool)
    distance = ndimage.distance_transform_edt(~full)
    return distance[rows, cols] < width + 1


def _profiles(image, usable, rows, cols, width, beta):
    """(n, 6): FWHM, e1, e2, x, y, amplitude of the fits that are of use."""
    x, y = np.asarray(cols, float), np.asarray(rows, float)
    fits = np.empty((len(x), loops.N_PARAMETERS + 1))
    loops.fit_moffats(image, usable, x, y, np.asarray(width, float), ROUND, beta, 7, fits)
    amplitude, cx, cy, _, a, b, c, rest = fits.T
    factor = 2 * np.sqrt(2 ** (1 / beta) - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, half = (a + c) / 2, np.hypot((a - c) / 2, b)
        minor, major = factor / np.sqrt(mean + half), factor / np.sqrt(mean - half)
        fwhm = np.sqrt(minor * major)
        e = (major - minor) / (major + minor)
        angle = 0.5 * np.arctan2(-2 * b, c - a)
        good = (minor > NARROWEST) & (fwhm < WIDEST) & (np.hypot(cx - x, cy - y) < 0.5 * fwhm + 0.5)
        good &= rest < np.square(0.2 * amplitude)
    rows = np.flatnonzero(good)
    rows = rows[_covered(usable, cx[rows], cy[rows], fwhm[rows])]
    return np.stack([fwhm, e * np.cos(2 * angle), e * np.sin(2 * angle), cx, cy, amplitude], 1)[
        rows
    ]


def _covered(usable, x, y, fwhm):
    """Fits (bool) with enough of their core seen."""
    out = np.zeros(len(x), bool)
    for k, (cx, cy, w) in enumerate(zip(x, y, fwhm, strict=True)):
        r = max(1, round(0.6 * w))
        box = usable[
            max(0, round(cy) - r) : round(cy) + r + 1, max(0, round(cx) - r) : round(cx) + r + 1
        ]
        out[k] = box.sum() > COVERED * (2 * r + 1) ** 2
    return out


def _best_beta(image, usable, stars, noise):
    """Exponent that leaves least of the stars."""
    rest = [_rest(image, usable, stars, stars[:, 0], (ROUND, beta, 7), noise) for beta in BETAS]
    return BETAS[int(np.argmin(rest))]


def _common(image, usable, stars, noise):
    """FWHM (px) that all stars together agree on best, of one shape.

    Fits to single stars trade width against exponent and position where there are few pixels.
    """
    form = _form(*np.median(stars[:, 1:3], axis=0))
    widths = np.repeat(NARROW[:, None], len(stars), axis=1)
    rest = np.array(
        [[_rest(image, usable, stars, w, (form, b, 4), noise) for w in widths] for b in BETAS]
    )
    row, column = np.unravel_index(np.argmin(rest), rest.shape)
    k = int(np.clip(column, 1, len(NARROW) - 2))
    low, mid, high = rest[row, k - 1 : k + 2]
    bend = low - 2 * mid + high
    shift = 0.5 * (low - high) / bend if bend > 0 else 0.0
    return float(NARROW[k] * (NARROW[1] / NARROW[0]) ** np.clip(shift, -1, 1))


def _form(e1, e2):
    """Relative (a, b, c) of an ellipse of this ellipticity."""
    e = min(math.hypot(e1, e2), 0.8)
    axes = (1 - e) / (1 + e)
    mean, half = (1 / axes + axes) / 2, (1 / axes - axes) / 2
    cos, sin = (e1 / e, e2 / e) if e > 0 else (1.0, 0.0)
    return np.array([mean - half * cos, -half * sin, mean + half * cos])


def _rest(image, usable, stars, width, model, noise):
    """Mean square of what fits leave, relative to noise and amplitude; no star rules them all."""
    x, y = (np.ascontiguousarray(stars[:, k]) for k in (3, 4))
    fits = np.empty((len(stars), loops.N_PARAMETERS + 1))
    loops.fit_moffats(image, usable, x, y, np.ascontiguousarray(width), *model, fits)
    rest = fits[:, 7] / (noise + np.square(STEADY * stars[:, 5]))
    rest = np.minimum(np.where(np.isfinite(rest), rest, np.inf), WORST)
    return float(np.mean(rest))


def _crowd(fits):
    """FWHM (px) around which the fits crowd, and which of them are there (bool)."""
    width = np.log(fits[:, 0])
    crowd, ratio = smallest_crowd(width), WIDTH
    if np.exp(crowd) < UNDERSAMPLED:
        crowd, ratio = smallest_crowd(width, (*WINDOWS, WIDER)), WIDER
    return float(np.exp(crowd)), np.abs(width - crowd) < np.log(ratio)
