"""Cosmic rays: the loops against their twin, rays found, stars kept, whatever the unit."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import erf

from psflib.preparation.cosmics import find_cosmic_rays, lobes
from psflib.simulation.psf_model import PsfModel
from psflib.simulation.scene import Scene, power_law, render
from tests.preparation import naive_cosmics as naive

READ_NOISE = 5.0  # e-


def stars(shape, count, fwhm, rng, faintest=200.0, **shape_of_psf):
    """Noiseless light (e-) of stars with a steep distribution of fluxes."""
    x, y = rng.uniform(-10, shape[1] + 10, count), rng.uniform(-10, shape[0] + 10, count)
    flux = power_law(rng.uniform(size=count), faintest, 3e5, 1.8)
    return render(Scene.points(x, y, flux), PsfModel(fwhm, shape=shape, **shape_of_psf), shape)


def tracks(shape, count, rng, charge=(500, 5000)):
    """Charge (e-) of straight tracks one pixel wide, 1 to 12 px long, in all directions."""
    plane = np.zeros(shape)
    for _ in range(count):
        y, x, angle = *(rng.uniform(0, n) for n in shape), rng.uniform(0, 2 * np.pi)
        along = np.arange(0, rng.uniform(1, 12))
        rows = np.clip(np.rint(y + along * np.sin(angle)).astype(int), 0, shape[0] - 1)
        columns = np.clip(np.rint(x + along * np.cos(angle)).astype(int), 0, shape[1] - 1)
        plane[rows, columns] = rng.uniform(*charge)
    return plane


def observe(light, sky, rng):
    """Image (e-, sky left in) and its variance without the rays' counts."""
    image = rng.poisson(light + sky) + rng.normal(0, READ_NOISE, light.shape)
    return image, light + sky + READ_NOISE**2


def nothing(image):
    return np.zeros(image.shape, bool)


@pytest.fixture(scope="module")
def sky_with_rays():
    """A sparse sky (FWHM 3 px, 200 e-): image, variance, charge of the rays."""
    rng = np.random.default_rng(11)
    light = stars((300, 310), 90, 3.0, rng)
    charge = tracks(light.shape, 60, rng)
    image, variance = observe(light, 200.0, rng)
    return image + rng.poisson(charge), variance, charge


