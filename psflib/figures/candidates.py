"""Detections: the map of significance and a gallery of cutouts."""

import numpy as np

from psflib.figures import canvas
from psflib.figures.image import field_height, significance_map

RISEN, FADED = canvas.COLOURS[2], canvas.COLOURS[3]


def score_map(difference, candidates, title="Matched-filter significance"):
    """The score plane with the candidates circled.

    Parameters
    ----------
    difference : Difference
        With `score`; else image / sigma is drawn.
    candidates : QTable
        id, x, y, snr.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = canvas.new_figure(7.4, field_height(difference, 6.0), title)
    axes = figure.subplots()
    shown = significance_map(axes, _score(difference), limit=8)
    x, y, snr = (canvas.plain(candidates[name]) for name in ("x", "y", "snr"))
    for rows, colour, name in ((snr > 0, RISEN, "brighter"), (snr < 0, FADED, "fainter")):
        axes.scatter(x[rows], y[rows], s=90, facecolors="none", edgecolors=colour,
                     linewidths=1.6, label=f"{name} ({rows.sum()})")  # fmt: skip
    if len(candidates) <= 60:
        for row, cx, cy in zip(candidates["id"], x, y, strict=True):
            axes.annotate(str(row), (cx, cy), (5, 5), textcoords="offset points", fontsize=7)
    canvas.legend(axes, loc="upper right")
    canvas.label(axes, "x [px]", "y [px]", f"{len(candidates)} candidates")
    canvas.bar(figure, shown, axes, "significance [σ]")
    return figure


def candidate_gallery(difference, candidates, science, template, top=12, size=41,
                      title="Candidates"):  # fmt: skip
    """Cutouts of science, template, difference and score for the strongest candidates.

    Parameters
    ----------
    difference : Difference
    candidates : QTable
    science, template : Exposure
        On the difference's grid.
    top : int
        Candidates drawn, strongest |snr| first, two to a line.
    size : int
        Side of a cutout, px.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    if len(candidates) == 0:
        return canvas.message("No candidate above the threshold.")
    order = np.argsort(-np.abs(canvas.plain(candidates["snr"])))[:top]
    lines = (len(order) + 1) // 2
    subtitle = f"{title}: {len(order)} strongest of {len(candidates)}, {size} px a side"
    figure = canvas.new_figure(11.0, 1.38 * lines + 0.8, subtitle)
    gap = (1, 1, 1, 1, 0.08, 1, 1, 1, 1)
    grid = figure.subplots(lines, 9, squeeze=False, width_ratios=gap)
    for axes in grid[:, 4]:
        axes.set_axis_off()
    grid = np.delete(grid, 4, axis=1).reshape(-1, 4)
    planes = _planes(difference, science, template)
    for axes in grid[len(order) :].ravel():
        axes.set_axis_off()
    for axes, index in zip(grid, order, strict=False):
        _candidate(axes, candidates[int(index)], planes, size)
    for name, ax in zip((*planes, *planes), grid[:2].ravel(), strict=False):
        ax.set_title(name, fontsize=9)
    return figure


def _planes(difference, science, template):
    return {
        "science": canvas.masked_image(science),
        "template": canvas.masked_image(template),
        "difference / σ": canvas.significance(difference),
        "score": _score(difference),
    }


def _candidate(axes, row, planes, size):
    x, y, snr = (float(getattr(row[name], "value", row[name])) for name in ("x", "y", "snr"))
    for ax, (name, image) in zip(axes, planes.items(), strict=True):
        cut = _cutout(image, x, y, size)
        style = {"norm": canvas.asinh_norm(cut)}
        if name in ("difference / σ", "score"):
            style = {"cmap": canvas.DIVERGING, "vmin": -8, "vmax": 8}
        ax.set_facecolor(canvas.GREY)
        canvas.draw(ax, cut, **style)
        canvas.bare(ax)
    canvas.bare(axes[0], f"{row['id']}: {snr:+.1f}σ")
    canvas.bare(axes[1], f"({x:.0f}, {y:.0f})")
    flags = row["flags"] if "flags" in row.colnames else ""
    canvas.bare(axes[2], "" if np.ma.is_masked(flags) else str(flags))


def _cutout(image, x, y, size):
    """(size, size) around (x, y), NaN outside the image."""
    half = size // 2
    padded = np.full((size, size), np.nan)
    if not np.isfinite([x, y]).all():
        return padded
    row, col = round(y) - half, round(x) - half
    top, left = max(row, 0), max(col, 0)
    part = image[top : max(row + size, 0), left : max(col + size, 0)]
    padded[top - row : top - row + part.shape[0], left - col : left - col + part.shape[1]] = part
    return padded


def _score(difference):
    if difference.score is None:
        return canvas.significance(difference)
    return np.where(canvas.good(difference), difference.score, np.nan)
