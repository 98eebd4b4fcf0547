"""The core ePSF: the model, its variation over the field, and how well it fits its stars."""

import functools
import textwrap
from collections import Counter

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter
from scipy.ndimage import map_coordinates

from psflib.figures import canvas
from psflib.figures.residuals import draw_stack, stack_limit, star_fits
from psflib.psf.facts import doubts, facts, is_reserved, reasons

MAP_POINTS = 7  # places a side where the maps are measured
LEAST_ELLIPTICITY = 0.02  # that fills the map with sticks: of a round PSF they stay short
WIDTH = 56  # characters of a line of text
MARKERS = ("s", "^", "v", "D", "P", "X")


def epsf(psf, stamps=None, x=None, y=None, angle=0.0, title="Core ePSF"):
    """The PSF at (x, y), its shape over the field, and how well it fits its stars.

    Parameters
    ----------
    psf : PsfField
    stamps : Stamps, optional
        Those it was built from, for the stacked residuals of fitted and reserved stars, and χ² of
        rejected ones.
    x, y : float, optional
        Position in px, by default the middle of the field.
    angle : float
        Of the first cut, degrees from +x towards +y; the second is perpendicular to it.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    x = psf.centre[0] if x is None else x
    y = psf.centre[1] if y is None else y
    figure = canvas.new_figure(12.5, 11.2, f"{title} at x = {x:.0f}, y = {y:.0f} px")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    axes = figure.subplots(3, 3)
    image = psf.epsf(x, y)
    _image(figure, axes[0, 0], image, psf.oversample, angle)
    _cuts(axes[0, 1], image, psf, angle)
    _text(axes[0, 2], psf)
    maps = _maps(psf)
    _fwhm_map(figure, axes[1, 0], maps, psf.shape, (x, y))
    _whiskers(axes[1, 1], maps, psf.shape)
    fits = None if stamps is None else star_fits(psf, stamps)
    groups = star_groups(psf.stars)
    _chi2(axes[1, 2], psf.stars, groups, fits)
    _stacks(figure, axes[2, :2], psf, fits)
    _chi2_map(figure, axes[2, 2], psf)
    return figure


def star_groups(stars):
    """List of (name, colour, marker, boolean index) for all rows: fitted, reserved, by reason."""
    ok, reserved, reason = np.asarray(stars["ok"], bool), is_reserved(stars), reasons(stars)
    groups = [
        ("fitted", canvas.COLOURS[0], "o", ok & ~reserved),
        ("reserved", "black", "*", ok & reserved),
    ]
    common = [name for name, _ in Counter(reason[~ok].tolist()).most_common()]
    for i, name in enumerate(common[: len(MARKERS)]):
        colour = canvas.COLOURS[1 + i % (len(canvas.COLOURS) - 1)]
        groups.append((f"rejected: {name}", colour, MARKERS[i], ~ok & (reason == name)))
    rest = ~ok & np.isin(reason, common[len(MARKERS) :])
    groups.append(("rejected: other", canvas.GREY, "x", rest))
    return [group for group in groups if group[3].any()]


def _image(figure, axes, image, oversample, angle):
    half = image.shape[0] / 2 / oversample
    shown = canvas.draw(axes, image, (-half, half, -half, half), cmap=canvas.PERCEPTUAL,
                        norm=canvas.psf_norm(image, 1e-3))  # fmt: skip
    for turn, colour in ((angle, canvas.COLOURS[1]), (angle + 90, "white")):
        dx, dy = half * np.cos(np.radians(turn)), half * np.sin(np.radians(turn))
        axes.plot([-dx, dx], [-dy, dy], color=colour, lw=0.8, ls=":", scalex=False, scaley=False)
    canvas.bar(figure, shown, axes, "share of flux per pixel")
    canvas.label(axes, "x [px]", "y [px]", f"{oversample} samples per pixel, asinh stretch")


def _cuts(axes, image, psf, angle):
    """Two cuts; a band of one standard error about each, as far as it is known."""
    middle = (image.shape[0] - 1) / 2
    radius = np.linspace(-middle, middle, 4 * image.shape[0] + 1)
    styles = ((angle, "-", canvas.COLOURS[1]), (angle + 90, "--", canvas.COLOURS[0]))
    for turn, line, colour in styles:
        rows = middle + radius * np.sin(np.radians(turn))
        cols = middle + radius * np.cos(np.radians(turn))
        value = map_coordinates(image, [rows, cols], order=3, mode="constant", cval=np.nan)
        place = radius / psf.oversample
        axes.plot(place, value, line, color=colour, lw=1.4, label=f"{turn:.0f}°")
        if psf.error is not None:
            error = map_coordinates(psf.error, [rows, cols], order=1)
            axes.fill_between(place, value - error, value + error, color=colour, alpha=0.25, lw=0)
    knee = 3e-4 * image.max()
    axes.set_yscale("asinh", linear_width=knee)
    powers = 10.0 ** np.arange(np.ceil(np.log10(knee)), np.log10(image.max()))
    axes.set_yticks([0, *powers], ["0", *(f"{power:g}" for power in powers)])
    axes.minorticks_off()
    axes.axhline(0, color=canvas.GREY, lw=0.6)
    canvas.legend(axes)
    title = "cuts" if psf.error is None else "cuts, band: ± 1σ of the constant term"
    canvas.label(axes, "distance from the centre [px]", "share of flux per pixel", title)


def _text(axes, psf):
    """What is known of the solution, in words; doubts in colour."""
    axes.set_axis_off()
    canvas.label(axes, title="the solution")
    lines = [(f"{name}: {text}", "black") for name, text in facts(psf)]
    lines += [(f"note: {text}", canvas.COLOURS[1]) for text in doubts(psf)]
    place = 0.97
    for text, colour in lines:
        wrapped = textwrap.fill(text, WIDTH, subsequent_indent="    ")
        axes.text(0, place, wrapped, transform=axes.transAxes, fontsize=8.5, va="top",
                  color=colour, linespacing=1.15)  # fmt: skip
        place -= 0.03 + 0.048 * (wrapped.count("\n") + 1)


@functools.lru_cache(maxsize=1)  # a panel draws the same maps again and again
def _maps(psf):
    return psf.maps(MAP_POINTS)


def _fwhm_map(figure, axes, maps, shape, mark):
    fwhm = canvas.plain(maps["fwhm"]).reshape(MAP_POINTS, MAP_POINTS)
    middle, spread = fwhm.mean(), max(np.ptp(fwhm) / 2, 0.005 * fwhm.mean())
    ny, nx = shape
    shown = canvas.draw(
        axes, fwhm, (-0.5, nx - 0.5, -0.5, ny - 0.5), vmin=middle - spread, vmax=middle + spread,
        cmap=canvas.PERCEPTUAL, interpolation="bilinear",
    )  # fmt: skip
    axes.plot(*mark, "+", color="white", ms=12, mew=2)
    canvas.bar(figure, shown, axes, "FWHM [px]")
    canvas.label(axes, "x [px]", "y [px]", f"FWHM {_span(fwhm, 2)} px (+: here)")


def _whiskers(axes, maps, shape):
    """Ellipticity as sticks along the major axis, and a stick of known length."""
    x, y, e1, e2 = (canvas.plain(maps[name]) for name in ("x", "y", "e1", "e2"))
    size, turn = np.hypot(e1, e2), 0.5 * np.arctan2(e2, e1)
    ny, nx = shape
    step = min(ny, nx) / (MAP_POINTS - 1)
    largest = max(float(size.max()), LEAST_ELLIPTICITY)
    unit = _round_down(largest)
    length = 0.9 * step / largest
    dx, dy = 0.5 * length * size * np.cos(turn), 0.5 * length * size * np.sin(turn)
    axes.plot([x - dx, x + dx], [y - dy, y + dy], "-", color=canvas.COLOURS[0], lw=1.6)
    axes.plot(x, y, ".", color=canvas.COLOURS[0], ms=2.5)
    top = ny - 0.5 + 0.6 * step
    axes.axhline(top, color=canvas.GREY, lw=0.8)
    place = top + 0.6 * step
    axes.plot([0, length * unit], [place, place], "-", color=canvas.COLOURS[1], lw=2)
    axes.text(length * unit + 0.2 * step, place, f"e = {unit:g}", fontsize=9, va="center")
    margin = 0.6 * step
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick < ny])
    axes.set(xlim=(-margin, nx + margin), ylim=(-margin, top + 1.2 * step), aspect="equal")
    canvas.label(axes, "x [px]", "y [px]", f"ellipticity {_span(size, 3)}")


def _span(values, digits):
    low, high = (f"{v:.{digits}f}" for v in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _round_down(value):
    """Largest 1, 2 or 5 times a power of ten that does not exceed `value`."""
    power = 10.0 ** np.floor(np.log10(value))
    return power * max(step for step in (1, 2, 5) if step * power <= value * (1 + 1e-9))


def _chi2(axes, stars, groups, fits):
    """χ² against flux; of stars that were rejected over all their pixels."""
    flux, chi2 = canvas.plain(stars["flux"]), canvas.plain(stars["chi2"])
    if fits is not None:
        chi2 = np.where(np.isfinite(chi2), chi2, fits.chi2)
    for name, colour, marker, rows in groups:
        drawn = rows & (flux > 0) & (chi2 > 0)
        axes.scatter(flux[drawn], chi2[drawn], s=60 if marker == "*" else 20, c=colour,
                     marker=marker, linewidths=0.5, label=f"{name} ({rows.sum()})",
                     zorder=3 if marker == "*" else 2)  # fmt: skip
    if np.any(flux > 0):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    seen = chi2[(flux > 0) & (chi2 > 0)]
    low, high = 0.95 * np.min(seen, initial=0.85), 1.05 * np.max(seen, initial=1.15)
    if high > 5:
        axes.set_yscale("log")
        high *= 2
    axes.set_ylim(low, high)
    axes.axhline(1, color=canvas.GREY, lw=0.8, ls="--")
    canvas.legend(axes)
    canvas.label(axes, "flux [ADU]", "χ² per degree of freedom", "fit of each star")


def _stacks(figure, axes, psf, fits):
    """Stacked residuals of fitted and of reserved stars, in the same colours."""
    if fits is None:
        for panel in axes:
            canvas.bare(panel, "no stamps to compare with")
            canvas.label(panel, title="residual")
        return
    reserved, radius = is_reserved(psf.stars), psf.fwhm()
    stacks = []
    for name, rows in (("fitted", ~reserved), ("reserved", reserved)):
        stacks.append((name, rows & (fits.light > 0), *fits.stack(rows)))
    limit = stack_limit(stacks, radius)
    for panel, stack in zip(axes, stacks, strict=True):
        draw_stack(figure, panel, stack, limit, radius)


def _chi2_map(figure, axes, psf):
    """Where the model fits badly; reserved stars are stars, rejected ones grey crosses."""
    x, y, chi2 = (canvas.plain(psf.stars[name]) for name in ("x", "y", "chi2"))
    ok, reserved = np.asarray(psf.stars["ok"], bool), is_reserved(psf.stars)
    top = max(1.5, np.nanpercentile(chi2[ok], 95) if np.isfinite(chi2[ok]).any() else 0)
    axes.scatter(x[~ok], y[~ok], s=22, c=canvas.GREY, marker="x", lw=0.8)
    for rows, marker, size in ((ok & ~reserved, "o", 22), (ok & reserved, "*", 70)):
        shown = axes.scatter(x[rows], y[rows], c=chi2[rows], s=size, marker=marker,
                             cmap="cividis", vmin=0.5, vmax=top)  # fmt: skip
    ny, nx = psf.shape
    axes.set(xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5), aspect="equal")
    canvas.bar(figure, shown, axes, "χ² per degree of freedom")
    canvas.label(axes, "x [px]", "y [px]", "χ² over the field (★ reserved, × rejected)")
