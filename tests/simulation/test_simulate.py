"""The simulator is the judge of everything else: here it is judged itself."""

import numpy as np
import pytest

from psflib.image.exposure import MaskBit
from psflib.loops.simulate import add_point_sources, bleed_columns
from psflib.simulation import Camera, PsfModel, Scene, make_wcs, observe, optimal_snr, render
from psflib.simulation.simulate import SimulateSettings, simulate_field, simulate_pair
from tests.simulation import naive_simulation as naive


@pytest.fixture(scope="module")
def field():
    return simulate_field(SimulateSettings(size=512))


@pytest.mark.parametrize("beta", [3.0, 2.7])
def test_point_sources_equal_their_naive_twin(beta):
    out = np.zeros((40, 50))
    add_point_sources(
        out, np.array([20.3]), np.array([17.8]), np.array([1000.0]), np.array([15.0]),
        np.array([[2.5, 0.1, -0.05]]), beta, 0.04, 4.0,
    )  # fmt: skip
    expected = naive.point_source(
        out.shape, 20.3, 17.8, 1000.0, 2.5, 0.1, -0.05, beta, 0.04, 4.0, 15.0
    )
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)


def test_flux_of_a_star_is_kept():
    psf = PsfModel(2.8, g1=0.1, g2=0.05, shape=(301, 301))
    image = render(Scene.points(150.3, 149.6, 1000.0), psf, psf.shape)
    # the wing beyond 120 px holds 0.03 * 4 / 120 = 1e-3
    assert image.sum() == pytest.approx(1000, rel=1.1e-3)


def test_fwhm_is_that_of_the_formula():
    psf = PsfModel(3.6, wing=0.0)
    fine = psf.at(511.5, 511.5, size=201, step=0.05)
    above = (fine >= fine.max() / 2).sum() * 0.05**2
    # area of the disc above half maximum; its rim is uncertain by half a sample
    assert 2 * np.sqrt(above / np.pi) == pytest.approx(3.6, abs=0.05)


def test_galaxy_flux_and_centroid_are_kept_at_any_phase():
    psf = PsfModel(3.0, shape=(161, 161))
    one = np.ones(1)
    for x, y in ((80.0, 80.0), (80.37, 79.55)):
        galaxy = Scene(one * x, one * y, one * 1e4, one * 3, one, one * 0.5, one * 0.7)
        image = render(galaxy, psf, psf.shape)
        row, col = np.indices(image.shape)
        # within 40 px; beyond lies 0.03 * 4 / 40 of the flux, at most
        assert image.sum() == pytest.approx(1e4, rel=4e-3)
        assert (image * col).sum() / image.sum() == pytest.approx(x, abs=0.01)
        assert (image * row).sum() / image.sum() == pytest.approx(y, abs=0.01)


def test_bleeding_conserves_charge_and_stays_in_its_column():
    image = np.full((60, 5), 10.0)
    image[30, 2], image[31, 2] = 800.0, 300.0
    before = image.copy()
    bleed_columns(image, 100.0)
    assert image.sum() == pytest.approx(before.sum(), rel=1e-12)
    assert image.max() == 100.0
    np.testing.assert_array_equal(np.delete(image, 2, axis=1), np.delete(before, 2, axis=1))
    # 900 ADU too many fill 10 pixels of 90 free ADU each
    assert (image[:, 2] == 100).sum() == 2 + 10


def test_noise_variance_is_as_declared():
    camera = Camera(PsfModel(shape=(400, 400)), sky=300.0)
    seen = observe(np.zeros(camera.shape), camera)
    z = (seen.exposure.image - seen.expected) / np.sqrt(seen.variance)
    n = z.size
    assert abs(z.mean()) < 4 / np.sqrt(n)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / n)


def test_optimal_snr_is_the_scatter_of_the_matched_filter():
    psf, rng, sigma, flux = PsfModel(3.0, shape=(31, 31)), np.random.default_rng(3), 5.0, 500.0
    model = psf.at(15, 15, 31)
    n = 4000
    noise = rng.normal(0, sigma, (n, 31, 31))
    fluxes = flux + (noise * model).sum((1, 2)) / (model**2).sum()
    snr = optimal_snr(flux, 15, 15, psf, np.full((31, 31), sigma**2))
    assert snr == pytest.approx(flux / fluxes.std(), rel=4 / np.sqrt(2 * n))


