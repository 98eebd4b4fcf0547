"""What the kernel was made of: candidates and their fate, cells, basis, coefficients."""

import math

import numpy as np

from psflib.figures import canvas
from psflib.figures.image import field_height, field_map
from psflib.figures.kernel import _kernel_image
from psflib.image import polynomial
from psflib.image.exposure import UNUSABLE, has_bits
from psflib.matching.cells.candidates import inner_box
from psflib.matching.cells.grid import REASONS
from psflib.matching.cells.single import stamp_residual

GOOD_COLOUR, WAITING_COLOUR = canvas.COLOURS[2], canvas.GREY
MARKERS = "sDv^<>pPX*hH8d"


def kernel_cells(science, cells, where=None, title="Kernel candidates"):
    """The field with its cells, each candidate coloured by what became of it.

    Parameters
    ----------
    science : Exposure
    cells : SpatialCellSet
    where : tuple (x, y), optional
        Marked, px.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = canvas.new_figure(7.4, field_height(science, 6.0) + 1.0, title)
    _draw_cells(figure.subplots(), science, cells, where)
    return figure


def _draw_cells(axes, science, cells, where=None):
    field_map(axes, science)
    for cell in cells.cells:
        x, y = [cell.x0 - 0.5, cell.x1 - 0.5], [cell.y0 - 0.5, cell.y1 - 0.5]
        axes.plot([x[0], x[1], x[1], x[0], x[0]], [y[0], y[0], y[1], y[1], y[0]],
                  color=canvas.COLOURS[5], lw=0.8, alpha=0.7)  # fmt: skip
    for name, marker, colour, chosen in _groups(cells.candidates):
        axes.scatter([c.x for c in chosen], [c.y for c in chosen], s=55, marker=marker,
                     facecolors="none", edgecolors=colour, linewidths=1.5,
                     label=f"{name} ({len(chosen)})")  # fmt: skip
    if where is not None:
        axes.plot(*where, "+", color="white", ms=16, mew=2.5)
        axes.plot(*where, "+", color="black", ms=14, mew=1)
    ny, nx = cells.shape
    axes.set_xlim(-0.5, nx - 0.5)
    axes.set_ylim(-0.5, ny - 0.5)
    canvas.label(axes, "x [px]", "y [px]", "cells and what became of the candidates in them")
    canvas.legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)


def _groups(candidates):
    """(legend, marker, colour, candidates) of each fate that occurs."""
    colours = [canvas.COLOURS[i] for i in (1, 3, 4, 0, 6, 5)]
    fates = [
        ("good", "o", GOOD_COLOUR, [c for c in candidates if c.status == "good"]),
        ("not needed", "o", WAITING_COLOUR, [c for c in candidates if c.status == "unknown"]),
    ]
    present = [r for r in REASONS if any(c.reason == r for c in candidates)]
    for i, reason in enumerate(present):
        fates.append(
            (REASONS[reason].split(":")[0], MARKERS[i % len(MARKERS)], colours[i % len(colours)],
             [c for c in candidates if c.reason == reason])
        )  # fmt: skip
    return [fate for fate in fates if fate[3]]


def kernel_candidates(cells, pair, kernel, where=None, most=8, title="Candidates and residuals"):
    """Candidates' stamps: target, what the kernel makes of the other image, and the residuals.

    Parameters
    ----------
    cells : SpatialCellSet
    pair : Pair
    kernel : MatchingKernel
    where : tuple (x, y), optional
        px; the nearest candidates are drawn, else the rejected and the best rated ones by turns.
    most : int
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    chosen = _chosen([c for c in cells.candidates if c.box is not None], where, most)
    if not chosen:
        return canvas.message("No candidate has a stamp inside the images.")
    figure = canvas.new_figure(1.45 * len(chosen) + 0.6, 4.9, title)
    _draw_candidates(figure.subplots(3, len(chosen), squeeze=False), chosen, pair, kernel)
    return figure


