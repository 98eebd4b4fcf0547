"""Every picture is drawn from small products, empty ones too, and holds what was given to it."""

import sys

import numpy as np
import pytest
from astropy.table import QTable

from psflib import figures
from psflib.figures import canvas
from psflib.figures.kernel import _around
from psflib.figures.psf import star_groups
from psflib.figures.residuals import star_fits
from psflib.figures.stars import group_by_reason
from psflib.haloes import Starless
from psflib.image.exposure import Exposure
from psflib.injection.run import not_injected
from psflib.judging.metrics import noise_correlation
from psflib.lsst.debug import Debug, MatchView
from psflib.psf.core.field import PsfField
from psflib.psf.facts import doubts, facts, star_states
from psflib.stamps.build import Stamps
from tests.fake_products import (
    SHAPE,
    SIGMA,
    candidate_table,
    difference,
    exposure,
    extended,
    injection_table,
    kernel_candidates,
    light_curve_points,
    matching_kernel,
    method_comparison,
    polynomial_kernel,
    psf_field,
    stamps,
    star_table,
)


@pytest.fixture
def rng():
    return np.random.default_rng(20240611)


def white(max_lag=3):
    """Autocorrelation map of white noise."""
    correlation = np.zeros((2 * max_lag + 1, 2 * max_lag + 1))
    correlation[max_lag, max_lag] = 1
    return correlation


def every_figure(rng):
    field, raw, clean = exposure(rng), difference(rng), difference(rng, False, score=True)
    planes = {"raw": raw, "decorrelated": clean}
    (cells, pair), fitted = kernel_candidates(rng), polynomial_kernel()
    return {
        "comparison": figures.comparison(method_comparison(rng)),
        "completeness": figures.completeness(injection_table(rng), clean=True, limit=6.0),
        "overview": figures.overview(field),
        "star_selection": figures.star_selection(star_table(rng), SHAPE),
        "stamp_gallery": figures.stamp_gallery(stamps(rng)),
        "one_stamp": figures.one_stamp(stamps(rng), 3),
        "epsf": figures.epsf(psf_field(rng), stamps(rng), 60, 40, 30.0),
        "epsf_star": figures.epsf_star(psf_field(rng), stamps(rng), 3),
        "extended_psf": figures.extended_psf(extended()),
        "halo": figures.halo(field, Starless(field, QTable(), 0 * field.image), 60.0, 5.0, 30),
        "kernel": figures.kernel(matching_kernel()),
        "kernel_basis": figures.kernel_basis(fitted.basis),
        "kernel_candidates": figures.kernel_candidates(cells, pair, fitted),
        "kernel_cells": figures.kernel_cells(field, cells),
        "kernel_coefficients": figures.kernel_coefficients(fitted, cells),
        "kernel_fate": figures.kernel_fate(field, cells, pair, fitted, (50, 60)),
        "kernel_mosaic": figures.kernel_mosaic(fitted),
        # others of them by name: the one that draws differently is what is masked
        "debug_figures": figures.debug_figures(
            MatchView(Debug(display=True, displaySciIm=True), field, field, pair, fitted, cells)
        )["display_sci_im"],
        "triplet": figures.triplet(field, field, raw),
        "plane": figures.plane(raw, "difference", sigma=True),
        "blink": figures.blink(field, matching_kernel(), (40, 150), 3, "science"),
        "noise": figures.noise({name: white() for name in planes}, planes),
        "noise_field": figures.noise_field(
            {
                name: noise_correlation(p.image, p.variance, canvas.good(p), 3, 2)
                for name, p in planes.items()
            }
        ),
        "score_map": figures.score_map(clean, candidate_table()),
        "light_curve": figures.light_curve(light_curve_points(), rng.normal(size=(5, 9, 9))),
        "candidate_gallery": figures.candidate_gallery(clean, candidate_table(), field, field),
    }


def test_every_figure_is_drawn_without_pyplot(rng):
    drawn = every_figure(rng)
    for name, figure in drawn.items():
        png = figures.to_png(figure, dpi=50)
        assert png.startswith(b"\x89PNG"), name
        assert int.from_bytes(png[16:20]) == pytest.approx(50 * figure.get_figwidth(), abs=1), name
    assert set(drawn) == set(figures.__all__) - {"to_png", "to_webp", "thumbnail", "message"}
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_every_axes_with_a_scale_has_titles_and_units(rng):
    for name, figure in every_figure(rng).items():
        for axes in figure.axes:
            is_bar = axes.get_label() == "<colorbar>"
            if is_bar or not axes.axison or not axes.get_xticks().size:
                continue
            assert axes.get_title(), name
            assert axes.get_xlabel(), name


def test_empty_products_give_a_sentence_instead_of_a_picture(rng):
    none, field = candidate_table(0), exposure(rng)
    clean = difference(rng, score=True)
    some = stamps(rng)
    empty = Stamps(some.data[:0], some.weight[:0], some.table[:0])
    for figure in (
        figures.candidate_gallery(clean, none, field, field),
        figures.star_selection(star_table(rng)[:0]),
        figures.stamp_gallery(empty),
        figures.completeness(not_injected("no stars")),
        figures.completeness(injection_table(rng), known=False),
    ):
        assert figure.axes == []
        assert len(figure.texts) == 1
    assert figures.to_png(figures.score_map(clean, none))


