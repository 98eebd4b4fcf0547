"""Candidates: places, fluxes and errors as the noise allows, false alarms as it predicts, flags."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from astropy.wcs import WCS

from psflib.decorrelation.score import score
from psflib.detection.alarms import height_of, snr_of
from psflib.detection.detect import DetectSettings, detect, psf_fwhm
from psflib.image.difference import Difference
from psflib.image.exposure import MaskBit
from psflib.judging.metrics import values
from psflib.matching import MatchingKernel

SHAPE = (640, 660)
NOISE = 5.0  # ADU
WIDTH = 1.5  # sigma of the PSF, px
ERROR = NOISE * np.sqrt(4 * np.pi) * WIDTH  # of the flux of a Gaussian in white noise


class GaussianPsf:
    def at(self, x, y, size):
        return gaussian(size, size // 2, size // 2)


def gaussian(shape, x, y, width=WIDTH):
    rows, columns = np.indices((shape, shape) if np.isscalar(shape) else shape)
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * width**2)) / (2 * np.pi * width**2)


def noise(seed=1, shape=SHAPE):
    return np.random.default_rng(seed).normal(0, NOISE, shape)


def add(image, x, y, flux, width=WIDTH):
    """Add Gaussians to the image, each in its own box."""
    for i, j, f in np.broadcast(x, y, flux):
        left, low = max(round(i) - 15, 0), max(round(j) - 15, 0)
        box = image[low : round(j) + 16, left : round(i) + 16]
        box += f * gaussian(box.shape, i - left, j - low, width)
    return image


def difference(image, mask=None, wcs=None, variance=NOISE**2):
    shape = image.shape
    mask = np.zeros(shape, np.uint16) if mask is None else mask
    kernel = MatchingKernel(np.ones((1, 1, 1)), np.ones((1, 1)), 0, 0, np.zeros(1), 0, shape)
    variance = np.full(shape, variance, np.float32)
    return Difference(image.astype(np.float32), variance, mask, kernel, GaussianPsf(), wcs)


def nearest(table, x, y):
    """Row of the candidate nearest to each position, and its distance."""
    distance = np.hypot(
        values(table, "x") - np.atleast_1d(x)[:, None],
        values(table, "y") - np.atleast_1d(y)[:, None],
    )
    row = distance.argmin(1)
    return row, distance[np.arange(len(row)), row]


def sky_wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (150.0, 2.0), (50.0, 60.0), (-1e-4, 1e-4)
    return wcs


def grid(seed=2):
    """210 sub-pixel positions, 42 px apart."""
    rng = np.random.default_rng(seed)
    y, x = (40 + 42.0 * g.ravel() for g in np.mgrid[0:14, 0:15])
    return x + rng.uniform(-0.5, 0.5, 210), y + rng.uniform(-0.5, 0.5, 210)


@pytest.fixture(scope="module")
def injected():
    """210 sources of S/N 20, a third of them faded, and what was found."""
    x, y = grid()
    flux = 20 * ERROR * np.where(np.arange(210) % 3, 1, -1)
    table = detect(difference(add(noise(), x, y, flux)))
    row, distance = nearest(table, x, y)
    return x, y, flux, table[row], distance


class TestMeasurements:
    def test_all_are_found_once_and_clean(self, injected):
        _, _, _, found, distance = injected
        assert distance.max() < 0.75 and len(set(found["id"])) == 210
        # the reduced chi-square of 60 px stays below 3 for all
        assert np.all(found["clean"])

    def test_positions(self, injected):
        x, y, _, found, _ = injected
        error = np.sqrt(2) * WIDTH / 20  # Cramer-Rao bound of a Gaussian in white noise, an axis
        for name, truth in (("x", x), ("y", y)):
            off = values(found, name) - truth
            assert np.abs(off).max() < 5 * error
            assert abs(off.mean()) < 3 * error / np.sqrt(210)
            assert off.std() < 1.2 * error
            told = values(found, f"{name}_err") * np.abs(found["snr"]) / 20
            np.testing.assert_allclose(told, error, rtol=0.02)  # the PSF is sampled

    def test_fluxes(self, injected):
        _, _, flux, found, _ = injected
        pull = (values(found, "flux") - flux) * np.sign(flux) / values(found, "flux_err")
        # the best of all places is high by 1 / (S/N) sigma, which is taken off
        assert abs(pull.mean()) < 3 / np.sqrt(210)
        assert pull.std() == pytest.approx(1, abs=0.1)

    def test_errors_are_those_of_the_noise(self, injected):
        _, _, _, found, _ = injected
        # the box ends at 2.5 FWHM, and the interpolated PSF keeps its power within 1 %
        np.testing.assert_allclose(values(found, "flux_err"), ERROR, rtol=0.01)
        # a fit of flux and place together has the error of the flux alone: the PSF is symmetric,
        # to 1e-3 with the phases of the pixels
        pull = values(found, "flux") / values(found, "flux_err")
        np.testing.assert_allclose(found["snr"], pull, rtol=1e-3)

    def test_significance_and_height_are_inverse(self):
        height = np.linspace(1.5, 40, 50)
        np.testing.assert_allclose(height_of(snr_of(height)), height, rtol=1e-12)

    @pytest.mark.parametrize("threshold", [0, -1, np.nan, np.inf])
    def test_a_threshold_that_is_none(self, threshold):
        with pytest.raises(ValueError, match="threshold must be a positive number"):
            detect(difference(noise(1, (80, 80))), threshold)

    def test_an_injection_that_is_none(self):
        with pytest.raises(ValueError, match=r"what `psflib\.inject` returned"):
            detect(difference(noise(1, (80, 80))), injection=QTable())

    def test_bright_sources_show_no_pixel_phase(self):
        x, y = grid(3)
        table = detect(difference(add(noise(), x, y, 2000 * ERROR)))
        row, distance = nearest(table, x, y)
        assert distance.max() < 0.05  # parabola through three pixels of a Gaussian
        np.testing.assert_allclose(values(table, "flux")[row], 2000 * ERROR, rtol=0.005)
        assert np.all(table["clean"][row])

    def test_width(self):
        assert psf_fwhm(difference(noise())) == pytest.approx(2.3548 * WIDTH, rel=0.01)

    def test_strongest_first(self):
        x, y = grid()
        table = detect(difference(add(noise(), x, y, np.linspace(8, 80, 210) * ERROR)))
        strength = np.abs(table["snr"])
        assert np.all(np.diff(strength) <= 0)
        np.testing.assert_array_equal(table["id"], np.arange(1, len(table) + 1))

    def test_error_follows_the_scatter_of_the_score(self):
        """Measured by `decorrelate`, in all of the field or in cells, or here: the same error."""
        image = noise()
        plain = detect(difference(add(image.copy(), [100], [100], [50 * ERROR])))
        raw = difference(add(2 * image, [100], [100], [50 * ERROR]))
        half = score(raw) / 2
        told = {"score_scale": 2.0}, {"score_scale": 2.0, "score_scatter": [[2.0, 2.0]]}
        wide = [detect(raw), *(detect(raw.replace(score=half, meta=meta)) for meta in told)]
        for table in wide:
            # 420,000 px tell the scatter to 0.7 %
            error, expected = values(table, "flux_err")[0], 2 * values(plain, "flux_err")[0]
            assert error == pytest.approx(expected, rel=0.02)


class TestFalseAlarms:
    @pytest.mark.parametrize("threshold", [3.5, 4.0])
    def test_as_many_as_a_gaussian_field_has(self, threshold):
        shape = (1000, 1000)
        found = detect(difference(noise(5, shape), None), threshold)
        # peaks of a Gaussian field above a high level, of both signs (Adler 1981, ch. 6); the
        # score's correlation is exp(-r² / 4 sigma²)
        # (the significance of a candidate is less than its peak's height by what the best of
        # all places is too high by)
        height = height_of(threshold)
        density = height * np.exp(-(height**2) / 2) / (2 * np.pi) ** 1.5 / (2 * WIDTH**2)
        expected = 2 * density * 1e6
        # pixels miss the tops: up to 10 % at this width
        assert abs(len(found) - expected) < 4 * np.sqrt(expected) + 0.1 * expected

    def test_hardly_any_at_five_sigma(self):
        counts = [len(detect(difference(noise(seed, (1000, 1000))))) for seed in range(3)]
        assert sum(counts) <= 6  # 0.5 per Mpx: 1.6 expected

    def test_score_is_a_unit_normal(self):
        values_ = score(difference(noise()))[30:-30, 30:-30]
        n_independent = values_.size / (4 * np.pi * WIDTH**2)
        assert values_.mean() == pytest.approx(0, abs=4 / np.sqrt(n_independent))
        assert values_.std() == pytest.approx(1, abs=4 / np.sqrt(2 * n_independent))


def only_flags(image, mask=None, x=100, y=100):
    table = detect(difference(image, mask))
    row, distance = nearest(table, x, y)
    assert distance[0] < 2.5
    return table["flags"][row[0]].split(",")


class TestFlags:
    shape = (200, 200)

    def image(self, *sources):
        image = noise(7, self.shape)
        for source in sources:
            add(image, *source)
        return image

    def test_clean(self):
        assert only_flags(self.image((100.3, 99.8, 60 * ERROR))) == ["clean"]

    def test_cosmic_ray(self):
        image = self.image()
        image[100, 100] += 60 * NOISE
        assert "sharp" in only_flags(image)
        image[100, 100] -= 120 * NOISE  # the template's
        assert "sharp" in only_flags(image)

    def test_extended(self):
        assert "shape" in only_flags(self.image((100, 100, 300 * ERROR, 3.0)))

    @pytest.mark.parametrize("region", [np.s_[95:106, 101:108], np.s_[99:102, 99:102]])
    def test_masked(self, region):
        mask = np.zeros(self.shape, np.uint16)
        mask[region] = MaskBit.BAD
        image = self.image((100, 100, 100 * ERROR))
        assert "masked" in only_flags(image, mask)

    def test_a_masked_pixel_is_no_matter(self):
        mask = np.zeros(self.shape, np.uint16)
        mask[100, 102] = MaskBit.BAD
        image = self.image((100.2, 99.9, 60 * ERROR))
        image[100, 102] = 1e6
        table = detect(difference(image, mask))
        row, _ = nearest(table, 100.2, 99.9)
        assert table["clean"][row[0]]
        off = values(table, "flux")[row[0]] - 60 * ERROR
        assert abs(off) < 4 * values(table, "flux_err")[row[0]]

    def test_dipole(self):
        image = self.image((100, 100, 60 * ERROR), (101.5, 100, -60 * ERROR))
        assert "dipole" in only_flags(image)

    def test_halo(self):
        mask = np.zeros(self.shape, np.uint16)
        mask[90:97, 90:97] = MaskBit.SAT
        assert "halo" in only_flags(self.image((102, 100, 60 * ERROR)), mask, 102, 100)
        assert only_flags(self.image((130, 130, 60 * ERROR)), mask, 130, 130) == ["clean"]


class TestTable:
    def test_nothing_found(self):
        for wcs in (None, sky_wcs()):
            table = detect(difference(np.zeros((80, 90)), wcs=wcs))
            assert len(table) == 0 and ("ra" in table.colnames) == (wcs is not None)
            assert table["x"].unit == u.pix and table["flux"].unit == u.adu

    def test_units_and_sky_positions(self):
        wcs = sky_wcs()
        image = add(noise(3, (120, 130)), [60.3], [40.7], [100 * ERROR])
        table = detect(difference(image, wcs=wcs))
        ra, dec = wcs.all_pix2world(values(table, "x"), values(table, "y"), 0)
        np.testing.assert_allclose(table["ra"].to_value(u.deg), ra, atol=1e-12, rtol=0)
        np.testing.assert_allclose(table["dec"].to_value(u.deg), dec, atol=1e-12, rtol=0)
        assert table["fwhm"].unit == u.pix and table.meta["threshold"] == 5

    def test_threshold_of_call_and_settings(self):
        image = add(noise(3, (120, 130)), [60.3], [40.7], [12 * ERROR])
        strict = DetectSettings(threshold=30)
        assert len(detect(difference(image))) == 1
        assert len(detect(difference(image), settings=strict)) == 0
        assert len(detect(difference(image), 5, strict)) == 1

    def test_borders_and_corners(self):
        shape = (100, 110)
        x = np.array([0, 109, 0.4, 108.6, 50, 50, -0.4])
        y = np.array([0, 99, 98.7, 0.2, 0, 99, 50])
        table = detect(difference(add(noise(4, shape), x, y, 100 * ERROR)))
        assert np.isfinite(values(table, "x")).all() and np.isfinite(values(table, "flux")).all()
        edge = nearest(table, [50, 50], [0, 99])
        assert edge[1].max() < 1
        # half the PSF is out of the image, but fitted with what is there
        off = values(table, "flux")[edge[0]] - 100 * ERROR
        assert np.all(np.abs(off) < 5 * values(table, "flux_err")[edge[0]])

    def test_everything_masked(self):
        mask = np.full((80, 90), MaskBit.BAD, np.uint16)
        assert len(detect(difference(noise(1, (80, 90)), mask))) == 0

    def test_no_data_are_no_candidates(self):
        image = noise(3, (120, 130))
        mask = np.zeros(image.shape, np.uint16)
        mask[:, 60:] = MaskBit.NO_DATA
        image[:, 60:] = 1e5
        raw = difference(image, mask)
        variance = raw.variance.copy()
        variance[:, 60:] = 0
        table = detect(raw.replace(variance=variance))
        assert len(table) == 0