def test_wcs_shift_moves_sources():
    shape = (200, 300)
    world = make_wcs(shape).pixel_to_world(100, 120)
    x, y = make_wcs(shape, shift=(3.4, -2.3)).world_to_pixel(world)
    assert (x, y) == (pytest.approx(103.4, abs=1e-3), pytest.approx(117.7, abs=1e-3))


def test_same_seed_same_pixels(field):
    again = simulate_field(SimulateSettings(size=512))
    np.testing.assert_array_equal(again.science["2"].image, field.science["2"].image)
    np.testing.assert_array_equal(again.truth["snr"], field.truth["snr"])
    other = simulate_field(SimulateSettings(size=512, seed=2))
    assert not np.array_equal(other.template.image, field.template.image)


def test_truth_flux_is_in_the_noiseless_images(field):
    """A transient's light, measured with its own PSF above what surrounds it."""
    for epoch in ("1", "2"):
        rows = field.truth[(field.truth["epoch"] == epoch) & (field.truth["kind"] == "transient")]
        seen, camera = field.observations[epoch], field.cameras[epoch]
        bright = rows[(rows["delta_flux"].value > 0) & (rows["snr"] > 15) & ~rows["on_galaxy"]]
        assert len(bright) > 0
        for row in bright:
            x, y = row["x"].value, row["y"].value
            light = np.zeros(camera.shape)
            camera.psf.render([x], [y], [row["flux"].value], light)
            rest = seen.expected - light
            r, c = int(np.rint(y)), int(np.rint(x))
            box = rest[r - 1 : r + 2, c - 1 : c + 2]
            # without the transient nothing peaks at its place: its peak is many times the rest's
            # curvature there
            assert np.ptp(box) < 0.5 * light[r, c]


def test_transients_are_as_promised(field):
    truth = field.truth[field.truth["kind"] == "transient"]
    for epoch in ("1", "2"):
        rows = truth[truth["epoch"] == epoch]
        assert len(rows) == round(60 * 512**2 / 1e6)
        assert np.sum(rows["delta_flux"].value < 0) == len(rows) // 3
        assert np.sum(rows["on_galaxy"]) >= len(rows) // 4
        artefacts = field.observations[epoch].artefacts
        for x, y in zip(rows["x"].value, rows["y"].value, strict=True):
            r, c = int(np.rint(y)), int(np.rint(x))
            assert not artefacts[r - 5 : r + 6, c - 5 : c + 6].any()
    assert truth["snr"].min() > 2.5
    assert truth["snr"].max() < 130


def test_artefacts_are_there(field):
    for seen in field.observations.values():
        for bit in (MaskBit.SAT, MaskBit.CR, MaskBit.BAD, MaskBit.NO_DATA):
            assert (seen.artefacts & bit).any(), bit
        assert seen.exposure.variance is None
        # what the astronomer is not told stays untold
        assert not (seen.exposure.mask & ~np.uint16(MaskBit.NO_DATA)).any()


def test_pair_is_the_truth_plus_declared_noise():
    spots = [(40, 50, 4000.0), (90.5, 70.2, -3000.0)]
    science, template, truth = simulate_pair((128, 128), seed=5, scale=1.3, transients=spots)
    quiet = simulate_pair((128, 128), seed=5, scale=1.3, transients=spots, noise=False)
    for noisy, still in zip((science, template), quiet[:2], strict=True):
        z = (noisy.image - still.image) / np.sqrt(noisy.variance)
        assert abs(z.var() - 1) < 4 * np.sqrt(2 / z.size)
    delta = truth["delta_flux"][truth["kind"] == "transient"].value
    np.testing.assert_allclose(delta, [4000, -3000])
    assert np.all(truth["delta_flux"][truth["kind"] == "star"].value == 0)


def test_equal_psfs_leave_only_the_transients():
    spots = [(40.2, 50.7, 4000.0), (90.5, 70.2, -3000.0)]
    science, template, _ = simulate_pair(
        (128, 128), scale=1.3, fwhm_science=3.0, fwhm_template=3.0, transients=spots, noise=False,
        variation=0.05,
    )  # fmt: skip
    difference = science.image.astype(float) - 1.3 * template.image
    row, col = np.indices(difference.shape)
    for x, y, flux in spots:
        near = np.hypot(col - x, row - y) < 20
        light = np.where(near, difference, 0)
        # a Moffat of beta 3 keeps (1 + (20/R)^2)^-2 = 5e-4 of its flux outside 20 px
        assert light.sum() == pytest.approx(flux, rel=2e-3)
        assert (light * col).sum() / light.sum() == pytest.approx(x, abs=0.05)
        assert (light * row).sum() / light.sum() == pytest.approx(y, abs=0.05)
