"""What a core PSF leaves of its stars: one by one, and stacked."""

import dataclasses
import functools

import numpy as np

from psflib.figures import canvas
from psflib.image import polynomial
from psflib.loops.starfit import CATMULL_ROM, render_stars
from psflib.psf.facts import star_states

CLIP = 6.0  # sigma of noise and model error, where the solver gives up a pixel


@dataclasses.dataclass(frozen=True, eq=False)
class StarFits:
    """Stars with the PSF fitted to them.

    Parameters
    ----------
    model : ndarray (n, s, s) float64
        Light of each star, ADU; NaN for stars without a fit.
    residual : ndarray (n, s, s) float64
        Data less light and background, ADU; NaN where the weight is 0.
    weight : ndarray (n, s, s)
        Inverse variance under this model, ADU⁻².
    light : ndarray (n,)
        Flux, 0 of stars that were rejected.
    peak : float
        Of a star of unit flux at the middle of the field and of its pixel.
    clip : ndarray (n, s, s) bool
        Pixels that are far beyond the noise and the error of the model.
    """

    model: np.ndarray
    residual: np.ndarray
    weight: np.ndarray
    light: np.ndarray
    peak: float
    clip: np.ndarray

    @property
    def significance(self):
        """Residual / σ (n, s, s), NaN where the weight is 0."""
        return self.residual * np.sqrt(self.weight)

    @property
    def chi2(self):
        """Mean square (n,) of the residuals / σ, over all pixels with weight."""
        square = np.where(np.isfinite(self.residual), self.significance, 0) ** 2
        number = np.isfinite(self.residual).sum(axis=(1, 2))
        return np.where(number > 0, square.sum(axis=(1, 2)) / np.maximum(number, 1), np.nan)

    def stack(self, rows):
        """Mean residual (s, s) of unit stars by least squares, in % of the peak, and its error."""
        rows = rows & (self.light > 0)
        use = np.isfinite(self.residual[rows]) & ~self.clip[rows]
        light = self.light[rows, None, None]
        power = np.where(use, self.weight[rows] * light**2, 0).sum(axis=0)
        product = np.where(use, self.weight[rows] * light * self.residual[rows], 0).sum(axis=0)
        unit = 100 / self.peak
        known = power > 0
        mean, error = np.full(power.shape, np.nan), np.full(power.shape, np.nan)
        mean[known] = unit * product[known] / power[known]
        error[known] = unit / np.sqrt(power[known])
        return mean, error


@functools.lru_cache(maxsize=1)  # a panel draws the same stars again and again
def star_fits(psf, stamps):
    """The `StarFits` of `Stamps` and the `PsfField` that was built from them."""
    stars, names = psf.stars, ("flux", "background", "x", "y", "delta_row", "delta_col")
    flux, background, x, y, *delta = (canvas.plain(stars[name]) for name in names)
    x, y = np.nan_to_num([x, y])
    design = np.ascontiguousarray(polynomial.evaluate(psf.order, x, y, psf.shape).T)
    model = np.empty(stamps.data.shape)
    render_stars(
        np.ascontiguousarray(psf.terms, dtype=float), design, CATMULL_ROM, psf.oversample, flux,
        np.zeros(len(flux)), np.nan_to_num(np.column_stack(delta)), model,
    )  # fmt: skip
    weight = stamps.weight_under(np.nan_to_num(model)).astype(float)
    use = (weight > 0) & np.isfinite(stamps.data)
    residual = np.where(use, stamps.data - model - background[:, None, None], np.nan)
    variance = np.divide(psf.meta.get("noise", 1.0) ** 2, weight, where=use, out=np.ones(use.shape))
    variance += (psf.meta.get("model_error", 0.0) * model) ** 2
    clip = residual**2 > CLIP**2 * variance
    light = np.where(np.asarray(stars["ok"], bool), np.nan_to_num(flux), 0)
    peak = float(psf.at(*psf.centre).max())
    return StarFits(model, residual, weight, light, peak, clip)


