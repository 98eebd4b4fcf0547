"""The C program by STDPipe's wrapper, and ours, on the same pairs: planes, kernel, header."""

import inspect

import numpy as np
import pytest
from astropy.table import Table
from scipy import ndimage

from psflib.image.noise import robust_std
from psflib.simulation import simulate_pair
from psflib.subtraction import run_hotpants
from tests.parity.peers import SEEDS, hotpants, peer

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
theirs = peer("stdpipe.subtraction").run_hotpants

SHAPE = (400, 416)
GRID = {"nsx": 4, "nsy": 4}
PLANES = ("convolved", "scaled", "noise", "kernel", "header")
#: Name -> (arguments, options); "map" is the true sigma of each pixel.
CALLS = {
    "plain": ({}, {}),
    "noise measured": ({"err": True, "template_err": True}, {}),
    "noise given": ({"err": "map", "template_err": "map"}, {}),
    "kernel that varies": ({}, {"ko": 1, "bgo": 1}),
    "units of the template": ({}, {"n": "t"}),
    "units of the unconvolved": ({}, {"n": "u"}),
    "image convolved": ({}, {"c": "i"}),
    "image convolved, units of the template": ({}, {"c": "i", "n": "t"}),
    "two regions": ({"nx": 2, "ny": 1}, {"nsx": 4, "nsy": 6}),
    "objects": ({"obj": True}, {}),
    "masks": ({"mask": True, "template_mask": True}, {}),
    "good part": ({}, {"gd": [10, 410, 5, 395]}),
    "another basis": ({}, {"ng": [2, 4, 1.0, 2, 2.0]}),
    "a sharper limit": ({}, {"ks": 1.5, "nss": 2}),
}
#: Cards whose values are the same text.
EQUAL = ("CONVOL00", "PHOTNORM", "NREGION", "MASKVAL", "KERINFO")
#: Limits, see docs/names.md: of the difference and the convolved image in sigma (each program has
#: the error of its own fit), of the noise and the cards, relative.
DIFFERENCE, NOISE, MEASURED_NOISE, KERNEL_SUM = 0.15, 0.015, 0.12, 0.01


def both(seed, arguments, options):
    exe = hotpants()
    swapped = options.get("c") == "i"
    fwhms = (2.8, 3.6) if swapped else (3.6, 2.8)
    science, template, truth = simulate_pair(
        SHAPE, seed=seed, n_stars=320, scale=1.3, brightest=2e5, fwhm_science=fwhms[0],
        fwhm_template=fwhms[1],
    )  # fmt: skip
    given = dict(arguments)
    for name, exposure in (("err", science), ("template_err", template)):
        if given.get(name) == "map":
            given[name] = np.sqrt(exposure.variance.astype(float))
    if "obj" in given:
        given["obj"] = Table({"x": truth["x"].value, "y": truth["y"].value})
    for name, box in (("mask", np.s_[100:102, 50:60]), ("template_mask", np.s_[200:210, 300:330])):
        if name in given:
            given[name] = np.zeros(SHAPE, bool)
            given[name][box] = True
    settings = {
        "image_gain": 2.0, "template_gain": 2.0, "image_fwhm": 3.6, "template_fwhm": 2.8,
        "extra": {**GRID, **options}, **{f"get_{name}": True for name in PLANES}, **given,
    }  # fmt: skip
    images = (science.image + 500.0).astype(float), (template.image + 300.0).astype(float)
    return (
        theirs(*(i.copy() for i in images), _exe=exe, **settings),
        run_hotpants(*images, **settings),
        images,
    )


