"""Injected sources: where, how bright, what is found of them, and the curve that tells it."""

import dataclasses

import numpy as np
import pytest
from scipy.special import ndtr

import psflib
from psflib.errors import SingularFit
from psflib.image.exposure import Exposure
from psflib.injection import fit_completeness, fluxes, places, run
from psflib.judging.metrics import values
from psflib.settings.detect import DetectSettings
from psflib.settings.inject import InjectSettings
from psflib.simulation.scenes import simulate_scene
from psflib.stars.select import select_stars

SETTINGS = InjectSettings(density=900, least=0)


def drawn(n, seed=1, middle=5.0, width=0.2, plateau=0.9):
    """Brightnesses, and whether each is found, of a curve."""
    rng = np.random.default_rng(seed)
    b = np.exp(rng.uniform(np.log(2), np.log(30), n))
    return b, rng.uniform(size=n) < plateau * ndtr(np.log(b / middle) / width)


class TestCompleteness:
    def test_the_curve_within_its_errors(self):
        """Pulls of 40 draws: mean 0 and scatter 1, each within 4 of their standard errors."""
        curves = [fit_completeness(*drawn(600, seed)) for seed in range(40)]
        truth = 5.0 * np.exp(0.2 * 0.13971)  # the 50 % of a plateau of 0.9
        pulls = np.array([(c.limit(0.5)[0] - truth) / c.limit(0.5)[1] for c in curves])
        assert abs(pulls.mean()) < 4 / np.sqrt(40)
        assert abs(pulls.std() - 1) < 4 / np.sqrt(80)
        shares = np.array([(c.plateau - 0.9) / c.plateau_err for c in curves])
        assert abs(shares.mean()) < 4 / np.sqrt(40)

    def test_other_units_give_other_limits_and_nothing_else(self):
        b, found = drawn(300)
        one, other = fit_completeness(b, found), fit_completeness(1e6 * b, found)
        assert other.limit(0.5) == pytest.approx(1e6 * np.array(one.limit(0.5)), rel=1e-4)
        assert other.at(1e6 * b) == pytest.approx(one.at(b), abs=1e-4)

    def test_what_is_not_reached_is_not_told(self):
        curve = fit_completeness(*drawn(600, plateau=0.7))
        assert np.isnan(curve.limit(0.9)).all() and np.isfinite(curve.limit(0.5)).all()
        b, found = drawn(600)
        bright = b > 12  # all are beyond the limit
        assert np.isnan(fit_completeness(b[bright], found[bright]).limit(0.5)).all()

    def test_where_nothing_can_be_told(self):
        b, found = drawn(300)
        assert fit_completeness(b[:10], found[:10]) is None
        assert fit_completeness(b, np.zeros(300, bool)) is None

    def test_all_found_is_not_certainty(self):
        curve = fit_completeness(np.linspace(20, 30, 50), np.ones(50, bool))
        assert curve.plateau < 1 and curve.plateau_err > 0.003


class TestFluxes:
    def test_the_flux_has_the_ratio_that_was_asked_for(self):
        snr, sigma = np.array([3.0, 8.0, 30.0]), np.array([50.0, 60.0, 70.0])
        flux = fluxes.flux_of_snr(snr, sigma, 0.4)
        assert flux / np.sqrt(sigma**2 + 0.4 * flux) == pytest.approx(snr, rel=1e-12)

    def test_many_are_near_the_threshold(self):
        snr = fluxes.draw_snr(np.random.default_rng(1), 4000, 5.0, InjectSettings(near_limit=0.5))
        assert snr.min() >= 2 and snr.max() <= 30
        near = np.mean(np.abs(snr - 5) < 3)
        assert near == pytest.approx(0.5 + 0.5 * np.log(8 / 3) / np.log(10), abs=4 * 0.5 / 63)

    def test_photons_by_the_gain_in_image_and_variance(self, field):
        psf = field["psf"]
        shape, flux = (400, 400), np.full(49, 4e4)
        x, y = (g.ravel() + 0.3 for g in np.meshgrid(*2 * [np.linspace(30, 370, 7)]))
        empty = Exposure(np.zeros(shape), np.ones(shape), gain=2.0)
        light = psf.render(x, y, flux, shape)
        seen = fluxes.with_sources(np.random.default_rng(1), empty, psf, x, y, flux)
        added = seen.variance - 1
        assert added == pytest.approx(np.maximum(light, 0) / 2.0, abs=1e-3)
        lit = light > 20
        pull = (seen.image - light)[lit] / np.sqrt(added[lit])
        assert pull.std() == pytest.approx(1, abs=4 / np.sqrt(2 * lit.sum()))
        plain = fluxes.with_sources(None, dataclasses.replace(empty, gain=None), psf, x, y, flux)
        assert plain.image == pytest.approx(light, abs=1e-3 * light.max())
        assert (plain.variance == 1).all()


