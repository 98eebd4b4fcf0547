"""The chain on the embedded field, in memory, against its truth (the goals of `make demo`)."""

import numpy as np
import pytest

from psflib.decorrelation.decorrelate import decorrelate
from psflib.detection.detect import detect
from psflib.judging.metrics import recovery, values, whiteness
from psflib.simulation.simulate import simulate_field
from psflib.subtraction import subtract

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def field():
    return simulate_field()


@pytest.fixture(scope="module", params=["1", "2"])
def epoch(request, field):
    raw = subtract(field.science[request.param], field.template)
    clean = decorrelate(raw)
    truth = field.truth[values(field.truth, "epoch").astype(str) == request.param]
    return raw, clean, detect(clean), truth


def test_transients_are_found_and_nothing_else(epoch):
    _, clean, found, truth = epoch
    score = recovery(found, truth, clean.usable.sum())
    assert score.expected > 30
    assert score.found >= 0.9 * score.expected
    assert score.others_per_mpx <= 5


def test_fluxes_are_unbiased_within_two_percent(epoch):
    _, clean, found, truth = epoch
    score = recovery(found, truth, clean.usable.sum())
    assert abs(score.flux_bias) <= 0.02


def test_noise_is_white(epoch):
    raw, clean, _, truth = epoch
    changed = truth[np.isin(values(truth, "kind"), ("transient", "variable"))]
    noise = whiteness(raw, clean, raw.science, (values(changed, "x"), values(changed, "y")))
    assert noise.std == pytest.approx(1, abs=0.05)
    assert abs(noise.correlation_after) <= 0.02
    assert abs(noise.correlation_before) > abs(noise.correlation_after)
    assert noise.score_std == pytest.approx(1, abs=0.05)


def test_prediction_of_the_noise_needs_no_rescue(epoch):
    # independent noise: neither the measured filter nor a rescaled score may be called for
    _, clean, _, _ = epoch
    assert clean.meta["noise_factor"] == pytest.approx(1, abs=0.05)
    assert clean.meta["score_scale"] == 1.0


def test_no_nan_outside_the_mask(epoch):
    raw, clean, _, _ = epoch
    for plane in (raw.image, raw.variance, clean.image, clean.variance, clean.score):
        assert np.isfinite(plane).all()