class TestAgainstTheTwin:
    @pytest.mark.parametrize("fwhm", [1.3, 2.0, 3.1, 5.0])
    def test_same_pixels(self, fwhm):
        rng = np.random.default_rng(int(10 * fwhm))
        light = stars((48, 57), 25, fwhm, rng)
        charge = tracks(light.shape, 14, rng, charge=(100, 3000))
        image, variance = observe(light, 100.0, rng)
        image += charge
        unusable = rng.uniform(size=image.shape) < 0.02
        image[rng.uniform(size=image.shape) < 0.005] = np.nan
        variance[7, 9:20] = 0
        expected = naive.find_cosmic_rays(image, variance, unusable, fwhm)
        found = find_cosmic_rays(image, variance, unusable, fwhm=fwhm)
        assert expected.sum() > 20
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("shape", [(1, 40), (2, 30), (4, 3), (1, 1)])
    def test_same_pixels_of_slivers(self, shape):
        rng = np.random.default_rng(3)
        image = rng.normal(0, 1, shape)
        image.ravel()[shape[0] * shape[1] // 2] += 100
        expected = naive.find_cosmic_rays(image, np.ones(shape), nothing(image), 3.0)
        found = find_cosmic_rays(image, np.ones(shape), nothing(image), fwhm=3.0)
        np.testing.assert_array_equal(found, expected)


class TestFound:
    def test_nearly_all_of_a_sparse_sky_and_nothing_else(self, sky_with_rays):
        image, variance, charge = sky_with_rays
        found = find_cosmic_rays(image, variance, nothing(image), fwhm=3.0)
        bright = charge > 10 * np.sqrt(variance)
        assert bright.sum() > 250
        # thresholds of 4 to 6 sigma, and tracks that cross brighter stars
        assert found[bright].mean() > 0.97
        # pixels without charge are taken at 4 sigma beside a ray only, 8 to 24 a ray
        assert (found & (charge == 0)).sum() <= 2

    @pytest.mark.parametrize("width", [1, 2, 3])
    def test_thick_tracks_in_good_sampling(self, width):
        rng = np.random.default_rng(width)
        image, variance = observe(np.zeros((60, 60)), 100.0, rng)
        track = np.zeros(image.shape, bool)
        track[20:40, 30 : 30 + width] = True
        image[track] += 500
        found = find_cosmic_rays(image, variance, nothing(image), fwhm=5.0)
        assert found[track].mean() > 0.95 and (found & ~track).sum() == 0

    def test_at_the_very_border(self):
        rng = np.random.default_rng(5)
        image, variance = observe(np.zeros((50, 60)), 100.0, rng)
        hit = nothing(image)
        for y, x in ((0, 0), (0, 20), (49, 59), (30, 0), (12, 59), (49, 33), (1, 40), (30, 58)):
            hit[y, x] = True
        hit[0, 5:12] = hit[20:26, 59] = True  # tracks along the border
        image[hit] += 2000
        np.testing.assert_array_equal(
            find_cosmic_rays(image, variance, nothing(image), fwhm=3.0), hit
        )

    def test_on_top_of_a_star(self):
        rng = np.random.default_rng(6)
        light = render(Scene.points(30.2, 31.1, 2e4), PsfModel(4.0, shape=(61, 61)), (61, 61))
        image, variance = observe(light, 100.0, rng)
        image[31, 32] += 2000  # as bright as the star there
        found = find_cosmic_rays(image, variance, nothing(image), fwhm=4.0)
        assert found[31, 32] and found.sum() <= 2

    def test_the_counts_of_the_rays_in_the_variance_do_not_matter(self, sky_with_rays):
        image, variance, charge = sky_with_rays
        without = find_cosmic_rays(image, variance, nothing(image), fwhm=3.0)
        within = find_cosmic_rays(image, variance + charge, nothing(image), fwhm=3.0)
        bright = charge > 10 * np.sqrt(variance)
        assert within[bright].mean() > without[bright].mean() - 0.02


class TestStarsSurvive:
    """Of 1000 stars, 1.3 exceed 3 sigma; each may lose a few pixels."""

    @pytest.mark.parametrize("fwhm", [0.9, 1.3, 2.0, 3.0, 5.0])
    @pytest.mark.parametrize("sky", [5.0, 5000.0])
    def test_crowded_fields(self, fwhm, sky):
        rng = np.random.default_rng(int(10 * fwhm))
        light = stars((400, 400), 3200, fwhm, rng, 8 * np.sqrt(sky + 25), g1=0.05, variation=0.1)
        image, variance = observe(light, sky, rng)
        found = find_cosmic_rays(image, variance, nothing(image), fwhm=fwhm)
        assert found.sum() <= 10  # of 3200 stars

    @pytest.mark.parametrize("sigma", [0.4, 0.5, 0.7])
    def test_gaussians_seen_through_square_pixels(self, sigma):
        """Profiles steeper than any Moffat's: the pixel, not the optics, makes their width."""
        rng = np.random.default_rng(8)
        image = np.zeros((300, 300))
        box = np.arange(-6, 7)
        for _ in range(400):
            y, x, flux = *rng.uniform(10, 290, 2), np.exp(rng.uniform(np.log(400), np.log(2e5)))
            top, left = round(y), round(x)
            shares = [
                np.diff(erf((np.arange(-6, 8) - 0.5 + near - at) / sigma / np.sqrt(2))) / 2
                for near, at in ((top, y), (left, x))
            ]
            image[np.ix_(top + box, left + box)] += flux * np.outer(*shares)
        line = np.diff(erf((np.arange(-600, 601) / 100 + [[-0.5], [0.5]]) / sigma / 2**0.5), axis=0)
        fwhm = 0.01 * np.count_nonzero(line > line.max() / 2)
        image, variance = observe(image, 50.0, rng)
        found = find_cosmic_rays(image, variance, nothing(image), fwhm=fwhm)
        assert found.sum() <= 3

    def test_pure_noise(self):
        rng = np.random.default_rng(9)
        image = rng.normal(0, 1, (1000, 1000))
        found = find_cosmic_rays(image, np.ones(image.shape), nothing(image), fwhm=3.0)
        # 13 runs of 5.4 sigma in each of 1e6 pixels: 0.4 pixels
        assert found.sum() <= 3


class TestSameForEverybody:
    @pytest.mark.parametrize("power", [-22, -9, -4, 3, 12])
    def test_any_unit(self, sky_with_rays, power):
        image, variance, _ = sky_with_rays
        expected = find_cosmic_rays(image, variance, nothing(image), fwhm=3.0)
        unit = 10.0**power
        found = find_cosmic_rays(image * unit, variance * unit**2, nothing(image), fwhm=3.0)
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("power", [-9, -4, 3, 12])
    def test_any_unit_in_single_precision(self, sky_with_rays, power):
        image, variance, _ = (np.float32(plane) for plane in sky_with_rays)
        expected = find_cosmic_rays(image, variance, nothing(image), fwhm=3.0)
        found = find_cosmic_rays(
            image * np.float32(10.0**power), variance * np.float32(10.0 ** (2 * power)),
            nothing(image), fwhm=3.0,
        )  # fmt: skip
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("level", [-5e3, -200.0, 4e4])
    def test_any_sky_level(self, sky_with_rays, level):
        image, variance, _ = sky_with_rays
        expected = find_cosmic_rays(image, variance, nothing(image), fwhm=3.0)
        found = find_cosmic_rays(image + level, variance, nothing(image), fwhm=3.0)
        # a level of 4e4 is rounded to 2^-8 e- in single precision: 0.0003 sigma
        assert (found != expected).sum() <= 1

    def test_any_orientation(self, sky_with_rays):
        image, variance, charge = sky_with_rays
        bright = charge > 10 * np.sqrt(variance)
        for turn in (lambda a: a[::-1], lambda a: a[:, ::-1], np.transpose):
            found = find_cosmic_rays(turn(image), turn(variance), nothing(turn(image)), fwhm=3.0)
            assert found[turn(bright)].mean() > 0.97

    def test_any_type_and_byte_order(self, sky_with_rays):
        image, variance, _ = sky_with_rays
        image, variance = np.rint(image), np.rint(variance)
        expected = find_cosmic_rays(image, variance, nothing(image), fwhm=3.0)
        for kind in ("<f4", ">f4", ">f8", "<i4", ">i2"):
            data = image if kind != ">i2" else np.minimum(image, 32767)
            found = find_cosmic_rays(data.astype(kind), variance, nothing(image), fwhm=3.0)
            same = expected == found
            assert same[data == image].all() or kind == ">i2"

    def test_nothing_is_read_that_was_not_written(self):
        """Two processes whose heaps are filled with different bytes find the same pixels."""
        program = (
            "import numpy as np, hashlib\n"
            "from psflib.preparation.cosmics import find_cosmic_rays\n"
            "rng = np.random.default_rng(1)\n"
            "image = rng.normal(0, 1, (200, 200))\n"
            "image[rng.uniform(size=image.shape) < .01] = 50\n"
            "found = find_cosmic_rays(image, image * 0 + 1, image > 1e9, fwhm=2.5)\n"
            "print(int(found.sum()), hashlib.md5(found.tobytes()).hexdigest())\n"
        )
        said = {
            subprocess.run(
                [sys.executable, "-c", program], check=True, capture_output=True, text=True,
                env={**__import__("os").environ, "MALLOC_PERTURB_": byte, "NUMBA_NUM_THREADS": n},
            ).stdout
            for byte, n in (("1", "1"), ("85", "2"), ("254", "1"))
        }  # fmt: skip
        assert len(said) == 1 and int(said.pop().split()[0]) > 300


class TestMasks:
    def test_unusable_pixels_are_not_found_and_do_not_spread(self, sky_with_rays):
        image, variance, _ = sky_with_rays
        expected = find_cosmic_rays(image, variance, nothing(image), fwhm=3.0)
        bad = nothing(image)
        bad[100:130, 50:90] = True
        bad[:, 200] = True
        spoiled = image.copy()
        spoiled[bad] = np.nan
        found = find_cosmic_rays(spoiled, variance, nothing(image), fwhm=3.0)
        np.testing.assert_array_equal(found, find_cosmic_rays(image, variance, bad, fwhm=3.0))
        assert not found[bad].any()
        far = ndimage.distance_transform_edt(~bad) > 20  # longer than any track
        np.testing.assert_array_equal(found[far], expected[far])

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -1.0])
    def test_a_variance_that_is_none_makes_a_pixel_unusable(self, sky_with_rays, value):
        image, variance, _ = sky_with_rays
        bad = np.random.default_rng(2).uniform(size=image.shape) < 0.05
        expected = find_cosmic_rays(image, variance, bad, fwhm=3.0)
        found = find_cosmic_rays(image, np.where(bad, value, variance), nothing(image), fwhm=3.0)
        np.testing.assert_array_equal(found, expected)

    def test_stars_beside_dead_pixels_are_kept(self):
        rng = np.random.default_rng(12)
        light = stars((300, 300), 400, 3.0, rng, 1000.0)
        image, variance = observe(light, 200.0, rng)
        dead = rng.uniform(size=image.shape) < 0.01
        image[dead] = 0
        found = find_cosmic_rays(image, variance, nothing(image), fwhm=3.0)
        assert found.sum() <= 3

    def test_nothing_usable(self):
        plane = np.ones((20, 20))
        assert not find_cosmic_rays(plane, plane, plane > 0, fwhm=3.0).any()
        assert not find_cosmic_rays(plane * np.nan, plane, plane > 2, fwhm=3.0).any()

    def test_inputs_are_left_alone(self, sky_with_rays):
        image, variance, _ = sky_with_rays
        before = image.copy(), variance.copy()
        find_cosmic_rays(image, variance, nothing(image), fwhm=3.0)
        np.testing.assert_array_equal(image, before[0])
        np.testing.assert_array_equal(variance, before[1])


