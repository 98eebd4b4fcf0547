"""Scenes with what spoils differences, for `ranking.py`."""

import dataclasses

import numpy as np
from scipy import ndimage

from psflib.judging.metrics import values
from psflib.matching.apply import convolved_exposure, subtract_matched

BRIGHT = 3e4  # ADU of a star that has spikes or rings
RAYS = 30  # per image


def damaged(raw, scene, damage: str, seed: int):
    """The raw difference of a scene whose images were damaged after the kernel was fitted: what
    `prepare` and the fit would find and remedy is there, too."""
    rng = np.random.default_rng([seed, list(DAMAGES).index(damage), 7])
    pair = raw.science, raw.template
    stars = scene.sources[scene.sources["kind"] == "star"]
    x, y = values(stars, "x"), values(stars, "y")
    ny, nx = raw.shape
    bright = stars[(values(stars, "flux") > BRIGHT) & (x > 0) & (y > 0) & (x < nx) & (y < ny)]
    images = [exposure.image.astype(float) for exposure in pair]
    noise = [np.sqrt(np.median(e.variance[e.variance > 0])) for e in pair]
    widths = [camera.psf.fwhm / 2.355 for camera in scene.cameras]
    DAMAGES[damage](images, noise, widths, bright, rng)
    science, template = (
        dataclasses.replace(e, image=image.astype(np.float32))
        for e, image in zip(pair, images, strict=True)
    )
    kernel = raw.kernel
    moved = template if kernel.convolved == "template" else science
    made = subtract_matched(kernel, science, template, convolved_exposure(kernel, moved))
    return raw.replace(
        image=made.image, mask=made.mask | raw.mask, science=science, template=template
    )


def changes(scene) -> np.ndarray:
    """Places (n, 2: x, y) of what is new or varies."""
    change = np.abs(values(scene.sources, "delta_flux")) > 0
    return np.c_[values(scene.sources, "x"), values(scene.sources, "y")][change]


def none(images, noise, widths, bright, rng):
    """What the matching leaves by itself, unmasked rays and edges of masks included."""


def shifted(images, noise, widths, bright, rng):
    """A third of the science image out of place by half of a pixel."""
    size = len(images[0])
    moved = ndimage.shift(images[0], rng.uniform(0.2, 0.7, 2), order=3, mode="nearest")
    low = rng.integers(size // 6, size // 2)
    rows = slice(low, low + size // 3)
    images[0][rows] = moved[rows]


def widened(images, noise, widths, bright, rng):
    """Stars of the science image a little wider or narrower, each for itself."""
    for x, y, flux in _places(bright):
        change = rng.normal(0, 0.08)
        wide, own = (_gauss(images[0].shape, x, y, widths[0] * f) for f in (1 + change, 1))
        images[0][wide[0]] += flux * (wide[1] - own[1])


def rays(images, noise, widths, bright, rng):
    """Cosmic rays and hot pixels of both images, 1 to 6 px long, smeared a little or not."""
    for image, sigma in zip(images, noise, strict=True):
        sharp = np.zeros(image.shape)
        for _ in range(RAYS):
            x, y = rng.integers(12, len(image) - 12, 2)
            turn, length = rng.uniform(0, np.pi), rng.integers(1, 7)
            along = np.arange(length)
            row = np.rint(y + along * np.sin(turn)).astype(int)
            column = np.rint(x + along * np.cos(turn)).astype(int)
            sharp[row, column] += sigma * np.exp(rng.uniform(np.log(8), np.log(200)))
        image += ndimage.gaussian_filter(sharp, rng.choice([1e-3, 0.5, 0.8]))


def resampled(images, noise, widths, bright, rng):
    """Defects of both images that were resampled afterwards: ringing of Lanczos' kernel."""
    taps = np.arange(-3, 4)
    for image, sigma in zip(images, noise, strict=True):
        for _ in range(RAYS):
            x, y = rng.integers(12, len(image) - 12, 2)
            off = rng.uniform(-0.5, 0.5, 2)
            rows, columns = (np.sinc((taps - d) / 1.4) * np.sinc((taps - d) / 3) for d in off)
            height = sigma * rng.choice([-1, 1]) * np.exp(rng.uniform(np.log(6), np.log(60)))
            image[y - 3 : y + 4, x - 3 : x + 4] += height * np.outer(rows, columns)


def spikes(images, noise, widths, bright, rng):
    """Spikes of bright stars that stand otherwise in both images."""
    row, column = np.indices(images[0].shape)
    for image in images:
        turn = rng.uniform(0, np.pi / 2)
        for x, y, flux in _places(bright):
            for angle in (turn, turn + np.pi / 2):
                cos, sin = np.cos(angle), np.sin(angle)
                along = (column - x) * cos + (row - y) * sin
                across = (row - y) * cos - (column - x) * sin
                fade = np.exp(-np.abs(along) / 12)
                image += 2e-3 * flux * fade * np.exp(-0.5 * np.square(across))


def rings(images, noise, widths, bright, rng):
    """Rings about bright stars: ghosts, and haloes that differ."""
    row, column = np.indices(images[0].shape)
    for x, y, flux in _places(bright):
        radius = np.hypot(row - y, column - x)
        size = rng.uniform(4, 12)
        ring = np.exp(-0.5 * np.square((radius - size) / 1.5))
        images[0] += rng.choice([-1, 1]) * 1e-3 * flux * ring


def edges(images, noise, widths, bright, rng):
    """Small masked holes, their light wrong about them."""
    for image, sigma in zip(images, noise, strict=True):
        for _ in range(15):
            x, y = rng.integers(15, len(image) - 15, 2)
            half = rng.integers(2, 6)
            box = np.s_[y - half - 1 : y + half + 2, x - half - 1 : x + half + 2]
            image[box] += rng.uniform(2, 15) * sigma
            image[y - half : y + half + 1, x - half : x + half + 1] = np.nan


def columns(images, noise, widths, bright, rng):
    """Columns and rows that no mask knows."""
    for image, sigma in zip(images, noise, strict=True):
        for _ in range(3):
            image[:, rng.integers(len(image))] += rng.uniform(-3, 3) * sigma
            image[rng.integers(len(image))] += rng.uniform(-3, 3) * sigma


DAMAGES = {
    f.__name__: f for f in (none, shifted, widened, rays, resampled, spikes, rings, edges, columns)
}


def _places(stars):
    return zip(*(values(stars, name) for name in ("x", "y", "flux")), strict=True)


def _gauss(shape, x, y, width):
    """A box around (x, y), and a Gaussian of unit sum in it."""
    top, left = max(int(y) - 12, 0), max(int(x) - 12, 0)
    box = np.s_[top : min(int(y) + 13, shape[0]), left : min(int(x) + 13, shape[1])]
    row, column = np.mgrid[box]
    light = np.exp(-((row - y) ** 2 + (column - x) ** 2) / (2 * width**2))
    return box, light / (2 * np.pi * width**2)
