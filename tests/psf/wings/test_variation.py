"""The wing that changes over the field: told by the stars, or not at all."""

import dataclasses

import numpy as np
import pytest

from psflib import products
from psflib.psf.extended import radii
from psflib.psf.wings.disc import disc
from psflib.psf.wings.field import ExtendedPsfField, stamp_of
from psflib.psf.wings.follow import STEP, wing_variation
from psflib.psf.wings.result import radial_profile, unit_energy
from psflib.psf.wings.solve import bake
from psflib.psf.wings.stars import WingStar
from psflib.psf.wings.variation import WingVariation, tents
from psflib.simulation.wing_stamps import WingTruth

SIDE, FIELD, APERTURE = 81, (900, 1000), 18.0
NODES = 7.5 * STEP ** np.arange(4)
#: Along x and y, over half of 1000 px; from the seam outwards.
SLOPES = np.array([[0.30, -0.10], [0.12, -0.05], [0.0, 0.0], [0.0, 0.0]])


class SameCore:
    """A core that is the same everywhere."""

    def __init__(self, core):
        self.core = core

    def epsf(self, x, y):
        return self.core


@pytest.fixture(scope="module")
def shape():
    truth = WingTruth()
    whole = bake(truth.plane(SIDE), truth.epsf(25, 3), 3, 7.5, 3.0)
    return unit_energy(whole, APERTURE)[0]


def variation(slopes):
    return WingVariation(NODES, slopes, np.zeros((4, 2)), np.zeros(4), (499.5, 449.5), 500.0)


def stars_of(shape, slopes, seed, number=30):
    """Stars of 3e5 to 1e7 e- on a sky of 100, fitted as if the wing were the same everywhere."""
    rng = np.random.default_rng(seed)
    made, there = [], variation(slopes)
    for x, y in rng.uniform(20, (980, 880), (number, 2)):
        row, col = round(y), round(x)
        delta = np.array([y - row, x - col])
        axis = np.arange(SIDE) - SIDE // 2
        radius = np.hypot(axis[:, None], axis)
        own = dataclasses.replace(
            shape, wing=shape.wing * there.factor(x, y, radii(shape.wing.shape))
        )
        flux = 3e5 * 30 ** rng.uniform()
        light = flux * stamp_of(own, delta, SIDE)
        data = light + np.sqrt(light + 100) * rng.normal(size=light.shape)
        weight = np.where((light > 6e4) | (radius > 38), 0, 1 / (light + 100)).astype(np.float32)
        star = WingStar(data.astype(np.float32), weight, delta, flux, row=row, col=col)
        star.clean = weight
        made.append(star)
    return made


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_linear_change_is_found(shape, seed):
    stars = stars_of(shape, SLOPES, seed)
    middle, found = wing_variation(stars, shape, SameCore(shape.core), FIELD, APERTURE)
    # four stated errors (16 numbers)
    assert (np.abs(found.slopes - SLOPES) < 4 * np.maximum(found.errors, 0.01)).all()
    assert found.errors[:2].max() < 0.04
    # the wing given was that of the middle
    ring = radii(shape.wing.shape) > 7.5
    assert middle.wing[ring].sum() == pytest.approx(shape.wing[ring].sum(), rel=0.03)


@pytest.mark.parametrize("seed", [4, 5])
def test_without_a_change_little_or_nothing_is_told(shape, seed):
    stars = stars_of(shape, 0 * SLOPES, seed)
    middle, found = wing_variation(stars, shape, SameCore(shape.core), FIELD, APERTURE)
    if found is not None:  # one draw in some: within its errors
        assert (np.abs(found.slopes) <= 4 * np.maximum(found.errors, 0.01)).all()
    np.testing.assert_allclose(middle.wing.sum(), shape.wing.sum(), rtol=0.02)


def test_few_stars_and_odd_ones(shape):
    stars = stars_of(shape, SLOPES, 6)
    few = wing_variation(stars[:9], shape, SameCore(shape.core), FIELD, APERTURE)
    assert few == (shape, None)
    stars[0].data[...] *= 1 + radii(stars[0].data.shape).astype(np.float32) / 10  # a galaxy
    stars[1].clean = np.zeros_like(stars[1].clean)
    _, found = wing_variation(stars, shape, SameCore(shape.core), FIELD, APERTURE)
    assert np.abs(found.slopes - SLOPES).max() < 0.1


def test_the_sum_is_one_everywhere_and_the_product_keeps_it(shape, tmp_path):
    wing = tents(radii(shape.wing.shape), NODES) * shape.wing * disc(shape.wing.shape, APERTURE)
    told = dataclasses.replace(variation(SLOPES), energy=wing.sum(axis=(1, 2)))
    plane = stamp_of(shape, (0.0, 0.0), SIDE)
    field = ExtendedPsfField(
        shape.core, 3, shape.wing, 7.5, 3.0, APERTURE, radial_profile(plane),
        radial_profile(plane), {}, None, told,
    )  # fmt: skip
    products.write_extended_psf(tmp_path / "x.fits", field)
    back = products.read_extended_psf(tmp_path / "x.fits")
    inside = disc(plane.shape, APERTURE)
    np.testing.assert_array_equal(field.at(SIDE), plane)
    for x, y in ((0, 0), (999, 0), (500, 450), (999, 899)):
        stamp = field.render(x, y, SIDE)
        assert np.sum(stamp * inside) == pytest.approx(1, abs=1e-9)
        np.testing.assert_allclose(back.render(x, y, SIDE), stamp, rtol=1e-12)
    left, right = (field.render(x, 450, SIDE)[40, 48] for x in (0, 999))
    # +-30 % at the seam, half a pixel outwards of it, where half of the light is the core's
    assert 1.2 < right / left < 1.9
