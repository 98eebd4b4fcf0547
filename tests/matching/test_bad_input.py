"""The kernel fit where it must not break: hostile input, threads, noise-free truth, scenes."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from psflib.errors import NotEnoughStars, PsflibError
from psflib.image.difference import Difference
from psflib.image.exposure import MaskBit
from psflib.matching import fit_kernel
from psflib.matching.basis import sized_for
from psflib.simulation import oracle_difference
from psflib.simulation.simulate import SCENES, simulate_pair, simulate_scene
from psflib.subtraction.al import AlSettings
from psflib.subtraction.al import subtract as subtract_al

SHAPE = (300, 320)


def pair(**options):
    settings = {"shape": SHAPE, "seed": 3, "n_stars": 120, "brightest": 2e5}
    science, template, truth = simulate_pair(**{**settings, **options})
    return _with_fwhm(science, 3.6), _with_fwhm(template, 2.8), truth


def _with_fwhm(exposure, fwhm):
    return exposure.replace(meta={**exposure.meta, "fwhm": fwhm, "sky_rms": 10.0})


def subtract(science, template, **settings) -> Difference:
    """The method alone, with the true PSF: no PSF is built."""
    return subtract_al(science, template, AlSettings(**settings), lambda e: e.meta["psf"])


def robust(difference):
    z = difference.image[difference.usable] / np.sqrt(difference.variance[difference.usable])
    return 1.4826 * np.median(np.abs(z))


def is_sound(difference):
    assert np.isfinite(difference.image).all() and np.isfinite(difference.variance).all()
    assert np.all(difference.variance[difference.usable] > 0)
    return True


class TestBadInput:
    def test_no_stars(self):
        with pytest.raises(NotEnoughStars, match="0 usable stars"):
            subtract(*pair(n_stars=0)[:2])

    def test_one_star(self):
        science, template, _ = pair(n_stars=1, faintest=1e5, brightest=1.1e5, shape=(120, 130))
        try:
            difference = subtract(science, template)
        except NotEnoughStars as problem:  # it may lie at the border
            assert "needed" in str(problem)
        else:
            assert difference.kernel.order == 0 and difference.meta["lowered"]
            assert is_sound(difference)

    def test_all_stars_variable(self):
        science, template, _ = pair(n_stars=0)
        rng = np.random.default_rng(5)
        one, other, _ = pair(seed=11)
        flux = rng.uniform(0.3, 3, SHAPE[0] // 20 + 1).repeat(20)[: SHAPE[0], None]
        science = science.replace(image=science.image + one.image * flux.astype(np.float32))
        template = template.replace(image=template.image + other.image)
        try:
            assert is_sound(subtract(science, template))
        except PsflibError as problem:
            assert any(c.isdigit() for c in str(problem))

    def test_stars_in_one_corner(self):
        science, template, _ = pair()
        rows, cols = np.indices(SHAPE)
        for_good = (rows > 130) | (cols > 130)
        rng = np.random.default_rng(1)
        images = [
            np.where(for_good, rng.normal(0, s, SHAPE), e.image).astype(np.float32)
            for e, s in ((science, 10), (template, 7))
        ]
        difference = subtract(science.replace(image=images[0]), template.replace(image=images[1]))
        assert is_sound(difference)
        # far from all stars the kernel is extrapolated, but not out of all proportion
        assert 0.5 < difference.kernel.flux_scale(300, 280) < 2

    def test_science_sharper_by_two(self):
        science, template, _ = pair(fwhm_science=2.4, fwhm_template=4.8)
        difference = subtract(_with_fwhm(science, 2.4), _with_fwhm(template, 4.8))
        assert difference.meta["convolved"] == "science"
        assert robust(difference) == pytest.approx(1, abs=0.05)

    def test_constant_image(self):
        science, template, _ = pair()
        flat = science.replace(image=np.full(SHAPE, 3, np.float32))
        with pytest.raises(PsflibError, match=r"usable stars|solution"):
            subtract(flat, template)

    @pytest.mark.parametrize("factor", [1e-4, 1e4])
    def test_flux_scales_far_apart(self, factor):
        science, template, _ = pair()
        template = template.replace(
            image=template.image * np.float32(factor),
            variance=template.variance * np.float32(factor**2),
            gain=template.gain / factor, saturation=template.saturation * factor,
        )  # fmt: skip
        difference = subtract(science, template)
        assert difference.kernel.flux_scale(160, 150) == pytest.approx(1 / factor, rel=0.02)
        assert robust(difference) == pytest.approx(1, abs=0.05)

    def test_sixty_percent_masked(self):
        science, template, _ = pair(n_stars=300)
        mask = np.zeros(SHAPE, np.uint16)
        mask[:, :192] = int(MaskBit.BAD)
        difference = subtract(science.replace(mask=mask), template)
        assert is_sound(difference)
        assert robust(difference) == pytest.approx(1, abs=0.06)

    def test_holes_within_stars_of_the_template(self):
        science, template, truth = pair()
        mask = template.mask.copy()
        x, y = (np.asarray(truth[n].value) for n in ("x", "y"))
        brightest = np.argsort(-np.asarray(truth["flux"].value))[:30]
        for i, j in zip(x[brightest], y[brightest], strict=True):
            mask[max(int(j) - 1, 0) : int(j) + 2, max(int(i), 0) : int(i) + 2] |= int(MaskBit.BAD)
        image = np.where(mask > 0, np.float32(1e5), template.image)
        difference = subtract(science, template.replace(mask=mask, image=image))
        assert is_sound(difference)
        assert difference.kernel.flux_scale(160, 150) == pytest.approx(1, rel=0.03)
        assert robust(difference) == pytest.approx(1, abs=0.06)

    def test_nothing_usable(self):
        science, template, _ = pair()
        mask = np.full(SHAPE, int(MaskBit.BAD), np.uint16)
        with pytest.raises(NotEnoughStars, match="no pixel is usable"):
            subtract(science.replace(mask=mask), template)

    def test_kernel_larger_than_the_image(self):
        science, template, _ = pair(shape=(20, 20), n_stars=3, seed=2)
        try:
            assert is_sound(subtract(_with_fwhm(science, 12.0), template))
        except PsflibError as problem:
            assert any(c.isdigit() for c in str(problem))


class TestNoiseFree:
    """The truth is a kernel of the basis, the images have no noise but claim a little."""

    @pytest.mark.parametrize(("order", "tolerance"), [(0, 1e-6), (2, 1e-6)])
    def test_kernel_sum(self, order, tolerance):
        kernel, truth = self.fitted(order)
        for x, y in ((170, 160), (60, 60), (280, 260)):
            assert kernel.kernel_sum(x, y) == pytest.approx(truth(x, y).sum(), rel=tolerance)

    @pytest.mark.parametrize("order", [0, 2])
    def test_kernel(self, order):
        kernel, truth = self.fitted(order)
        for x, y in ((170, 160), (60, 60), (280, 260)):
            expected = truth(x, y)
            # float32 pixels are good to 6e-8; the finest detail of 51 images is seen 1000 times
            # worse than the sum
            assert np.abs(kernel.at(x, y) - expected).max() < 6e-5 * expected.max()

    @staticmethod
    def fitted(order):
        from scipy import signal

        from tests.matching.test_kernel import FWHM_BROAD, FWHM_SHARP, sharp_image

        sharp = sharp_image()[20:-20, 20:-20].astype(np.float32)
        images = sized_for(FWHM_SHARP, FWHM_BROAD).images
        rng = np.random.default_rng(1)
        shape = np.tensordot(rng.normal(0, 0.05, len(images) - 1), images[1:], 1)
        slope = 0.01 * images[1] if order else 0 * images[1]
        v = np.linspace(-1, 1, sharp.shape[0])[:, None]
        target = signal.fftconvolve(sharp.astype(float), 1.4 * images[0] + shape, "same")
        target += v * signal.fftconvolve(sharp.astype(float), slope, "same") + 3

        def truth(x, y):
            return 1.4 * images[0] + shape + v[y, 0] * slope

        usable, variance = np.ones(sharp.shape, bool), np.full(sharp.shape, 1e-4, np.float32)
        kernel = fit_kernel(
            (target.astype(np.float32), variance, usable), (sharp, variance, usable),
            (FWHM_BROAD, FWHM_SHARP), orders=(order, order, 0),
        )  # fmt: skip
        return kernel, truth


THREADS = """
import sys, hashlib
from tests.matching.test_bad_input import pair, subtract
science, template, _ = pair()
difference = subtract(science, template)
print(hashlib.sha256(difference.image.tobytes() + difference.variance.tobytes()).hexdigest())
"""


def test_same_to_the_bit_on_one_and_two_threads():
    """Of the compiled loops and of LAPACK, whose last bits depend on its number of threads."""
    names = [f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")]
    found = set()
    for count in ("1", "2"):
        environment = {**os.environ, **dict.fromkeys(names, count)}
        done = subprocess.run(
            [sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        found.add(done.stdout.split()[-1])
    assert len(found) == 1


def test_varying_kernels_cost_little_more_than_constant_ones():
    science, template, _ = pair(shape=(700, 700), n_stars=400)
    seconds = {}
    for order in (0, 2, 0, 2):  # the first two compile and warm up
        start = time.process_time()
        subtract(science, template, kernel_order=order, flux_order=order)
        seconds[order] = time.process_time() - start
    assert seconds[2] < 2.0 * seconds[0]  # 1.5 on a quiet machine


class TestScenes:
    @pytest.mark.parametrize("name", SCENES)
    def test_the_oracle_leaves_noise(self, name):
        scene = simulate_scene(name, 256, seed=3)
        convolved = "science" if name == "reverse" else "template"
        image, variance, _ = oracle_difference(scene, convolved)
        good = scene.science.exposure.usable & scene.template.exposure.usable
        z = (image / np.sqrt(variance))[good]
        # 6e4 pixels, some correlated, 3 % of the stars variable
        assert 1.4826 * np.median(np.abs(z)) == pytest.approx(1, abs=0.03)

    def test_the_kernel_turns_one_image_into_the_other(self):
        scene = simulate_scene("sparse", 256, seed=3)
        _, _, kernel = oracle_difference(scene)
        rest = scene.steady[0] - kernel.convolve(scene.steady[1].astype(np.float32))
        inner = rest[30:-30, 30:-30]
        assert np.std(inner) < 0.05 * scene.cameras[0].sky_sigma

    def test_the_same_arguments_give_the_same_pixels(self):
        one, two = (simulate_scene("equal", 128, seed=2) for _ in range(2))
        np.testing.assert_array_equal(one.science.exposure.image, two.science.exposure.image)
        other = simulate_scene("equal", 128, seed=3)
        assert np.any(one.science.exposure.image != other.science.exposure.image)

    def test_bad_calls(self):
        with pytest.raises(ValueError, match="unknown scene"):
            simulate_scene("foggy")
        with pytest.raises(ValueError, match="at least 128"):
            simulate_scene("sparse", 64)