def epsf_star(psf, stamps, name):
    """One star: data, model, residual / σ and weight.

    Parameters
    ----------
    psf : PsfField
    stamps : Stamps
        Those it was built from.
    name : int
        id of the star in the table of stamps.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If no stamp has that id.
    """
    found = np.flatnonzero(np.asarray(stamps.table["id"]) == name)
    if found.size == 0:
        raise ValueError(f"no stamp of star {name}")
    row, fits = int(found[0]), star_fits(psf, stamps)
    figure = canvas.new_figure(12.5, 3.5, _caption(psf.stars, row, name, fits.chi2[row]))
    axes = figure.subplots(1, 4)
    data, bad, known = stamps.data[row], stamps.weight[row] <= 0, np.isfinite(fits.model[row])
    background = np.nan_to_num(canvas.plain(psf.stars["background"])[row])
    norm = canvas.asinh_norm(np.where(stamps.weight[row] > 0, data, np.nan), high=100)
    for panel, image, title in (
        (axes[0], data, "data (orange: zero weight)"),
        (axes[1], fits.model[row] + background, "model, background included"),
    ):
        shown = canvas.draw(panel, image, norm=norm)
        canvas.label(panel, "x in stamp [px]", "", title)
    canvas.draw_mask(axes[0], bad)
    if not known.all():
        canvas.bare(axes[1], "no fit")
    canvas.bar(figure, shown, list(axes[:2]), "counts [ADU]", shrink=0.7)
    shown = canvas.draw(axes[2], fits.significance[row], cmap=canvas.DIVERGING, vmin=-5, vmax=5)
    canvas.draw_mask(axes[2], bad)
    canvas.bar(figure, shown, axes[2], "residual / σ", shrink=0.7, extend="both")
    canvas.label(axes[2], "x in stamp [px]", "", "data − model")
    shown = canvas.draw(axes[3], stamps.weight[row], cmap=canvas.PERCEPTUAL)
    canvas.bar(figure, shown, axes[3], "weight [ADU⁻²]", shrink=0.7)
    canvas.label(axes[3], "x in stamp [px]", "", "weight")
    return figure


def _caption(stars, row, name, chi2):
    flux, sky = (canvas.plain(stars[n])[row] for n in ("flux", "background"))
    return (
        f"Star {name}, {star_states(stars)[row]}: flux {flux:.4g} ADU, background {sky:.3g} ADU,"
        f" χ² of all its pixels {chi2:.2f}"
    )


def draw_stack(figure, axes, stack, limit, radius):
    """One stack, its core (a circle) and its rms there beside what noise would make.

    Parameters
    ----------
    figure, axes : matplotlib objects
    stack : (name, rows, mean, error)
        What it is of, and what `StarFits.stack` found for it.
    limit : float
        Of the colours, %.
    radius : float
        Of the core, px.
    """
    name, rows, mean, error = stack
    if not np.isfinite(mean).any():
        canvas.bare(axes, f"no {name} stars")
        canvas.label(axes, title=f"{name} stars")
        return
    half = len(mean) / 2
    shown = canvas.draw(axes, mean, (-half, half, -half, half), cmap=canvas.DIVERGING,
                        vmin=-limit, vmax=limit)  # fmt: skip
    turn = np.linspace(0, 2 * np.pi, 100)
    axes.plot(radius * np.cos(turn), radius * np.sin(turn), ":", color="black", lw=1)
    core = in_core(mean, radius) & np.isfinite(mean)
    title = f"{rows.sum()} {name} stars, mean residual\n"
    if core.any():
        rms, noise = (np.sqrt(np.mean(v[core] ** 2)) for v in (mean, error))
        title += f"in the core {rms:.2g} % (noise {noise:.2g} %)"
    else:
        title += "no star fits in the core"
    canvas.bar(figure, shown, axes, "% of the peak", extend="both")
    canvas.label(axes, "x [px]", "y [px]", title)


def in_core(image, radius):
    """Boolean (s, s): pixels within `radius` px of the middle."""
    axis = np.arange(len(image)) - (len(image) - 1) / 2
    return np.hypot(axis[:, None], axis[None, :]) <= radius


def stack_limit(stacks, radius):
    """Largest value in the cores of stacks, %: the limit of their colours, 0.1 at least."""
    cores = [np.abs(mean[in_core(mean, radius)]) for *_, mean, _ in stacks]
    values = np.concatenate(cores)
    return max(0.1, float(np.max(values[np.isfinite(values)], initial=0)))
