"""Streaks: the light of satellites and aeroplanes on a difference, found and masked.

`lines` tells where a line stands out of the noise; each is then followed over the whole image, to
its ends, and judged by what streaks have and others have not: as wide as the PSF or wider (bad
columns and cosmic rays are narrower), of one brightness (spikes and haloes fade with the distance
from their star, chance lines of residuals have holes), and sky of one level on both sides (edges
of exposures in a stacked template have not).
"""

import dataclasses
import logging

import numpy as np
from scipy import ndimage

from psflib.decorrelation.lines import Line, binned, lines
from psflib.image.difference import Difference
from psflib.image.exposure import MaskBit, has_bits
from psflib.loops import streaks as loops

log = logging.getLogger(__name__)

CLASSES = 1.0, 4.0  # FWHM of the PSF, of widths that are looked for
MOST_FOLLOWED = 60  # lines
STEP = 16  # px along a line
SHORTEST = 100.0  # px; spikes of saturated stars and tracks of cosmic rays are shorter
SURE = 8.0  # sigma, of all of its light
NARROW, WIDE = 0.75, 8.0  # FWHM of the PSF, between which a streak is
SEEN, FAINT = 0.75, 0.3  # share of its steps that have this share of its brightness
PROMISING = 0.7  # share of a strip's steps that are lit of a line worth following
ALIGNED = 0.05  # slope of lines along rows and columns
PARALLEL = 0.15  # of its brightness, that lines beside it scatter by
BESIDE = 60.0  # px from its ends, where a saturated star may stand whose spike it is
LONGEST_SPIKE = 300.0  # px, both arms; a streak so short on a saturated star is rare
FADING = 1.5  # times as bright near a saturated star as far from it: the star's spike
STEADY = 0.35  # of its brightness, by which the sky of both sides may differ
DIM = 0.3  # sigma of a pixel, to which its light is masked
GRID = np.arange(-12, 13)  # half px, by which the ends are moved


@dataclasses.dataclass(frozen=True)
class Streak:
    """What was found.

    Parameters
    ----------
    x1, y1, x2, y2 : float
        Ends, px.
    width : float
        FWHM across, px.
    snr : float
        Of all of its light, positive.
    peak : float
        Brightness on its middle line, in sigma of a pixel.
    brightness : float
        ADU per px of its length; negative where light is missing (a streak of the template).
    """

    x1: float
    y1: float
    x2: float
    y2: float
    width: float
    snr: float
    peak: float
    brightness: float

    @property
    def length(self) -> float:
        return float(np.hypot(self.x2 - self.x1, self.y2 - self.y1))

    def distance(self, x, y):
        """Of points from the segment, px."""
        dx, dy = self.x2 - self.x1, self.y2 - self.y1
        t = np.clip(((x - self.x1) * dx + (y - self.y1) * dy) / (dx**2 + dy**2), 0, 1)
        return np.hypot(x - self.x1 - t * dx, y - self.y1 - t * dy)

    @property
    def reach(self) -> float:
        """Distance from its middle line to which it is masked, px."""
        sigma = self.width / 2.355
        bright = max(abs(self.peak) / DIM, 1.0)
        # the wings of a PSF fall off slower than a Gaussian
        return float(sigma * np.sqrt(2 * np.log(bright)) * (1 + 0.1 * np.log(bright)) + 1)


def with_streaks(difference: Difference) -> Difference:
    """The difference with the light of its streaks masked (`MaskBit.STREAK`).

    `streaks` in `meta` is the list of them as dicts, empty if there are none.
    """
    found = find_streaks(difference)
    meta = {**difference.meta, "streaks": [dataclasses.asdict(s) for s in found]}
    if not found:
        return difference.replace(meta=meta)
    mask = difference.mask.copy()
    for streak in found:
        _draw(mask, streak)
    said = ", ".join(f"({s.x1:.0f}, {s.y1:.0f}) to ({s.x2:.0f}, {s.y2:.0f})" for s in found)
    meta["notes"] = [*meta.get("notes", ()), f"{len(found)} streaks masked: {said}"]
    log.info("%s", meta["notes"][-1])
    return difference.replace(mask=mask, meta=meta)


def find_streaks(difference: Difference) -> list[Streak]:
    """Streaks of both signs, strongest first."""
    known = difference.usable & (difference.variance > 0)
    if not known.any():
        return []
    noise = np.zeros(difference.shape, np.float32)
    np.sqrt(difference.variance, out=noise, where=known)
    plane = np.divide(difference.image, noise, out=np.zeros_like(noise), where=known)
    ny, nx = difference.shape
    fwhm = _fwhm(difference.psf_at((nx - 1) / 2, (ny - 1) / 2, 41))
    stars = _saturated(difference.mask)
    found: list[Streak] = []
    for width in CLASSES:
        no_streaks: list[Line] = []
        size = max(1, round(0.5 * width * fwhm))
        if min(plane.shape) < 16 * size:
            continue
        for line in lines(binned(plane, known, size), size)[:MOST_FOLLOWED]:
            if not any(_same(line, s, size) for s in found) and not _tried(line, no_streaks, size):
                streak = _followed(plane, known, noise, line, width * fwhm, fwhm, stars)
                if streak is None:
                    no_streaks.append(line)
                elif not any(_twice(streak, other) for other in found):
                    found.append(streak)
    return sorted(found, key=lambda streak: -streak.snr)


