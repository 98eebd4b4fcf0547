"""The first guess of the stars' FWHM, on images that say little or mislead."""

import logging

import numpy as np
import pytest
from scipy import ndimage

from psflib.image.exposure import Exposure, MaskBit
from psflib.loops import profiles as loops
from psflib.preparation.prepare import PrepareSettings, prepare
from psflib.simulation.psf_model import PsfModel
from psflib.stars import widths
from psflib.stars.select import detect_stars
from tests.stars import naive_stars as naive

SKY, READ = 300.0, 5.0
ROUND = np.array([1.0, 0.0, 1.0])


def scene(fwhm, count, side=320, seed=1, brightest=5.0, others=0.0):
    """Stars on a sky that was taken off; `others` (ny, nx) is further light."""
    rng = np.random.default_rng([seed, count])
    light = np.zeros((side, side)) + others
    faintest = 3.3 if count < 50 else 2.6
    flux = 10 ** rng.uniform(faintest, brightest, count) * (max(fwhm, 2) / 3) ** 2
    x, y = rng.uniform(5, side - 5, (2, count))
    PsfModel(fwhm, wing=0.02, shape=light.shape).render(x, y, flux, light)
    return (rng.poisson(light + SKY) + rng.normal(0, READ, light.shape) - SKY).astype("f4")


def guess(image, bad=None):
    variance = np.full(image.shape, SKY + READ**2, np.float32)
    mask = np.zeros(image.shape, np.uint16)
    if bad is not None:
        mask[bad] = MaskBit.BAD
    return widths.estimate_fwhm(image, variance, mask)


def blocks(shape, share, seed=3):
    """Boxes of missing pixels that take this share of an image."""
    rng, bad = np.random.default_rng(seed), np.zeros(shape, bool)
    while bad.mean() < share:
        y, x, size = *rng.integers(0, shape[0], 2), rng.integers(5, 60)
        bad[y : y + size, x : x + size] = True
    return bad


@pytest.mark.parametrize("masked", [0.0, 0.6])
@pytest.mark.parametrize("count", [12, 100, 1500])
@pytest.mark.parametrize("fwhm", [1.0, 1.4, 2.05, 3.0, 5.0])
def test_within_ten_percent(fwhm, count, masked):
    image = scene(fwhm, count)
    bad = blocks(image.shape, masked) if masked else None
    assert guess(image, bad) == pytest.approx(fwhm, rel=0.1)


@pytest.mark.parametrize("masked", [0.0, 0.6])
def test_wide_stars(masked):
    image = scene(12.0, 60, side=512)
    bad = blocks(image.shape, masked) if masked else None
    assert guess(image, bad) == pytest.approx(12, rel=0.1)


@pytest.mark.parametrize("fwhm", [0.9, 1.2, 1.6, 4.0])
def test_five_stars_are_enough(fwhm):
    assert guess(scene(fwhm, 5, side=200, seed=4)) == pytest.approx(fwhm, rel=0.1)


def test_few_stars_among_many_galaxies():
    rng = np.random.default_rng(5)
    side, fwhm = 400, 2.05
    light = np.zeros((side, side))
    row, col = np.indices((81, 81)) - 40
    for _ in range(100):
        size, axes = np.exp(rng.uniform(0, 1.8)), rng.uniform(0.3, 1)
        galaxy = np.exp(-np.hypot(row, col / axes) / size)
        galaxy = ndimage.gaussian_filter(galaxy, fwhm / 2.355)
        y, x = rng.integers(0, side - 81, 2)
        light[y : y + 81, x : x + 81] += 10 ** rng.uniform(3.5, 5.3) * galaxy / galaxy.sum()
    assert guess(scene(fwhm, 10, side, others=light)) == pytest.approx(fwhm, rel=0.1)


def test_rays_are_no_stars():
    rng = np.random.default_rng(6)
    image = scene(2.05, 40)
    for _ in range(400):
        y, x = rng.integers(5, 310, 2)
        image[y, x : x + rng.integers(1, 6)] += 10 ** rng.uniform(2.5, 4)
    assert guess(image) == pytest.approx(2.05, rel=0.05)


def test_nothing_to_measure_is_said(caplog):
    noise = np.random.default_rng(7).normal(0, 18, (100, 100)).astype("f4")
    with caplog.at_level(logging.WARNING):
        assert guess(noise) == widths.DEFAULT_FWHM
    assert "no source to measure the FWHM on" in caplog.text
    assert guess(np.zeros((50, 50), "f4"), np.ones((50, 50), bool)) == widths.DEFAULT_FWHM


def test_same_in_any_unit():
    image = scene(3.0, 60)
    variance = np.full(image.shape, 325, np.float32)
    mask = np.zeros(image.shape, np.uint16)
    expected = widths.estimate_widths(image, variance, mask)
    for unit in np.float32(2.0) ** np.array([-45, 30]):
        seen = widths.estimate_widths(image * unit, variance * unit**2, mask)
        assert seen == pytest.approx(expected, rel=1e-9)


def test_patches_of_a_large_image_are_enough():
    image = np.tile(scene(3.0, 200, side=512), (3, 3))
    assert len(next(widths._samples(image.shape))) == 4
    assert guess(image) == pytest.approx(3, rel=0.03)


def test_a_given_width_rules_all_stages():
    raw = Exposure(scene(3.0, 100) + np.float32(SKY), gain=1.0)
    given = prepare(raw, PrepareSettings(fwhm=4.5))
    assert given.meta["fwhm"] == 4.5
    assert detect_stars(given).meta["fwhm"] == 4.5


@pytest.mark.parametrize("n_free", [4, 7])
def test_moffats_equal_their_naive_twin(n_free):
    image = scene(3.0, 8, side=120, seed=9).astype(float)
    usable = np.random.default_rng(1).uniform(size=image.shape) > 0.05
    y, x = np.unravel_index(np.argsort(-ndimage.gaussian_filter(image, 1).ravel())[:1], image.shape)
    first, fits = np.array([2.6]), np.empty((1, 8))
    loops.fit_moffats(image, usable, x * 1.0, y * 1.0, first, ROUND, 3.0, n_free, fits)
    twin = naive.fit_moffat(image, usable, x[0], y[0], first[0], ROUND, 3.0, n_free)
    # both stop where the sum of squares changes by 1e-5: half of its digits in the parameters
    np.testing.assert_allclose(fits[0, :7], twin, rtol=3e-3, atol=3e-3)


def test_half_widths_equal_their_naive_twin():
    image = ndimage.gaussian_filter(scene(4.0, 12, side=150), 1.0)
    usable = np.random.default_rng(2).uniform(size=image.shape) > 0.02
    rows, cols = (a[:20] for a in np.nonzero(image == ndimage.maximum_filter(image, 9)))
    out = np.empty(len(rows))
    loops.half_widths(image, usable, rows, cols, 30, out)
    twin = [naive.half_width(image, usable, r, c, 30) for r, c in zip(rows, cols, strict=True)]
    np.testing.assert_allclose(out, twin, rtol=1e-6)
