"""Skies with cosmic rays whose charge is known pixel by pixel."""

import dataclasses

import numpy as np
from scipy.special import erf

from psflib.image.exposure import Exposure
from psflib.simulation.psf_model import PsfModel
from psflib.simulation.scene import Scene, power_law, render

READ_NOISE = 5.0  # e-
STEP = 0.1  # px, between the points that make a track
RAYS = 400  # per 1e6 px
STARS = {"sparse": 700, "crowded": 20_000}  # per 1e6 px


@dataclasses.dataclass(frozen=True)
class RayScene:
    """An exposure with its sky (e-, gain 1), its rays and its noise without them.

    charge : (ny, nx) float, e-, of all rays; rays : list of (pixels as flat indices, charge);
    sigma : (ny, nx) float, e-, of sky, stars and reading; light : (ny, nx) e- of the stars.
    """

    exposure: Exposure
    charge: np.ndarray
    rays: list
    sigma: np.ndarray
    light: np.ndarray


def ray_scene(fwhm, stars="sparse", sky=200.0, size=1024, seed=1, rays=RAYS, psf=None):
    """Stars of one FWHM (px) under a sky (e-) with points, tracks and thick tracks."""
    rng = np.random.default_rng(seed)
    shape = (size, size)
    count = round(STARS[stars] * size * size / 1e6)
    sigma = np.sqrt(sky + READ_NOISE**2)
    faintest = 4 * sigma * max(fwhm, 1.0)
    flux = power_law(rng.uniform(size=count), faintest, 2e6, 1.8)
    x, y = rng.uniform(-20, size + 20, (2, count))
    psf = psf or PsfModel(fwhm, g1=0.03, g2=-0.02, variation=0.06, shape=shape)
    light = render(Scene.points(x, y, flux), psf, shape, sigma, reach=40.0)
    charge, found = draw_rays(shape, round(rays * size * size / 1e6), rng)
    image = rng.poisson(light + charge + sky) + rng.normal(0, READ_NOISE, shape)
    exposure = Exposure(image.astype(np.float32), gain=1.0, read_noise=READ_NOISE)
    return RayScene(exposure, charge, found, np.sqrt(light + sky + READ_NOISE**2), light)


def draw_rays(shape, count, rng):
    """Charge plane (e-) of `count` rays, and for each its pixels (flat) and their charge."""
    plane = np.zeros(shape)
    found = []
    for k in range(count):
        length = 0.0 if k % 3 == 0 else rng.exponential(8.0) + 1
        diffusion = rng.uniform(0.15, 0.4) if k % 3 < 2 else rng.uniform(0.4, 0.9)
        density = 1200 * np.exp(rng.normal(0, 0.8))  # e- per px of track
        pixels, charge = _track(shape, length, diffusion, density, rng)
        np.add.at(plane.ravel(), pixels, charge)
        found.append((pixels, charge))
    return plane, found


def _track(shape, length, diffusion, density, rng):
    """Pixels (flat) and charge of a straight track with Gaussian diffusion (px)."""
    y0, x0 = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
    angle = rng.uniform(0, 2 * np.pi)
    along = np.arange(0, length + 1e-9, STEP)
    energy = density * (STEP if length else 1.0) * rng.gamma(4.0, 0.25, len(along))
    y, x = y0 + along * np.sin(angle), x0 + along * np.cos(angle)
    box = np.arange(-4, 5)
    top, left = np.rint(y)[:, None] + box, np.rint(x)[:, None] + box
    share_y, share_x = _share(top - y[:, None], diffusion), _share(left - x[:, None], diffusion)
    charge = energy[:, None, None] * share_y[:, :, None] * share_x[:, None, :]
    rows, cols = np.broadcast_arrays(top[:, :, None], left[:, None, :])
    inside = (rows >= 0) & (cols >= 0) & (rows < shape[0]) & (cols < shape[1]) & (charge > 1e-3)
    flat = rows[inside].astype(int) * shape[1] + cols[inside].astype(int)
    pixels, which = np.unique(flat, return_inverse=True)
    return pixels, np.bincount(which, charge[inside], len(pixels))


def _share(offset, sigma):
    """Share of a Gaussian's charge within the pixels at these offsets."""
    scale = 1 / (sigma * np.sqrt(2))
    return 0.5 * (erf((offset + 0.5) * scale) - erf((offset - 0.5) * scale))
