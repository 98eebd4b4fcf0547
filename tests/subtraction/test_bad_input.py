"""Pairs that are hard or hopeless, for every method of subtraction and for STDPipe's calls.

A result is finite where it is usable and has the noise that it claims; else there is a clear error.
"""

import numpy as np
import pytest

from psflib.errors import PsflibError
from psflib.image.noise import robust_std
from psflib.simulation import simulate_pair
from psflib.subtraction import METHODS, SubtractSettings, run_sfft, run_zogy, subtract

SHAPE = (200, 210)
SCALE = 1.3


def pair(**options):
    settings = {"shape": SHAPE, "seed": 3, "n_stars": 60, "brightest": 2e5, "scale": SCALE}
    science, template, _ = simulate_pair(**{**settings, **options})
    fwhms = options.get("fwhm_science", 3.6), options.get("fwhm_template", 2.8)
    return [
        e.replace(meta={"fwhm": fwhm, "sky_rms": 10.0, **e.meta})
        for e, fwhm in zip((science, template), fwhms, strict=True)
    ]


def with_image(exposure, image):
    return exposure.replace(image=np.asarray(image, np.float32))


def few(count):
    return pair(n_stars=count, faintest=2e4, brightest=5e4)


def one_corner():
    """Stars in one corner only."""
    science, template = pair()
    images = []
    for number, one in enumerate((science, template)):
        noise = np.random.default_rng(number).normal(0, 1, SHAPE) * np.sqrt(np.median(one.variance))
        noise[:110, :110] = one.image[:110, :110]
        images.append(with_image(one, noise))
    return images


def all_variable():
    """Every star another flux: no common scale."""
    one, other = pair(), pair(seed=9)
    return [one[0], other[1]]


def sharper():
    return pair(fwhm_science=2.4, fwhm_template=4.8)


def far_scales():
    """Flux scales that differ by 1e4."""
    science, template = pair()
    factor = np.float32(1e-4)
    return [
        science,
        template.replace(
            image=template.image * factor, variance=template.variance * factor**2,
            gain=template.gain / factor, saturation=template.saturation * factor,
        ),
    ]  # fmt: skip


def mostly_masked():
    science, template = pair()
    image = science.image.copy()
    image[:120] = np.nan
    return [with_image(science, image), template]


def holes_in_stars():
    """The template lacks pixels in the cores of its ten brightest stars."""
    science, template = pair()
    image = template.image.copy()
    brightest = np.argsort(image, axis=None)[::-1][:200:20]
    for y, x in zip(*np.unravel_index(brightest, SHAPE), strict=True):
        image[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = np.nan
    return [science, with_image(template, image)]


HARD = [few, one_corner, all_variable, sharper, far_scales, mostly_masked, holes_in_stars]


def made(case):
    return case(1) if case is few else case()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", HARD, ids=lambda case: case.__name__)
@pytest.mark.parametrize("method", METHODS)
def test_stage(method, case):
    science, template = made(case)
    try:
        raw = subtract(science, template, method=method)
    except PsflibError as error:
        assert any(c.isdigit() for c in str(error)), str(error)
        return
    _check(raw.image, raw.variance, raw.usable, case)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", HARD, ids=lambda case: case.__name__)
def test_run_sfft(case):
    image, template, options = _arrays(made(case))
    try:
        difference, noise, result = run_sfft(
            image, template, **options, kernel_shape=(9, 9), get_noise=True, get_kernel=True
        )
    except PsflibError as error:
        assert any(c.isdigit() for c in str(error)), str(error)
        return
    _check(difference, np.square(noise), ~result.dmask, case)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", HARD, ids=lambda case: case.__name__)
def test_run_zogy(case):
    pair_of = made(case)
    image, template, options = _arrays(pair_of)
    psfs = {
        name: e.meta["psf"].at(100.0, 100.0, 31)
        for name, e in zip(("image_psf", "template_psf"), pair_of, strict=True)
    }
    try:
        difference, score = run_zogy(image, template, **options, **psfs)
    except PsflibError as error:
        assert any(c.isdigit() for c in str(error)), str(error)
        return
    assert np.isfinite(difference).all() and np.isfinite(score).all()
    if case is not all_variable:
        assert robust_std(score[score != 0]) < 3


def _arrays(exposures):
    """Images, and the options that both calls share."""
    image, template = (np.array(e.image, float) for e in exposures)
    options = {
        "mask": ~exposures[0].usable, "template_mask": ~exposures[1].usable,
        "err": np.sqrt(exposures[0].variance), "template_err": np.sqrt(exposures[1].variance),
    }  # fmt: skip
    return image, template, options


def _check(image, variance, usable, case):
    assert np.isfinite(image).all() and np.isfinite(variance).all()
    if usable.any() and case is not all_variable:
        z = image[usable] / np.sqrt(variance[usable])
        assert robust_std(z) < 2


@pytest.mark.parametrize("method", METHODS)
class TestRefused:
    def test_shapes_differ(self, method):
        science, template = pair()
        small = template.cutout(slice(0, 150), slice(0, 150))
        trusted = SubtractSettings(register={"method": "wcs"})
        with pytest.raises(ValueError, match="differ in shape"):
            subtract(science, small, method=method, settings=trusted)

    def test_nothing_usable(self, method):
        science, template = pair()
        with pytest.raises((PsflibError, ValueError), match=r"\d|usable"):
            subtract(with_image(science, np.full(SHAPE, np.nan)), template, method=method)

    def test_constant(self, method):
        science, template = pair()
        flat = with_image(science, np.full(SHAPE, 7.0))
        try:
            raw = subtract(flat, template, method=method)
        except PsflibError as error:
            assert str(error)
        else:
            assert np.isfinite(raw.image).all()


@pytest.mark.parametrize("call", [run_sfft, run_zogy])
def test_a_constant_array_is_refused(call):
    image, template, _ = _arrays(pair())
    with pytest.raises(PsflibError, match="value 7"):
        call(np.full(SHAPE, 7.0), template)
    with pytest.raises(PsflibError, match="value 7"):
        call(image, np.full(SHAPE, 7.0))
