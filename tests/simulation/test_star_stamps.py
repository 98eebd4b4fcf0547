"""Simulated stamps of stars: the truth is true, the noise is what the weights say."""

import numpy as np
import pytest
from scipy.integrate import dblquad

from psflib.simulation.epsf_scores import (
    held_out_stars,
    relative_l2,
    score_epsf,
    score_floor,
    shape_error,
)
from psflib.simulation.star_stamps import (
    FAMILIES,
    EpsfTruth,
    FieldTruth,
    node_offsets,
    simulate_stamps,
)

SHAPES = [("bench", 0.9), ("bench", 1.3), ("bench", 8.0), ("donut", 1.3), ("elongated", 0.9)]
SHAPES += [("gaussian", 0.9), ("moffat", 3.0)]


@pytest.mark.parametrize(("family", "fwhm"), SHAPES)
def test_truth_is_the_integral_over_the_pixel(family, fwhm):
    truth = EpsfTruth(family, fwhm)
    rng = np.random.default_rng(1)
    dy, dx = rng.normal(0, max(fwhm, 1.5), (2, 6))
    integral = [
        dblquad(truth.point, b - 0.5, b + 0.5, a - 0.5, a + 0.5, epsabs=1e-9, epsrel=1e-8)[0]
        for a, b in zip(dy, dx, strict=True)
    ]
    peak = truth.at(0.0, 0.0)
    np.testing.assert_allclose(truth.at(dy, dx), integral, rtol=0, atol=3e-6 * peak)
    np.testing.assert_allclose(truth.integrate(dy, dx), integral, rtol=0, atol=1e-5 * peak)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fwhm", [0.9, 8.0])
def test_both_integrations_agree_everywhere(family, fwhm):
    truth = EpsfTruth(family, fwhm)
    dy, dx = np.random.default_rng(2).uniform(-15, 15, (2, 4000))
    error = np.abs(truth.at(dy, dx) - truth.integrate(dy, dx, order=12, far=12))
    assert error.max() < 3e-6 * truth.at(0.0, 0.0)


def test_nodes_lie_where_they_should_and_hold_the_flux():
    truth = EpsfTruth("gaussian", 2.0)
    nodes = truth.epsf(25, 3)
    assert nodes.shape == (75, 75)
    assert nodes[37, 37] == truth.at(0.0, 0.0)
    assert nodes[37, 40] == truth.at(0.0, 1.0)
    assert abs(nodes.sum() / 9 - 1) < 1e-6


def test_noise_is_as_the_weights_say():
    truth = EpsfTruth("bench", 1.3)
    stamps = simulate_stamps(truth, 60, seed=3, clean=True)
    pixel = np.arange(25) - 12
    model = [
        f * truth.at(pixel[:, None] - d[0], pixel[None, :] - d[1]) + 100
        for f, d in zip(stamps.flux, stamps.delta, strict=True)
    ]
    z = (stamps.data - model) * np.sqrt(stamps.weight)
    # 37500 values: errors of 1/sqrt(n) of the mean and 1/sqrt(2n) of the deviation, five times.
    assert abs(z.mean()) < 5 / np.sqrt(z.size)
    assert abs(z.std() - 1) < 5 / np.sqrt(2 * z.size)
    measured = (stamps.delta_init - stamps.delta) / 0.05
    assert abs(measured.std() - 1) < 5 / np.sqrt(2 * measured.size)


def test_dirt_is_not_in_the_weights():
    truth = EpsfTruth("moffat", 2.0)
    clean = simulate_stamps(truth, 40, seed=4, cosmics=0, neighbours=0)
    dirty = simulate_stamps(truth, 40, seed=4, cosmics=5, neighbours=1)
    np.testing.assert_array_equal(clean.weight, dirty.weight)
    outliers = (np.abs(dirty.data - clean.data) * np.sqrt(clean.weight) > 8).sum(axis=(1, 2))
    assert (outliers > 0).all()


