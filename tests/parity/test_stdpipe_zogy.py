"""STDPipe's run_zogy and ours: arguments, order, units; the same planes for the same PSFs."""

import inspect

import numpy as np
import pytest

from psflib.image.noise import robust_std
from psflib.simulation import simulate_pair
from psflib.subtraction import run_zogy
from tests.parity.peers import SEEDS, peer

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
theirs = peer("stdpipe.subtraction").run_zogy

SHAPE = (200, 200)  # square: STDPipe divides the flux's error by nx² where ny nx is meant
SIDE = 41


def psfex(model):
    """A simulated PSF, constant over the field, as the dict of a PSFEx file."""
    stamp = model.at(100, 100, SIDE)
    return {
        "data": (stamp / stamp.sum())[None], "width": SIDE, "height": SIDE, "sampling": 1.0,
        "degree": 0, "ncoeffs": 1, "x0": 100.0, "y0": 100.0, "sx": 100.0, "sy": 100.0, "fwhm": 3.6,
        "oversample": 1.0,
    }  # fmt: skip


def pair(seed):
    science, template, _ = simulate_pair(SHAPE, seed=seed, n_stars=40, scale=1.0, brightest=2e4)
    sigma = [np.full(SHAPE, float(np.sqrt(np.median(e.variance)))) for e in (science, template)]
    psfs = [psfex(e.meta["psf"]) for e in (science, template)]
    return [e.image.astype(float) for e in (science, template)], sigma, psfs


def test_the_same_arguments_in_the_same_order():
    expected, found = (inspect.signature(f).parameters for f in (theirs, run_zogy))
    assert [(p.name, p.default, p.kind) for p in found.values()] == [
        (p.name, p.default, p.kind) for p in expected.values()
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_planes(seed):
    images, sigma, psfs = pair(seed)
    expected, found = (
        call(
            *(i.copy() for i in images), err=sigma[0].copy(), template_err=sigma[1].copy(),
            image_psf=psfs[0], template_psf=psfs[1], scale=1.0, fit_scale=False, fit_shift=False,
            dx=0.0, dy=0.0, get_psf=True, get_Fpsf=True,
        )
        for call in (theirs, run_zogy)
    )  # fmt: skip
    assert len(expected) == len(found) == 5
    inner = np.s_[30:-30, 30:-30]
    for i in (0, 1, 3):
        one, two = expected[i][inner], found[i][inner]
        assert expected[i].shape == found[i].shape == SHAPE
        # each measures the sky in its own way, on meshes of 64 px: 1 / 64 of the noise of a pixel
        # for either image, times the root of the 30 px of a PSF in the score
        assert robust_std(one - two - np.median(one - two)) < 0.15 * robust_std(one)
        assert robust_std(two) == pytest.approx(robust_std(one), rel=0.03)
    assert np.median(found[4][inner]) == pytest.approx(np.median(expected[4][inner]), rel=0.03)
    half = [len(p) // 2 for p in (expected[2], found[2])]
    cut = [
        p[h - 8 : h + 9, h - 8 : h + 9] for p, h in zip((expected[2], found[2]), half, strict=True)
    ]
    np.testing.assert_allclose(cut[1], cut[0], atol=0.01 * cut[0].max())
