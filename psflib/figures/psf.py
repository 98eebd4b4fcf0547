"""The core ePSF and the extended PSF."""

import numpy as np
from matplotlib.colors import AsinhNorm
from scipy.ndimage import map_coordinates

from psflib.figures import canvas
from psflib.loops.render import render_stack


def epsf(psf, stamps=None, x=None, y=None, angle=0.0, title="Core ePSF"):
    """The PSF at (x, y), cuts through it, and how well it fits its stars.

    Parameters
    ----------
    psf : PsfField
    stamps : Stamps, optional
        Those it was built from, for the mean residual of the stars.
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
    figure = canvas.new_figure(12.5, 7.6, f"{title} at x = {x:.0f}, y = {y:.0f} px")
    axes = figure.subplots(2, 3)
    image = psf.epsf(x, y)
    _log_image(figure, axes[0, 0], image, psf.oversample, angle)
    _cuts(axes[0, 1], image, psf.oversample, angle)
    _fwhm_map(figure, axes[0, 2], psf, (x, y))
    _residual(figure, axes[1, 0], None if stamps is None else star_residuals(psf, stamps))
    _chi2(axes[1, 1], psf.stars)
    _chi2_map(figure, axes[1, 2], psf)
    return figure


def star_residuals(psf, stamps):
    """(data - model) / sigma of the used stars (n, s, s), NaN where the weight is zero."""
    stars = psf.stars
    flux, background = canvas.plain(stars["flux"]), canvas.plain(stars["background"])
    delta = np.column_stack([canvas.plain(stars[name]) for name in ("delta_row", "delta_col")])
    model = np.empty(stamps.data.shape)
    rows = np.flatnonzero(_ok(stars))
    for i in rows:
        here = psf.epsf(float(stars["x"][i].value), float(stars["y"][i].value))
        render_stack(here, psf.oversample, flux[i : i + 1], delta[i : i + 1], model[i : i + 1])
    model, data, weight = model[rows], stamps.data[rows], stamps.weight[rows]
    residual = (data - model - background[rows, None, None]) * np.sqrt(weight)
    return np.where(weight > 0, residual, np.nan)


def extended_psf(extended, title="Extended PSF"):
    """Profile with errors, encircled energy and picture of the PSF out to the wings.

    Parameters
    ----------
    extended : ExtendedPsfField
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = canvas.new_figure(13.0, 4.4, title)
    profile, energy, picture = figure.subplots(1, 3)
    _profile(profile, extended)
    _energy(energy, extended)
    side = extended.wing.shape[0]
    image = extended.at(side)
    half = side / 2
    shown = canvas.draw(picture, image, (-half, half, -half, half), norm=_psf_norm(image),
                        cmap=canvas.PERCEPTUAL)  # fmt: skip
    turn = np.linspace(0, 2 * np.pi, 200)
    radius = extended.match_radius
    picture.plot(radius * np.cos(turn), radius * np.sin(turn), color="white", lw=1, ls="--",
                 scalex=False, scaley=False)  # fmt: skip
    canvas.bar(figure, shown, picture, "share of flux per pixel")
    canvas.label(picture, "x [px]", "y [px]", "dashed: stitch radius")
    return figure


def _psf_norm(image, floor=1e-4):
    peak = float(np.nanmax(image))
    return AsinhNorm(linear_width=floor * peak, vmin=0, vmax=peak)


def _log_image(figure, axes, image, oversample, angle):
    half = image.shape[0] / 2 / oversample
    shown = canvas.draw(axes, image, (-half, half, -half, half), norm=_psf_norm(image, 1e-3),
                        cmap=canvas.PERCEPTUAL)  # fmt: skip
    for turn, colour in ((angle, canvas.COLOURS[1]), (angle + 90, "white")):
        dx, dy = half * np.cos(np.radians(turn)), half * np.sin(np.radians(turn))
        axes.plot([-dx, dx], [-dy, dy], color=colour, lw=0.8, ls=":", scalex=False, scaley=False)
    canvas.bar(figure, shown, axes, "share of flux per pixel")
    canvas.label(axes, "x [px]", "y [px]", "asinh stretch")


def _cuts(axes, image, oversample, angle):
    middle = (image.shape[0] - 1) / 2
    radius = np.linspace(-middle, middle, 4 * image.shape[0] + 1)
    styles = ((angle, "-", canvas.COLOURS[1]), (angle + 90, "--", canvas.COLOURS[0]))
    for turn, line, colour in styles:
        rows = middle + radius * np.sin(np.radians(turn))
        cols = middle + radius * np.cos(np.radians(turn))
        value = map_coordinates(image, [rows, cols], order=3, mode="constant", cval=np.nan)
        axes.plot(radius / oversample, value, line, color=colour, lw=1.4, label=f"{turn:.0f}°")
    axes.set_yscale("asinh", linear_width=3e-4 * image.max())
    axes.axhline(0, color=canvas.GREY, lw=0.6)
    canvas.legend(axes)
    canvas.label(axes, "distance from the centre [px]", "share of flux per pixel", "cuts")


