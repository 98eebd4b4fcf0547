"""Pairs of images whose pixels are wider than their PSFs."""

import numpy as np
import pytest

import psflib
from psflib.image.exposure import Exposure
from psflib.matching import pixels
from psflib.simulation.camera import make_wcs
from psflib.simulation.star_stamps import EpsfTruth

SHAPE, HALF, SCALE, NOISE, GAIN = (256, 256), 10, 1.2, 12.0, 2.0


class Truth:
    """An `EpsfTruth` as a PSF of the whole image."""

    def __init__(self, truth):
        self.truth = truth

    def at(self, x, y, size):
        side = np.arange(size) - size // 2
        return self.truth.at(side[:, None], side[None, :])


def image(fwhm, scale, shift, seed):
    rng = np.random.default_rng(7)
    x, y = rng.uniform(15, SHAPE[0] - 15, (2, 70))
    flux = scale * 10 ** rng.uniform(3, 5.2, 70)
    light, truth = np.zeros(SHAPE), EpsfTruth("moffat", fwhm)
    side = np.arange(-HALF, HALF + 1)
    for x0, y0, f in zip(x + shift[0], y + shift[1], flux, strict=True):
        j, i = round(y0), round(x0)
        box = np.s_[j - HALF : j + HALF + 1, i - HALF : i + HALF + 1]
        light[box] += f * truth.at((side + j - y0)[:, None], side + i - x0)
    rng, variance = np.random.default_rng(seed), light / GAIN + NOISE**2
    return Exposure(
        (light + np.sqrt(variance) * rng.standard_normal(SHAPE)).astype("f4"),
        variance.astype("f4"), wcs=make_wcs(SHAPE, shift), gain=GAIN, sky=0.0,
        meta={"fwhm": fwhm},
    )  # fmt: skip


def test_flux_ratio_of_a_first_guess():
    """Within 1 FWHM of what is smoothed by more than its PSF the ratio was 1.8 for 1.2."""
    science, template = image(1.0, SCALE, (0, 0), 1), image(0.9, 1.0, (0, 0), 2)
    planes = [(e.image, e.variance) for e in (science, template)]
    smooth = pixels.smoothed(template.image, 0.7)
    found = pixels.find_sources(*planes, smooth, science.usable, 1.0)
    # a first guess: beyond 2 px is 10 % more of the smoothed one's light
    assert found.scale == pytest.approx(SCALE, rel=0.15)
    # every pixel above the noise was a peak: 15 for each star
    assert len(found.x) < 1.2 * 70


def test_what_no_kernel_follows_is_told_with_numbers():
    """A template of another pixel phase, resampled: stars alias."""
    science, template = image(1.3, SCALE, (0, 0), 1), image(1.1, 1.0, (0.37, 0.61), 2)
    raw = psflib.subtract(science, template, method="al", psf=Truth(EpsfTruth("moffat", 1.3)))
    notes = " ".join(raw.meta["notes"])
    assert "was resampled: below 2 px" in notes
    assert "cannot follow: chi-square" in notes and "sigma above 300" in notes
    held_out = raw.kernel.meta["heldout_residual"]
    assert held_out[2] > 3
    found = psflib.detect(psflib.decorrelate(raw))
    assert found.meta["verdict"] == "bad"
    assert any("sigma" in reason for reason in found.meta["reasons"])
    assert not np.any(found["clean"])