def test_options():
    truth = EpsfTruth("moffat", 2.0)
    stamps = simulate_stamps(
        truth, 20, 15, seed=5, flux=(1e4, 1e4), sky_spread=0.5, phase=(0.2, -0.1), dtype=np.float32
    )
    assert stamps.data.dtype == stamps.weight.dtype == np.float32
    assert stamps.data.shape == (20, 15, 15)
    np.testing.assert_allclose(stamps.flux, 1e4)
    np.testing.assert_array_equal(stamps.delta, np.tile([0.2, -0.1], (20, 1)))
    assert stamps.sky.min() >= 50 and stamps.sky.max() <= 150 and np.ptp(stamps.sky) > 50
    again = simulate_stamps(
        truth, 20, 15, seed=5, flux=(1e4, 1e4), sky_spread=0.5, phase=(0.2, -0.1), dtype=np.float32
    )
    np.testing.assert_array_equal(stamps.data, again.data)


def test_field_varies_linearly_in_ellipticity():
    field = FieldTruth(EpsfTruth("gaussian", 3.0), (1001, 2001), shear=0.1)
    pixel = np.arange(-12, 13)
    for x, y, g1, g2 in ((1000, 500, 0, 0), (2000, 500, 0.1, 0), (1000, 1000, 0, 0.1)):
        values = field.at(pixel[:, None], pixel[None, :], x, y)
        qxx = (values * pixel[None, :] ** 2).sum() / values.sum() - 1 / 12
        qyy = (values * pixel[:, None] ** 2).sum() / values.sum() - 1 / 12
        qxy = (values * pixel[None, :] * pixel[:, None]).sum() / values.sum()
        # A shear g of a circle has (qxx - qyy)/(qxx + qyy) = 2g/(1 + g²).
        np.testing.assert_allclose((qxx - qyy) / (qxx + qyy), 2 * g1 / (1 + g1**2), atol=1e-4)
        np.testing.assert_allclose(2 * qxy / (qxx + qyy), 2 * g2 / (1 + g2**2), atol=1e-4)
    stamps = simulate_stamps(field, 5, seed=6)
    assert np.ptp(stamps.x) > 0 and stamps.y.max() <= 1000


def test_bad_calls():
    with pytest.raises(ValueError, match="family"):
        EpsfTruth("sersic")
    with pytest.raises(ValueError, match="fwhm"):
        EpsfTruth("moffat", 0)


def test_score_of_the_truth_is_the_floor():
    truth = EpsfTruth("bench", 3.0)
    stars = held_out_stars(truth, n=100)
    floor = score_floor(truth, stars)
    # 100 stars: the bias within five of its errors, the scatter as good as the photons allow.
    assert abs(floor.flux_bias) < 5 * floor.flux_scatter / np.sqrt(100)
    assert floor.flux_scatter < 0.0025 and floor.position_scatter < 0.005
    node = node_offsets(25, 3)
    # Neither a shift nor a factor is an error.
    moved = 7 * truth.at(node[:, None] - 0.03, node[None, :] + 0.11)
    error, shift = relative_l2(moved, truth, 3)
    assert error < 1e-9
    np.testing.assert_allclose(shift, [0.03, -0.11], atol=1e-9)
    score = score_epsf(moved, truth, 3, stars)
    # At FWHM 3 Catmull-Rom of the nodes costs nothing.
    assert abs(score.flux_bias - floor.flux_bias) < 1e-4
    assert score.flux_scatter < 1.02 * floor.flux_scatter
    assert score.position_scatter < 1.02 * floor.position_scatter


def test_scores_see_errors():
    truth = EpsfTruth("bench", 3.0)
    stars = held_out_stars(truth, n=60)
    floor = score_floor(truth, stars)
    nodes = truth.epsf(25, 3)
    pedestal = score_epsf(nodes + 2e-5, truth, 3, stars)
    # The volume of a pedestal is bought from the star: 2e-5 on 625 px are 1.25 %.
    assert abs(pedestal.flux_bias - floor.flux_bias - 0.0125) < 0.002
    wrong = score_epsf(EpsfTruth("bench", 3.1).epsf(25, 3), truth, 3, stars)
    assert 0.02 < wrong.relative_l2 < 0.06
    assert relative_l2(np.full((75, 75), np.nan), truth, 3)[0] == np.inf


def test_shape_error_is_what_was_put_in():
    truth = EpsfTruth("bench", 2.0)
    other = EpsfTruth("bench", 2.0 * 1.004, g1=0.003, g2=-0.002)
    # Linear: the next order is about the square of the change.
    np.testing.assert_allclose(
        shape_error(5 * other.epsf(25, 3), truth, 3), [0.004, 0.003, -0.002], atol=5e-5
    )
