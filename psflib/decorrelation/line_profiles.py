"""What lies along and across a line: profiles, their width, where they begin and end."""

import numpy as np

from psflib.loops import streaks as loops

STEP = 16  # px along a line
GAP, SHORTEST_RUN = 4, 3  # steps without light that end a part, and with light that make one
STAR = 2.0  # times as bright as the line: a star on it
GRID = np.arange(-12, 13)  # half px, by which the ends are moved


def chord(ends, shape):
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


def longer(ends, shape):
    """Twice as long, but within the image."""
    whole, step = chord(ends, shape), ends[1] - ends[0]
    length = step @ step
    t = np.clip([-0.5, 1.5], *np.sort((whole - ends[0]) @ step / length))
    return ends[0] + np.outer(t, step)


def sums_along(plane, known, ends, half):
    """Sums (n, 2 half + 1) by steps along and px across, and how many pixels they are of."""
    step = ends[1] - ends[0]
    length = np.hypot(*step)
    n = max(int(length / STEP), 1)
    sums, counts = np.empty((2, n, 2 * half + 1))
    loops.profile_along(plane, known, *ends[0], *(step / length), length / n, sums, counts)
    return sums, counts


def profiles(plane, known, ends, width):
    """Means (n, 2 half + 1) by steps along and px across, and how many pixels they are of."""
    sums, counts = sums_along(plane, known, ends, int(np.ceil(3.5 * width)) + 3)
    return np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0), counts


def ridge(offset, width):
    return np.exp(-0.5 * np.square(offset * 2.355 / width))


def sky_beside(means, counts, width):
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


def refined(plane, known, ends, width, sign):
    """The ends, moved across so that most light is on the line."""
    means, counts = profiles(plane, known, ends, width)
    rest = sign * means - sky_beside(sign * means, counts, width).mean(1)[:, None]
    off = np.arange(means.shape[1]) - means.shape[1] // 2
    unit = 0.5 * max(width / 4, 1.0)
    shapes = ridge(off[:, None] - unit * GRID, width)
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


def column_medians(values):
    """Of each column (n, m) what is known of it, 0 where nothing is."""
    known = np.isfinite(values)
    ordered = np.sort(np.where(known, values, np.inf), axis=0)
    row = np.maximum(known.sum(0) - 1, 0)
    columns = np.arange(values.shape[1])
    middle = 0.5 * (ordered[row // 2, columns] + ordered[(row + 1) // 2, columns])
    return np.where(known.any(0), middle, 0)


def measured_width(profile, fwhm):
    """FWHM (px) of the Gaussian that fits a profile across best; None of an empty one."""
    off = np.arange(len(profile)) - len(profile) // 2
    profile = profile - np.median(profile[np.abs(off) > 0.6 * off.max()])
    widths = fwhm * np.geomspace(0.3, 10, 60)
    widths = widths[widths < 0.6 * off.max()]
    shapes = ridge(off[:, None], widths)
    shapes = shapes - shapes.mean(0)
    score = (profile @ shapes) / np.sqrt(np.square(shapes).sum(0))
    return float(widths[score.argmax()]) if score.max() > 0 else None


def brightness_along(means, counts, width):
    """The light across a line (2 half + 1), 1 on its middle, and of each step (n) along it the
    brightness there, its error, and by how much the sides differ."""
    n = len(means)
    off = np.arange(means.shape[1]) - means.shape[1] // 2
    shape = ridge(off, width)
    sides = sky_beside(means, counts, width)
    rest = means - sides.mean(1)[:, None]
    power = counts @ shape**2
    enough = power > 0.25 * np.median(power[power > 0]) if (power > 0).any() else power > 0
    light = (rest * counts) @ shape
    level = np.divide(light, power, out=np.full(n, np.nan), where=enough)
    error = np.divide(1, np.sqrt(power), out=np.full(n, np.nan), where=enough)
    return shape, level, error, sides[:, 0] - sides[:, 1]


def lit_interval(level, bright):
    """First step and the one behind the last of the part that has this brightness."""
    gain = np.clip(np.nan_to_num(level, nan=0.4 * bright), -bright, 2 * bright) - 0.4 * bright
    total = np.r_[0, np.cumsum(gain)]
    lowest = np.minimum.accumulate(total)
    last = int(np.argmax(total - lowest))
    return int(np.argmin(total[: last + 1])), max(last, int(np.argmin(total[: last + 1])) + 1)


def lit_runs(level, bright, first, last) -> list[slice]:
    """The parts of an interval that are lit, short gaps included.

    Steps of twice the brightness and more are stars; at an end they belong to no streak.
    """
    part = level[first:last]
    with np.errstate(invalid="ignore"):
        dark = (part < 0.3 * bright) | (part > STAR * bright)
    lit = np.flatnonzero(~dark) + first
    runs = np.split(lit, np.flatnonzero(np.diff(lit) > GAP) + 1)
    return [slice(int(run[0]), int(run[-1]) + 1) for run in runs if len(run) >= SHORTEST_RUN]
