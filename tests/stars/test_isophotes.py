"""Areas of sources: their sums, and sep's own filter as the measure of ours."""

import numpy as np
import pytest
import sep

from psflib.loops.isophotes import area_sums
from psflib.stars.isophotes import isophotes
from tests.stars import naive_stars as naive

FWHM = 3.0
SIGMA = FWHM / 2.3548


@pytest.fixture(scope="module")
def field():
    """Stars of S/N 4 to 400, single ones and pairs, in noise that grows across the image."""
    rng = np.random.default_rng(11)
    y, x = np.indices((300, 320))
    error = np.broadcast_to(2 + x / 160, x.shape).astype(np.float32)
    image = rng.normal(0, error)
    for flux in np.geomspace(40, 8000, 120):
        at, apart = rng.uniform(5, 295, 2), rng.uniform(0, 6)
        for place in (at, at + apart * np.array([1, 0.5])):
            r2 = (y - place[0]) ** 2 + (x - place[1]) ** 2
            image += flux / (2 * np.pi * SIGMA**2) * np.exp(-0.5 * r2 / SIGMA**2)
    return image.astype(np.float32), error


def test_area_sums_equal_their_twin(field):
    image, light = field[0], np.abs(field[0])
    areas = np.random.default_rng(3).integers(0, 6, image.shape).astype(np.int32)
    sums, peak = np.zeros((5, 6)), np.full(5, -np.inf)
    area_sums(image, light, areas, sums, peak)
    for k in range(5):
        expected = naive.area_moments(image, light, areas, k + 1)
        np.testing.assert_allclose([peak[k], *sums[k]], expected, rtol=1e-9)


def test_the_same_sources_as_by_the_filter_of_sep(field):
    image, error = field
    found = isophotes(image, error, np.zeros(image.shape, bool), FWHM, 5.0, 3)
    axis = np.arange(-3, 4) / SIGMA
    taps = np.exp(-0.5 * np.add.outer(axis**2, axis**2)).astype(np.float32)
    theirs = sep.extract(
        image, 5.0, err=error, minarea=3, filter_kernel=taps, filter_type="matched", clean=False
    )
    # what parts a pair claims in its valley may be a pixel more or less
    assert abs(len(found["x"]) - len(theirs)) <= 1
    distance = np.hypot(*(theirs[c][:, None] - found[c] for c in ("x", "y")))
    near, row = distance.min(axis=1) < 0.1, distance.argmin(axis=1)
    assert near.mean() > 0.97
    merged = (theirs["flag"] & 1) > 0
    assert np.mean(found["merged"][row[near]] == merged[near]) > 0.97
    # the faint pixels of a pair are dealt out by chance
    alone = near & ~merged & ~found["merged"][row]
    for name in ("peak", "a", "b"):
        np.testing.assert_allclose(found[name][row[alone]], theirs[name][alone], rtol=1e-4)


def test_an_area_with_a_masked_pixel_is_deblended_as_others_are():
    """sep's filter takes its noise for infinite, and leaves the two stars one."""
    y, x = np.indices((60, 60))
    light = [np.exp(-0.5 * ((y - 30) ** 2 + (x - at) ** 2) / SIGMA**2) for at in (26, 34)]
    image = np.random.default_rng(1).normal(0, 1, y.shape) + 200 * sum(light)
    bad = np.zeros(y.shape, bool)
    bad[30, 30] = True
    image = np.where(bad, 0, image).astype(np.float32)
    found = isophotes(image, np.ones(y.shape, np.float32), bad, FWHM, 5.0, 3)
    assert np.sum(found["peak"] > 100) == 2
