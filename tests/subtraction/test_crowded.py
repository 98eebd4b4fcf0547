"""Crowds: faint stars are no noise, and a mosaic's pattern is no end of the variance."""

import numpy as np
import pytest
from scipy import spatial

import psflib
from psflib.image.exposure import Exposure
from psflib.simulation.psf_model import PsfModel

SHAPE = (384, 384)
SCALE = 1.2
FWHMS, SKIES, GAINS, READ_NOISE = (3.6, 2.8), (400.0, 300.0), (1.6, 3.2), 6.0


def power_law(rng, n, faint=500.0, bright=1e5, slope=1.6):
    low, high = faint ** (1 - slope), bright ** (1 - slope)
    return (low + rng.uniform(size=n) * (high - low)) ** (1 / (1 - slope))


def pair(per_mpx, seed):
    """Science and template of that many stars a Mpx, and transients of S/N 30 and more."""
    rng = np.random.default_rng(seed)
    n = int(per_mpx * 1e-6 * np.prod(SHAPE))
    x, y = rng.uniform(-20, SHAPE[1] + 20, n), rng.uniform(-20, SHAPE[0] + 20, n)
    flux = power_law(rng, n)
    grid = np.arange(40, 360, 60)
    tx, ty = (np.repeat(grid, len(grid)), np.tile(grid, len(grid)))
    tx, ty = tx + rng.uniform(-9, 9, tx.size), ty + rng.uniform(-9, 9, ty.size)
    images = []
    for fwhm, sky, gain, shear, science in zip(
        FWHMS, SKIES, GAINS, ((0.02, -0.03), (-0.02, 0.02)), (True, False), strict=True
    ):
        psf = PsfModel(fwhm, *shear, wing=0.02, shape=SHAPE)
        light = np.zeros(SHAPE)
        psf.render(x, y, (SCALE if science else 1.0) * flux, light)
        if science:
            psf.render(tx, ty, np.resize([8e3, 2e4], tx.size), light)
        counts = rng.poisson((light + sky) * gain) / gain
        counts += rng.normal(0, READ_NOISE / gain, SHAPE)
        images.append(counts.astype(np.float32))
    return images, np.c_[tx, ty]


def chain(images):
    exposures = [
        Exposure(image, gain=gain, read_noise=READ_NOISE, saturation=6e4)
        for image, gain in zip(images, GAINS, strict=True)
    ]
    return psflib.decorrelate(psflib.subtract(*exposures))


def counted(clean, places):
    """Transients found, and clean candidates that are none."""
    found = psflib.detect(clean)
    at = np.c_[[np.asarray(found[name].value) for name in ("x", "y")]].T
    distance, nearest = spatial.cKDTree(at).query(places)
    false = np.delete(np.arange(len(found)), np.unique(nearest[distance < 3]))
    return int((distance < 3).sum()), int(np.sum(found["clean"][false]))


@pytest.mark.parametrize("per_mpx", [20_000, 60_000])
def test_crowds(per_mpx):
    images, places = pair(per_mpx, 20)
    clean = chain(images)
    hits, false = counted(clean, places)
    assert hits >= 0.95 * len(places) and false <= 1  # 4 a Mpx are 0.6 here
    score = clean.score[clean.usable]
    # robust: transients stand in 4 % of the pixels
    assert 1.4826 * np.median(np.abs(score)) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("amplitude", [15.0, 60.0])
def test_rows_that_alternate(amplitude):
    images, places = pair(800, 5)
    images[0] += amplitude * (1 - 2 * (np.arange(SHAPE[0]) % 2))[:, None].astype(np.float32)
    clean = chain(images)
    hits, false = counted(clean, places)
    assert clean.variance[clean.usable].min() > 0
    assert hits >= 0.95 * len(places) and false <= 2
