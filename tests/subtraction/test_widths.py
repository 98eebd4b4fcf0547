"""Widths come from the PSF models: a first guess that is wrong by factors changes nothing."""

import numpy as np
import pytest

import psflib
from psflib.simulation.scenes import simulate_scene
from psflib.subtraction.widths import with_width


@pytest.fixture(scope="module")
def pair():
    scene = simulate_scene("sparse", 384, 3)
    exposures = [psflib.prepare(o.exposure) for o in (scene.science, scene.template)]
    return exposures, [psflib.build_psf(e) for e in exposures]


def guessed(exposures, factors):
    return [
        e.replace(meta={**e.meta, "fwhm": e.meta["fwhm"] * f})
        for e, f in zip(exposures, factors, strict=True)
    ]


@pytest.mark.parametrize("factors", [(1, 2), (6, 6), (0.5, 1), (0.4, 4)])
def test_wrong_guesses_do_not_matter(pair, factors):
    exposures, (psf, template_psf) = pair
    right = psflib.subtract(*exposures, psf=psf, template_psf=template_psf)
    made = psflib.subtract(*guessed(exposures, factors), psf=psf, template_psf=template_psf)
    np.testing.assert_allclose(made.image, right.image, atol=1e-3)
    assert made.meta["fwhm_science"] == pytest.approx(psf.fwhm())
    assert made.meta["convolved"] == "template"


def test_the_width_is_the_models_and_is_said(pair):
    (science, _), (psf, _) = pair
    wrong = guessed([science], [3])[0]
    told = with_width(wrong, psf)
    assert told.meta["fwhm"] == psf.fwhm()
    assert "by its PSF" in told.meta["notes"][-1]
    assert with_width(science, psf).meta["notes"] == science.meta["notes"]
    assert with_width(wrong, None) is wrong


def test_any_psf_has_a_width(pair):
    (science, _), (psf, _) = pair

    class Plain:
        def at(self, x, y, size):
            return psf.at(x, y, size)

    assert with_width(science, Plain()).meta["fwhm"] == pytest.approx(psf.fwhm(), rel=0.05)
