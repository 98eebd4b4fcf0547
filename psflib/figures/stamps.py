"""Stamps: a gallery of them, or one with its weight."""

import math

import numpy as np

from psflib.figures import canvas


def stamp_gallery(stamps, most=40, title="Stamps"):
    """The stamps, brightest scale each its own, pixels of zero weight coloured.

    Parameters
    ----------
    stamps : Stamps
    most : int
        Draw at most so many, evenly picked from the table.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    count = len(stamps.data)
    if count == 0:
        return canvas.message("No stamps: no star was selected.")
    picked = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    columns = min(10, len(picked))
    rows = math.ceil(len(picked) / columns)
    subtitle = f"{title}: {len(picked)} of {count}, asinh stretch, orange = zero weight"
    figure = canvas.new_figure(1.12 * columns + 0.2, 1.12 * rows + 0.5, subtitle)
    canvas.mosaic(
        figure.subplots(),
        [_tile(stamps.data[index], stamps.weight[index]) for index in picked],
        columns,
        texts=[
            f"{row['id']}" + " reserved" * bool(row["reserved"]) for row in stamps.table[picked]
        ],
    )
    return figure


def one_stamp(stamps, index, weight=True):
    """Stamp `index` large, beside its weight when `weight` is true.

    The cross is the star's measured centre.
    """
    row = stamps.table[index]
    figure = canvas.new_figure(10 if weight else 5.4, 5.0, _caption(row, index, len(stamps.data)))
    axes = figure.subplots(1, 2 if weight else 1, squeeze=False)[0]
    shown = _picture(axes[0], stamps.data[index], stamps.weight[index])
    canvas.bar(figure, shown, axes[0], "counts [ADU], asinh stretch")
    middle = (stamps.data.shape[1] - 1) / 2
    centre = (middle + _number(row["delta_col"]), middle + _number(row["delta_row"]))
    axes[0].plot(*centre, "+", color=canvas.COLOURS[4], ms=14, mew=1.5)
    canvas.label(axes[0], "x in stamp [px]", "y in stamp [px]", "data (orange: zero weight)")
    if weight:
        shown = canvas.draw(axes[1], stamps.weight[index], cmap=canvas.PERCEPTUAL)
        canvas.bar(figure, shown, axes[1], "weight [ADU⁻²]")
        canvas.label(axes[1], "x in stamp [px]", "", "weight")
    return figure


def _tile(data, weight):
    values = np.where(weight > 0, data, np.nan)
    norm = canvas.asinh_norm(values, high=100)
    return canvas.coloured(values, norm, bad=~np.isfinite(values))


def _picture(axes, data, weight):
    usable = (weight > 0) & np.isfinite(data)
    values = np.where(usable, data, np.nan)
    shown = canvas.draw(axes, values, norm=canvas.asinh_norm(values, high=100))
    canvas.draw_mask(axes, ~usable)
    return shown


def _caption(row, index, count):
    return (
        f"Stamp {index + 1} of {count}: star {row['id']} at x = {_number(row['x']):.1f},"
        f" y = {_number(row['y']):.1f} px" + (", reserved" if row["reserved"] else "")
    ) + _quality(row)


def _quality(row):
    """What the table says of noise and lost pixels, of those columns that it has."""
    texts = {
        "snr": "S/N {:.0f}",
        "background_err": "sky known to {:.2g} ADU",
        "masked": "{:.1%} of its pixels masked",
    }
    said = [text.format(_number(row[n])) for n, text in texts.items() if n in row.colnames]
    return "\n" + ", ".join(said) if said else ""


def _number(value):
    return float(getattr(value, "value", value))
