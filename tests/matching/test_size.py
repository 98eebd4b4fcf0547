"""The size of the basis, and kernels from few stars: what stars do not tell is not made up."""

import numpy as np
import pytest

from psflib.matching import basis
from psflib.preparation.prepare import prepare
from psflib.simulation import oracle_difference
from psflib.simulation.simulate import simulate_pair, simulate_scene
from psflib.subtraction.al import AlSettings
from psflib.subtraction.al import subtract as subtract_al

SMALL, LARGE = (int(basis.members(d, basis.LARGER).sum()) for d in (basis.DEGREES, basis.LARGER))


def subtract_scene(name, seed=5, size=768):
    """A scene, its difference by the method alone with the true PSF, and the ideal sigma."""
    scene = simulate_scene(name, size, seed)
    science, template = prepare(scene.science.exposure), prepare(scene.template.exposure)
    psf = scene.cameras[0].psf
    difference = subtract_al(science, template, AlSettings(), lambda _: psf)
    return scene, difference, np.sqrt(oracle_difference(scene)[1])


def subtract_pair(seed, n_stars, fwhms=(3.6, 2.8), convolve="auto", **options):
    """Difference of two images of 320 px whose PSFs are the same everywhere."""
    science, template, _ = simulate_pair(
        (320, 320), seed, n_stars=n_stars, brightest=2e5, fwhm_science=fwhms[0],
        fwhm_template=fwhms[1], **options,
    )  # fmt: skip
    pair = (
        e.replace(meta={**e.meta, "fwhm": f, "sky_rms": 10.0})
        for e, f in zip((science, template), fwhms, strict=True)
    )
    return subtract_al(*pair, AlSettings(convolve=convolve), lambda e: e.meta["psf"])


def on_bright_stars(scene, difference, sigma):
    """Root mean square of difference over sigma where steady light is above 20 sigma."""
    kinds = scene.sources["kind"]
    changed = scene.sources[np.isin(kinds, ("variable", "transient"))]
    bright = scene.steady[0] > 20 * sigma
    j, i = np.indices(bright.shape)
    for x, y in zip(changed["x"].value, changed["y"].value, strict=True):
        bright &= np.hypot(i - x, j - y) > 12
    use = bright & difference.usable & (sigma > 0)
    z = difference.image[use] / sigma[use]
    return np.sqrt(np.mean(np.square(z[np.abs(z) < 20])))


class TestSizeOfTheBasis:
    def test_images_elongated_across_each_other_get_the_larger_one(self, monkeypatch):
        chosen = subtract_scene("crossed")
        assert chosen[1].meta["n_basis"] == LARGE
        monkeypatch.setattr("psflib.matching.fit.MISFIT", np.inf)
        small = subtract_scene("crossed")
        assert small[1].meta["n_basis"] == SMALL
        assert on_bright_stars(*chosen) < 0.9 * on_bright_stars(*small)

    def test_held_out_cells_have_the_last_word(self, monkeypatch):
        monkeypatch.setattr("psflib.matching.fit.MISFIT", 0.0)  # asked whatever the misfit
        for seed in range(3):
            difference = subtract_pair(seed, n_stars=400)
            assert difference.meta["n_basis"] == SMALL


class TestFewStars:
    @pytest.mark.parametrize("seed", range(3, 10))
    def test_the_flux_scale_of_thirty_stars(self, seed):
        difference = subtract_pair(seed, n_stars=30)
        # thirty stars hold S/N 500 together, seen through wings the kernel has to guess: 2 %
        assert difference.kernel.flux_scale(160, 150) == pytest.approx(1, abs=0.03)
