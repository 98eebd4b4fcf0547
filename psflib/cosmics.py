"""Cosmic rays of a single image, told from stars by the width of the PSF."""

import math

import numpy as np

from psflib.loops import cosmics as loops

SHARPER = 0.9  # a star may be this much narrower than the typical one: PSF variation, ellipticity
FACTOR = 0.85  # share of a star's light beside its pixel that must be there
EVIDENCE = 3.0  # sigma, against any sum of stars
FOLLOW = (3.0, 1.5)  # sigma: contrast and evidence of a pixel that touches a ray
LEAST = 3.0  # sigma, of a pixel of a ray above its background
LONE = 1.25**0.5  # noise of a pixel less the mean of its four neighbours, sigma


def find_cosmic_rays(image, variance, unusable, *, fwhm, threshold=6.0):
    image, variance = np.asarray(image), np.asarray(variance)
    good = ~np.asarray(unusable, bool) & np.isfinite(image) & np.isfinite(variance) & (variance > 0)
    found = np.zeros(image.shape, bool)
    if not good.any():
        return found
    unit = _unit(variance, good)
    radius = max(3, round(1.5 * fwhm))
    pad = radius + 1
    with np.errstate(over="ignore", invalid="ignore"):
        z = np.where(good, image / unit, np.nan).astype(np.float32)
        v = np.where(good, variance / unit / unit, np.nan).astype(np.float32)
    z, v = (np.pad(plane, pad, mode="reflect") for plane in (z, v))
    state = np.zeros(image.shape, np.uint8)
    queue = np.empty(image.size, np.int64)
    bounds, ring = _bounds(fwhm), _ring(radius)
    limits = np.array([threshold / LONE, EVIDENCE])
    count = loops.seed_rays(z, v, pad, ring, bounds, limits, LEAST, state, queue)
    loops.grow_rays(z, v, pad, ring, bounds, np.array(FOLLOW), LEAST, state, queue, count)
    return (state == loops.RAY) | (state == loops.EDGE)


def _unit(variance, good):
    values = variance[good]
    middle = float(np.median(values[:: max(1, len(values) // 100_000)]))
    return 2.0 ** round(0.5 * math.log2(middle))


def _bounds(fwhm):
    g = math.exp(-4 * math.log(2) / (SHARPER * fwhm) ** 2)
    rows = [[h, h**2, 3 * h**4 / (1 + 2 * h), h**3] for h in (g, g * g)]
    return FACTOR * np.array(rows)


def _ring(radius):
    angle = 2 * math.pi * (np.arange(loops.RING) + 0.5) / loops.RING
    return np.rint(radius * np.stack([np.sin(angle), np.cos(angle)], axis=1)).astype(np.int64)
