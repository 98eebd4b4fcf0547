"""The matching kernel over the field."""

from types import SimpleNamespace

import numpy as np
from matplotlib.colors import AsinhNorm

from psflib.figures import canvas
from psflib.figures.image import field_map, significance_map


def kernel(matching, points=5, x=None, y=None, title="Matching kernel"):
    """Kernels over the field, one of them large, flux scale and background.

    Parameters
    ----------
    matching : MatchingKernel
    points : int
        Kernels along the longer side of the mosaic.
    x, y : float, optional
        Position in px of the large one, by default the middle of the field.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    ny, nx = matching.shape
    x = (nx - 1) / 2 if x is None else x
    y = (ny - 1) / 2 if y is None else y
    figure = canvas.new_figure(12.5, 8.6, f"{title}: {_direction(matching)}")
    axes = figure.subplots(2, 2)
    _mosaic(figure, axes[0, 0], matching, points)
    _single(figure, axes[0, 1], matching, x, y)
    scale = _sample(matching.flux_scale, matching.shape)
    background = _sample(matching.background_at, matching.shape)
    spread = 100 * np.ptp(scale) / (abs(scale.mean()) or np.nan)
    name = f"flux scale: mean {scale.mean():.4f}, range {spread:.2g} %"
    _map(figure, axes[1, 0], scale, matching.shape, name, "kernel sum")
    _map(figure, axes[1, 1], background, matching.shape, "differential background", "ADU")
    axes[1, 0].plot(x, y, "+", color="white", ms=12, mew=2)
    return figure


def _direction(matching):
    said = f"the {matching.convolved} is convolved"
    by = matching.meta.get("broadened", 0)
    return f"{said}, sharpened by way of a target broadened by {by:.2g} px" if by else said


def _mosaic(figure, axes, matching, points):
    ny, nx = matching.shape
    counts = [max(1, round(points * n / max(ny, nx))) for n in (ny, nx)]
    ys, xs = ((np.arange(m) + 0.5) * n / m for m, n in zip(counts, (ny, nx), strict=True))
    tiles = [[np.pad(matching.at(x, y), 1, constant_values=np.nan) for x in xs] for y in ys]
    image = np.block(tiles)
    shown = _kernel_image(axes, image, (-0.5, nx - 0.5, -0.5, ny - 0.5))
    canvas.bar(figure, shown, axes, "kernel, ±asinh stretch")
    canvas.label(axes, "x [px]", "y [px]", "kernels where they apply")


def _single(figure, axes, matching, x, y):
    image = matching.at(x, y)
    half = image.shape[0] / 2
    shown = _kernel_image(axes, image, (-half, half, -half, half))
    canvas.bar(figure, shown, axes, "kernel, ±asinh stretch")
    title = f"at x = {x:.0f}, y = {y:.0f} px: sum {image.sum():.4f}"
    canvas.label(axes, "x [px]", "y [px]", title)


def _kernel_image(axes, image, extent):
    """Diverging colours, so that negative lobes show; grey lines between the tiles."""
    peak = float(np.max(np.abs(image[np.isfinite(image)]), initial=0.0)) or 1.0
    norm = AsinhNorm(linear_width=0.03 * peak, vmin=-peak, vmax=peak)
    axes.set_facecolor(canvas.GREY)
    return canvas.draw(axes, image, extent, cmap=canvas.DIVERGING, norm=norm)


def _sample(function, shape, points=33):
    """Values of `function(x, y)` on a grid over the field."""
    ys, xs = (np.linspace(0, n - 1, points) for n in shape)
    return np.array([[float(function(x, y)) for x in xs] for y in ys])


def _map(figure, axes, values, shape, title, unit):
    ny, nx = shape
    extent = (-0.5, nx - 0.5, -0.5, ny - 0.5)
    shown = canvas.draw(axes, values, extent, cmap=canvas.PERCEPTUAL, interpolation="bilinear")
    canvas.bar(figure, shown, axes, unit, format="%.4g")
    canvas.label(axes, "x [px]", "y [px]", title)


def blink(plane, matching, where, zoom=1, title="", sigma=False):
    """One plane beside the kernel at a place: drawn in turn for several planes, they blink.

    Parameters
    ----------
    plane : Exposure or Difference
    matching : MatchingKernel
    where : tuple (x, y)
        px; marked on the plane and the middle of what is drawn.
    zoom : float
        The side drawn is the field's longer side / zoom.
    title : str
    sigma : bool
        Draw image / sqrt(variance) instead of counts.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = canvas.new_figure(12.0, 5.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    part, extent = _around(plane, where, zoom)
    if sigma:
        shown = significance_map(left, canvas.significance(part), extent)
    else:
        shown = field_map(left, part, extent)
    left.plot(*where, "+", color=canvas.COLOURS[4], ms=16, mew=1.5)
    canvas.bar(figure, shown, left, "σ" if sigma else "counts [ADU], asinh stretch")
    canvas.label(left, "x [px]", "y [px]", title)
    _single(figure, right, matching, *where)
    scale, background = matching.flux_scale(*where), matching.background_at(*where)
    right.set_title(
        f"kernel here: flux scale {float(scale):.4f}, background {float(background):+.3g} ADU",
        fontsize=10,
    )
    return figure


def _around(plane, where, zoom):
    """The part of all planes within the zoomed window, and its first column and row."""
    ny, nx = plane.image.shape
    half = max(ny, nx) / zoom / 2
    spans = []
    for centre, size in zip(where, (nx, ny), strict=True):
        middle = min(max(centre, half), max(size - half, size / 2))
        spans.append(slice(max(0, round(middle - half)), min(size, round(middle + half))))
    cols, rows = spans
    part = SimpleNamespace(
        image=plane.image[rows, cols], variance=plane.variance[rows, cols],
        mask=plane.mask[rows, cols],
    )  # fmt: skip
    return part, (cols.start, rows.start)
