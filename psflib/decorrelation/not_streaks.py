"""What looks like a streak and is none: chance lines, columns, spikes, edges, banding."""

import numpy as np

from psflib.decorrelation.line_profiles import (
    STEP,
    brightness_along,
    column_medians,
    profiles,
    ridge,
    sums_along,
)

SHORTEST = 150.0  # px; spikes of stars and tracks of cosmic rays are shorter
SURE = 8.0  # sigma, of all of its light
NARROW, WIDE = 0.75, 6.0  # FWHM of the PSF, between which a streak is; wider is a gradient
SEEN, FAINT = 0.75, 0.3  # share of its steps that have this share of its brightness
PROMISING = 0.7  # share of a strip's steps that are lit of a line worth following
ALIGNED = 0.05  # slope of lines along rows and columns
PARALLEL = 0.15  # of its brightness, that lines beside it scatter by
BESIDE = 60.0  # px from its ends, where a saturated star may stand whose spike it is
LONGEST_SPIKE = 300.0  # px, both arms; a streak so short on a saturated star is rare
FADING = 1.5  # times as bright near a saturated star as far from it: the star's spike
BRIGHT = 50.0  # sigma of a pixel of a star that may have spikes
SPIKE = 3.0  # times as bright near such a star
STEADY = 0.35  # of its brightness, by which the sky of both sides may differ


def promising(plane, known, ends, width, sign) -> bool:
    """Whether a line's own strip is lit on most of its steps: most chance lines are not."""
    means, counts = profiles(plane, known, ends, width)
    _, level, error, _ = brightness_along(sign * means, counts, width)
    seen = np.isfinite(level)
    if not seen.any():
        return False
    mean = np.average(level[seen], weights=1 / error[seen] ** 2)
    return bool(np.mean(level[seen] > FAINT * mean) > PROMISING)


def is_aligned(ends) -> bool:
    """Whether a line runs along rows or columns."""
    step = np.abs(ends[1] - ends[0])
    return bool(step.min() <= ALIGNED * step.max())


def is_column(plane, known, ends, fwhm) -> bool:
    """Whether a line along rows or columns has pixels that stand alone, not spread by a PSF."""
    if not is_aligned(ends):
        return False
    step = np.abs(ends[1] - ends[0])
    rows = step[0] > step[1]
    values, good = (plane.T, known.T) if rows else (plane, known)
    along, across = (0, 1) if rows else (1, 0)
    first, last = np.sort(np.rint(ends[:, along]).astype(int))
    reach = int(fwhm) + 2
    low = max(int(ends[:, across].min()) - reach, 0)
    box = np.s_[max(first, 0) : last + 1, low : int(ends[:, across].max()) + reach + 1]
    level = column_medians(np.where(good[box], values[box], np.nan))
    level = np.abs(level - np.median(level))
    if len(level) < 3 or not level.max() > 0:
        return False
    alone = level[1:-1] - 0.5 * (level[:-2] + level[2:])
    neighbour = np.exp(-0.5 * (2.355 / fwhm) ** 2)  # of a PSF's light beside its peak
    noise = 1.5 / np.sqrt(last - first + 1)
    return bool(alone.max() > (1 - 0.5 * neighbour) * level.max() and alone.max() > 4 * noise)


def is_band(plane, known, ends, width, bright) -> bool:
    """Whether the lines beside it are as bright: banding, or what is left of a sky."""
    half = int(np.ceil(12 * width))
    sums, counts = sums_along(plane, known, ends, half)
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    profile = column_medians(means)
    off = np.arange(-half, half + 1)
    shape = ridge(np.arange(-int(width) - 1, int(width) + 2), width)
    smooth = np.convolve(profile - np.median(profile), shape / shape.sum(), "same")
    beside = np.abs(smooth[(np.abs(off) > 2 * width) & (np.abs(off) < half - width)])
    return bool(1.4826 * np.median(beside) > PARALLEL * abs(bright))


def is_streak(level, error, tilt, width, fwhm) -> bool:
    seen = np.isfinite(level)
    if seen.sum() * STEP < SHORTEST or not NARROW * fwhm < width < WIDE * fwhm:
        return False
    level, error, tilt = level[seen], error[seen], tilt[seen]
    mean = np.average(level, weights=1 / error**2)
    if mean / np.sqrt(1 / (1 / error**2).sum()) < SURE:
        return False
    if np.mean(level > FAINT * mean) < SEEN:
        return False
    return bool(abs(np.median(tilt)) < STEADY * mean)


def fades(level, along, first, last, stars, width) -> bool:
    """Whether a saturated star lies on it from which it fades, beyond its ends too: a spike."""
    length = max(np.hypot(*(along[-1] - along[0])), 1e-9)
    direction = (along[-1] - along[0]) / length
    off = stars - along[0]
    across = np.abs(off[:, 1] * direction[0] - off[:, 0] * direction[1])
    star = (off @ direction)[across < width]
    here = (along - along[0]) @ direction
    star = star[(star > here[first] - BESIDE) & (star < here[last - 1] + BESIDE)]
    if not len(star):
        return False
    inside = (star > here[first]) & (star < here[last - 1])
    if inside.any() and here[last - 1] - here[first] < LONGEST_SPIKE:
        return True
    part = np.flatnonzero(np.isfinite(level[first:last])) + first
    far = np.median(level[part])
    star = np.sort(star)
    for one in np.split(star, np.flatnonzero(np.diff(star) > 2 * width) + 1):
        near = np.abs(here[part] - one.mean()) < BESIDE + np.ptp(one)
        if near.any() and np.median(level[part[near]]) > FADING * far:
            return True
    beyond = np.r_[level[max(first - 5, 0) : max(first - 1, 0)], level[last + 1 : last + 5]]
    beyond = beyond[np.isfinite(beyond)]
    return bool(len(beyond) and np.mean(beyond) > 0.1 * far)


def is_of_image(image, variance, known, level, along, width, fwhm) -> bool:
    """Whether one of the two images shows what it is: a column, or the spikes of a bright star.

    A column that was convolved is as wide as a PSF, and spikes of stars that are not saturated
    cross no mask.

    image, variance (ny, nx); known (ny, nx) bool; level (n), along (n, 2): of the lit steps.
    """
    noise = np.sqrt(np.median(variance[::7, ::7][known[::7, ::7]])) if known[::7, ::7].any() else 0
    if not noise > 0:
        return False
    ends = along[[0, -1]]
    if is_aligned(ends) and is_column(image / noise, known, ends, fwhm):
        return True
    step = (ends[1] - ends[0]) / max(np.hypot(*(ends[1] - ends[0])), 1e-9)
    here = np.arange(np.hypot(*(ends[1] - ends[0])))
    across = np.arange(-int(width / 2), int(width / 2) + 1)
    x, y = (
        np.rint(ends[0, k] + here[:, None] * step[k] + across * turn).astype(int)
        for k, turn in ((0, -step[1]), (1, step[0]))
    )
    inside = (x >= 0) & (y >= 0) & (x < image.shape[1]) & (y < image.shape[0])
    bright = (np.where(inside, image[y * inside, x * inside], 0) > BRIGHT * noise).any(1)
    places = here[bright]
    seen = np.flatnonzero(np.isfinite(level))
    third = max(len(seen) // 3, 1)
    own = (along - ends[0]) @ step
    for star in np.split(places, np.flatnonzero(np.diff(places) > 2 * width) + 1):
        if len(star):
            order = seen[np.argsort(np.abs(own[seen] - star.mean()))]
            if np.median(level[order[:third]]) > SPIKE * np.median(level[order[-third:]]):
                return True
    return False
