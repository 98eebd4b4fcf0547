"""The false alarms that a difference owns up to: of its negative side, and of its sky's noise."""

import numpy as np
import pytest
from astropy.table import QTable
from scipy import ndimage

from psflib.detection.alarms import empty_of_candidates, expected_alarms, score_noise
from psflib.detection.selftest import noise_peaks, purity, self_test
from psflib.image.difference import Difference
from psflib.image.exposure import MaskBit
from tests.detection.naive_detection import naive_peak_heights

SHAPE = 1000, 1100


def field(width=1.5, seed=1, shape=SHAPE):
    """Gaussian random field of unit variance, as a matched filter of this width makes it."""
    white = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(white, width, mode="wrap")
    return (2 * np.sqrt(np.pi) * width * smooth).astype(np.float32)


def difference(score):
    plane, mask = np.ones(score.shape, np.float32), np.zeros(score.shape, np.uint16)
    return Difference(plane, plane, mask, None, None, score=score)


def table(snr, clean=True, threshold=5.0):
    snr = np.asarray(snr, float)
    made = QTable({"snr": snr, "clean": np.full(len(snr), clean)})
    made.meta["threshold"] = threshold
    return made


def numbers_of(made, candidates=None):
    sky = empty_of_candidates(made)
    candidates = table([]) if candidates is None else candidates
    return self_test(made, candidates, score_noise(made.score, sky), sky)


def test_gaussian_noise_does_what_is_expected_of_it():
    """Within 4 Poisson errors, and the same at the threshold, of some dozens together."""
    told = [numbers_of(difference(field(seed=seed))) for seed in range(4)]
    count = sum(t["halves_4"] for t in told)
    expected = sum(t["expected_alarms_4"] for t in told)
    assert count > 100
    assert sum(t["alarms_halves_4"] for t in told) == pytest.approx(
        expected, abs=4 * expected / np.sqrt(count)
    )


def test_noise_with_tails_is_seen_and_sources_are_not():
    quiet = numbers_of(difference(field()))
    rng, score = np.random.default_rng(3), field()
    y, x = rng.integers(20, 980, (2, 60))
    sources = np.zeros(SHAPE)
    sources[y, x] = 1
    blurred = ndimage.gaussian_filter(sources, 2.1)
    bright = numbers_of(difference((score + 500 * blurred).astype(np.float32)))
    assert bright["halves_4"] == pytest.approx(quiet["halves_4"], abs=4 * quiet["halves_4"] ** 0.5)
    wide = ndimage.gaussian_filter(rng.normal(size=SHAPE), 15)
    loud = numbers_of(difference((score * (1 + 0.4 * wide / wide.std())).astype(np.float32)))
    assert loud["alarms_halves_4"] > 1.5 * quiet["alarms_halves_4"]


def test_heights_as_the_slow_twin_has_them():
    made = difference(field(shape=(120, 150)))
    made.mask[40:60, 30:90] = MaskBit.BAD
    sky = empty_of_candidates(made)
    heights, area = noise_peaks(made, score_noise(made.score, sky), sky)
    slow, slow_area = naive_peak_heights(made.score, sky, 3.5)
    assert area == slow_area
    np.testing.assert_allclose(np.sort(heights), np.sort(slow), rtol=1e-5)


def test_flipped_candidates_and_purity():
    told = numbers_of(difference(field()), table([9, 8, 7, 6, -6]))
    assert told["alarms_flipped"] == told["alarms_flipped_all"] == 1
    assert told["purity"] == 0.75
    assert told["purity_err"] == pytest.approx(np.sqrt(1 + 1 / 4) / 4)
    noise = score_noise(field(), np.ones(SHAPE, bool))
    assert told["expected_alarms_4"] == pytest.approx(expected_alarms(noise, 4.0), rel=0.02)


def test_what_cannot_have_faded_is_false():
    found = table([9, 8, 7, -6, -6.5, -7])
    found["template_flux"] = np.array([0, 1, 50, 0, 80, 90.0])
    found["template_flux_err"] = np.full(6, 1.0)
    told = numbers_of(difference(field()), found)
    assert told["alarms_dark"] == 1 and told["purity_dark"] == 0.5 and told["purity"] == 0.0
    found["template_flux"][2] = np.nan
    assert "alarms_dark" not in numbers_of(difference(field()), found)


def test_purity_is_never_certain_nor_negative():
    assert purity(10, 0) == (1.0, pytest.approx(0.1))
    assert purity(2, 5)[0] == 0.0
    assert np.isnan(purity(0, 3)).all()
    assert "purity" not in numbers_of(difference(field()), table([]))


def test_too_little_sky_is_unknown():
    told = numbers_of(difference(field(shape=(40, 60))))
    assert "halves_4" in told and "alarms_halves" not in told and "expected_alarms_4" in told
    assert "halves_4" not in numbers_of(difference(field(shape=(25, 30))))
