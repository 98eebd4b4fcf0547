"""Noise of a difference before and after decorrelation, all of it and over the field."""

import numpy as np

from psflib.figures import canvas


def noise(correlations, planes, title="Noise of the difference"):
    """Autocorrelation maps and histograms of image / sigma.

    Parameters
    ----------
    correlations : dict of str to ndarray (2L+1, 2L+1)
        By name ("raw", "decorrelated"): correlation of the noise at each lag, 1 in the middle,
        as `psflib.judging.metrics.noise_correlation` gives it.
    planes : dict of str to Difference
        The same names: the pixels whose histogram is drawn.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = canvas.new_figure(4.3 * (len(correlations) + 1) + 0.6, 4.4, title)
    axes = figure.subplots(1, len(correlations) + 1)
    limit = _largest(0.05, [_strongest(values) for values in correlations.values()])
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
    return _largest(0.0, values)


def _largest(least, values):
    """Largest of what is finite, `least` at least."""
    values = np.asarray(values, float)
    return float(np.max(values[np.isfinite(values)], initial=least))


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


def noise_field(maps, title="Noise over the field"):
    """Autocorrelation of the noise in each block of the field, and its variance.

    Parameters
    ----------
    maps : dict of str to psflib.judging.metrics.NoiseMaps
        By name ("raw", "decorrelated").
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        A column a name: above, each block holds its own map of lags, lag zero left out; below,
        the variance over the claimed one.
    """
    figure = canvas.new_figure(max(4.4 * len(maps) + 0.9, 6.0), 8.2, title)
    axes = figure.subplots(2, len(maps), squeeze=False)
    limit = _largest(0.03, [one.largest for one in maps.values()])
    spread = _largest(0.05, [np.abs(one.variance - 1) for one in maps.values()])
    for column, (name, one) in zip(axes.T, maps.items(), strict=True):
        lags = _lag_mosaic(column[0], one, name, limit)
        levels = _variance_map(column[1], one, spread)
    canvas.bar(figure, lags, axes[0, -1], "correlation")
    canvas.bar(figure, levels, axes[1, -1], "variance / claimed")
    return figure


def _lag_mosaic(axes, one, name, limit):
    """The blocks' maps of lags, each where its block lies in the field."""
    blocks, side = len(one.x), 2 * one.max_lag + 1
    cell = np.pad(one.correlation, [(0, 0), (0, 0), (0, 1), (0, 1)], constant_values=np.nan)
    cell[..., one.max_lag, one.max_lag] = np.nan
    mosaic = cell.swapaxes(1, 2).reshape(blocks * (side + 1), -1)[:-1, :-1]
    axes.set_facecolor("0.75")
    shown = canvas.draw(axes, mosaic, cmap=canvas.DIVERGING, vmin=-limit, vmax=limit)
    middle = np.arange(blocks) * (side + 1) + one.max_lag
    axes.set_xticks(middle, [f"{x:.0f}" for x in one.x])
    axes.set_yticks(middle, [f"{y:.0f}" for y in one.y])
    canvas.label(axes, "x of the block [px]", "y of the block [px]",
                 f"{name}: neighbours ≤ {one.largest:.3f}\n"
                 f"rms {one.rms:.4f}, white noise has {one.floor:.4f}")  # fmt: skip
    return shown


def _variance_map(axes, one, spread):
    shown = canvas.draw(axes, one.variance, cmap=canvas.DIVERGING, vmin=1 - spread,
                        vmax=1 + spread)  # fmt: skip
    axes.set_facecolor("0.75")
    for (row, col), value in np.ndenumerate(one.variance):
        if len(one.x) <= 8 and np.isfinite(value):
            axes.text(col, row, f"{value:.3f}", ha="center", va="center", fontsize=7,
                      color="white" if abs(value - 1) > 0.6 * spread else "black")  # fmt: skip
    axes.set_xticks(np.arange(len(one.x)), [f"{x:.0f}" for x in one.x])
    axes.set_yticks(np.arange(len(one.y)), [f"{y:.0f}" for y in one.y])
    canvas.label(axes, "x of the block [px]", "y of the block [px]",
                 f"one standard error: {_median(one.variance_error):.3f}")  # fmt: skip
    return shown


def _median(values):
    known = values[np.isfinite(values)]
    return np.median(known) if known.size else np.nan