def _fwhm_map(figure, axes, psf, mark, points=5):
    ny, nx = psf.shape
    ys, xs = np.linspace(0, ny - 1, points), np.linspace(0, nx - 1, points)
    fwhm = np.array([[psf.fwhm(x, y) for x in xs] for y in ys])
    extent = (-0.5, nx - 0.5, -0.5, ny - 0.5)
    middle, spread = fwhm.mean(), max(np.ptp(fwhm) / 2, 0.005 * fwhm.mean())
    shown = canvas.draw(
        axes,
        fwhm,
        extent,
        vmin=middle - spread,
        vmax=middle + spread,
        cmap=canvas.PERCEPTUAL,
        interpolation="bilinear",
    )
    axes.plot(*mark, "+", color="white", ms=12, mew=2)
    canvas.bar(figure, shown, axes, "FWHM [px]")
    canvas.label(axes, "x [px]", "y [px]", "FWHM over the field (+: this PSF)")


def _residual(figure, axes, residuals):
    usable = residuals is not None and np.isfinite(residuals).any()
    if usable:
        count = np.isfinite(residuals).sum(axis=0)
        mean = np.nansum(residuals, axis=0) / np.maximum(count, 1)
        limit = max(1.0, float(np.abs(mean).max()))
        half = mean.shape[0] / 2
        shown = canvas.draw(axes, mean, (-half, half, -half, half), cmap=canvas.DIVERGING,
                            vmin=-limit, vmax=limit)  # fmt: skip
        canvas.bar(figure, shown, axes, "σ of one star")
    else:
        canvas.bare(axes, "no stamps to compare with")
    title = f"mean residual of {len(residuals)} stars / σ" if usable else "residual"
    canvas.label(axes, "x [px]", "y [px]", title)


def _chi2(axes, stars):
    flux, chi2, ok = canvas.plain(stars["flux"]), canvas.plain(stars["chi2"]), _ok(stars)
    for rows, colour, marker, name in (
        (ok, canvas.COLOURS[0], "o", "used"),
        (~ok, canvas.COLOURS[1], "x", "rejected"),
    ):
        drawn = rows & (flux > 0) & (chi2 > 0)
        if drawn.any():
            axes.scatter(flux[drawn], chi2[drawn], s=18, c=colour, marker=marker,
                         label=f"{name} ({rows.sum()})")  # fmt: skip
            axes.set_xscale("log")
    if np.nanmax(chi2, initial=1) > 10:
        axes.set_yscale("log")
    axes.axhline(1, color=canvas.GREY, lw=0.8, ls="--")
    canvas.legend(axes)
    canvas.label(axes, "flux [ADU]", "χ² per pixel", "fit of each star")


def _chi2_map(figure, axes, psf):
    stars, ok = psf.stars, _ok(psf.stars)
    x, y, chi2 = (canvas.plain(stars[name])[ok] for name in ("x", "y", "chi2"))
    shown = axes.scatter(x, y, c=chi2, s=22, cmap="cividis", vmin=0.5,
                         vmax=max(1.5, np.nanpercentile(chi2, 95) if chi2.size else 0))  # fmt: skip
    ny, nx = psf.shape
    axes.set(xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5), aspect="equal")
    canvas.bar(figure, shown, axes, "χ² per pixel")
    canvas.label(axes, "x [px]", "y [px]", "χ² over the field")


def _ok(stars):
    return np.asarray(stars["ok"], bool)


def _profile(axes, extended):
    profile = extended.profile
    r, value, error = (canvas.plain(profile[name]) for name in ("r", "value", "error"))
    drawn = np.isfinite(value) & (value > 0)
    axes.errorbar(r[drawn], value[drawn], yerr=np.nan_to_num(error[drawn]), fmt="o-", ms=3, lw=1,
                  capsize=2, color=canvas.COLOURS[0], label="profile ± 1σ")  # fmt: skip
    axes.set(xscale="symlog", yscale="log", xlim=(0, r.max() * 1.05))
    axes.set_xticks([tick for tick in (0, 1, 3, 10, 30, 100, 300) if tick <= r.max()])
    axes.xaxis.set_major_formatter("{x:.0f}")
    if drawn.any():
        top = value[drawn].max()
        axes.set_ylim(max(value[drawn].min() / 3, 1e-7 * top), 2 * top)
    _seam(axes, extended)
    canvas.legend(axes, loc="lower left")
    canvas.label(axes, "radius [px]", "share of flux per pixel", "radial profile")


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