def _fwhm(psf):
    """Of the line that a PSF makes: across a streak all of its light along it counts."""
    fine = ndimage.zoom(psf.sum(0) + psf.sum(1), 5, order=3)
    return float((fine > 0.5 * fine.max()).sum() * (len(psf) - 1) / (len(fine) - 1))


def _saturated(mask):
    """Places (n, 2: x, y) of pixels in saturated stars."""
    y, x = np.nonzero(has_bits(mask, MaskBit.SAT))
    return np.c_[x, y].astype(float)


def _same(line: Line, streak: Streak, size) -> bool:
    ends = streak.distance(np.array([line.x1, line.x2]), np.array([line.y1, line.y2]))
    return bool((ends < streak.reach + 4 * size).all())


def _tried(line: Line, others, size) -> bool:
    """Whether it is part of the same long line as one of the others."""
    for other in others:
        dx, dy = other.x2 - other.x1, other.y2 - other.y1
        off = [
            abs((x - other.x1) * dy - (y - other.y1) * dx)
            for x, y in ((line.x1, line.y1), (line.x2, line.y2))
        ]
        if max(off) < 1.5 * size * np.hypot(dx, dy):
            return True
    return False


def _twice(streak: Streak, other: Streak) -> bool:
    x, y = (np.linspace(*ends, 9) for ends in ((streak.x1, streak.x2), (streak.y1, streak.y2)))
    return bool(np.mean(other.distance(x, y) < other.reach + streak.width) > 0.5)


def _followed(plane, known, noise, line, width, fwhm, stars):
    """The streak that a line belongs to, or None."""
    sign = np.sign(line.snr)
    ends = np.array([[line.x1, line.y1], [line.x2, line.y2]])
    middle = ends.mean(0)
    whole = _chord(ends, plane.shape)
    if whole is None:
        return None
    ends = _refined(plane, known, ends, width, sign)
    if not _promising(plane, known, ends, width, sign) or _is_column(plane, known, ends, fwhm):
        return None
    for _ in range(12):
        ends = _refined(plane, known, ends, width, sign)
        whole = _chord(ends, plane.shape)
        if whole is None:
            return None
        if np.hypot(*(whole - ends).T).max() < STEP:
            break
        ends = _longer(ends, plane.shape)
    span = max(64.0, 0.5 * np.hypot(line.x2 - line.x1, line.y2 - line.y1))
    ends = whole
    for _ in range(3):  # with the width that it has
        ends = _refined(plane, known, ends, width, sign)
        means, counts = _profiles(plane, known, ends, width)
        means *= sign
        places = (np.arange(len(means)) + 0.5) / len(means)
        along = ends[0] + (ends[1] - ends[0]) * places[:, None]
        start = np.hypot(*(along - middle).T) < span
        seen = np.where(counts > 0, means, np.nan)[start]
        width = _width(_median(seen), fwhm)
        if width is None:
            return None
    shape, level, error, tilt = _steps(means, counts, width)
    good = start & np.isfinite(level)
    if not good.any():
        return None
    bright = float(np.median(level[good]))
    first, last = _interval(level, bright)
    part = slice(first, last)
    if not _is_streak(level[part], error[part], tilt[part], width, fwhm):
        return None
    if _fades(level, along, first, last, stars, width):
        return None
    found = along[[first, last - 1]]
    if _is_column(plane, known, found, fwhm) or _is_band(plane, known, found, width, bright):
        return None
    weight = np.nan_to_num(1 / error[part] ** 2)
    seen = np.nan_to_num(level[part])
    bright = float((seen * weight).sum() / weight.sum())
    near = np.rint(along[part]).astype(int)
    near = near[(near >= 0).all(1) & (near[:, 0] < plane.shape[1]) & (near[:, 1] < plane.shape[0])]
    levels = noise[near[:, 1], near[:, 0]]
    unit = float(np.median(levels[levels > 0])) if (levels > 0).any() else 0.0
    a, b = along[first], along[last - 1]
    half = 0.5 * STEP * (b - a) / max(np.hypot(*(b - a)), 1e-9)
    return Streak(
        *map(float, a - half), *map(float, b + half), float(width),
        float(bright * np.sqrt(weight.sum())), float(sign * bright),
        float(sign * bright * shape.sum() * unit),
    )  # fmt: skip


