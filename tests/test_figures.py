"""Every picture is drawn from small products, empty ones too, and holds what was given to it."""

import sys

import numpy as np
import pytest
from fake_products import (
    SHAPE,
    SIGMA,
    candidate_table,
    difference,
    exposure,
    extended,
    kernel_candidates,
    matching_kernel,
    polynomial_kernel,
    psf_field,
    stamps,
    star_table,
)

from psflib import figures
from psflib.exposure import Exposure
from psflib.figures import canvas
from psflib.figures.kernel import _around
from psflib.figures.psf import star_residuals
from psflib.figures.stars import group_by_reason
from psflib.stamps import Stamps


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
        "overview": figures.overview(field),
        "star_selection": figures.star_selection(star_table(rng), SHAPE),
        "stamp_gallery": figures.stamp_gallery(stamps(rng)),
        "one_stamp": figures.one_stamp(stamps(rng), 3),
        "epsf": figures.epsf(psf_field(rng), stamps(rng), 60, 40, 30.0),
        "extended_psf": figures.extended_psf(extended()),
        "kernel": figures.kernel(matching_kernel()),
        "kernel_basis": figures.kernel_basis(fitted.basis),
        "kernel_candidates": figures.kernel_candidates(cells, pair, fitted),
        "kernel_cells": figures.kernel_cells(field, cells),
        "kernel_coefficients": figures.kernel_coefficients(fitted, cells),
        "kernel_fate": figures.kernel_fate(field, cells, pair, fitted, (50, 60)),
        "kernel_mosaic": figures.kernel_mosaic(fitted),
        "triplet": figures.triplet(field, field, raw),
        "plane": figures.plane(raw, "difference", sigma=True),
        "blink": figures.blink(field, matching_kernel(), (40, 150), 3, "science"),
        "noise": figures.noise({name: white() for name in planes}, planes),
        "score_map": figures.score_map(clean, candidate_table()),
        "candidate_gallery": figures.candidate_gallery(clean, candidate_table(), field, field),
    }


def test_every_figure_is_drawn_without_pyplot(rng):
    drawn = every_figure(rng)
    for name, figure in drawn.items():
        png = figures.to_png(figure, dpi=50)
        assert png.startswith(b"\x89PNG"), name
    assert set(drawn) == set(figures.__all__) - {"to_png", "message"}
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
    table["reason"] = [f"reason {i % 9}" if text else "" for i, text in enumerate(table["reason"])]
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


def test_residuals_of_stars_made_by_the_model_are_unit_noise(rng):
    some, psf = stamps(rng), psf_field(rng)
    used = np.asarray(psf.stars["ok"])
    side = some.data.shape[1]
    stars = zip(psf.stars["x"].value, psf.stars["y"].value, psf.stars["flux"].value, strict=True)
    model = np.array([flux * psf.at(x, y, side) for x, y, flux in stars])
    noise = rng.normal(0, SIGMA, some.data.shape)
    made = Stamps((model + noise).astype(np.float32), some.weight, some.table)
    residual = star_residuals(psf, made)
    assert np.array_equal(np.isnan(residual), some.weight[used] == 0)
    values = residual[np.isfinite(residual)]
    assert np.std(values) == pytest.approx(1, abs=5 / np.sqrt(2 * values.size))
    assert np.mean(values) == pytest.approx(0, abs=5 / np.sqrt(values.size))
