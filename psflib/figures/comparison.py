"""Methods of subtraction side by side."""

import numpy as np
from matplotlib.ticker import NullFormatter

from psflib.figures import canvas
from psflib.words import NONE

HALF = 20  # px, half side of the cut-outs
SIGMAS = 8.0  # of the colour scale


def comparison(made, star=0, title="Methods of subtraction on one field"):
    """Residuals of stars by brightness, noise, injected sources; and one star as each left it.

    Parameters
    ----------
    made : psflib.judging.comparison.Comparison
    star : int
        Of which star the cut-outs are: its place in ``made.stars``, 0 is the brightest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = canvas.new_figure(12.5, 8.0, title)
    above, below = figure.subfigures(2, 1, height_ratios=(1.3, 1))
    axes = above.subplots(1, 3)
    methods = [str(m) for m in made.table["method"]]
    colours = dict(zip(methods, canvas.COLOURS * len(methods), strict=False))
    _stars(axes[0], made, colours)
    _noise(axes[1], made, colours)
    _sources(axes[2], made, colours)
    if len(made.stars):
        _cutouts(below, made, made.stars[min(star, len(made.stars) - 1)])
    return figure


def _stars(axes, made, colours):
    names = [n for n in made.table.colnames if n.startswith("star_")]
    snr = [float(n.split("_")[1]) for n in names]
    axes.axhline(1, color=canvas.GREY, ls="--", lw=1)
    for row in made.table:
        values = [float(row[n]) for n in names]
        axes.plot(snr, values, "o-", color=colours[str(row["method"])], label=str(row["method"]))
    counts = made.table.meta["stars"]
    axes.set_xscale("log")
    axes.set_xticks(snr, [f"> {s:g}\n{counts[n]} stars" for s, n in zip(snr, names, strict=True)])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(bottom=0)
    canvas.legend(axes)
    canvas.label(axes, "S/N of the star", "rms of the residual / noise",
                 "what stars leave behind (1 is perfect)")  # fmt: skip


def _noise(axes, made, colours):
    figures = {"sky": "pixels of the sky", "score": "score of the sky"}
    width = 0.8 / max(len(colours), 1)
    for number, (method, colour) in enumerate(colours.items()):
        row = made.table[number]
        values = [float(row[name]) for name in figures]
        place = np.arange(len(values)) + (number - (len(colours) - 1) / 2) * width
        axes.bar(place, np.nan_to_num(values), 0.9 * width, color=colour, label=method)
    axes.axhline(1, color=canvas.GREY, ls="--", lw=1)
    axes.set_xticks(range(len(figures)), list(figures.values()))
    rho = ", ".join(f"{row['method']} {float(row['correlation']):.3f}" for row in made.table)
    canvas.label(axes, f"correlation of neighbours: {rho}", "measured / claimed noise",
                 "is the noise what it claims to be?")  # fmt: skip


def _sources(axes, made, colours):
    for number, row in enumerate(made.table):
        share = float(row["found"]) / max(int(row["injected"]), 1)
        axes.barh(number, share, color=colours[str(row["method"])], height=0.6)
        text = (
            f"{int(row['found'])} of {int(row['injected'])}, flux "
            f"{100 * float(row['flux_bias']):+.1f} ± {100 * float(row['flux_bias_err']):.1f} %, "
            f"others {float(row['others']):.0f} per Mpx, {row['seconds'].value:.2f} CPU s"
        )
        if row["note"] != NONE:
            text = row["note"]
        axes.text(0.02, number + 0.42, f"{row['method']}: {text}", fontsize=7, va="center")
    axes.set_yticks([])
    axes.set_xlim(0, 1.02)
    axes.set_ylim(-0.6, len(made.table) - 0.2)
    canvas.label(axes, "share that was found", "", "injected sources of S/N > 8")


def _cutouts(figure, made, row):
    """Science, template and each method's difference around a star, in units of the noise."""
    x, y, snr = float(row["x"].value), float(row["y"].value), float(row["snr"])
    planes = {"science": made.science.image, "template": made.template.image}
    planes |= {name: one.image for name, one in made.differences.items()}
    figure.suptitle(f"the star at ({x:.0f}, {y:.0f}), S/N {snr:.0f}", fontsize=11)
    axes = np.atleast_1d(figure.subplots(1, len(planes)))
    for ax, (name, plane) in zip(axes, planes.items(), strict=True):
        cut, extent = _cut(plane, made.sigma, x, y)
        if name in made.differences:
            shown = canvas.draw(
                ax, cut, extent, cmap=canvas.DIVERGING, vmin=-SIGMAS, vmax=SIGMAS
            )  # fmt: skip
        else:
            canvas.draw(ax, cut, extent, norm=canvas.asinh_norm(cut))
        canvas.label(ax, "x [px]", "y [px]" if name == "science" else "", name)
    if made.differences:
        canvas.bar(figure, shown, axes[-1], "difference / noise")


def _cut(plane, sigma, x, y):
    rows, cols = (slice(max(round(c) - HALF, 0), round(c) + HALF + 1) for c in (y, x))
    cut = plane[rows, cols] / sigma[rows, cols]
    left, bottom = cols.start - 0.5, rows.start - 0.5
    return cut, (left, left + cut.shape[1], bottom, bottom + cut.shape[0])