def _promising(plane, known, ends, width, sign) -> bool:
    """Whether a line's own strip is lit on most of its steps: most chance lines are not."""
    means, counts = _profiles(plane, known, ends, width)
    _, level, error, _ = _steps(sign * means, counts, width)
    seen = np.isfinite(level)
    if not seen.any():
        return False
    mean = np.average(level[seen], weights=1 / error[seen] ** 2)
    return bool(np.mean(level[seen] > FAINT * mean) > PROMISING)


def _is_column(plane, known, ends, fwhm) -> bool:
    """Whether a line along rows or columns has pixels that stand alone, not spread by a PSF."""
    step = np.abs(ends[1] - ends[0])
    if step.min() > ALIGNED * step.max():
        return False
    rows = step[0] > step[1]
    values, good = (plane.T, known.T) if rows else (plane, known)
    along, across = (0, 1) if rows else (1, 0)
    first, last = np.sort(np.rint(ends[:, along]).astype(int))
    reach = int(fwhm) + 2
    low = max(int(ends[:, across].min()) - reach, 0)
    box = np.s_[max(first, 0) : last + 1, low : int(ends[:, across].max()) + reach + 1]
    level = _median(np.where(good[box], values[box], np.nan))
    level = np.abs(level - np.median(level))
    if len(level) < 3 or not level.max() > 0:
        return False
    alone = level[1:-1] - 0.5 * (level[:-2] + level[2:])
    neighbour = np.exp(-0.5 * (2.355 / fwhm) ** 2)  # of a PSF's light beside its peak
    noise = 1.5 / np.sqrt(last - first + 1)
    return bool(alone.max() > (1 - 0.5 * neighbour) * level.max() and alone.max() > 4 * noise)


def _is_band(plane, known, ends, width, bright) -> bool:
    """Whether the lines beside it are as bright: banding, or what is left of a sky."""
    step = ends[1] - ends[0]
    length = np.hypot(*step)
    half = int(np.ceil(12 * width))
    n = max(int(length / STEP), 1)
    sums, counts = np.empty((2, n, 2 * half + 1))
    loops.profile_along(plane, known, *ends[0], *(step / length), length / n, sums, counts)
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    profile = _median(means)
    off = np.arange(-half, half + 1)
    shape = _shape(np.arange(-int(width) - 1, int(width) + 2), width)
    smooth = np.convolve(profile - np.median(profile), shape / shape.sum(), "same")
    beside = np.abs(smooth[(np.abs(off) > 2 * width) & (np.abs(off) < half - width)])
    return bool(1.4826 * np.median(beside) > PARALLEL * abs(bright))


def _is_streak(level, error, tilt, width, fwhm) -> bool:
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


def _fades(level, along, first, last, stars, width) -> bool:
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


def _chord(ends, shape):
    """Ends (2, 2) of the whole line within the image, in the same direction; None if outside."""
    a, b = ends
    step = b - a
    low, high = -np.inf, np.inf
    for axis, n in ((0, shape[1]), (1, shape[0])):
        if step[axis] == 0:
            if not -0.5 <= a[axis] <= n - 0.5:
                return None
            continue
        t = np.sort((np.array([-0.5, n - 0.5]) - a[axis]) / step[axis])
        low, high = max(low, t[0]), min(high, t[1])
    return np.array([a + low * step, a + high * step]) if high > low else None


def _longer(ends, shape):
    """Twice as long, but within the image."""
    whole, step = _chord(ends, shape), ends[1] - ends[0]
    length = step @ step
    t = np.clip([-0.5, 1.5], *np.sort((whole - ends[0]) @ step / length))
    return ends[0] + np.outer(t, step)


def _profiles(plane, known, ends, width):
    """Means (n, 2 half + 1) by steps along and px across, and how many pixels they are of."""
    step = ends[1] - ends[0]
    length = np.hypot(*step)
    half = int(np.ceil(3.5 * width)) + 3
    n = max(int(length / STEP), 1)
    sums, counts = np.empty((2, n, 2 * half + 1))
    direction = step / length
    loops.profile_along(plane, known, *ends[0], *direction, length / n, sums, counts)
    return np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0), counts


def _shape(offset, width):
    return np.exp(-0.5 * np.square(offset * 2.355 / width))


def _sides(means, counts, width):
    """Level of the sky to the left and right of each step (n, 2)."""
    off = np.arange(means.shape[1]) - means.shape[1] // 2
    beside = np.abs(off) > 1.75 * width
    clipped = np.clip(means, -2, 2)
    sides = []
    for side in (off < 0, off > 0):
        use = np.where(beside & side, counts, 0)
        total = use.sum(1)
        sides.append(
            np.divide((clipped * use).sum(1), total, out=np.zeros(len(means)), where=total > 0)
        )
    return np.stack(sides, 1)


