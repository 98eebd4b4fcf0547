"""`compare_methods`: one referee for all methods, on a field whose truth is known."""

import numpy as np
import pytest

from psflib import figures, judging
from psflib.errors import SingularFit
from psflib.judging import comparison
from psflib.judging.comparison import BINS, CLEARANCE, compare, inject
from psflib.judging.metrics import values
from psflib.preparation.prepare import prepare
from psflib.simulation import simulate_pair
from psflib.subtraction import METHODS, SubtractSettings


@pytest.fixture(scope="module")
def pair():
    images = simulate_pair((300, 320), seed=6, n_stars=80, brightest=3e5, scale=1.2)[:2]
    return tuple(prepare(e) for e in images)


@pytest.fixture(scope="module")
def psfs(pair):
    return tuple(e.meta["psf"] for e in pair)


@pytest.fixture(scope="module")
def made(pair, psfs):
    return compare(*pair, psfs=psfs, injected=20, seed=3)


class TestReferee:
    def test_every_method_has_a_row(self, made):
        assert list(made.table["method"]) == list(METHODS) == list(made.differences)
        assert all(note == "none" for note in made.table["note"])
        assert np.all(made.table["seconds"].value > 0)

    def test_figures_are_right_for_methods_that_are(self, made):
        table = made.table
        assert np.all(table["usable"] > 0.9)
        # 5e4 pixels of sky: 0.5 % on a robust deviation, and what sky and score claims are good to
        np.testing.assert_allclose(table["sky"], 1, atol=0.05)
        np.testing.assert_allclose(table["score"], 1, atol=0.06)
        assert np.all(np.abs(table["correlation"]) < 0.03)
        np.testing.assert_allclose(table["star_30"], 1, atol=0.25)
        assert np.all(table["found"] >= 0.85 * table["injected"])
        assert np.all(np.abs(table["flux_bias"]) < 4 * table["flux_bias_err"] + 0.01)

    def test_a_wrong_difference_is_seen(self, pair, psfs, made, monkeypatch):
        right = METHODS["al"]

        def wrong(science, template, settings, psf_of):
            raw = right(science, template, settings, psf_of)
            return raw.replace(image=raw.image + np.float32(0.05) * science.image)

        monkeypatch.setitem(comparison.METHODS, "al", wrong)
        table = compare(*pair, ("al",), psfs=psfs, injected=20, seed=3).table
        assert table["star_300"][0] > 3 * made.table["star_300"][0]

    def test_counts_of_stars_and_seed_are_told(self, made):
        meta = made.table.meta
        assert meta["seed"] == 3 and set(meta["stars"]) == {f"star_{low}" for low in BINS}
        assert sum(meta["stars"].values()) > 10
        assert np.all(np.diff(made.stars["snr"]) <= 0)

    def test_the_same_twice(self, pair, psfs, made):
        again = compare(*pair, ("zogy",), psfs=psfs, injected=20, seed=3)
        row = list(METHODS).index("zogy")
        # the pixels that all methods share are now those of one
        assert again.table["flux_bias"][0] == pytest.approx(made.table["flux_bias"][row], abs=0.01)
        np.testing.assert_array_equal(
            again.differences["zogy"].image, made.differences["zogy"].image
        )

    def test_by_its_name_in_judging(self, pair, psfs):
        table = judging.compare_methods(*pair, ["zogy"], psfs=psfs, injected=0)
        assert len(table) == 1 and table["injected"][0] == 0

    def test_a_method_that_fails_is_a_row_with_a_reason(self, pair, psfs, monkeypatch):
        def fails(*_):
            raise SingularFit("no solution")

        monkeypatch.setitem(comparison.METHODS, "al", fails)
        made = compare(*pair, ("al", "zogy"), psfs=psfs, injected=5)
        assert made.table["note"][0] == "no solution" and np.isnan(made.table["sky"][0])
        assert list(made.differences) == ["zogy"]
        assert figures.to_png(figures.comparison(made)).startswith(b"\x89PNG")

    def test_bad_calls(self, pair):
        for methods in (("magic",), ()):
            with pytest.raises(ValueError, match="unknown method"):
                compare(*pair, methods)

    def test_settings_reach_the_methods(self, pair, psfs):
        settings = SubtractSettings.model_validate({"zogy": {"nodes": 3}})
        made = compare(*pair, ("zogy",), settings, psfs=psfs, injected=0)
        assert "3 x 3 places" in " ".join(made.differences["zogy"].meta["notes"])


class TestInjection:
    def test_flux_and_places(self, pair, psfs):
        science, template = pair
        sigma = np.sqrt(science.variance + 1.44 * template.variance)
        new, table = inject(science, template, psfs[0], sigma, 15, 2)
        added = new.image - science.image
        x, y = values(table, "x"), values(table, "y")
        for i, j, flux in zip(x.astype(int), y.astype(int), values(table, "delta_flux"),
                              strict=True):  # fmt: skip
            box = added[j - 8 : j + 9, i - 8 : i + 9]
            # photon noise; 17 px hold 95 % of this PSF's light
            assert box.sum() == pytest.approx(0.96 * flux, abs=0.03 * flux + 5 * np.sqrt(flux / 2))
        near = np.hypot(x[:, None] - x, y[:, None] - y) + 1e9 * np.eye(len(x))
        assert near.min() > CLEARANCE
        assert min(x.min(), y.min()) >= CLEARANCE
        assert new.variance.sum() > science.variance.sum()

    def test_seeded_and_inputs_kept(self, pair, psfs):
        science, template = pair
        before = science.image.copy()
        sigma = np.sqrt(science.variance)
        one, two, other = (
            inject(science, template, psfs[0], sigma, 5, seed)[0].image for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(one, two)
        assert not np.array_equal(one, other)
        np.testing.assert_array_equal(science.image, before)

    def test_no_room(self, pair, psfs):
        science, template = (e.cutout(slice(0, 60), slice(0, 60)) for e in pair)
        sigma = np.sqrt(science.variance)
        _, table = inject(science, template, psfs[0], sigma, 50, 1)
        assert 1 <= len(table) < 5


class TestFigures:
    def test_pictures(self, made):
        one, two = (figures.to_png(figures.comparison(made, star)) for star in (0, 1))
        assert one.startswith(b"\x89PNG") and one != two

    def test_no_stars(self, made):
        empty = type(made)(
            made.table, made.differences, made.science, made.template, made.sigma,
            made.stars[:0], made.injected,
        )  # fmt: skip
        assert figures.to_png(figures.comparison(empty)).startswith(b"\x89PNG")