def kernel_of(table, shape, basis, half):
    """Kernel at the middle of a region, of HOTPANTS's coefficients of order 0.

    Alard & Lupton 1998: Gaussians times x^i y^j; those with even powers have unit sum and the
    first one taken off.
    """
    line = np.arange(-half, half + 1)
    images = []
    for degree, sigma in zip(basis[1::2], basis[2::2], strict=True):
        for i in range(int(degree) + 1):
            for j in range(int(degree) + 1 - i):
                across, up = (np.exp(-0.5 * (line / sigma) ** 2) * line**k for k in (i, j))
                if i % 2 == 0 and j % 2 == 0:
                    across, up = across / across.sum(), up / up.sum()
                image = np.outer(up, across)
                even = i % 2 == 0 and j % 2 == 0
                images.append(image - images[0] if even and images else image)
    coefficients = np.asarray(table.columns[0], float)[1 : 1 + len(images)]
    return np.tensordot(coefficients, images, 1)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_planes_and_header(seed, call):
    arguments, options = CALLS[call]
    expected, found, images = both(seed, arguments, options)
    assert len(expected) == len(found) == 6
    good = (np.abs(expected[0]) > 1e-20) & (np.abs(found[0]) > 1e-20)
    assert good.mean() > 0.8
    sigma = expected[3][good]
    for i in (0, 1):
        assert np.std((expected[i] - found[i])[good] / sigma) < DIFFERENCE
    limit = MEASURED_NOISE if "err" in arguments and arguments["err"] is True else NOISE
    ratio = found[3][good] / sigma
    assert np.median(ratio) == pytest.approx(1, abs=limit)
    if limit == MEASURED_NOISE:  # the residuals tell who is right
        mine, other = (abs(robust_std(p[2][good]) - 1) for p in (found, expected))
        assert mine < 0.03 and mine < other
    if limit == NOISE:
        assert np.std((expected[2] - found[2])[good]) < DIFFERENCE
        assert robust_std(ratio) < 0.01
    check_identity(found, images, options)
    check_headers(expected[5], found[5], limit)
    if options.keys() <= {"n"} and "nx" not in arguments:
        half = 11
        one = kernel_of(expected[4], SHAPE, (3, 6, 0.5, 4, 1.0, 2, 2.0), half)
        two = found[4]["kernel"][0]
        assert one.sum() == pytest.approx(float(expected[5]["KSUM00"]), abs=1e-3)
        # a Gaussian of half a pixel tells neighbouring pixels hardly apart; the stars' PSF does
        one, two = (ndimage.gaussian_filter(k, 2.8 / 2.355) for k in (one, two))
        assert np.abs(one - two).max() < 0.04 * two.max()


def check_identity(found, images, options):
    """image - convolved = difference in both programs' units."""
    good = np.abs(found[0]) > 1e-20
    kernels = found[4]
    if len(kernels) > 1:
        return
    own = {"t": "i", "i": "t"}[options.get("c", "t")]
    factor = 1.0 if options.get("n", "i") in (own, "u") else 1 / kernels["ksum"][0]
    image, template = images
    rest = factor * image - found[1] if own == "i" else found[1] - factor * template
    np.testing.assert_allclose(rest[good], found[0][good], atol=0.05)


def check_headers(expected, found, limit):
    ours_alone = {"SSNUM00", "SSREJ00", "SSNUM01", "SSREJ01"}
    their_own = {"SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND", "COMMENT", ""}
    their_own |= {"SOFTAUTH", "SOFTINST"}
    missing = set(expected) - set(found) - their_own
    assert not missing and set(found) - set(expected) <= ours_alone | {"DATE"}
    for key in EQUAL:
        assert found[key] == expected[key], key
        assert type(found[key]) is type(expected[key]), key
    number = 0
    while f"REGION{number:02d}" in found:
        for key, tolerance in (
            ("KSUM", {"rel": KERNEL_SUM}), ("DSIG", {"rel": limit}), ("DSIGE", {"rel": 0.02}),
            ("DMEAN", {"abs": 0.05 * float(expected[f"DSIG{number:02d}"])}),
            ("X2NRM", {"rel": 2.2 * limit + 0.01}), ("FSIG", {"rel": 2.2 * limit + 0.1}),
        ):  # fmt: skip
            name = f"{key}{number:02d}"
            assert isinstance(found[name], str) and isinstance(expected[name], str)
            assert float(found[name]) == pytest.approx(float(expected[name]), **tolerance), name
        number += 1
    assert found["REGION00"].split(",")[1] == expected["REGION00"].split(",")[1]


def test_the_same_arguments_in_the_same_order():
    expected, found = (inspect.signature(f).parameters for f in (theirs, run_hotpants))
    assert [(p.name, p.default) for p in found.values()] == [
        (p.name, p.default) for p in expected.values()
    ]
