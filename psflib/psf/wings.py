"""`ExtendedPsfField`: the core PSF continued into its wings by a stack of bright stars."""

import logging

import numpy as np
from astropy import units as u
from astropy.table import QTable
from pydantic import BaseModel, ConfigDict, Field

from psflib.exposure import Exposure
from psflib.psf.extended import build_extended_psf, on_native, radii, raised_cosine
from psflib.psf.field import PsfField
from psflib.psf.wing_field import ExtendedPsfField
from psflib.stamps import near_others, pixels, smooth_weight

log = logging.getLogger(__name__)

#: Reasons not to be a PSF star that do not matter for the wing.
ACCEPTED_REASONS = ("", "saturated", "more than needed")
FEWEST_STARS = 3
#: The brightest stars weigh no more than this one in order of flux: a neighbour that was not seen
#: under the wing of the very brightest would else decide the stack.
SHARE = 5
SKY_RING = 0.85  # inner radius of the sky ring over the half size of the stamp


class ExtendedSettings(BaseModel):
    """Settings of the stage `extended_psf`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(
        101, ge=31, description="Side of the wing, px; odd values only. Less in small images."
    )
    most_stars: int = Field(50, ge=3, description="Brightest stars that are stacked.")
    min_snr: float = Field(100.0, gt=0, description="S/N a star needs to be stacked.")
    match_radius: float | None = Field(
        None, gt=0, description="Where the wing joins the core, px; null takes 3 FWHM."
    )
    ee_radius: float | None = Field(
        None, gt=0, description="Aperture of unit sum, px; null takes 6 FWHM, at least 15."
    )
    combine_kappa: float = Field(3.0, gt=0, description="Clipping of the stack, sigma.")
    neighbor_radius: float = Field(
        1.5, ge=0, description="Least radius of the mask on a neighbour, FWHM; brighter ones more."
    )


def whole_psf(core, oversample, wing, match_radius, feather_width, size):
    """Core and wing on one native grid (size, size)."""
    fade = raised_cosine(radii((size, size)), match_radius, feather_width)
    return (1 - fade) * on_native(core, oversample, size) + on_native(wing, 1, size)


def extended_psf(
    exposure: Exposure, stars: QTable, psf: PsfField, settings: ExtendedSettings | None = None
) -> ExtendedPsfField:
    """Stack bright stars, saturated ones included, and join their wing to the core.

    Each star is weighed by its flux² over the variance; its sky is the median of the outer ring
    of its stamp, so that the profile tends to 0 there.

    Parameters
    ----------
    exposure : Exposure
        Prepared: free of sky, with variance.
    stars : QTable
        From `select_stars`.
    psf : PsfField
        Gives the core, at the middle of the image.
    settings : ExtendedSettings, optional

    Returns
    -------
    ExtendedPsfField
        With fewer than 3 bright stars the core alone, see meta['fallback'].
    """
    settings = settings or ExtendedSettings()
    core, fwhm = psf.epsf(*psf.centre), psf.fwhm()
    size = wing_size(exposure.shape, psf.size, settings)
    chosen = choose_bright(exposure.shape, stars, size, settings)
    if len(chosen) < FEWEST_STARS:
        reason = f"{len(chosen)} bright stars, at least {FEWEST_STARS} needed"
        return core_only(core, psf.oversample, size, _table(stars, chosen), reason)
    data, weight, delta = cut_wings(exposure, stars, chosen, size, fwhm, settings)
    match, feather, aperture = seam(psf.size, size, fwhm, settings)
    built = build_extended_psf(
        data,
        delta,
        core,
        psf.oversample,
        wing_weight=weight,
        match_radius=match,
        feather_width=feather,
        ee_aperture_radius=aperture,
        combine_kappa=settings.combine_kappa,
        scale_aperture_radius=min(3 * fwhm, size // 2),
        scale_background_annulus=(SKY_RING * (size // 2), float(size // 2)),
    )
    table = _table(stars, chosen, built)
    if built.star_ok.sum() < FEWEST_STARS or not built.extended.wing.any():
        reason = f"{built.star_ok.sum()} bright stars could be scaled"
        return core_only(core, psf.oversample, size, table, reason)
    made = built.extended
    whole = whole_psf(made.core, made.oversample, made.wing, match, feather, size)
    meta = {"n_stars": int(built.star_ok.sum()), "fallback": "", "fwhm": fwhm}
    log.info("extended PSF from %d stars, seam at %.1f px", meta["n_stars"], match)
    return ExtendedPsfField(
        made.core, made.oversample, made.wing, match, feather, aperture,
        radial_profile(whole), table, meta,
    )  # fmt: skip


def wing_size(shape, core_size, settings) -> int:
    """Side of the wing: as set, but at most a third of the image and not less than the core."""
    size = min(settings.size, max(min(shape) // 3, core_size))
    return int(size - 1 + size % 2)


def choose_bright(shape, stars, size, settings) -> np.ndarray:
    """Rows of the brightest point sources whose stamp lies inside the image."""
    x, y = pixels(stars["x"]), pixels(stars["y"])
    half = size // 2 + 1
    inside = (x >= half) & (y >= half) & (x < shape[1] - half) & (y < shape[0] - half)
    fit = np.isin(np.asarray(stars["reason"]).astype(str), ACCEPTED_REASONS)
    flux, snr = pixels(stars["flux"]), pixels(stars["snr"])
    rows = np.flatnonzero(inside & fit & (snr >= settings.min_snr) & np.isfinite(flux))
    return rows[np.argsort(-flux[rows], kind="stable")][: settings.most_stars]


def cut_wings(exposure, stars, chosen, size, fwhm, settings):
    """Stamps (m, size, size), weights flux²/variance (the greatest 1) and offsets (m, 2)."""
    weight = smooth_weight(exposure)
    positions = np.column_stack([pixels(stars["y"]), pixels(stars["x"])])
    snr, flux = pixels(stars["snr"]), pixels(stars["flux"])
    scale = np.minimum(flux, np.sort(flux[chosen])[-min(SHARE, len(chosen))])
    # A neighbour reaches farther the brighter it is.
    reach = fwhm * np.clip(settings.neighbor_radius + np.log10(np.maximum(snr, 10) / 10), None, 6)
    half = size // 2
    data, weights, delta = [], [], []
    for i in chosen:
        row, col = np.round(positions[i]).astype(int)
        box = (slice(row - half, row + half + 1), slice(col - half, col + half + 1))
        others = np.flatnonzero(np.abs(positions - positions[i]).max(axis=1) < half + 6 * fwhm)
        corner = np.array([row - half, col - half])
        bad = np.zeros((size, size), bool)
        for j in others[others != i]:
            where = positions[[j]] - corner
            bad |= near_others(bad.shape, positions[i] - corner, where, reach[j])
        data.append(exposure.image[box].astype(float))
        weights.append(np.where(bad, 0.0, weight[box]) * scale[i] ** 2)
        delta.append(positions[i] - (row, col))
    weight = np.array(weights)
    return np.array(data), weight / max(weight.max(), 1e-300), np.array(delta)


def seam(core_size, size, fwhm, settings):
    """Match radius, feather width and aperture, px, that fit into core and wing."""
    half = min(core_size, size) // 2
    wanted = settings.match_radius or 3 * fwhm
    match = float(min(wanted, 0.8 * (half - 1)))
    aperture = settings.ee_radius or max(6 * fwhm, 15.0)
    return match, 0.5 * match, float(min(aperture, size // 2))


def core_only(core, oversample, size, table, reason) -> ExtendedPsfField:
    """The core as an extended PSF without wing, unit sum."""
    log.warning("no wing: %s", reason)
    core = core * (oversample**2 / core.sum())
    wing = np.zeros((size, size))
    native = on_native(core, oversample, size)
    core = core / native.sum()
    radius = float(size)  # no seam: f_core is 1 everywhere
    profile = radial_profile(native / native.sum())
    meta = {"n_stars": 0, "fallback": reason}
    return ExtendedPsfField(
        core, oversample, wing, radius, 0.5, size // 2 * 1.0, profile, table, meta
    )


def radial_profile(whole) -> QTable:
    """Rings of 1 px: r (px), value (mean), error (of the mean, from the scatter), enclosed."""
    radius = radii(whole.shape)
    ring = np.round(radius).astype(int).ravel()
    n = whole.shape[0] // 2 + 1
    count = np.bincount(ring)[:n]
    mean = np.bincount(ring, whole.ravel())[:n] / count
    square = np.bincount(ring, whole.ravel() ** 2)[:n] / count
    scatter = np.sqrt(np.maximum(square - mean**2, 0) / count)
    total = np.cumsum(np.bincount(ring, whole.ravel())[:n])
    return QTable({"r": np.arange(n) * u.pix, "value": mean, "error": scatter, "enclosed": total})


def _table(stars, chosen, built=None) -> QTable:
    table = stars["id", "x", "y"][chosen]
    n = len(chosen)
    table["flux"] = (built.star_flux if built else np.full(n, np.nan)) * u.adu
    table["background"] = (built.star_background if built else np.full(n, np.nan)) * u.adu
    table["ok"] = built.star_ok if built else np.zeros(n, bool)
    table["from_core"] = built.star_scale_from_core if built else np.zeros(n, bool)
    table.meta.clear()
    return table
