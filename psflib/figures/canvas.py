"""What all figures share: a canvas without pyplot, colours, stretches, decimation.

pyplot keeps a global list of figures and is neither thread nor fork safe; a bare
`matplotlib.figure.Figure` is both, and dies with its last reference.
"""

import io
import math

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import AsinhNorm, ListedColormap, to_rgb
from matplotlib.figure import Figure
from PIL import Image

from psflib.image.exposure import UNUSABLE

#: Colours that people with any colour vision can tell apart (Okabe & Ito 2008; their yellow, too
#: light on white, is replaced by wine).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255")
GREY = "#8a8a8a"
#: Overlay of masked pixels: one colour that occurs in no colour map used here.
MASK_COLOUR = "#D55E00"
#: Behind a short text on an image.
LABEL = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.0}
SEQUENTIAL = "gray"
PERCEPTUAL = "viridis"
DIVERGING = "RdBu_r"
#: Longest side, in pixels, of an image that is drawn over a whole field.
LIMIT = 800
DPI = 100


def new_figure(width, height, title=""):
    """An empty figure of `width` x `height` inches that arranges its own margins."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def to_png(figure, dpi=DPI):
    """The figure as the bytes of a PNG file."""
    return _encoded(figure, dpi, format="png", compress_level=4)


def to_webp(figure, dpi=DPI):
    """The figure as the bytes of a WebP file: a third of a PNG where it shows noise."""
    return _encoded(figure, dpi, format="webp", quality=82, method=2)


def _encoded(figure, dpi, **options):
    """`Figure.savefig` draws twice, once for the layout, and axes are dear to draw."""
    figure.set_dpi(dpi)
    drawn = FigureCanvasAgg(figure)
    drawn.draw()
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(drawn.buffer_rgba())).convert("RGB").save(buffer, **options)
    return buffer.getvalue()


def message(text, width=6.0, height=1.5):
    """A figure that holds only a sentence, for a product that is empty."""
    figure = new_figure(width, height)
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=11, color=GREY)
    return figure


def plain(column):
    """Values of a table column as a float array, without unit and without mask."""
    values = getattr(column, "value", column)
    return np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)


def good(plane):
    """Boolean (ny, nx): pixels of an exposure or a difference that carry data."""
    return (np.asarray(plane.mask) & np.uint16(UNUSABLE)) == 0


def masked_image(plane):
    """Image (ny, nx) float32 with NaN at the pixels that carry no data."""
    return np.where(good(plane), plane.image, np.float32(np.nan))


def significance(plane):
    """Image over sigma (ny, nx) float32, NaN at the pixels that carry no data."""
    usable = good(plane) & (plane.variance > 0)
    ratio = np.full(plane.image.shape, np.nan, np.float32)
    sigma = np.sqrt(plane.variance, where=usable, out=np.ones_like(plane.variance))
    return np.divide(plane.image, sigma, out=ratio, where=usable)


def decimate(image, how="mean", limit=LIMIT, origin=(0, 0)):
    """Blocks of the image reduced to one value each, so that no side exceeds `limit`.

    Parameters
    ----------
    image : ndarray (ny, nx)
        float with NaN where there are no data, or bool.
    how : {"mean", "extreme", "any"}
        Mean of the data in a block; the value furthest from zero (keeps point sources of a
        significance map visible); any True.
    limit : int
    origin : tuple (x, y)
        Place of the first pixel in the field.

    Returns
    -------
    ndarray (<= limit, <= limit)
    tuple
        `extent` for imshow in pixels of the original image.
    """
    ny, nx = image.shape
    step = max(1, math.ceil(max(ny, nx) / limit))
    rows, cols = ny // step, nx // step
    left, bottom = origin[0] - 0.5, origin[1] - 0.5
    extent = (left, left + cols * step, bottom, bottom + rows * step)
    if step == 1:
        return image, extent
    blocks = image[: rows * step, : cols * step].reshape(rows, step, cols, step)
    if how == "any":
        return blocks.any(axis=(1, 3)), extent
    if how == "extreme":
        filled = np.nan_to_num(blocks, nan=0.0)
        high, low = filled.max(axis=(1, 3)), filled.min(axis=(1, 3))
        reduced = np.where(high >= -low, high, low)
        empty = ~np.isfinite(blocks).any(axis=(1, 3))
        return np.where(empty, np.nan, reduced), extent
    return _block_mean(blocks), extent


def _block_mean(blocks):
    """Mean over axes 1 and 3 of the finite values, NaN where there are none."""
    finite = np.isfinite(blocks)
    count = finite.sum(axis=(1, 3))
    total = np.where(finite, blocks, 0).sum(axis=(1, 3), dtype=np.float64)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def robust_range(values):
    """Median and 1.4826 x MAD of the finite values; (0, 1) when there are none."""
    values = np.asarray(values)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    centre = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - centre)))
    return centre, spread if spread > 0 else float(np.std(values)) or 1.0


def asinh_norm(values, low=3.0, high=99.8, knee=5.0):
    """Stretch that is linear over the noise and logarithmic above it.

    From `low` sigma below the median to percentile `high`, linear within `knee` sigma.
    """
    centre, spread = robust_range(values)
    finite = values[np.isfinite(values)]
    top = float(np.percentile(finite, high)) if finite.size else 1.0
    top = max(top, centre + 5 * spread)
    return AsinhNorm(linear_width=knee * spread, vmin=centre - low * spread, vmax=top)


def psf_norm(image, floor=1e-4):
    """Stretch of a PSF: linear up to `floor` of its peak, logarithmic above."""
    peak = float(np.nanmax(image))
    return AsinhNorm(linear_width=floor * peak, vmin=0, vmax=peak)


def draw(axes, image, extent=None, **style):
    """`imshow` with the first row at the bottom and pixels as squares."""
    style.setdefault("cmap", SEQUENTIAL)
    style.setdefault("interpolation", "nearest")
    return axes.imshow(image, origin="lower", extent=extent, **style)


def draw_mask(axes, bad, extent=None, alpha=0.7):
    """Lay `bad` pixels (bool) over an image in one colour."""
    if bad.any():
        layer = np.ma.masked_where(~bad, np.ones(bad.shape, np.uint8))
        draw(axes, layer, extent, cmap=ListedColormap([MASK_COLOUR]), alpha=alpha)


def coloured(image, norm, colours=SEQUENTIAL, bad=None, alpha=0.7):
    """An image (ny, nx) as colours (ny, nx, 3); NaN are grey, `bad` pixels as by `draw_mask`."""
    values = np.ma.filled(norm(np.ma.masked_invalid(image)), 0.0)
    shown = mpl.colormaps[colours](values)[..., :3]
    shown[~np.isfinite(image)] = to_rgb(GREY)
    if bad is not None:
        shown[bad] = (1 - alpha) * shown[bad] + alpha * np.array(to_rgb(MASK_COLOUR))
    return shown


def mosaic(axes, tiles, columns, gap=2, texts=(), heads=()):
    """Tiles (s, s, 3) line by line in one axes: an axes a tile would take 50 times as long.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    tiles : list of ndarray (s, s, 3)
        The first row of each is drawn at the bottom.
    columns : int
    gap : int
        px between tiles.
    texts : sequence of str
        In the upper left corners.
    heads : sequence of str
        Above the tiles of the first line.
    """
    side = len(tiles[0])
    step, lines = side + gap, math.ceil(len(tiles) / columns)
    sheet = np.ones((lines * step - gap, columns * step - gap, 3))
    for number, tile in enumerate(tiles):
        line, column = divmod(number, columns)
        sheet[line * step :, column * step :][:side, :side] = tile[::-1]
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()
    for number, text in enumerate(texts):
        line, column = divmod(number, columns)
        if text:
            place = column * step + 0.03 * side - 0.5, line * step + 0.03 * side - 0.5
            axes.text(*place, text, fontsize=7, va="top", bbox=LABEL)
    for column, text in enumerate(heads):
        axes.text(column * step + side / 2, -1.5, text, fontsize=9, ha="center", va="bottom")


def label(axes, x="", y="", title=""):
    """Title, axis labels and their sizes, the same in all figures."""
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=8)


def bar(figure, mappable, axes, text, **options):
    """Colour bar with its unit."""
    if isinstance(mappable.norm, AsinhNorm):
        options = {"ticks": _asinh_ticks(mappable.norm), "format": "{x:g}", **options}
    handle = figure.colorbar(mappable, ax=axes, **{"shrink": 0.85, "pad": 0.02, **options})
    handle.set_label(text, fontsize=9)
    handle.ax.tick_params(labelsize=8)
    handle.ax.minorticks_off()
    return handle


def _asinh_ticks(norm):
    """Zero and round values beyond the linear part, apart enough for their labels."""
    first = math.floor(math.log10(norm.linear_width))
    last = math.ceil(math.log10(max(norm.vmax, -norm.vmin, norm.linear_width)))
    powers = 10.0 ** np.arange(first, last + 1)
    steps = powers if last - first > 2 else np.sort(np.concatenate((powers, 3 * powers)))
    steps = steps[steps >= norm.linear_width]
    ticks = np.concatenate((-steps[::-1], [0.0], steps))
    return ticks[(ticks >= norm.vmin) & (ticks <= norm.vmax)]


def bare(axes, text="", **style):
    """An axes without ticks, with a short text in its upper left corner."""
    axes.set_xticks([])
    axes.set_yticks([])
    if text:
        axes.text(
            0.03, 0.97, text, transform=axes.transAxes, fontsize=7, va="top", bbox=LABEL, **style
        )


def legend(axes, **options):
    """A small legend, if there is anything to put into it."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**{"fontsize": 8, "framealpha": 0.85, **options})