def test_candidates_without_a_stamp_give_a_sentence(rng):
    (cells, pair), fitted = kernel_candidates(rng), polynomial_kernel()
    for one in cells.candidates:
        one.box = None
    assert figures.kernel_candidates(cells, pair, fitted).axes == []
    assert figures.to_png(figures.kernel_fate(exposure(rng), cells, pair, fitted, (50, 60)))


def test_every_candidate_is_drawn_once_in_the_colour_of_its_fate(rng):
    cells, _ = kernel_candidates(rng)
    axes = figures.kernel_cells(exposure(rng), cells).axes[0]
    drawn = [c for c in axes.collections if c.get_label()]
    assert sum(len(c.get_offsets()) for c in drawn) == len(cells.candidates)
    looks = {(tuple(c.get_edgecolors()[0]), c.get_paths()[0].vertices.tobytes()) for c in drawn}
    assert len(looks) == len(drawn)


def test_a_field_without_any_usable_pixel_is_still_drawn():

    assert figures.to_png(figures.overview(Exposure(np.full((40, 30), np.nan))))


def test_star_groups_hold_every_row_once(rng):
    table = star_table(rng)
    table["reason"] = [
        f"reason {i % 9}" if text != "none" else text for i, text in enumerate(table["reason"])
    ]
    rows = np.sum([rows for *_, rows in group_by_reason(table)], axis=0)
    assert np.array_equal(rows, np.ones(len(table)))


