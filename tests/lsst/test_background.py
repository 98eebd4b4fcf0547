"""science - matched - background = difference, of images as they were given."""

import numpy as np
import pytest

from psflib.image.exposure import Exposure
from psflib.lsst import ImagePsfMatchTask
from psflib.simulation import simulate_pair

SHAPE = (200, 210)
EPS = np.finfo(np.float32).eps
YY, XX = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float32)
SKIES = {"science": 1000 + 0.3 * XX, "template": 500 - 0.1 * YY + 1e-3 * XX * YY}


@pytest.fixture(scope="module")
def images():
    science, template, _ = simulate_pair(
        shape=SHAPE, seed=5, n_stars=70, scale=1.3, background=7.0, brightest=2e5,
        noise_science=10.0,
    )  # fmt: skip
    return {"science": science, "template": template}


def given(images, sky):
    """Prepared images, those without noise, or plain arrays with a sky that varies and a hole."""
    if sky == "said to be removed":
        return {name: Exposure(one.image + 3, sky=0.0) for name, one in images.items()}
    if not sky:
        return dict(images)
    made = {name: one.image + SKIES[name] for name, one in images.items()}
    made["science"][50:53, 60:64] = np.nan
    return made


@pytest.mark.parametrize("mode", ["psflib", "lsst"])
class TestIdentity:
    @pytest.mark.parametrize("sky", [False, True, "said to be removed"])
    @pytest.mark.parametrize("convolved", ["template", "science"])
    def test_to_rounding(self, images, mode, sky, convolved):
        """A sum of five terms in float32, each to half a unit in the last place of the largest."""
        pair = given(images, sky)
        result = ImagePsfMatchTask({"mode": mode}).subtractExposures(
            pair["template"], pair["science"], convolveTemplate=convolved == "template"
        )
        target = pair["science" if convolved == "template" else "template"]
        pixels = target.image if isinstance(target, Exposure) else target
        parts = pixels - result.matchedImage.image - result.backgroundModel.image()
        scale = 1.0
        if convolved == "science":
            scale = -result.psfMatchingKernel.kernel_sum(XX, YY)
        use = result.subtractedExposure.usable
        largest = np.nanmax(np.abs(pixels)) + np.abs(result.matchedImage.image).max()
        error = np.abs(parts / scale - result.subtractedExposure.image)[use]
        assert error.max() < 2.5 * EPS * largest / np.min(np.abs(scale))
        assert use.mean() > 0.8

    def test_the_sky_is_in_the_background(self, images, mode):
        """What is known of it: 2 ADU of a plane fitted under 70 stars in noise of 10 ADU."""
        pair = given(images, sky=True)
        task = ImagePsfMatchTask({"mode": mode})
        result = task.subtractExposures(pair["template"], pair["science"], convolveTemplate=True)
        background = result.backgroundModel
        assert background.at(100, 90) == pytest.approx(SKIES["science"][90, 100] + 7, abs=2)
        image = background.image()
        assert np.isfinite(image).all()
        np.testing.assert_allclose(background.at(XX, YY), image, rtol=1e-6)
        hole = image[50:53, 60:64]
        assert np.abs(hole - np.median(image)).max() < 40  # the slope of 0.3 ADU / px over 100 px
        assert np.abs(result.matchedImage.image[:, :9]).mean() < 100  # the matched image has none

    def test_without_sky_nothing_is_added(self, images, mode):
        task = ImagePsfMatchTask({"mode": mode})
        result = task.subtractExposures(images["template"], images["science"],
                                        convolveTemplate=True)  # fmt: skip
        assert result.backgroundModel.sky is None
        assert result.backgroundModel.at(100, 90) == pytest.approx(7, abs=1.5)
