"""Noise of a difference before and after decorrelation."""

import numpy as np

from psflib.figures import canvas


def noise(correlations, planes, title="Noise of the difference"):
    """Autocorrelation maps and histograms of image / sigma.

    Parameters
    ----------
    correlations : dict of str to ndarray (2L+1, 2L+1)
        By name ("raw", "decorrelated"): correlation of the noise at each lag, 1 in the middle,
        as `psflib.metrics.noise_correlation` gives it.
    planes : dict of str to Difference
        The same names: the pixels whose histogram is drawn.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = canvas.new_figure(4.3 * (len(correlations) + 1) + 0.6, 4.4, title)
    axes = figure.subplots(1, len(correlations) + 1)
    limit = max(0.05, *(_strongest(values) for values in correlations.values()))
    for ax, (name, values) in zip(axes, correlations.items(), strict=False):
        shown = _correlation(ax, values, name, limit)
    canvas.bar(figure, shown, axes[-2], "correlation")
    _histogram(axes[-1], planes)
    return figure


def _correlation(axes, values, name, limit):
    lag = values.shape[0] // 2
    side = lag + 0.5
    shown = canvas.draw(axes, values, (-side, side, -side, side), cmap=canvas.DIVERGING,
                        vmin=-limit, vmax=limit)  # fmt: skip
    if lag <= 3:
        for (row, col), value in np.ndenumerate(values):
            axes.text(col - lag, row - lag, f"{value:.2f}", ha="center", va="center", fontsize=7,
                      color="white" if abs(value) > 0.6 * limit else "black")  # fmt: skip
    strongest = _strongest(values[lag - 1 : lag + 2, lag - 1 : lag + 2])
    canvas.label(axes, "lag in x [px]", "lag in y [px]",
                 f"{name}: |correlation| of neighbours ≤ {strongest:.3f}")  # fmt: skip
    return shown


def _strongest(values):
    """Largest modulus away from lag zero."""
    values = np.abs(values)
    values[values.shape[0] // 2, values.shape[1] // 2] = 0
    return float(np.nanmax(values))


def _histogram(axes, planes):
    edges = np.linspace(-6, 6, 121)
    middle = (edges[1:] + edges[:-1]) / 2
    for (name, plane), colour in zip(planes.items(), canvas.COLOURS, strict=False):
        ratio = canvas.significance(plane)
        ratio = ratio[np.isfinite(ratio)]
        density = np.histogram(ratio, edges)[0] / max(ratio.size, 1) / np.diff(edges)
        width = canvas.robust_range(ratio)[1]
        axes.step(middle, density, where="mid", lw=1.3, color=colour,
                  label=f"{name}: width {width:.3f}")  # fmt: skip
    axes.plot(middle, np.exp(-(middle**2) / 2) / np.sqrt(2 * np.pi), "k--", lw=1,
              label="unit Gaussian")  # fmt: skip
    axes.set(yscale="log", ylim=(1e-6, 1.0))
    canvas.legend(axes, loc="lower center")
    canvas.label(axes, "image / σ", "density of pixels", "pixel histogram")