@pytest.mark.parametrize("shape", [(1000, 1700), (801, 10), (50, 60)])
def test_decimation_keeps_values_and_scale(rng, shape):
    image = rng.normal(0, 1, shape)
    small, extent = canvas.decimate(image)
    step = -(-max(shape) // canvas.LIMIT)
    assert max(small.shape) <= canvas.LIMIT
    assert extent[1] + 0.5 == small.shape[1] * step
    expected = image[: small.shape[0] * step, : small.shape[1] * step].mean()
    assert small.mean() == pytest.approx(expected, abs=1e-12)  # float64 sums of 1e6 values


def test_decimation_keeps_a_lone_peak_of_either_sign_and_ignores_missing_pixels():
    image = np.zeros((1700, 1700))
    image[700, 700], image[900, 30] = 9, -8
    image[0:3, 0:3] = np.nan
    small, _ = canvas.decimate(image, "extreme")
    assert np.nanmax(small) == 9
    assert np.nanmin(small) == -8
    assert np.isnan(small[0, 0])
    mean, _ = canvas.decimate(image)
    assert np.isnan(mean[0, 0])
    assert np.isfinite(mean[1:, 1:]).all()


def test_significance_is_image_over_sigma_and_missing_where_masked(rng):
    raw = difference(rng)
    ratio = canvas.significance(raw)
    usable = raw.mask == 0
    assert np.allclose(ratio[usable], raw.image[usable] / np.sqrt(raw.variance[usable]))
    assert np.isnan(ratio[~usable]).all()


@pytest.mark.parametrize("where", [(0, 0), (219, 179), (110, 5)])
@pytest.mark.parametrize("zoom", [1, 3, 16])
def test_blink_window_stays_inside_the_field_and_holds_the_place(rng, where, zoom):
    part, (left, bottom) = _around(exposure(rng), where, zoom)
    ny, nx = part.image.shape
    assert 0 < max(ny, nx) <= np.ceil(max(SHAPE) / zoom) + 1
    assert left <= where[0] < left + nx
    assert bottom <= where[1] < bottom + ny


def made_by(psf, rng, noise=SIGMA):
    """Stamps of the stars of `psf`, as it says that they look."""
    some = stamps(rng, len(psf.stars))
    columns = (psf.stars[name].value for name in ("x", "y", "flux"))
    model = [flux * psf.at(x, y, some.data.shape[1]) for x, y, flux in zip(*columns, strict=True)]
    data = np.array(model) + rng.normal(0, noise, some.data.shape)
    return Stamps(data.astype(np.float32), some.weight, some.table)


def test_residuals_of_stars_made_by_the_model_are_unit_noise(rng):
    psf = psf_field(rng)
    made = made_by(psf, rng)
    residual = star_fits(psf, made).significance
    assert np.array_equal(np.isnan(residual), made.weight == 0)
    values = residual[np.isfinite(residual)]
    assert np.std(values) == pytest.approx(1, abs=5 / np.sqrt(2 * values.size))
    assert np.mean(values) == pytest.approx(0, abs=5 / np.sqrt(values.size))


def test_stack_finds_an_error_of_the_model_and_its_own_noise_but_no_cosmic_ray(rng):
    psf = psf_field(rng)
    made = made_by(psf, rng)
    flux = psf.stars["flux"].value
    made.data[:, 12, 9] += 0.02 * flux * psf.at(*psf.centre).max()  # 2 % of each one's peak
    made.data[2, 5, 6] += 1e5
    everyone = np.ones(len(flux), bool)
    mean, error = star_fits(psf, made).stack(everyone)
    assert np.array_equal(np.isnan(mean), made.weight[0] == 0)
    assert mean[12, 9] == pytest.approx(2, abs=5 * error[12, 9])
    pull = mean / error
    pull[12, 9] = np.nan
    n = np.isfinite(pull).sum()
    assert np.nanstd(pull) == pytest.approx(1, abs=5 / np.sqrt(2 * n))
    assert np.isnan(star_fits(psf, made).stack(~everyone)[0]).all()


def test_chi2_of_one_star_counts_all_its_pixels(rng):
    psf = psf_field(rng)
    chi2 = star_fits(psf, made_by(psf, rng)).chi2
    assert np.isfinite(chi2).all()  # also of the star that was rejected
    assert np.mean(chi2) == pytest.approx(1, abs=5 * np.sqrt(2 / (8 * 21**2)))


def test_psf_star_groups_hold_every_row_once_and_say_why(rng):
    stars = psf_field(rng, 30).stars
    stars["reason"] = np.where(stars["ok"], "none", [f"reason {i}" for i in range(30)])
    groups = star_groups(stars)
    assert np.array_equal(np.sum([rows for *_, rows in groups], axis=0), np.ones(30))
    assert [name for name, *_ in groups[:3]] == ["fitted", "reserved", "rejected: reason 0"]
    assert star_states(stars)[:2] == ["rejected, reason 0", "reserved"]


@pytest.mark.parametrize("worst", [1.1, 400.0])
def test_every_star_is_within_the_limits_of_chi2(rng, worst):
    psf = psf_field(rng)
    psf.stars["chi2"][2] = worst
    axes = next(a for a in figures.epsf(psf).axes if a.get_title() == "fit of each star")
    low, high = axes.get_ylim()
    assert 0 < low < np.nanmin(psf.stars["chi2"]) and worst < high < 3 * worst
    assert (axes.get_yscale() == "log") == (worst > 5)


def test_a_star_without_a_fit_is_shown(rng):
    psf = psf_field(rng)
    psf.stars["flux"][0] = np.nan * psf.stars["flux"].unit
    assert figures.to_png(figures.epsf_star(psf, stamps(rng), 1), dpi=50)
    assert figures.to_png(figures.epsf(psf, stamps(rng)), dpi=50)


def test_psf_figure_without_reserved_stars_notes_or_stamps(rng):
    full = psf_field(rng, order=0)
    bare = full.stars["x", "y", "flux", "background", "delta_row", "delta_col", "chi2", "ok"]
    psf = PsfField(full.terms, full.oversample, 0, full.shape, bare)
    assert figures.to_png(figures.epsf(psf, stamps(rng)), dpi=50)
    assert figures.to_png(figures.epsf(psf), dpi=50)
    assert doubts(psf) == []
    with pytest.raises(ValueError, match="star 99"):
        figures.epsf_star(psf, stamps(rng), 99)


def test_facts_hold_the_numbers_and_doubts_the_notes(rng):
    psf, selection = psf_field(rng), star_table(rng)
    selection.meta |= {"locus": "doubtful", "turn_over": 3.1e4}
    lines = dict(facts(psf, selection))
    assert "1: 1.020" in lines["order over the field"]
    assert lines["stars"] == "5 fitted, 2 reserved, 1 rejected (chi2 1)"
    assert "doubtful" in lines["stellar locus"] and "3.1e+04" in lines["stellar locus"]
    assert len(doubts(psf, selection)) == 2


def test_noise_of_a_plane_without_any_sky_is_drawn_beside_one_with(rng):
    """No block, and no lag, of one of the two planes is known."""
    plane, lacking = difference(rng), np.full((7, 7), np.nan)
    lacking[3, 3] = 1
    sky = canvas.good(plane)
    maps = {
        name: noise_correlation(plane.image, plane.variance, select, 2, 2)
        for name, select in (("raw", sky), ("decorrelated", np.zeros_like(sky)))
    }
    none = maps["decorrelated"]
    assert none.error.shape == none.correlation.shape and np.isnan(none.nearest(none.error)).all()
    assert np.isnan([none.largest, none.rms, none.floor]).all()
    assert figures.to_png(figures.noise_field(maps), dpi=50)
    assert figures.to_png(
        figures.noise({"raw": white(), "decorrelated": lacking}, {"raw": plane}), dpi=50
    )


def test_an_extended_psf_without_a_profile_is_a_sentence():
    empty = extended()
    empty.profile = empty.profile[:0]
    assert figures.extended_psf(empty).axes == []


def test_a_kernel_of_zeros_or_of_nothing_is_drawn():
    for value in (0.0, np.nan):
        kernel = matching_kernel()
        kernel.at = lambda x, y, value=value: np.full((21, 21), value)
        kernel.flux_scale = lambda x, y, value=value: value
        assert figures.to_png(figures.kernel(kernel), dpi=50)