class TestBadCalls:
    @pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
    @pytest.mark.parametrize("name", ["fwhm", "threshold"])
    def test_numbers(self, name, value):
        plane = np.ones((9, 9))
        with pytest.raises(ValueError, match=name):
            find_cosmic_rays(plane, plane, plane > 2, **{"fwhm": 3.0, name: value})

    def test_shapes(self):
        plane = np.ones((9, 9))
        with pytest.raises(ValueError, match=r"\(8, 9\)"):
            find_cosmic_rays(plane, plane[1:], plane > 2, fwhm=3.0)
        with pytest.raises(ValueError, match="planes"):
            find_cosmic_rays(plane[0], plane[0], plane[0] > 2, fwhm=3.0)


@pytest.mark.parametrize("unit", [1.0, 1e-15])
def test_lobes_of_resampled_rays(unit):
    """Dark pixels beside a ray belong to it; dark noise elsewhere does not."""
    image = np.random.default_rng(2).normal(0, 1, (60, 60))
    image[30, 29:34] = 7.0, -24.0, 129.0, 41.0, -11.0
    image[10, 10] = -24.0
    rays = np.zeros(image.shape, bool)
    rays[30, 31:33] = True
    found = lobes(image * unit, np.full(image.shape, unit**2), rays)
    assert set(zip(*np.nonzero(found), strict=True)) == {(30, 30), (30, 33)}