def _refined(plane, known, ends, width, sign):
    """The ends, moved across so that most light is on the line."""
    means, counts = _profiles(plane, known, ends, width)
    rest = sign * means - _sides(sign * means, counts, width).mean(1)[:, None]
    off = np.arange(means.shape[1]) - means.shape[1] // 2
    unit = 0.5 * max(width / 4, 1.0)
    shapes = _shape(off[:, None] - unit * GRID, width)
    use = counts > 0
    light, power = (rest * use) @ shapes, use @ shapes**2
    amplitude = np.divide(light, power, out=np.zeros_like(light), where=power > 0.3)
    typical = np.median(np.abs(amplitude[:, len(GRID) // 2]))
    most = max(1.5 * typical, 3 / np.sqrt(max(np.median(power), 1.0)))  # stars count no more
    amplitude = np.clip(amplitude, -most, most)
    n = len(means)
    fraction = (np.arange(n) + 0.5) / n
    a, b = (g.ravel()[:, None] for g in np.meshgrid(GRID, GRID, indexing="ij"))
    index = np.rint(a + (b - a) * fraction).astype(int) + len(GRID) // 2
    best = amplitude[np.arange(n), index].sum(1).argmax()
    step = ends[1] - ends[0]
    left = np.array([-step[1], step[0]]) / np.hypot(*step)
    return ends + unit * np.array([[float(a[best, 0])], [float(b[best, 0])]]) * left


def _median(values):
    """Of each column (n, m) what is known of it, 0 where nothing is."""
    known = np.isfinite(values)
    ordered = np.sort(np.where(known, values, np.inf), axis=0)
    row = np.maximum(known.sum(0) - 1, 0)
    columns = np.arange(values.shape[1])
    middle = 0.5 * (ordered[row // 2, columns] + ordered[(row + 1) // 2, columns])
    return np.where(known.any(0), middle, 0)


def _width(profile, fwhm):
    """FWHM (px) of the Gaussian that fits a profile across best; None of an empty one."""
    off = np.arange(len(profile)) - len(profile) // 2
    profile = profile - np.median(profile[np.abs(off) > 0.6 * off.max()])
    widths = fwhm * np.geomspace(0.3, 10, 60)
    widths = widths[widths < 0.6 * off.max()]
    shapes = _shape(off[:, None], widths)
    shapes = shapes - shapes.mean(0)
    score = (profile @ shapes) / np.sqrt(np.square(shapes).sum(0))
    return float(widths[score.argmax()]) if score.max() > 0 else None


def _steps(means, counts, width):
    """Of each step along a line: brightness on its middle, its error, and how the sides differ."""
    n = len(means)
    off = np.arange(means.shape[1]) - means.shape[1] // 2
    shape = _shape(off, width)
    sides = _sides(means, counts, width)
    rest = means - sides.mean(1)[:, None]
    power = counts @ shape**2
    enough = power > 0.25 * np.median(power[power > 0]) if (power > 0).any() else power > 0
    light = (rest * counts) @ shape
    level = np.divide(light, power, out=np.full(n, np.nan), where=enough)
    error = np.divide(1, np.sqrt(power), out=np.full(n, np.nan), where=enough)
    return shape, level, error, sides[:, 0] - sides[:, 1]


def _interval(level, bright):
    """First step and the one behind the last of the part that has this brightness."""
    gain = np.clip(np.nan_to_num(level, nan=0.4 * bright), -bright, 2 * bright) - 0.4 * bright
    total = np.r_[0, np.cumsum(gain)]
    lowest = np.minimum.accumulate(total)
    last = int(np.argmax(total - lowest))
    return int(np.argmin(total[: last + 1])), max(last, int(np.argmin(total[: last + 1])) + 1)


def _draw(mask, streak):
    """Set the bit of the light of a streak, in place."""
    reach = streak.reach
    low_y, high_y = sorted((streak.y1, streak.y2))
    ny, nx = mask.shape
    step = (streak.x2 - streak.x1) / (streak.y2 - streak.y1) if streak.y2 != streak.y1 else np.inf
    for y in range(max(int(low_y - reach), 0), min(int(high_y + reach) + 2, ny)):
        low_x, high_x = sorted((streak.x1, streak.x2))
        if abs(step) < 1e6:
            at = np.sort(streak.x1 + (np.array([y - reach, y + reach]) - streak.y1) * step)
            low_x, high_x = max(low_x, at[0]), min(high_x, at[1])
        x = np.arange(max(int(low_x - reach) - 1, 0), min(int(high_x + reach) + 2, nx))
        near = x[streak.distance(x, y) <= reach]
        mask[y, near] |= np.uint16(MaskBit.STREAK)
