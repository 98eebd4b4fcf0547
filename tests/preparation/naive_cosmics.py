"""Slow, readable twin of the cosmic-ray search, written from its rules; it shares no code with it.

Everything stands pixel by pixel in float64; pixels outside the image are mirrored ones.
"""

import itertools
import math

import numpy as np

DIRECTIONS = [(0, 1), (1, -1), (1, 0), (1, 1)]
BEAMS = {1: ([0], [-1, 1]), 2: ([0, 1], [-1, 2]), 3: ([-1, 0, 1], [-2, 2])}


class Sky:
    """Planes that can be asked for any pixel: value, variance, whether it is inside."""

    def __init__(self, image, variance, unusable, fwhm):
        self.shape = image.shape
        good = ~unusable & np.isfinite(image) & np.isfinite(variance) & (variance > 0)
        self.good = good
        pad = 2 * max(3, round(1.5 * fwhm)) + 8
        self.pad = pad
        fill = np.where(good, image, np.nan).astype(float), np.where(good, variance, np.nan)
        self.z, self.v = (np.pad(plane, pad, mode="reflect") for plane in fill)
        self.radius = max(3, round(1.5 * fwhm))

    def at(self, y, x):
        return self.z[y + self.pad, x + self.pad]

    def noise(self, y, x):
        return self.v[y + self.pad, x + self.pad]

    def inside(self, y, x, margin=0):
        ny, nx = self.shape
        return margin <= y < ny - margin and margin <= x < nx - margin


def bound(fwhm, diagonal, width):
    """Least ratio of ends to run, over all positions of a Gaussian star; 4: one pixel outwards."""
    sharp = fwhm * np.interp(fwhm, [1.3, 2, 3], [0.9, 0.97, 0.88])
    spacing = math.sqrt(2) if diagonal else 1.0

    def star(offset):
        return math.exp(-4 * math.log(2) * (offset * spacing / sharp) ** 2)

    if width == 4:  # the ray's own pixel, the edge, the one beyond, from 0 outwards
        return 0.85 * min(star(2) / star(1), 0.3)
    run, ends = BEAMS[width]
    middle = 0.5 if width == 2 else 0.0
    return (
        0.85 * np.mean([star(k - middle) for k in ends]) / np.mean([star(k - middle) for k in run])
    )


