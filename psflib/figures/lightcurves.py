"""The light of one object over time, with what each epoch saw of it."""

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from psflib.figures import canvas

MOST_CUTOUTS = 12
FOUND, LIMIT = canvas.COLOURS[0], canvas.GREY


def light_curve(points, cutouts, title="Light curve"):
    """Flux with errors by epoch, upper limits as arrows, and the difference at the place.

    Parameters
    ----------
    points : QTable
        Of one object, as in `psflib.lightcurves.curves.LightCurves.points`.
    cutouts : ndarray (e, s, s)
        Difference over its noise at each of the points; NaN without data.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = canvas.new_figure(7.4, 3.4)
    figure.set_layout_engine("none")  # margins that are arranged cost more than the drawing
    axes, strip = (
        figure.add_axes((0.13, 0.38, 0.85, 0.54)),
        figure.add_axes((0.02, 0.01, 0.96, 0.2)),
    )
    time, unit = _time(points)
    scale = canvas.plain(points["scale"])
    flux, error, limit = (
        canvas.plain(points[name]) / scale for name in ("flux", "flux_err", "limit")
    )
    found, known = np.asarray(points["found"], bool), np.isfinite(flux)
    axes.axhline(0, color=canvas.GREY, linewidth=0.8)
    for rows, colour, fill, name in (
        (known & found, FOUND, FOUND, "found"), (known & ~found, LIMIT, "none", "not found"),
    ):  # fmt: skip
        if not rows.any():
            continue
        axes.errorbar(
            time[rows], flux[rows], error[rows], fmt="o", markersize=4.5, linewidth=1,
            color=colour, markerfacecolor=fill, label=f"{name} ({rows.sum()})",
        )  # fmt: skip
    bound = known & ~found & np.isfinite(limit)
    if bound.any():
        axes.plot(time[bound], limit[bound], "v", color=LIMIT, markersize=4, label="upper limit")
    if unit == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    canvas.label(axes, unit, "flux of the difference [ADU of the template]", title)
    canvas.legend(axes, loc="best")
    _strip(strip, points, cutouts, found)
    return figure


def _time(points):
    """Days from the first epoch where all times are known, else the epochs by number."""
    mjd = canvas.plain(points["mjd"])
    if len(mjd) and np.isfinite(mjd).all() and np.ptp(mjd) > 0:
        first = np.floor(mjd.min())
        return mjd - first, f"MJD - {first:.0f} [d]"
    return np.arange(1.0, len(mjd) + 1), "epoch"


def _strip(axes, points, cutouts, found):
    """The cut-outs of some epochs: those that found it, and others, in the order of time."""
    if not len(cutouts):
        axes.set_axis_off()
        return
    ranked = np.lexsort((np.arange(len(found)), ~found))[:MOST_CUTOUTS]
    chosen = np.sort(ranked)
    norm = Normalize(-8, 8, clip=True)
    tiles = [canvas.coloured(cutouts[i], norm, canvas.DIVERGING) for i in chosen]
    names = [str(points["epoch"][i])[-10:] for i in chosen]
    canvas.mosaic(axes, tiles, MOST_CUTOUTS, texts=names)
