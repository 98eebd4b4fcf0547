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

from psflib.decorrelation.line_profiles import (
    STEP,
    brightness_along,
    chord,
    column_medians,
    lit_interval,
    lit_runs,
    longer,
    measured_width,
    profiles,
    refined,
)
from psflib.decorrelation.lines import Line, binned, lines
from psflib.decorrelation.not_streaks import (
    fades,
    is_band,
    is_column,
    is_of_image,
    is_streak,
    promising,
)
from psflib.image.difference import Difference
from psflib.image.exposure import MaskBit, has_bits
from psflib.image.where import true_pixels

log = logging.getLogger(__name__)

CLASSES = 1.0, 4.0  # FWHM of the PSF, of widths that are looked for
MOST_FOLLOWED = 60  # lines
DOUBLINGS = 12  # of the length of a line, at most
DIM = 0.3  # sigma of a pixel, to which its light is masked


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
        draw(mask, streak)
    said = ", ".join(f"({s.x1:.0f}, {s.y1:.0f}) to ({s.x2:.0f}, {s.y2:.0f})" for s in found)
    meta["notes"] = [
        *meta.get("notes", ()),
        f"{len(found)} {'streak' if len(found) == 1 else 'streaks'} masked: {said}",
    ]
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
    images = [e for e in (difference.science, difference.template) if e is not None]
    stars = _saturated(difference.mask)
    found: list[Streak] = []
    for width in CLASSES:
        no_streaks: list[Line] = []
        size = max(1, round(0.65 * width * fwhm))
        if min(plane.shape) < 16 * size:
            continue
        for line in lines(binned(plane, known, size), size)[:MOST_FOLLOWED]:
            if not any(_same(line, s, size) for s in found) and not _tried(line, no_streaks, size):
                parts = _followed(plane, known, noise, line, width * fwhm, fwhm, stars, images)
                if not parts:
                    no_streaks.append(line)
                found += [s for s in parts if not any(_twice(s, other) for other in found)]
    return sorted(found, key=lambda streak: -streak.snr)


def _fwhm(psf):
    """Of the line that a PSF makes: across a streak all of its light along it counts."""
    fine = ndimage.zoom(psf.sum(0) + psf.sum(1), 5, order=3)
    return float((fine > 0.5 * fine.max()).sum() * (len(psf) - 1) / (len(fine) - 1))


def _saturated(mask):
    """Places (n, 2: x, y) of pixels in saturated stars."""
    y, x = true_pixels(has_bits(mask, MaskBit.SAT))
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


def _followed(plane, known, noise, line, width, fwhm, stars, images):
    """The streaks that a line belongs to: the lit parts of the whole, none if it is no streak."""
    ends = refined(plane, known, _ends(line), width, np.sign(line.snr))
    if not promising(plane, known, ends, width, np.sign(line.snr)):
        return []
    if is_column(plane, known, ends, fwhm):
        return []
    traced = _traced(plane, known, line, ends, width, fwhm)
    if traced is None:
        return []
    width, means, counts, along, start = traced
    light, level, error, tilt = brightness_along(means, counts, width)
    start &= np.isfinite(level)
    if not start.any():
        return []
    bright = float(np.median(level[start]))
    first, last = lit_interval(level, bright)
    part, found = slice(first, last), along[[first, last - 1]]
    if not _inside(found, plane.shape):
        return []
    if not is_streak(level[part], error[part], tilt[part], width, fwhm):
        return []
    if fades(level, along, first, last, stars, width):
        return []
    if is_column(plane, known, found, fwhm) or is_band(plane, known, found, width, bright):
        return []
    for image in images:
        planes = image.image, image.variance, image.usable
        if is_of_image(*planes, level[part], along[part], width, fwhm):
            return []
    across = np.sign(line.snr) * float(light.sum()) * _noise_along(noise, along[part])
    step = 0.5 * STEP * (found[1] - found[0]) / max(np.hypot(*(found[1] - found[0])), 1e-9)
    return [
        _streak(level[run], error[run], along[run], step, float(width), float(across))
        for run in lit_runs(level, bright, first, last)
    ]


def _inside(ends, shape):
    """Whether the middle of a line lies on the image; an edge draws lines beyond itself."""
    x, y = ends.mean(0)
    return bool(0 <= x <= shape[1] - 1 and 0 <= y <= shape[0] - 1)


def _streak(level, error, along, half, width, across):
    """From the lit steps of a part of a line; `half` (2) a step's half, `across` the ADU of a line
    of peak 1 sigma, negative where light is missing."""
    weight = np.nan_to_num(1 / error**2)
    bright = float((np.nan_to_num(level) * weight).sum() / weight.sum())
    (x1, y1), (x2, y2) = (along[0] - half).tolist(), (along[-1] + half).tolist()
    snr = float(bright * np.sqrt(weight.sum()))
    return Streak(x1, y1, x2, y2, width, snr, float(np.copysign(bright, across)), bright * across)


def _ends(line):
    return np.array([[line.x1, line.y1], [line.x2, line.y2]])


def _traced(plane, known, line, ends, width, fwhm):
    """The line through the whole image, twice as long each time: width, profiles and their numbers
    of pixels, places of the steps (n, 2), and which of these are those of the strip."""
    sign, whole = np.sign(line.snr), None
    for _ in range(DOUBLINGS):
        ends = refined(plane, known, ends, width, sign)
        whole = chord(ends, plane.shape)
        if whole is None:
            return None
        if np.hypot(*(whole - ends).T).max() < STEP:
            break
        ends = longer(ends, plane.shape)
    middle, span = _ends(line).mean(0), max(64.0, 0.5 * np.hypot(*np.diff(_ends(line), axis=0)[0]))
    ends = whole
    for _ in range(3):  # with the width that it has
        ends = refined(plane, known, ends, width, sign)
        means, counts = profiles(plane, known, ends, width)
        means *= sign
        places = (np.arange(len(means)) + 0.5) / len(means)
        along = ends[0] + (ends[1] - ends[0]) * places[:, None]
        start = np.hypot(*(along - middle).T) < span
        width = measured_width(column_medians(np.where(counts > 0, means, np.nan)[start]), fwhm)
        if width is None:
            return None
    return width, means, counts, along, start


def _noise_along(noise, along):
    """Median noise of the pixels on a line, ADU."""
    x, y = np.rint(along).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < noise.shape[1]) & (y < noise.shape[0])
    levels = noise[y[inside], x[inside]]
    return float(np.median(levels[levels > 0])) if (levels > 0).any() else 0.0


def draw(mask: np.ndarray, streak: Streak) -> None:
    """Set the bit of the light of a streak in a mask (ny, nx) uint16."""
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
