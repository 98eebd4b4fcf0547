"""What stars of an undersampled image cannot tell, and what decides it instead."""

import numpy as np
import pytest

from psflib.preparation.cosmics import find_cosmic_rays, spare_stars
from psflib.psf import build_epsf
from psflib.psf.core import phases
from psflib.simulation.epsf_scores import relative_l2
from psflib.simulation.star_stamps import EpsfTruth, simulate_stamps

OS, SIZE = 5, 17


@pytest.mark.parametrize("family", ["gaussian", "jwst"])
def test_a_pixel_sees_the_same_light_at_every_phase(family):
    psi = EpsfTruth(family, 0.9).epsf(SIZE, OS)
    # diffraction's wing is cut by the box, by 2e-3 of the light
    np.testing.assert_allclose(phases.volumes(psi, OS), 1, atol=3e-3)


def test_a_warp_of_the_phases_is_told_by_the_spectrum():
    psi = EpsfTruth("gaussian", 0.9).epsf(SIZE, OS)
    assert np.abs(phases.least_warp(psi, OS)).max() < 2e-3  # px
    for k in range(4):
        warped = psi + 0.01 * phases.warps(psi, OS)[k]
        found = phases.least_warp(warped, OS)
        expected = 0.01 * np.eye(4)[k]
        # the rule is good to 0.003 px, see decision 0019
        np.testing.assert_allclose(np.abs(found), expected, atol=4e-3)


@pytest.mark.parametrize(("seed", "limit"), [(4, 0.005), (3, 0.02)])
def test_an_epsf_of_a_pixel_s_width_is_right_between_its_stars(seed, limit):
    truth = EpsfTruth("gaussian", 0.9)
    stars = simulate_stamps(truth, 120, SIZE, seed=seed)
    made = build_epsf(stars.data, stars.delta_init, OS, weight=stars.weight, solver="normal")
    # a fiftieth before the phases were fixed, and still where the stars do not hold them (seed 3)
    assert made.converged
    assert relative_l2(made.epsf, truth, OS)[0] < limit


def test_cosmic_rays_spare_diffraction():
    rng = np.random.default_rng(5)
    truth, side = EpsfTruth("jwst", 2.05), 300
    places = np.stack(np.meshgrid(*[np.arange(20, side - 10, 20)] * 2), -1).reshape(-1, 2)
    places = places + rng.uniform(-0.5, 0.5, places.shape)
    image = np.full((side, side), 100.0)
    axis = np.arange(-9, 10)
    for x, y in places:
        col, row = round(x), round(y)
        box = np.s_[row - 9 : row + 10, col - 9 : col + 10]
        image[box] += 2e4 * truth.at(axis[:, None] - (y - row), axis[None, :] - (x - col))
    image[50::60, 53::60] += 3000.0  # rays of one pixel, between the stars
    variance = image.astype(np.float32)
    image = (image - 100 + np.sqrt(image) * rng.normal(size=image.shape)).astype(np.float32)
    none = np.zeros(image.shape, bool)
    blind = find_cosmic_rays(image, variance, none, fwhm=2.05)
    rays = spare_stars(image, variance, none, places, fwhm=2.05)
    assert rays[50::60, 53::60].all()
    assert rays.sum() < 60 < blind.sum()