class TestPlaces:
    def test_apart_free_and_where_they_were_asked_for(self):
        rng = np.random.default_rng(2)
        free = np.ones((500, 600), bool)
        free[:, :100] = False
        sources = places.Sources(
            np.array([150.0, 400.0, 300.0]), np.array([200.0, 250.0, 400.0]),
            np.array([12.0, 9.0, 0.0]), np.array([False, False, True]),
        )  # fmt: skip
        put = places.choose_places(rng, free, sources, 3.0, (60, 20, 20))
        assert len(put.x) <= 100 and (put.drawn == "sky").sum() == 60
        assert put.x.min() > 99
        apart = np.hypot(put.x - put.x[:, None], put.y - put.y[:, None]) + 1e9 * np.eye(len(put.x))
        assert apart.min() > 6 * 3.0
        near = put.drawn == "star"
        assert near.any() and (put.kind[near] == "star").all()
        assert (put.star_distance[near] <= 15).all() and (put.star_distance[near] >= 4.5).all()
        on = put.drawn == "galaxy"
        assert on.any() and np.median(put.host_distance[on]) < 12

    def test_without_sources_or_room(self):
        rng = np.random.default_rng(2)
        nothing = places.Sources(*np.zeros((3, 0)), np.zeros(0, bool))
        put = places.choose_places(rng, np.ones((99, 99), bool), nothing, 3.0, (5, 5, 5))
        assert set(put.drawn) == {"sky"} and np.isinf(put.star_distance).all()
        put = places.choose_places(rng, np.zeros((99, 99), bool), nothing, 3.0, (5, 5, 5))
        assert len(put.x) == 0


@pytest.fixture(scope="module")
def field():
    """A small scene, its difference, and what becomes of injected sources."""
    scene = simulate_scene("sparse", 384, 5)
    science, template = (psflib.prepare(o.exposure) for o in (scene.science, scene.template))
    stars = select_stars(science)
    psf = psflib.build_psf(science)
    clean = psflib.decorrelate(psflib.subtract(science, template, psf=psf))
    args = science, template, psf, clean, SETTINGS
    return {"args": args, "psf": psf, "stars": stars, "clean": clean,
            "table": psflib.inject(*args, stars=stars)}  # fmt: skip


class TestInject:
    def test_bright_ones_are_found_where_they_were_put(self, field):
        table = field["table"]
        assert len(table) > 60
        bright = (table["true_snr"] > 9) & (table["place"] == "sky")
        assert np.mean(table["found"][bright]) > 0.9
        at = table[bright & table["found"]]
        pull = (values(at, "flux") - values(at, "true_flux")) / values(at, "flux_err")
        assert abs(np.median(pull)) < 4 * 1.25 / np.sqrt(len(at))
        assert np.hypot(at["x"] - at["true_x"], at["y"] - at["true_y"]).value.max() < 2

    def test_what_is_not_found_is_unknown(self, field):
        lost = field["table"][~field["table"]["found"]]
        assert len(lost) and np.isnan(values(lost, "flux")).all()
        assert set(lost["flags"]) == {"unknown"} and not lost["clean"].any()

    def test_the_noise_is_that_of_the_candidates(self, field):
        """Flux over S/N; the pixel phase of the PSF adds 1 %."""
        table = field["table"]
        at = table[table["found"] & (table["true_snr"] < 10) & (table["place"] == "sky")]
        noise = values(at, "flux") / values(at, "snr")
        assert np.median(values(at, "sigma") / noise) == pytest.approx(1, abs=0.04)

    def test_limits_stand_near_the_threshold(self, field):
        meta = field["table"].meta
        told = meta["completeness"]["all"]
        assert abs(told["snr_50"] - meta["threshold"]) < 4 * told["snr_50_err"] + 0.2
        assert told["plateau"] > 0.8 and told["n"] == (field["table"]["drawn"] == "sky").sum()
        found = psflib.detect(field["clean"], injection=field["table"])
        assert found.meta["completeness"] == meta["completeness"]

    def test_equal_seeds_give_equal_tables(self, field):
        again = psflib.inject(*field["args"], stars=field["stars"])
        for name in again.colnames:
            assert np.array_equal(
                values(again, name), values(field["table"], name),
                equal_nan=again[name].dtype.kind == "f",
            )  # fmt: skip

    def test_nothing_known_is_said_and_not_taken_for_perfect(self):
        table = run.not_injected(str(SingularFit("the kernel")))
        assert len(table) == 0 and table.meta["completeness"] == {}
        assert "no injection" in table.meta["notes"][0]


@pytest.mark.parametrize(
    "wrong", [{"min_snr": 30}, {"on_galaxies": 0.7, "near_stars": 0.6}, {"density": 0}]
)
def test_settings_that_contradict_each_other(wrong):
    with pytest.raises(ValueError):
        InjectSettings(**wrong)


def test_nothing_is_found_where_the_threshold_is_beyond_all(field):
    """A difference without candidates: columns of each type, none known."""
    chain = run.Chain(detect=DetectSettings(threshold=500))
    table = psflib.inject(*field["args"], chain)
    assert len(table) and not table["found"].any() and np.isnan(values(table, "flux")).all()
    assert set(table["kind"]) == {"unknown"} and not table["clean"].any()


def test_images_that_are_not_prepared_are_refused(field):
    science, *others = field["args"]
    with pytest.raises(ValueError, match="science must be prepared"):
        psflib.inject(science.replace(meta={}), *others)
