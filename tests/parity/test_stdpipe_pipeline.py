"""STDPipe's tutorial and its two simple pipelines, from the subtraction on: the import changes.

Their templates and catalogues come from the net, so the two images are simulated; detection,
photometry and cut-outs are STDPipe's own.
"""

import numpy as np
import pytest

from psflib.simulation import simulate_pair
from psflib.subtraction import run_hotpants
from tests.parity.peers import SEEDS, hotpants, peer

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
theirs = peer("stdpipe.subtraction").run_hotpants
photometry, cutouts = peer("stdpipe.photometry"), peer("stdpipe.cutouts")

SHAPE, GAIN, FWHMS = (640, 608), 2.0, (3.6, 2.8)
#: x, y, flux: two that are new, one that faded
NEW = ((151.3, 420.6, 4000.0), (455.8, 230.2, 2500.0), (300.4, 120.7, -5000.0))
#: Who calls -> (sky is subtracted before, arguments).
CALLERS = {
    "simple_pipeline": (False, {"extra": {"c": "t", "ko": 0, "bgo": 0}}),
    "simple_lowlevel_pipeline": (
        False,
        {"image_gain": 1.0, "extra": {"c": "t", "ko": 2, "bgo": 4}},
    ),
    "tutorial": (
        True,
        {"image_gain": GAIN, "template_gain": 1e6, "err": True, "template_err": True},
    ),
}


def pair(seed, without_sky):
    science, template, _ = simulate_pair(
        SHAPE, seed=seed, n_stars=600, scale=1.3, transients=NEW, fwhm_science=FWHMS[0],
        fwhm_template=FWHMS[1], noise_template=2.0, brightest=4e4, gain=GAIN,
    )  # fmt: skip
    image, reference = science.image.astype(float), template.image.astype(float)
    if not without_sky:
        image, reference = image + 200.0, reference + 100.0
    mask, reference_mask = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    mask[50:52, 300:330] = True
    reference_mask[500:512, 90:102] = True
    reference[reference_mask] = np.nan
    return image, reference, mask, reference_mask


def candidates(run, image, reference, mask, reference_mask, arguments, **own):
    """What each of the three does from here to its candidates."""
    difference, convolved, scaled, noise = run(
        image.copy(), reference.copy(), mask=mask | reference_mask, template_mask=reference_mask,
        image_fwhm=FWHMS[0], template_fwhm=FWHMS[1], get_convolved=True, get_scaled=True,
        get_noise=True, verbose=True, **arguments, **own,
    )  # fmt: skip
    # SExtractor reads any byte order; sep, which stands for it here, only the machine's own
    difference, convolved, scaled, noise = (
        np.array(plane, float) for plane in (difference, convolved, scaled, noise)
    )
    unusable = mask | reference_mask | (difference == 1e-30)
    scaled[unusable] = 0
    found = photometry.get_objects_sep(
        difference, mask=unusable, err=noise, thresh=4.0, edge=20, aper=3.0, bg_size=128
    )
    found = photometry.measure_objects(
        found, difference, mask=unusable, err=noise, fwhm=FWHMS[0], aper=1.0, bkgann=[5, 7], sn=5
    )
    found = found[found["flags"] == 0]
    for row in found:
        cutout = cutouts.get_cutout(
            image, row, 20, mask=unusable, diff=difference, template=reference,
            convolved=convolved, err=noise,
        )  # fmt: skip
        assert np.isfinite(cutout["convolved"]).all() and cutout["diff"].shape == (41, 41)
    return found


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_candidates(seed, caller, capfd):
    without_sky, arguments = CALLERS[caller]
    images = pair(seed, without_sky)
    expected = candidates(theirs, *images, arguments, _exe=hotpants())
    capfd.readouterr()
    found = candidates(run_hotpants, *images, arguments)
    assert capfd.readouterr().out  # verbose=True speaks, as theirs does
    new = [(x, y) for x, y, flux in NEW if flux > 0]
    for x, y in new:
        mine, other = (nearest(t, x, y) for t in (found, expected))
        for key, limit in (("x", 0.1), ("y", 0.1)):
            assert mine[key] == pytest.approx(other[key], abs=limit)
        assert mine["flux"] == pytest.approx(other["flux"], abs=0.3 * other["fluxerr"])
        assert mine["fluxerr"] == pytest.approx(other["fluxerr"], rel=0.1)
    assert len(found) == len(expected) == len(new)


def nearest(table, x, y):
    distance = np.hypot(table["x"] - x, table["y"] - y)
    assert distance.min() < 1.5
    return table[int(np.argmin(distance))]
