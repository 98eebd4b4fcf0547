"""Each check of the verdict on a scene that is good but for one thing; what is unknown is said."""

import dataclasses

import numpy as np
import pytest
from astropy.table import QTable

from psflib.detection.detect import DetectSettings, detect
from psflib.detection.evidence import Evidence, measure
from psflib.detection.flags import CandidateFlag
from psflib.detection.shapes import lobes
from psflib.detection.verdict import CHECKS, OF_PSF, judge, verdict, verdict_of_psf, worst
from psflib.errors import BadDifference
from psflib.image.difference import Difference
from psflib.image.exposure import Exposure, MaskBit
from psflib.matching import MatchingKernel
from tests.fake_products import psf_field

SHAPE = (240, 260)
SIGMA = 4.0  # ADU
WIDTH = 1.4  # px, sigma of the PSF
FWHM = 2.355 * WIDTH
NAMES = [check.name for check in CHECKS]


@dataclasses.dataclass(frozen=True)
class Psf:
    """A Gaussian, or another image of it; `meta` as a solution leaves it."""

    meta: dict
    shifts: tuple = ((0.0, 0.0),)
    stretch: float = 1.0

    def at(self, x, y, size):
        j, i = np.mgrid[:size, :size] - size // 2
        image = sum(
            np.exp(-0.5 * (((i - dx) / self.stretch) ** 2 + (j - dy) ** 2) / WIDTH**2)
            for dx, dy in self.shifts
        )
        return image / image.sum()


def places():
    """Positions of stars on a grid, px, and their fluxes: S/N of 15 to 1000."""
    j, i = np.mgrid[20 : SHAPE[0] - 10 : 25, 20 : SHAPE[1] - 10 : 25]
    flux = SIGMA * np.sqrt(4 * np.pi) * WIDTH * np.geomspace(15, 1500, i.size)
    return i.ravel(), j.ravel(), np.random.default_rng(5).permutation(flux)


def stars():
    """Noiseless image of them."""
    image = np.zeros(SHAPE)
    stamp = Psf({}).at(0, 0, 21)
    for x, y, flux in zip(*places(), strict=True):
        box = image[y - 10 : y + 11, x - 10 : x + 11]
        box += flux * stamp[: box.shape[0], : box.shape[1]]
    return image


def kernel(sums=((1.0,), (0.0,)), images=None):
    """A kernel of unit sum, or one whose sum varies linearly: coefficients of 1, y or x."""
    if images is None:
        j, i = np.mgrid[-7:8, -7:8]
        images = [np.exp(-0.5 * (i**2 + j**2))]
    basis = np.array([image / image.sum() for image in images])
    coef = np.array([[sums[0][0], sums[1][0], 0.0]])
    return MatchingKernel(basis, coef, 1, 1, np.zeros(1), 0, SHAPE)


def gaussians(*centres):
    j, i = np.mgrid[-10:11, -10:11]
    return [sum(np.exp(-0.5 * ((i - x) ** 2 + (j - y) ** 2) / 1.5**2) for x, y in centres)]


