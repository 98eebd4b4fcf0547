"""Detections: the map of significance and a gallery of cutouts."""

import numpy as np
from matplotlib.colors import Normalize

from psflib.figures import canvas
from psflib.figures.image import field_height, significance_map
from psflib.image.cutout import cutout

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
    planes = _planes(difference, science, template)
    names = list(planes)
    tiles: list = []
    texts: list[str] = []
    for index in order:
        row = candidates[int(index)]
        tiles += [_tile(row, planes[name], name, size) for name in names]
        texts += _texts(row)
    canvas.mosaic(figure.subplots(), tiles, 8, texts=texts, heads=names * min(2, len(order)))
    return figure


def _planes(difference, science, template):
    return {
        "science": canvas.masked_image(science),
        "template": canvas.masked_image(template),
        "difference / σ": canvas.significance(difference),
        "score": _score(difference),
    }


def _tile(row, image, name, size):
    x, y = (float(getattr(row[n], "value", row[n])) for n in ("x", "y"))
    cut = cutout(image, x, y, size)
    if name in ("difference / σ", "score"):
        return canvas.coloured(cut, Normalize(-8, 8, clip=True), canvas.DIVERGING)
    return canvas.coloured(cut, canvas.asinh_norm(cut))


def _texts(row):
    x, y, snr = (float(getattr(row[name], "value", row[name])) for name in ("x", "y", "snr"))
    return [f"{row['id']}: {snr:+.1f}σ", f"({x:.0f}, {y:.0f})", str(row["flags"]), ""]


def _score(difference):
    if difference.score is None:
        return canvas.significance(difference)
    return np.where(canvas.good(difference), difference.score, np.nan)
