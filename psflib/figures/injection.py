"""Injected sources: which are found, and how their fluxes come out."""

import numpy as np
from scipy.special import ndtr

from psflib.figures import canvas

PLACES = {"sky": "sky", "galaxy": "on galaxies", "star": "near bright stars"}


def completeness(
    injection, known=True, clean=False, limit=None, title="What would have been found"
):
    """Share of injected sources that is found over their S/N, and biases of those that are.

    Parameters
    ----------
    injection : QTable
        From `psflib.inject`.
    known : bool
        Whether the table belongs to the candidates of now.
    clean : bool
        Only those that are found without a flag count as found.
    limit : float, optional
        S/N to be marked.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    if not known:
        return canvas.message("The injected sources are those of an earlier run.")
    if not len(injection):
        return canvas.message("; ".join(injection.meta["notes"]))
    figure = canvas.new_figure(11.0, 4.2, title)
    left, right = figure.subplots(1, 2)
    limits, bins = injection.meta["completeness"], injection.meta["bins"]
    for (place, name), colour in zip(PLACES.items(), canvas.COLOURS, strict=False):
        if bins.get(place):
            _shares(left, limits[place], bins[place], name, colour, clean)
            _biases(right, bins[place], name, colour)
    left.axvline(injection.meta["threshold"], color=canvas.GREY, ls=":", lw=1)
    if limit is not None:
        left.axvline(limit, color="black", lw=1)
    left.set(xscale="log", ylim=(-0.03, 1.05))
    canvas.label(
        left, "S/N of the source", "share that is found", _told(limits.get("all", {}), clean)
    )
    right.axhline(0, color=canvas.GREY, lw=1)
    right.set(xscale="log", ylim=(-0.3, 0.5))
    canvas.label(right, "S/N of the source", "flux / truth - 1", "mean of those that are found")
    for axes in (left, right):
        axes.set_xticks([3, 5, 10, 20, 30], ["3", "5", "10", "20", "30"], minor=False)
        axes.minorticks_off()
    canvas.legend(left, loc="lower right")
    return figure


def _told(limits, clean):
    name = "clean_snr" if clean else "snr"
    if f"{name}_50" not in limits:
        return "limits are not known"
    text = f"half at S/N {limits[f'{name}_50']:.2f} ± {limits[f'{name}_50_err']:.2f}"
    return text + (f", 90 % at {limits[f'{name}_90']:.2f}" if f"{name}_90" in limits else "")


def _shares(axes, limits, bins, name, colour, clean):
    """Points with binomial errors, and the curve."""
    middle = [np.sqrt(b["snr_low"] * b["snr_high"]) for b in bins]
    n, found = (np.array([b[k] for b in bins], float) for k in ("n", "clean" if clean else "found"))
    share = (found + 0.5) / (n + 1)  # so that one of one has an error
    axes.errorbar(middle, found / n, np.sqrt(share * (1 - share) / n), fmt="o", ms=4, lw=1,
                  color=colour, label=f"{name} ({int(n.sum())})")  # fmt: skip
    prefix = "clean_" if clean else ""
    if f"{prefix}snr_middle" in limits:
        snr = np.geomspace(3, 30, 200)
        z = np.log(snr / limits[f"{prefix}snr_middle"]) / limits[f"{prefix}snr_width"]
        axes.plot(snr, limits[f"{prefix}plateau"] * ndtr(z), color=colour, lw=1)


def _biases(axes, bins, name, colour):
    told = [b for b in bins if "flux_bias" in b]
    middle = [np.sqrt(b["snr_low"] * b["snr_high"]) for b in told]
    # the error of a flux is its S/N, that of a mean of n is less
    error = [1 / np.sqrt(b["found"]) / m for b, m in zip(told, middle, strict=True)]
    axes.errorbar(middle, [b["flux_bias"] for b in told], error, fmt="o-", ms=4, lw=1,
                  color=colour, label=name)  # fmt: skip