def scene(left=0.0, noise=SIGMA, mask=None, correlated=False, meta=(), psf=None, matching=None,
          science=None, quadrant=1.0, cloud=1.0):  # fmt: skip
    """A difference with nothing wrong: white noise, `left` of the stars' light in it."""
    rng = np.random.default_rng(3)
    plane = rng.normal(0, 1, SHAPE)
    if correlated:
        plane = (plane + np.roll(plane, 1, 0)) / np.sqrt(2)
    plane[: SHAPE[0] // 2, : SHAPE[1] // 2] *= quadrant
    light = stars()
    image = noise * plane + left * light
    mask = np.zeros(SHAPE, np.uint16) if mask is None else mask
    known = {
        "registration": "wcs", "registration_after": 0.05, "registration_varying": 0.02,
        "noise_factor": 1.02, "score_scale": 1.0,
        "heldout_snr": [30.0, 100.0, 300.0], "heldout_residual": [1.0, 1.1, 20.0],
    }  # fmt: skip
    told = {"fwhm": FWHM, "sky_rms": SIGMA, "gain_told": 20.0} | (science or {})
    image_of_stars = Exposure(
        light + rng.normal(0, SIGMA, SHAPE), np.full(SHAPE, SIGMA**2), gain=20.0, read_noise=2.0,
        sky=20 * SIGMA**2, meta=told,
    )  # fmt: skip
    dimmed = np.where(np.arange(SHAPE[1]) < SHAPE[1] / 2, cloud, 1.0)
    template = image_of_stars.replace(image=light / dimmed + rng.normal(0, SIGMA, SHAPE))
    return Difference(
        image.astype(np.float32), np.full(SHAPE, SIGMA**2, np.float32), mask,
        matching or kernel(), psf or Psf({"reserve_chi2": 1.05, "converged": True}),
        science=image_of_stars, template=template, meta=known | dict(meta),
    )  # fmt: skip


def masked(share):
    mask = np.zeros(SHAPE, np.uint16)
    mask[: round(share * SHAPE[0])] = np.uint16(MaskBit.BAD)
    return mask


def candidates(count=0, up=None):
    """Clean candidates away from the stars; the first `up` are positive."""
    rng = np.random.default_rng(1)
    flux = np.where(np.arange(count) < (count // 2 if up is None else up), 1.0, -1.0)
    place = rng.uniform(0, 5, (2, count))
    return QTable({"x": place[0], "y": place[1], "flux": flux, "clean": np.full(count, True)})


def judged(difference, found=None):
    return verdict(difference, candidates() if found is None else found)


@pytest.fixture(scope="module")
def good():
    return judged(scene())


def test_nothing_wrong_is_good_and_all_is_measured(good):
    assert good.word == "good" and good.reasons == (), good.reasons
    assert set(good.values) == set(NAMES) and all(np.isfinite(v) for v in good.values.values())


def test_the_numbers_of_a_good_scene(good):
    value = good.values
    n = np.prod(SHAPE) / 4
    assert value["registration"] == 0.05 and value["kernel_sum"] == pytest.approx(1)
    assert value["kernel_spread"] == pytest.approx(1) and value["kernel_shift"] < 1e-6
    assert value["usable"] == 1 and value["light_left"] < 0.05 and value["flux_split"] < 1.1
    assert value["quadrant_noise"] < 1 + 5 / np.sqrt(n)  # robust: 1.17 times 1 / sqrt(2 n)
    assert value["correlation"] < 5 / np.sqrt(np.prod(SHAPE))
    for name in ("residual_faint", "residual_medium", "residual_bright"):
        # rms of about 37 pixels, the lower third of some dozens of stars
        assert value[name] == pytest.approx(0.95, abs=0.1)


#: What is wrong -> (check that sees it, word, scene, candidates)
WRONG = {
    "registration, a little": ("registration", "suspicious", {"meta": {"registration_after": 0.7}}),
    "registration": ("registration", "bad", {"meta": {"registration_after": 1.2}}),
    "a turn": ("registration_varying", "bad", {"meta": {"registration_varying": 0.7}}),
    "a shift": ("kernel_shift", "suspicious", {"matching": kernel(images=gaussians((0.8, 0)))}),
    "a large shift": ("kernel_shift", "bad", {"matching": kernel(images=gaussians((2, -2)))}),
    "two lobes": (
        "kernel_lobes", "bad", {"matching": kernel(images=gaussians((-4, 0), (4, 0)))}
    ),
    "the sum crosses zero": ("kernel_sum", "bad", {"matching": kernel(((1.0,), (1.3,)))}),
    "the sum varies": ("kernel_spread", "suspicious", {"matching": kernel(((1.0,), (0.25,)))}),
    "the sum varies much": ("kernel_spread", "bad", {"matching": kernel(((1.0,), (0.6,)))}),
    "told by the fit": (
        "kernel_spread", "bad", {"meta": {"kernel_sum_min": 0.2, "kernel_sum_max": 1.0}}
    ),
    "a thin cloud": ("flux_split", "suspicious", {"cloud": 0.68}),
    "a cloud": ("flux_split", "bad", {"cloud": 0.5}),
    "half is masked": ("usable", "suspicious", {"mask": masked(0.5)}),
    "nearly all is masked": ("usable", "bad", {"mask": masked(0.95)}),
    "light is left": ("light_left", "bad", {"left": 0.4}),
    "some light is left": ("residual_bright", "bad", {"left": 0.1}),
    "held-out stars": ("held_out", "suspicious", {"meta": {"heldout_residual": [1.0, 19.0, 20.0]}}),
    "claims": ("claimed_noise", "suspicious", {"meta": {"noise_factor": 0.5}}),
    "absurd claims": ("claimed_noise", "bad", {"meta": {"noise_factor": 4.0}}),
    "a told gain": ("told_gain", "suspicious", {"science": {"gain_told": 60.0}}),
    "a told gain, too small": ("told_gain", "suspicious", {"science": {"gain_told": 7.0}}),
    "a colour camera": ("mosaic", "suspicious", {"science": {"mosaic": 2.0}}),
    "a quadrant": ("quadrant_noise", "suspicious", {"quadrant": 1.6}),
    "a loud quadrant": ("quadrant_noise", "bad", {"quadrant": 3.0}),
    "the score": ("score_noise", "suspicious", {"meta": {"score_scale": 2.0}}),
    "correlated noise": ("correlation", "bad", {"correlated": True}),
    "PSF: reserved stars": (
        "reserve_chi2", "suspicious", {"psf": Psf({"reserve_chi2": 9.0, "converged": True})}
    ),
    "PSF: no end": (
        "unfinished", "suspicious", {"psf": Psf({"reserve_chi2": 1.0, "converged": False})}
    ),
    "PSF: two": (
        "psf_lobes", "bad",
        {"psf": Psf({"reserve_chi2": 1.0, "converged": True}, ((-4.0, 0.0), (4.0, 0.0)))},
    ),
    "PSF: long": (
        "psf_ellipticity", "bad",
        {"psf": Psf({"reserve_chi2": 1.0, "converged": True}, stretch=5.0)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_each_check_sees_what_is_its_own(what):
    name, word, changes = WRONG[what]
    found = judged(scene(**changes))
    check = next(c for c in CHECKS if c.name == name)
    assert check.word(found.values[name]) == word, found.values[name]
    assert check.reason(found.values[name]) in found.reasons
    assert found.word == word or found.word == "bad"


@pytest.mark.parametrize(
    ("name", "word", "found"),
    [
        ("density", "suspicious", candidates(60)),
        ("density", "bad", candidates(400)),
        ("one_sign", "suspicious", candidates(80, up=79)),
        ("one_sign", "good", candidates(80)),
        ("density", "good", candidates(6)),
    ],
)
def test_candidates_by_number_and_sign(name, word, found):
    value = judged(scene(), found).values[name]
    assert next(c for c in CHECKS if c.name == name).word(value) == word, value


def test_candidates_on_stars():
    x, y, _ = places()
    on = QTable({"x": x, "y": y, "flux": np.ones(len(x)), "clean": np.full(len(x), True)})
    found = judged(scene(), on)
    assert found.word == "bad" and found.values["stars_found"] == found.values["stars_clean"] == 1
    on["clean"] = False
    found = judged(scene(), on)
    assert found.word == "suspicious"
    assert found.values["stars_found"] == 1 and found.values["stars_clean"] == 0
    assert judged(scene(), on[:0]).values["stars_found"] == 0


def test_every_check_is_tested_here():
    tested = {name for name, *_ in WRONG.values()} | {
        "density",
        "one_sign",
        "stars_found",
        "stars_clean",
    }
    tested |= {"residual_faint", "residual_medium"}  # with the bright ones, same code
    assert tested == set(NAMES)


@pytest.mark.parametrize("check", CHECKS, ids=NAMES)
def test_every_check_has_limits_in_order_and_an_origin(check):
    assert check.origin and check.what
    if np.isfinite(check.bad):
        assert check.bad <= check.suspicious if check.below else check.bad >= check.suspicious
    assert check.word(np.nan) == "unknown"


def test_what_is_unknown_is_said_and_much_of_it_is_suspicious():
    bare = scene().replace(science=None, template=None, meta={})
    found = judged(bare)
    assert found.word == "suspicious" and found.reasons[-1].startswith("not measurable: ")
    assert "registration residual" in found.reasons[-1]
    one = judged(scene(meta={"noise_factor": float("nan")}))
    assert one.word == "good" and one.reasons == (
        "not measurable: noise off what is claimed by a factor of",
    )
    assert judge({}).word == "suspicious" and len(judge({}).reasons) == 1


def test_suspicions_alone_do_not_make_it_bad():
    limits = {c.name: (c.suspicious + c.bad) / 2 for c in CHECKS if np.isfinite(c.bad)}
    fine = judged(scene()).values
    some = ["registration", "kernel_shift", "residual_faint", "claimed_noise", "score_noise"]
    found = judge(fine | {n: limits[n] for n in some})
    assert found.word == "suspicious" and len(found.reasons) == len(some)


def test_no_pixel_no_star_no_candidate():
    empty = scene(mask=masked(1.0))
    found = judged(empty)
    assert found.word == "bad" and found.values["usable"] == 0
    dark = scene().science.replace(image=np.zeros(SHAPE))
    values = measure(Evidence(scene().replace(science=dark), candidates()))
    assert np.isnan(values["residual_bright"]) and np.isnan(values["stars_found"])


def test_lobes_of_one_and_of_two():
    (one,), (two,) = gaussians((0, 0)), gaussians((-4, 0), (4, 0))
    assert lobes(one) == 0 and lobes(two) == pytest.approx(1, abs=1e-6)
    assert lobes(-one) == 0


def test_a_psf_alone():
    psf = psf_field(np.random.default_rng(2))
    assert verdict_of_psf(psf).word == "good"
    worse = dataclasses.replace(psf, meta={"reserve_chi2": 50.0, "converged": False})
    found = verdict_of_psf(worse)
    assert found.word == "bad" and len(found.reasons) == 2
    assert set(found.values) == {check.name for check in OF_PSF}


def test_the_worst_of_many():
    assert worst(["good", "bad", "suspicious"]) == "bad" and worst(["good", ""]) == "good"
    assert worst([]) == ""


def test_detect_tells_the_verdict(caplog):
    table = detect(scene())
    assert table.meta["verdict"] == "good" and table.meta["reasons"] == []
    assert table.meta["evidence"]["usable"] == 1
    assert not [r for r in caplog.records if "verdict" in r.message and r.levelname == "WARNING"]


@pytest.mark.parametrize("on_bad", ["keep", "flag", "fail"])
def test_what_becomes_of_a_bad_epoch(on_bad, caplog):
    difference, settings = scene(left=0.3), DetectSettings(on_bad=on_bad)
    if on_bad == "fail":
        with pytest.raises(BadDifference, match="light that is left"):
            detect(difference, settings=settings)
        return
    table = detect(difference, settings=settings)
    assert table.meta["verdict"] == "bad" and len(table) > 20
    flagged = table["flag"] & CandidateFlag.BAD_EPOCH > 0
    assert all(flagged) if on_bad == "flag" else not any(flagged)
    assert "verdict: bad; " in caplog.text
