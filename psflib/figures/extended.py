"""The extended PSF: profile, encircled energy, picture."""

import numpy as np
from matplotlib.colors import AsinhNorm

from psflib.figures import canvas

#: Of the stars' points, by range.
RANGES = {"core": canvas.COLOURS[1], "middle": canvas.COLOURS[2], "outer": canvas.COLOURS[3]}


def extended_psf(extended, title="Extended PSF", points=None, marked=None):
    """Profile with errors, encircled energy and picture of the PSF out to the wings.

    Parameters
    ----------
    extended : ExtendedPsfField
    title : str
    points : Table, optional
        Of `psflib.psf.wings.restitch.star_profiles`: what each bright star says of the profile.
    marked : optional
        Id of the star whose points are joined by a line.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if not np.any(canvas.plain(extended.profile["r"]) > 0):
        return canvas.message("The extended PSF has no profile.")
    figure = canvas.new_figure(13.0, 4.4, title)
    profile, energy, picture = figure.subplots(1, 3)
    if points is not None:
        _points(profile, points, marked)
    _profile(profile, extended)
    _energy(energy, extended)
    side = extended.wing.shape[0]
    image = extended.at(side)
    half = side / 2
    shown = canvas.draw(picture, image, (-half, half, -half, half), norm=canvas.psf_norm(image),
                        cmap=canvas.PERCEPTUAL)  # fmt: skip
    turn = np.linspace(0, 2 * np.pi, 200)
    radius = extended.match_radius
    picture.plot(radius * np.cos(turn), radius * np.sin(turn), color="white", lw=1, ls="--",
                 scalex=False, scaley=False)  # fmt: skip
    canvas.bar(figure, shown, picture, "share of flux per pixel")
    canvas.label(picture, "x [px]", "y [px]", "dashed: stitch radius")
    return figure


def _profile(axes, extended):
    profile = extended.profile
    r, value, error = (canvas.plain(profile[name]) for name in ("r", "value", "error"))
    drawn = np.isfinite(value) & (value > 0)
    error = np.nan_to_num(error)
    low = np.maximum(value - error, 1e-3 * np.maximum(value, 1e-300))
    axes.fill_between(r, low, value + error, where=drawn, color=canvas.COLOURS[0], alpha=0.25,
                      lw=0, label="± 1σ")  # fmt: skip
    axes.plot(r[drawn], value[drawn], "-", lw=1.2, color=canvas.COLOURS[0], label="profile")
    _ranges(axes, profile, r)
    tail = getattr(extended, "tail", None)
    if tail is not None:
        axes.axvline(tail.radius, color=canvas.COLOURS[3], ls=":", lw=1,
                     label="power law beyond")  # fmt: skip
    axes.set(xscale="symlog", yscale="log", xlim=(0, r.max() * 1.05))
    axes.set_xticks([tick for tick in (0, 1, 3, 10, 30, 100, 300) if tick <= r.max()])
    axes.xaxis.set_major_formatter("{x:.0f}")
    if drawn.any():
        top = value[drawn].max()
        axes.set_ylim(max(value[drawn].min() / 3, 1e-7 * top), 2 * top)
    _seam(axes, extended)
    canvas.legend(axes, loc="lower left")
    canvas.label(axes, "radius [px]", "share of flux per pixel", "radial profile")


def _points(axes, points, marked):
    """Every star's rings, in the colour of its range."""
    ranges = np.asarray(points["range"]).astype(str)
    r, value = canvas.plain(points["r"]), canvas.plain(points["value"])
    seen = value > 0
    style = {"ms": 3, "alpha": 0.35, "zorder": 0}
    for name in dict.fromkeys(ranges.tolist()):
        colour, rows = RANGES.get(name, canvas.GREY), seen & (ranges == name)
        text = f"stars, {name}" if name else "stars"
        axes.plot(r[rows], value[rows], ".", color=colour, label=text, **style)
    mine = seen & (np.asarray(points["id"]) == marked)
    if mine.any():
        axes.plot(r[mine], value[mine], "k-", lw=0.7, label=f"star {marked}")


def halo(exposure, starless, x, y, half=80, title="A bright star, before and after"):
    """The surroundings of a star on an image and on the same without its bright stars.

    Parameters
    ----------
    exposure : Exposure
    starless : Starless
        As `subtract_stars` gives it.
    x, y : float
        px.
    half : int
        Half the side of what is drawn, px.
    """
    row, col = round(y), round(x)
    box = tuple(slice(max(c - half, 0), max(c + half + 1, 0)) for c in (row, col))
    planes = (exposure.image[box], starless.light[box], starless.exposure.image[box])
    noise = np.sqrt(np.median(exposure.variance[canvas.good(exposure)]))
    extent = (box[1].start - 0.5, box[1].start + planes[0].shape[1] - 0.5,
              box[0].start - 0.5, box[0].start + planes[0].shape[0] - 0.5)  # fmt: skip
    figure = canvas.new_figure(13.0, 4.6, title)
    for axes, image, words in zip(
        figure.subplots(1, 3), planes, ("image", "removed", "what is left"), strict=True
    ):
        norm = AsinhNorm(2 * noise, -10 * noise, 300 * noise)
        shown = canvas.draw(axes, image, extent, norm=norm)
        if words == "what is left":
            canvas.draw_mask(axes, ~canvas.good(starless.exposure)[box], extent, alpha=0.4)
        canvas.label(axes, "x [px]", "y [px]", words)
    canvas.bar(figure, shown, axes, "ADU")
    return figure


def _ranges(axes, profile, r):
    """Ring means of each range of stars alone."""
    for colour, name in enumerate(("core", "middle", "outer"), start=1):
        column = f"value_{name}"
        if column not in profile.colnames:
            continue
        value = canvas.plain(profile[column])
        seen = np.isfinite(value) & (value > 0)
        if seen.any():
            axes.plot(r[seen], value[seen], ".", ms=3, color=canvas.COLOURS[colour % 5],
                      label=f"{name} range")  # fmt: skip


def _energy(axes, extended):
    r, enclosed = (canvas.plain(extended.profile[name]) for name in ("r", "enclosed"))
    axes.plot(r, enclosed, "-", color=canvas.COLOURS[0], lw=1.6)
    axes.axvline(extended.ee_radius, color=canvas.COLOURS[2], ls="--", lw=1,
                 label="radius of unit energy")  # fmt: skip
    _seam(axes, extended)
    top = np.nanmax(enclosed) if np.isfinite(enclosed).any() else 1
    axes.set(xlim=(0, r.max() * 1.05), ylim=(0, 1.08 * max(1, top)))
    canvas.legend(axes, loc="lower right")
    canvas.label(axes, "radius [px]", "energy within the radius", "encircled energy")


def _seam(axes, extended):
    half = extended.feather_width / 2
    axes.axvspan(extended.match_radius - half, extended.match_radius + half, alpha=0.25,
                 color=canvas.COLOURS[4], lw=0, label="core → wings")  # fmt: skip
