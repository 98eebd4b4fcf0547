"""One valid covariance: mosaics, bands, crowds; what is unknown is not perfect."""

import numpy as np
import pytest
from scipy import ndimage

from psflib.decorrelation import decorrelate as stage
from psflib.decorrelation.decorrelate import decorrelate
from psflib.errors import BadImage
from psflib.image import noise
from psflib.image.exposure import MaskBit
from tests.decorrelation.test_decorrelate import INSIDE, SHAPE, constant, difference, gaussian, rng

Y, X = np.indices(SHAPE)
ROWS, COLUMNS = 1 - 2 * (Y % 2), 1 - 2 * (X % 2)


def patterned(kind, seed):
    image = rng(seed).normal(0, 5.0, SHAPE)
    if kind == "drizzled":
        image = ndimage.gaussian_filter(image, 0.7)
    elif kind == "rows":
        image += rng(seed + 1).normal(0, 5.0, SHAPE[0])[:, None]
    else:
        image += {
            "white": 0.0, "alternating": 8.0 * ROWS,
            "mosaic": 10.0 * ((Y % 2 == 0) & (X % 2 == 0)), "columns": 4.0 * COLUMNS,
        }[kind]  # fmt: skip
    return image - image.mean()


def pair(kinds):
    """Difference of two such images, with the correlations that are measured on them."""
    planes = [patterned(kind, 11 + 10 * k) for k, kind in enumerate(kinds)]
    sigmas = [float(p.std()) for p in planes]
    rhos = []
    for plane, sigma in zip(planes, sigmas, strict=True):
        flat = plane.astype(np.float32)
        rho = noise.noise_correlation(flat, np.full_like(flat, sigma**2), flat < np.inf, 3)
        rhos.append(noise.correlation.as_covariance(rho))
    kernel = constant(gaussian(1.3, total=1.2))
    return difference(*planes, sigmas, kernel, tuple(rhos))


KINDS = ["white", "alternating", "mosaic", "columns", "drizzled", "rows"]


@pytest.mark.parametrize("template", ["white", "drizzled"])
@pytest.mark.parametrize("science", KINDS)
def test_noise_is_what_the_variance_claims(science, template):
    clean = decorrelate(pair((science, template)))
    assert clean.variance[clean.usable].min() > 0
    pull = clean.image[INSIDE] / np.sqrt(clean.variance[INSIDE])
    # filters may take a pattern for what it is or not: scale 10 %, as `distrust_beyond` has it
    assert noise.robust_std(pull) == pytest.approx(1, abs=0.15)
    assert np.ptp(clean.score) > 5
    assert clean.meta["noise_model"] in ("claimed", "white", "measured")
    assert np.isfinite(clean.meta["noise_factor"]) and clean.meta["correlation_left"] < 0.5


def test_white_noise_is_whitened_as_claimed():
    clean = decorrelate(pair(("white", "white")))
    assert clean.meta["noise_model"] == "claimed" and clean.meta["correlation_left"] < 0.03
    assert clean.meta["notes"] == []


def test_a_filter_that_makes_it_worse_is_not_kept():
    """Noise that no covariance of few lags describes: rows that alternate, on one half only."""
    raw = pair(("white", "white"))
    image = raw.image + np.where(X < SHAPE[1] // 2, 30.0 * ROWS, 0).astype(np.float32)
    clean = decorrelate(raw.replace(image=image))
    assert clean.meta["noise_factor"] > 1.2 and clean.meta["notes"]
    pull = clean.image[INSIDE] / np.sqrt(clean.variance[INSIDE])
    assert noise.robust_std(pull) < 2  # whitened by raw powers it was 19


class TestUnknown:
    def test_too_little_sky_is_said(self):
        raw = pair(("white", "white"))
        mask = np.full(SHAPE, MaskBit.BAD, np.uint16)
        mask[200:220, 200:220] = 0
        clean = decorrelate(raw.replace(mask=mask))
        assert np.isnan(clean.meta["noise_factor"]) and np.isnan(clean.meta["score_scale"])
        assert "noise unknown" in clean.meta["notes"][0]

    def test_nothing_usable(self):
        raw = pair(("white", "white"))
        with pytest.raises(BadImage, match="no pixel of the difference is usable"):
            decorrelate(raw.replace(mask=np.full(SHAPE, MaskBit.BAD, np.uint16)))

    def test_constant_score(self):
        raw = pair(("white", "white"))
        with pytest.raises(BadImage, match="hold one value"):
            decorrelate(raw.replace(image=np.zeros(SHAPE, np.float32)))

    @pytest.mark.parametrize("count", [3, 3000])
    def test_pixels_without_variance(self, count):
        """Three are masked and said; a few thousand are a contradiction."""
        clean = decorrelate(pair(("white", "white")))
        variance = clean.variance.copy()
        y, x = np.nonzero(clean.usable)
        variance[y[:count], x[:count]] = 0
        clean, values, notes = clean.replace(variance=variance), clean.score.copy(), []
        if count > 1000:
            with pytest.raises(BadImage, match=r"3000 of .* have no variance"):
                stage._without_lost(clean, values, notes)
            return
        masked = stage._without_lost(clean, values, notes)
        assert (masked.usable.sum(), clean.usable.sum()) == (len(y) - 3, len(y))
        assert not values[y[:3], x[:3]].any() and "have no variance: masked" in notes[0]
