"""Diffraction by the pupils of space telescopes: truths that no profile of two parameters fits."""

import functools

import numpy as np
from scipy import ndimage

ACROSS = 128  # cells over the diameter of the pupil
STEPS = 10  # samples in λ/D of the image
FINER = 4  # samples of a cell of the pupil, along each axis
BAND = np.linspace(0.9, 1.1, 5)  # wavelengths over their mean: a filter a fifth wide
OBSTRUCTION = 0.33  # of the diameter: HST's secondary mirror
VANE = 0.011  # of the diameter, width of HST's four vanes
SEGMENT = 0.2  # of the diameter, between opposite sides: JWST's hexagons
GAP = 0.0015
STRUT = 0.015  # JWST's three
COMA = 0.35  # rad at the rim, which makes both lopsided


def hst(x, y):
    """Unit PSF of FWHM 1: round pupil with a hole and a cross of vanes (spikes at 45°)."""
    return _profile("hst", x, y)


def jwst(x, y):
    """Unit PSF of FWHM 1: eighteen hexagons, three struts (six strong spikes and two weak)."""
    return _profile("jwst", x, y)


def _profile(name, x, y):
    table, step = _table(name)
    x, y = np.broadcast_arrays(x, y)
    middle = len(table) // 2
    index = [middle + a.ravel() / step for a in (y, x)]
    values = ndimage.map_coordinates(table, index, order=3, prefilter=False, mode="constant")
    return values.reshape(x.shape)


@functools.lru_cache(maxsize=2)
def _table(name):
    """Spline coefficients of the PSF over the band, and their spacing in FWHM."""
    axis = (np.arange(ACROSS * FINER) + 0.5) / (ACROSS * FINER) - 0.5
    x, y = axis[None, :], axis[:, None]
    seen = {"hst": _hst_pupil, "jwst": _jwst_pupil}[name](x, y)
    radius2 = x * x + y * y
    phase = COMA * 8 * (3 * 4 * radius2 - 2) * x / 4
    field = (seen * np.exp(1j * phase)).reshape(ACROSS, FINER, ACROSS, FINER).mean(axis=(1, 3))
    side = ACROSS * STEPS
    image = np.abs(np.fft.fftshift(np.fft.fft2(field, (side, side)))) ** 2
    middle = side // 2
    grid = np.indices(image.shape) - middle
    coefficients = ndimage.spline_filter(image, 3)
    mean = np.zeros_like(image)
    for factor in BAND:
        mean += ndimage.map_coordinates(
            coefficients, middle + grid / factor, order=3, prefilter=False, mode="constant"
        ) / factor**2  # fmt: skip
    top = np.unravel_index(np.argmax(mean), mean.shape)
    mean = np.roll(mean, [middle - k for k in top], (0, 1))
    fine = ndimage.zoom(mean[middle - 20 : middle + 21, middle - 20 : middle + 21], 10, order=3)
    width = 2 * np.sqrt(np.count_nonzero(fine > 0.5 * fine.max()) / np.pi) * 40 / (len(fine) - 1)
    return ndimage.spline_filter(mean * width**2 / mean.sum(), 3), 1 / width


def _hst_pupil(x, y):
    radius = np.hypot(x, y)
    vanes = np.minimum(np.abs(x + y), np.abs(x - y)) < VANE / np.sqrt(2)
    return (radius < 0.5) & (radius > 0.5 * OBSTRUCTION) & ~vanes


def _jwst_pupil(x, y):
    seen = np.zeros(np.broadcast(x, y).shape, bool)
    for q in range(-2, 3):
        for r in range(max(-2, -q - 2), min(2, 2 - q) + 1):
            if q == r == 0:
                continue
            # Hexagons with their flat sides up and down, in axial coordinates.
            dx, dy = x - SEGMENT * np.sqrt(3) / 2 * q, y - SEGMENT * (r + q / 2)
            across = [np.abs(dy), np.abs(dy / 2 + dx * np.sqrt(3) / 2),
                      np.abs(dy / 2 - dx * np.sqrt(3) / 2)]  # fmt: skip
            seen |= np.max(np.broadcast_arrays(*across), axis=0) < (SEGMENT - GAP) / 2
    for angle in np.radians([90.0, 240.0, 300.0]):
        along = x * np.cos(angle) + y * np.sin(angle)
        away = np.abs(y * np.cos(angle) - x * np.sin(angle))
        seen &= ~((along > 0) & (away < STRUT / 2))
    return seen
