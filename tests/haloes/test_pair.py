"""Haloes out of both images before a subtraction: what vanishes, what must stay."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

import psflib
from psflib.haloes import StarsAndPsf, without_haloes
from psflib.image.exposure import MaskBit, has_bits
from psflib.psf.wings.stage import ExtendedPsfField
from psflib.simulation.camera import make_wcs
from psflib.simulation.halo_psf import HaloPsf
from psflib.simulation.haloes import add_stars, halo_pair
from psflib.subtraction import SubtractSettings

SHAPE = (512, 512)
PSFS = (
    HaloPsf(fwhm=3.6, wing=0.06, slope=2.4, angle=30.0),
    HaloPsf(fwhm=3.0, wing=0.04, slope=2.7, angle=65.0),
)
ON = SubtractSettings(use_extended_psf=True)


@pytest.fixture(scope="module")
def pair():
    science, template, bright = halo_pair(SHAPE, seed=2, n_bright=3, n_stars=120, psfs=PSFS)
    images = [psflib.prepare(science), psflib.prepare(template)]
    known = [StarsAndPsf(psflib.select_stars(e), p) for e, p in zip(images, PSFS, strict=True)]
    return *images, known, bright


@pytest.fixture(scope="module")
def cleaned(pair):
    science, template, known, _ = pair
    return without_haloes(science, template, *known)


def distances(shape, stars):
    y, x = np.indices(shape)
    return [np.hypot(x - s["x"].value, y - s["y"].value) for s in stars]


def test_saturated_stars_vanish_from_both_images(pair, cleaned):
    for before, after in zip(pair, cleaned, strict=False):
        noise = np.sqrt(np.median(before.variance))
        for r in distances(SHAPE, pair[3]):
            ring = (r > 20) & (r < 60) & after.usable
            assert np.median(before.image[ring]) > 0.5 * noise
            # the sky of the image had taken some of the haloes: its own level is no affair of ours
            level = np.median(after.image[after.usable])
            assert abs(np.median(after.image[ring]) - level) < 0.3 * noise
            core = r < 4
            assert has_bits(after.mask[core], MaskBit.SAT).all()
            assert (after.image[core] == 0).all()


def test_other_stars_keep_what_the_kernel_is_learnt_from(pair, cleaned):
    before, after = pair[0], cleaned[0]
    stars = pair[2][0].stars
    bright = stars[(stars["reason"] == "none") & (stars["flux"] > 3e4 * u.adu)]
    apart = np.min([r for r in distances(SHAPE, pair[3])], axis=0) > 150
    kept = 0
    for star, r in zip(bright, distances(SHAPE, bright), strict=True):
        if apart[round(star["y"].value), round(star["x"].value)]:
            core = r < 4
            lost = np.abs(after.image - before.image)[core].sum()
            assert lost < 0.002 * star["flux"].value, "haloes of the others under it"
            assert not has_bits(after.mask[core], MaskBit.SAT).any()
            kept += 1
    assert kept


def candidates(difference, stars):
    """Candidates not flagged as masked within 100 px of the stars."""
    found = psflib.detect(psflib.decorrelate(difference), threshold=4.5)
    x, y = found["x"].value, found["y"].value
    near = [np.hypot(x - s["x"].value, y - s["y"].value) < 100 for s in stars]
    clean = np.char.find(np.asarray(found["flags"]).astype(str), "masked") < 0
    return int((np.any(near, axis=0) & clean).sum())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_false_positives_about_saturated_stars_vanish(pair):
    science, template, known, bright = pair
    without = candidates(psflib.subtract(science, template), bright)
    removed = psflib.subtract(science, template, settings=ON, known=tuple(known))
    assert without > 20
    assert candidates(removed, bright) <= 2  # 0 to 1 without the stars, by Poisson


@pytest.mark.slow
def test_extended_psfs_are_built_if_not_given(pair):
    science, template, _, bright = pair
    difference = psflib.subtract(science, template, settings=ON)
    assert difference.science.meta["stars_removed"] >= len(bright)
    assert np.isfinite(difference.image).all()


def test_a_star_that_only_one_image_has_stays(pair):
    """A new star, bright as the rest: removed from one image alone it would be lost."""
    science, template, known, _ = pair
    x, y = 256.0, 250.0
    light = add_stars(np.zeros(SHAPE), PSFS[0], [x], [y], [3e5], 100)
    new = science.replace(image=science.image + light, variance=science.variance + light / 2)
    stars = psflib.select_stars(new)
    after, _ = without_haloes(new, template, StarsAndPsf(stars, PSFS[0]), known[1])
    r = np.hypot(*(np.indices(SHAPE) - np.array([y, x])[:, None, None]))
    gone = (new.image - after.image)[r < 4].sum()
    assert abs(gone) < 0.02 * 3e5


def test_stars_are_the_same_by_their_coordinates(pair):
    science, template, known, bright = pair
    shift = (30, 17)
    moved = template.replace(
        image=np.roll(template.image, shift, (0, 1)), mask=np.roll(template.mask, shift, (0, 1)),
        variance=np.roll(template.variance, shift, (0, 1)), wcs=make_wcs(SHAPE, shift[::-1]),
        mask_bits="psflib",
    )  # fmt: skip
    there = known[1].stars.copy()
    there["x"], there["y"] = there["x"] + shift[1] * u.pix, there["y"] + shift[0] * u.pix
    inside = (there["x"] < 510 * u.pix) & (there["y"] < 510 * u.pix)
    here = science.replace(wcs=make_wcs(SHAPE))
    after, other = without_haloes(here, moved, known[0], StarsAndPsf(there[inside], PSFS[1]))
    assert after.meta["stars_removed"] == other.meta["stars_removed"] >= len(bright)


def test_without_wings_nothing_is_done(pair, caplog):
    science, template, known, _ = pair
    core = np.zeros((33, 33))
    core[16, 16] = 1
    meta = {"fallback": "0 bright stars"}
    none = QTable({"r": [0.0] * u.pix, "value": [1.0], "error": [0.0], "enclosed": [1.0]})
    flat = ExtendedPsfField(core, 3, np.zeros((31, 31)), 31.0, 0.5, 15.0, none, none, meta)
    got = without_haloes(science, template, StarsAndPsf(known[0].stars, flat), known[1])
    assert got[0] is science and got[1] is template
    assert "haloes stay" in caplog.text


def test_without_stars_nothing_changes(pair):
    science, template, known, _ = pair
    none = [StarsAndPsf(k.stars[:0], k.extended) for k in known]
    after, other = without_haloes(science, template, *none)
    assert (after.image == science.image).all() and (other.mask == template.mask).all()