def _chosen(candidates, where, most):
    if where is not None:
        return sorted(candidates, key=lambda c: np.hypot(c.x - where[0], c.y - where[1]))[:most]
    ranked = sorted(candidates, key=lambda c: -c.rating)
    bad = [c for c in ranked if c.status == "bad"]
    good = [c for c in ranked if c.status != "bad"]
    half = min(len(bad), max(most // 2, most - len(good)))
    return good[: most - half] + bad[:half]


def _draw_candidates(grid, chosen, pair, kernel):
    for column, one in zip(grid.T, chosen, strict=True):
        image = kernel.at(one.x, one.y)
        background = float(kernel.background_at(one.x, one.y))
        inner = inner_box(one.box, image.shape[0] // 2)
        seen = np.where(has_bits(pair.target.mask[inner], UNUSABLE), np.nan, 1.0)
        target = pair.target.image[inner]
        residual, variance = stamp_residual(one, pair, image, background)
        ratio = seen * residual / np.sqrt(variance)
        norm = canvas.asinh_norm(seen * target, high=100)
        bad = one.status == "bad"
        colour = canvas.COLOURS[1] if bad else GOOD_COLOUR if one.status == "good" else canvas.GREY
        for axes in column:
            axes.set_facecolor(canvas.MASK_COLOUR)
        canvas.draw(column[0], seen * target, norm=norm)
        canvas.draw(column[1], target - residual, norm=norm)
        canvas.draw(column[2], ratio, cmap=canvas.DIVERGING, vmin=-5, vmax=5)
        word = one.reason or {"good": "good", "unknown": "not needed"}[one.status]
        column[0].set_title(f"{one.id}: {word}", fontsize=8, color=colour)
        for axes, text in zip(column, ("", "", _numbers(one)), strict=True):
            canvas.bare(axes, text)
            for spine in axes.spines.values():
                spine.set(color=colour, linewidth=2)
    for axes, name in zip(grid[:, 0], ("target", "matched", "residual / σ"), strict=True):
        axes.set_ylabel(name, fontsize=9)


def _numbers(one):
    if not np.isfinite(one.spatial_std):
        return ""
    return f"{one.spatial_mean:+.2f} ± {one.spatial_std:.2f}"


def kernel_fate(science, cells, pair, kernel, where, most=5):
    """Cells with all candidates, beside the stamps of those nearest to a place.

    Parameters as in `kernel_cells` and `kernel_candidates`.
    """
    figure = canvas.new_figure(12.5, 8.2)
    left, right = figure.subfigures(1, 2, width_ratios=(1.6, 1))
    _draw_cells(left.subplots(), science, cells, where)
    chosen = _chosen([c for c in cells.candidates if c.box is not None], where, most)
    right.suptitle(f"candidates nearest to x = {where[0]:.0f}, y = {where[1]:.0f} px", fontsize=10)
    if chosen:
        _draw_candidates(right.subplots(len(chosen), 3, squeeze=False).T, chosen, pair, kernel)
    else:
        right.text(0.5, 0.5, "no candidate has a stamp", ha="center", color=canvas.GREY)
    return figure


def kernel_basis(images, most=60, title="Kernel basis"):
    """The images that the kernel is a sum of.

    Parameters
    ----------
    images : ndarray (nb, k, k)
    most : int
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    count = min(len(images), most)
    columns = min(10, count)
    rows = math.ceil(count / columns)
    subtitle = f"{title}: {count} of {len(images)} images, each in its own ±asinh stretch"
    figure = canvas.new_figure(1.15 * columns + 0.4, 1.15 * rows + 0.6, subtitle)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.set_axis_off()
    for number, axes in enumerate(grid[:count]):
        _kernel_image(axes, images[number], None)
        canvas.bare(axes, str(number))
    return figure


def kernel_mosaic(kernel, points=7, title="Kernel over the field"):
    """The kernel where it applies, on a grid, and its difference from that of the middle.

    Parameters
    ----------
    kernel : MatchingKernel
    points : int
        Kernels along the longer side.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    ny, nx = kernel.shape
    counts = [max(1, round(points * n / max(ny, nx))) for n in (ny, nx)]
    ys, xs = ((np.arange(m) + 0.5) * n / m for m, n in zip(counts, (ny, nx), strict=True))
    tiles = np.array([[kernel.at(x, y) for x in xs] for y in ys])
    middle = kernel.at((nx - 1) / 2, (ny - 1) / 2)
    figure = canvas.new_figure(13.0, 6.0 * counts[0] / counts[1] + 0.9, title)
    extent = (-0.5, nx - 0.5, -0.5, ny - 0.5)
    for axes, values, name in zip(
        figure.subplots(1, 2), (tiles, tiles - middle),
        ("kernels where they apply", "minus the kernel of the middle"), strict=True,
    ):  # fmt: skip
        padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=np.nan)
        side = padded.shape[-1]
        image = padded.transpose(0, 2, 1, 3).reshape(counts[0] * side, counts[1] * side)
        shown = _kernel_image(axes, image, extent)
        canvas.bar(figure, shown, axes, "kernel, ±asinh stretch", shrink=0.8)
        canvas.label(axes, "x [px]", "y [px]", name)
    return figure


def kernel_coefficients(kernel, cells=None, most=12, title="Coefficients of the spatial model"):
    """Polynomials of the basis images whose coefficients change most over the field.

    Parameters
    ----------
    kernel : MatchingKernel
    cells : SpatialCellSet, optional
        Candidates with kernels of their own in the same basis are drawn as dots in the same
        colours: a dot that stands out from its surroundings disagrees with the model.
    most : int
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    ny, nx = kernel.shape
    y, x = (np.linspace(0, n - 1, 33) for n in (ny, nx))
    order = max(kernel.order, kernel.flux_order)
    terms = polynomial.evaluate(order, x[None, :], y[:, None], kernel.shape)
    maps = np.tensordot(kernel.coef, terms, 1)
    change = np.ptp(maps.reshape(len(maps), -1), axis=1)
    picked = np.unique([0, *np.argsort(-change, kind="stable")[: most - 1]])
    columns = min(4, len(picked))
    rows = math.ceil(len(picked) / columns)
    figure = canvas.new_figure(3.3 * columns, 2.9 * rows + 0.5, title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(picked) :]:
        axes.set_axis_off()
    points = _own_coefficients(cells, len(kernel.coef))
    for axes, number in zip(grid, picked, strict=False):
        _coefficient(figure, axes, maps[number], number, points, (nx, ny))
    return figure


def _own_coefficients(cells, count):
    """x, y and coefficients of the candidates that were fitted in a basis of `count` images."""
    fits = [] if cells is None else [
        (c, c.component_fit or c.fit) for c in cells.candidates if c.status == "good"
    ]  # fmt: skip
    rows = [(c.x, c.y, *f.coefficients) for c, f in fits if f and len(f.coefficients) == count]
    return np.array(rows).reshape(len(rows), count + 2)


def _coefficient(figure, axes, values, number, points, size):
    nx, ny = size
    own = points[:, number + 2]
    both = np.concatenate([values.ravel(), *([np.percentile(own, [10, 90])] if len(own) else [])])
    low, high = both.min(), both.max()
    if high - low < 1e-12 * max(abs(high), abs(low), 1e-300):
        low, high = low - 0.5, high + 0.5
    style = {"cmap": canvas.PERCEPTUAL, "vmin": low, "vmax": high}
    extent = (-0.5, nx - 0.5, -0.5, ny - 0.5)
    shown = canvas.draw(axes, values, extent, interpolation="bilinear", **style)
    axes.scatter(points[:, 0], points[:, 1], c=own, s=28, edgecolors="white", linewidths=0.8,
                 **style)  # fmt: skip
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    canvas.bar(figure, shown, axes, "coefficient", format="%.3g")
    canvas.label(axes, "x [px]", "y [px]", f"basis image {number}")
