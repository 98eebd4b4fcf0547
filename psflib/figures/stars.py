"""Star selection: sizes, peaks, and the map of stars over the field."""

from collections import Counter

import numpy as np

from psflib.figures import canvas

#: Reasons beyond this number are drawn together, or the colours could not be told apart.
MOST_REASONS = 6
MARKERS = ("s", "^", "v", "D", "P", "X")


def star_selection(stars, shape=None, fwhm_range=None, title="Star selection"):
    """Size against magnitude, peak against flux, and where the stars stand; reasons coloured.

    Parameters
    ----------
    stars : QTable
        Result of `select_stars`: x, y, flux, fwhm, selected, reserved, reason; peak and locus for
        the plot of peaks.
    shape : tuple (ny, nx), optional
        Of the image; else the stars' own range.
    fwhm_range : tuple (low, high), optional
        Limits in px, drawn as lines.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    if len(stars) == 0:
        return canvas.message("No star was detected on this image.")
    if not np.any(canvas.plain(stars["flux"]) > 0):
        return canvas.message("No detection on this image has a flux.")
    groups = group_by_reason(stars)
    peaks = {"peak", "locus"} <= set(stars.colnames) and np.any(stars["selected"])
    figure = canvas.new_figure(15.5 if peaks else 12.5, 5.6, title)
    locus, *middle, field = figure.subplots(
        1, 3 if peaks else 2, width_ratios=(1.3, 1, 1) if peaks else (1.3, 1)
    )
    _locus(locus, stars, groups)
    for limit in fwhm_range or ():
        locus.axhline(limit, color=canvas.GREY, lw=1, ls=":")
    for axes in middle:
        _peaks(axes, stars, groups)
    _map(field, stars, groups, shape)
    figure.legend(
        *locus.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8
    )
    return figure


def group_by_reason(stars):
    """List of (name, colour, marker, boolean index) for all rows, stars first."""
    selected = np.asarray(stars["selected"], bool)
    reserved = np.asarray(stars["reserved"], bool) & selected
    reasons = np.array([str(text).split(";")[0].strip() for text in stars["reason"]])
    groups = [
        (f"selected ({np.sum(selected & ~reserved)})", canvas.COLOURS[0], "o",
         selected & ~reserved),
        (f"reserved for tests ({reserved.sum()})", "black", "*", reserved),
    ]  # fmt: skip
    common = Counter(reasons[~selected].tolist()).most_common()
    for index, (reason, count) in enumerate(common[:MOST_REASONS]):
        colour = canvas.COLOURS[1 + index % (len(canvas.COLOURS) - 1)]
        rows = ~selected & (reasons == reason)
        groups.append((f"{reason or 'rejected'} ({count})", colour, MARKERS[index], rows))
    rest = ~selected & np.isin(reasons, [reason for reason, _ in common[MOST_REASONS:]])
    if rest.any():
        groups.append((f"other reasons ({rest.sum()})", canvas.GREY, "x", rest))
    return groups


def _locus(axes, stars, groups):
    flux, fwhm = canvas.plain(stars["flux"]), canvas.plain(stars["fwhm"])
    magnitude = -2.5 * np.log10(np.where(flux > 0, flux, np.nan))
    trend = ""
    if "locus" in stars.colnames and "fwhm" in stars.meta:
        fwhm = fwhm / canvas.plain(stars["locus"]) * float(stars.meta["fwhm"])
        trend = ", trend over the field removed" if stars.meta.get("locus_order", 0) > 0 else ""
    _scatter(axes, magnitude, fwhm, groups, label=True)
    if "fwhm" in stars.meta:
        axes.axhline(float(stars.meta["fwhm"]), color=canvas.COLOURS[0], lw=1, ls="--")
    finite = fwhm[np.isfinite(fwhm)]
    if finite.size:
        low, high = np.percentile(finite, [0, 95])
        axes.set_ylim(max(0, low - 0.5), high + 1.0)
    state = stars.meta.get("locus", "clear")
    note = "dashed: stellar locus" if state == "clear" else f"dashed: stellar locus, {state}"
    canvas.label(axes, "instrumental magnitude, −2.5 log₁₀(flux / ADU)", f"FWHM [px]{trend}",
                 f"size–magnitude plot ({note})")  # fmt: skip


def _peaks(axes, stars, groups):
    """Measured peak over the one that the flux asks for: 1 for stars, less when saturated."""
    flux, peak, size = (canvas.plain(stars[name]) for name in ("flux", "peak", "locus"))
    unit = np.where(flux > 0, flux, np.nan) / size**2
    expected = unit * np.median((peak / unit)[np.asarray(stars["selected"], bool)])
    _scatter(axes, expected, peak / expected, groups)
    axes.axhline(1, color=canvas.COLOURS[0], lw=1, ls="--")
    title = "peak against flux"
    if "turn_over" in stars.meta:
        axes.axvline(stars.meta["turn_over"], color=canvas.COLOURS[1], lw=1, ls=":")
        title += f" (dotted: turns over at {stars.meta['turn_over']:.4g} ADU)"
    axes.set(xscale="log", ylim=(0, 2))
    canvas.label(axes, "peak of a star of this flux [ADU above sky]", "measured / expected", title)


def _scatter(axes, x, y, groups, label=False):
    """The groups' points, stars on top."""
    for name, colour, marker, rows in reversed(groups):
        top = marker in "o*"
        axes.scatter(
            x[rows], y[rows], s=(60 if marker == "*" else 24 if top else 9), c=colour,
            marker=marker, label=name if label else None, linewidths=0.5 if top else 0.8,
            edgecolors=("white" if top else None) if marker != "x" else None,
            zorder=3 if top else 2,
        )  # fmt: skip


def _map(axes, stars, groups, shape):
    x, y = canvas.plain(stars["x"]), canvas.plain(stars["y"])
    for _, colour, marker, rows in reversed(groups):
        top = marker in "o*"
        axes.scatter(
            x[rows], y[rows], s=(60 if marker == "*" else 26 if top else 8), c=colour,
            marker=marker, linewidths=0.5, alpha=1 if top else 0.6, zorder=3 if top else 2,
        )  # fmt: skip
    ny, nx = shape or (np.nanmax(y) + 1, np.nanmax(x) + 1)
    axes.set(xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5), aspect="equal")
    canvas.label(axes, "x [px]", "y [px]", "over the field")