def surroundings(sky, y, x):
    """(background, level of dead pixels, typical variance): ranks of a ring and of 8 pixels."""
    steps = itertools.product((-2, 0, 2), repeat=2)
    around = sorted(v for j, i in steps if (j or i) and math.isfinite(v := sky.noise(y + j, x + i)))
    typical = around[len(around) * 4 // 8] if around else sky.noise(y, x)
    angles = [2 * math.pi * (k + 0.5) / 16 for k in range(16)]
    places = [(round(sky.radius * math.sin(a)), round(sky.radius * math.cos(a))) for a in angles]
    ring = sorted(z for j, i in places if math.isfinite(z := sky.at(y + j, x + i)))
    if not ring:
        return math.nan, math.nan, typical
    quiet = math.sqrt(around[0] if around else typical)
    high, low = ring[len(ring) * 4 // 16] + 0.5 * quiet, ring[:2][-1] + 2 * quiet
    return min(high, low), high - 5 * math.sqrt(typical), typical


def proves(sky, run, ends, share, b, dead, typical, limits, mirrored=False):
    """True if these pixels stand out from those at their ends, more sharply than stars do."""
    values = [sky.at(*p) for p in ends]
    if not all(e > dead for e in values):
        return False
    values = [max(e, b - 1.5 * math.sqrt(sky.noise(*p))) for e, p in zip(values, ends, strict=True)]
    mean, outer = np.mean([sky.at(*p) for p in run]), np.mean(values)
    spread = sum(sky.noise(*p) for p in run) / len(run) ** 2
    variance = sum(sky.noise(*p) for p in ends) / len(ends) ** 2
    pieces = 1 / len(run) + 1 / len(ends)
    if mirrored:
        share, variance, pieces = share**2, 2 * variance, 1 / len(run) + 2 / len(ends)
    contrast = (mean - outer) / math.sqrt(typical * pieces)
    error = math.sqrt(share**2 * spread + variance + (1 - share) ** 2 * 0.1 * typical)
    evidence = (share * (mean - b) - (outer - b)) / error
    return bool(contrast > limits[0] and evidence > limits[1])


def judge(sky, y, x, fwhm, b, dead, typical, limits, strips):
    """The pixels of the first run at (y, x) that is a ray; none if no run is."""
    for dy, dx in DIRECTIONS:
        diagonal = dy * dx != 0
        for width, (run, ends) in BEAMS.items():
            run = [(y + k * dy, x + k * dx) for k in run]
            ends = [(y + k * dy, x + k * dx) for k in ends]
            mirrored = not all(sky.inside(*p) for p in ends)
            if proves(
                sky, run, ends, bound(fwhm, diagonal, width), b, dead, typical, limits, mirrored
            ):
                return run
        if strips and sky.inside(y, x, 3):
            share = bound(fwhm, diagonal, 1)
            near = np.mean([sky.at(y - dy, x - dx), sky.at(y + dy, x + dx)])
            if not share * (sky.at(y, x) - b) > near - b:
                continue
            for half in (1, 2):
                strip = [(y + k * dx, x - k * dy) for k in range(-half, half + 1)]
                ends = [(j + s * dy, i + s * dx) for j, i in strip for s in (-1, 1)]
                if proves(sky, strip, ends, share, b, dead, typical, limits):
                    return strip
    ends = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    if all(sky.inside(*p) for p in ends) and proves(
        sky, [(y, x)], ends, bound(fwhm, False, 1), b, dead, typical, limits
    ):
        return [(y, x)]
    return []


def bright(sky, run, b, typical):
    """The pixels of a run that are worth marking."""
    if not run:
        return set()
    mean = np.mean([sky.at(*p) for p in run])
    least = max(0.5 * (mean - b), 4 * math.sqrt(typical))
    return {p for p in run if sky.inside(*p) and sky.at(*p) - b > least}


def is_candidate(sky, y, x, limit):
    """True if any run stands out by the limit, measured by the least variance close by."""
    low = min(sky.noise(y, x - 2), sky.noise(y, x + 2), sky.noise(y - 2, x), sky.noise(y + 2, x))
    cross = [sky.at(y - 1, x), sky.at(y + 1, x), sky.at(y, x - 1), sky.at(y, x + 1)]
    contrasts = [(sky.at(y, x) - np.mean(cross)) / math.sqrt(1.25)]
    for dy, dx in DIRECTIONS:
        for width, (run, ends) in BEAMS.items():
            high = np.mean([sky.at(y + k * dy, x + k * dx) for k in run])
            high -= np.mean([sky.at(y + k * dy, x + k * dx) for k in ends])
            contrasts.append(high / math.sqrt(1 / width + 1 / 2))
    best = max([c for c in contrasts if math.isfinite(c)], default=-1)
    return best > 0 and not best < limit * math.sqrt(low)


def find_cosmic_rays(image, variance, unusable, fwhm, threshold=6.0):
    """(ny, nx) bool; see psflib.preparation.cosmics."""
    sky = Sky(image, variance, unusable, fwhm)
    limits = threshold / math.sqrt(1.25), 3.0
    rays, judged = set(), set()
    for y, x in np.argwhere(sky.good).tolist():
        if is_candidate(sky, y, x, limits[0]):
            b, dead, typical = surroundings(sky, y, x)
            rays |= bright(sky, judge(sky, y, x, fwhm, b, dead, typical, limits, True), b, typical)
    while (
        todo := {
            (y + j, x + i)
            for y, x in rays
            for j, i in itertools.product((-1, 0, 1), repeat=2)
            if sky.inside(y + j, x + i) and sky.good[y + j, x + i]
        }
        - judged
    ):
        judged |= todo
        for y, x in todo:
            b, dead, typical = surroundings(sky, y, x)
            run = judge(sky, y, x, fwhm, b, dead, typical, (3.0, 1.5), False)
            rays |= bright(sky, run, b, typical)
    found = np.zeros(image.shape, bool)
    for y, x in rays:
        found[y, x] = True
        b, _, typical = surroundings(sky, y, x)
        for j, i in itertools.product((-1, 0, 1), repeat=2):
            if not sky.inside(y + j, x + i):
                continue
            high, beyond = sky.at(y + j, x + i) - b, sky.at(y + 2 * j, x + 2 * i) - b
            falls = min(high, high - beyond) > 4 * math.sqrt(typical)
            steep = beyond < bound(fwhm, j * i != 0, 4) * high
            found[y + j, x + i] |= falls and steep and high <= 0.5 * (sky.at(y, x) - b)
    return found
