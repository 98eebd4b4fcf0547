"""A whole field: the image with its mask, the difference between two of them."""

import io

import numpy as np
from matplotlib.colors import Normalize
from PIL import Image

from psflib.figures import canvas


def overview(exposure, title="Image"):
    """The field in an asinh stretch, unusable pixels coloured.

    Parameters
    ----------
    exposure : Exposure
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = canvas.new_figure(7.4, field_height(exposure, 6.0), title)
    axes = figure.subplots()
    shown = field_map(axes, exposure)
    share = 100 * np.mean(~canvas.good(exposure))
    canvas.label(axes, "x [px]", "y [px]", f"orange: unusable pixels ({share:.2g} % of the field)")
    canvas.bar(figure, shown, axes, "counts [ADU], asinh stretch")
    return figure


def triplet(science, template, difference, title="Subtraction", template_name="template"):
    """Science, template and difference over sigma, side by side.

    Parameters
    ----------
    science, template : Exposure
        On one grid; `template` may be the matched one, said by `template_name`.
    difference : Difference
        Drawn as image / sqrt(variance) between -5 and 5.
    title, template_name : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = canvas.new_figure(13.0, field_height(science, 4.0) + 0.55, title)
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    for ax, plane, name in zip(axes, (science, template), ("science", template_name), strict=False):
        shown = field_map(ax, plane)
        canvas.label(ax, "x [px]", "y [px]" if name == "science" else "", name)
        canvas.bar(figure, shown, ax, "ADU, asinh", location="bottom", shrink=0.8)
    shown = significance_map(axes[2], canvas.significance(difference))
    canvas.label(axes[2], "x [px]", "", "difference / σ")
    canvas.bar(figure, shown, axes[2], "σ", location="bottom", shrink=0.8)
    return figure


def plane(exposure, title, sigma=False, mask_alpha=None):
    """One plane alone, large: what a blink comparison shows in turn.

    `sigma` draws image / sqrt(variance) between -5 and 5 instead of counts; `mask_alpha` as in
    `field_map`.
    """
    figure = canvas.new_figure(7.0, field_height(exposure, 5.6))
    axes = figure.subplots()
    if sigma:
        shown = significance_map(axes, canvas.significance(exposure))
    else:
        shown = field_map(axes, exposure, mask_alpha=mask_alpha)
    canvas.label(axes, "x [px]", "y [px]", title)
    canvas.bar(figure, shown, axes, "σ" if sigma else "counts [ADU], asinh stretch")
    return figure


def thumbnail(planes, side=120):
    """Fields beside each other, small: grey for counts, blue to red for a significance.

    Parameters
    ----------
    planes : list of Exposure or Difference
        A difference is drawn as image / sqrt(variance) between -5 and 5.
    side : int
        Longest side of each, px.

    Returns
    -------
    bytes
        A WebP file.
    """
    shown = []
    for one in planes:
        if hasattr(one, "kernel"):
            small, _ = canvas.decimate(canvas.significance(one), "extreme", side)
            norm, colours = Normalize(-5, 5, clip=True), canvas.DIVERGING
        else:
            small, _ = canvas.decimate(canvas.masked_image(one), limit=side)
            norm, colours = canvas.asinh_norm(small), canvas.SEQUENTIAL
        shown.append(canvas.coloured(small, norm, colours)[::-1])
    if not shown:
        shown = [np.ones((side, side, 3))]
    height = max(len(one) for one in shown)
    padded = [
        np.pad(one, ((0, height - len(one)), (0, 4), (0, 0)), constant_values=1) for one in shown
    ]
    buffer = io.BytesIO()
    Image.fromarray((255 * np.hstack(padded)).astype(np.uint8)).save(buffer, "webp", quality=75)
    return buffer.getvalue()


def significance_map(axes, ratio, origin=(0, 0), limit=5.0):
    """Draw a map in units of sigma between -limit and limit; no data are grey.

    `origin` is the (x, y) of its first pixel in the whole field.
    """
    small, extent = canvas.decimate(ratio, "extreme", origin=origin)
    axes.set_facecolor(canvas.GREY)
    return canvas.draw(axes, small, extent, cmap=canvas.DIVERGING, vmin=-limit, vmax=limit)


def field_height(exposure, width):
    """Height in inches for a field drawn `width` inches wide, titles and labels included."""
    ny, nx = exposure.image.shape
    return min(max(width * ny / nx, 1.5), 12.0) + 1.0


def field_map(axes, exposure, origin=(0, 0), mask_alpha=None):
    """Draw counts in an asinh stretch, unusable pixels coloured; `origin` as above.

    With `mask_alpha`, the opacity of that colour, their values are seen through it.
    """
    small, extent = canvas.decimate(canvas.masked_image(exposure), origin=origin)
    norm = canvas.asinh_norm(small)
    if mask_alpha is not None:
        small, extent = canvas.decimate(exposure.image, origin=origin)
    shown = canvas.draw(axes, small, extent, norm=norm)
    bad, extent = canvas.decimate(~canvas.good(exposure), "any", origin=origin)
    canvas.draw_mask(axes, bad, extent, 0.7 if mask_alpha is None else mask_alpha)
    return shown
