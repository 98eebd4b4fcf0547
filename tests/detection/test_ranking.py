"""The ranking: what it learns, what it does not know, and that it knows no sign."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable, vstack

from psflib.detection import ranking
from psflib.detection.ranking import FEATURES, Ranking, fit, known_ranking, train


def candidates(n, bogus, seed=1):
    """A table as `detect` makes it, of PSFs or of what is none."""
    rng = np.random.default_rng(seed)
    size = 1.0 if bogus else 0.0
    flux = 100 * np.exp(rng.normal(0, 0.5, n)) * rng.choice([-1, 1], n)
    table = QTable()
    table["flux"], table["snr"] = flux * u.adu, flux / 10
    table["fwhm"] = np.full(n, 3.0) * u.pix
    table["chi2"] = np.exp(rng.normal(1.5 * size, 0.2, n))
    table["elongation"] = np.exp(rng.normal(0.5 * size, 0.1, n))
    table["extent"] = np.exp(rng.normal(0, 0.1 + 0.4 * size, n))
    table["sharpness"] = np.exp(rng.normal(0, 0.1 + 0.4 * size, n))
    table["template_flux"] = flux * rng.uniform(0.1, 5, n) * u.adu
    table["star_distance"] = rng.uniform(0, 20, n) * u.pix
    table["opposite"] = np.clip(rng.normal(0.1 + 0.5 * size, 0.2, n), 0, None)
    table["masked"] = rng.uniform(0, 0.1 + 0.3 * size, n)
    table["dipole_gain"] = np.where(rng.uniform(size=n) < 0.5, np.nan, 1 + size)
    table["flag"] = np.zeros(n, np.int32)
    return table


def test_psfs_rank_above_what_is_none():
    known = known_ranking()
    real, bogus = known.score(candidates(200, False)), known.score(candidates(200, True))
    assert np.mean(real[:, None] > bogus) > 0.98
    assert (real >= 0).all() and (bogus <= 1).all()


def test_signs_are_alike():
    table = candidates(50, True)
    turned = table.copy()
    for name in ("flux", "snr", "template_flux"):
        turned[name] = -turned[name]
    known = known_ranking()
    np.testing.assert_allclose(known.score(turned), known.score(table))


def test_every_feature_has_a_weight():
    known = known_ranking()
    assert set(known.names) == set(FEATURES)
    assert np.isfinite(known.weight).all() and (known.scale > 0).all()


def test_nothing_known_is_no_score():
    table = QTable({"id": [1, 2]})
    assert np.isnan(known_ranking().score(table)).all()


def test_what_is_not_known_counts_as_usual():
    table = candidates(30, False)
    less = table.copy()
    del less["masked"], less["opposite"]
    assert np.isfinite(known_ranking().score(less)).all()


def test_few_examples_change_nothing():
    known = known_ranking()
    assert train(candidates(3, False), candidates(100, True), known) is known
    assert train(candidates(100, False), candidates(0, True), known) is known


def test_a_run_refines_what_is_known():
    blank = Ranking(*_blank())
    half = train(candidates(40, False, 3), candidates(40, True, 4), blank)
    score = [half.score(candidates(200, bogus, 5)) for bogus in (False, True)]
    assert np.mean(score[0][:, None] > score[1]) > 0.98


def test_signs_of_the_weights_do_not_depend_on_how_many_are_bogus():
    blank = Ranking(*_blank())
    few = train(candidates(50, False, 3), candidates(50, True, 4), blank)
    many = train(candidates(50, False, 3), candidates(2000, True, 4), blank)
    table = candidates(100, False, 6)
    # both kinds count alike: at equal odds scores stay where they are
    assert np.abs(few.score(table) - many.score(table)).mean() < 0.05


def test_real_sources_that_fade_are_no_bogus():
    known = known_ranking()
    faded = candidates(60, False, 7)
    after = train(candidates(60, False, 3), faded, known)
    table = candidates(100, True, 6)
    assert np.median(after.score(table)) < 0.2
    assert np.median(after.score(faded)) > 0.5


def test_a_run_with_and_without_injection():
    table = vstack([candidates(40, False, 1), candidates(40, True, 2)])
    injected = candidates(50, False, 3)
    injected["found"] = np.arange(50) % 2 == 0
    plain, refined = ranking.rank(table), ranking.rank(table, injected)
    for score in (plain, refined):
        assert np.mean(score[:40, None] > score[40:]) > 0.98
    assert np.abs(plain - refined).max() > 0
    assert len(ranking.rank(table[:0], injected)) == 0


def _blank():
    known = known_ranking()
    zero = np.zeros(len(known.weight))
    return known.names, known.centre, known.scale, zero, zero + 3.0


def test_fit_is_the_maximum():
    rng = np.random.default_rng(8)
    terms = np.c_[rng.normal(0, 1, (300, 3)), np.ones(300)]
    truth = np.array([1.0, -2.0, 0.0, 0.5])
    label = (rng.uniform(size=300) < 1 / (1 + np.exp(-terms @ truth))).astype(float)
    weight, start, spread = np.ones(300), np.zeros(4), np.full(4, 5.0)
    found = fit(terms, label, weight, start, spread)
    assert np.abs(found - truth).max() < 1.0  # 300 examples tell weights of 2 to 0.3

    def loss(w):
        chance = np.logaddexp(0, -terms @ w * (2 * label - 1)).sum()
        return chance + 0.5 * np.square((w - start) / spread).sum()

    for k in range(4):
        for step in (-1e-3, 1e-3):
            assert loss(found) < loss(found + step * np.eye(4)[k])
    tight = fit(terms, label, weight, truth, np.full(4, 1e-3))
    np.testing.assert_allclose(tight, truth, atol=1e-3)


@pytest.mark.parametrize("name", FEATURES)
def test_features_are_finite_or_unknown(name):
    table = candidates(20, True)
    table["chi2"][0], table["sharpness"][1] = np.nan, -0.5
    values = ranking.features(table)[name]
    assert values.shape == (20,) and not np.isinf(values).any()
