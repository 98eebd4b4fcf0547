"""`subtract_stars`: an image without its bright stars, and a catalogue of these."""

import logging

import numpy as np
from astropy import units as u
from scipy import ndimage

from psflib.haloes.fit import HaloFit, fit_haloes
from psflib.haloes.starless import Starless
from psflib.image.exposure import OWN_BITS, Exposure, MaskBit, has_bits
from psflib.preparation.sky import fit_sky
from psflib.settings.subtract_stars import SubtractStarsSettings

log = logging.getLogger(__name__)

CENTRAL = 1.5  # FWHM, within which a lost region is the star's own
CORE = MaskBit.SAT | MaskBit.BAD  # surveys mark repaired cores as bad


def subtract_stars(
    exposure: Exposure, stars, psf, settings: SubtractStarsSettings | None = None, core=None
) -> Starless:
    """Remove bright stars with their haloes, all fitted together.

    Parameters
    ----------
    exposure : Exposure
        Prepared: free of sky, with variance.
    stars : QTable
        id, x, y; with `reason` and `flux`, as `select_stars` gives them, the stars among them
        that have a halo are chosen; else every row is one.
    psf : ExtendedPsfField
        Of this image; or any object with ``at(size)``, ``render(x, y, size)`` and
        ``relative_error(r)``.
    settings : SubtractStarsSettings, optional
    core : PsfField, optional
        Core that varies over the field; default is that of `psf` everywhere.

    Returns
    -------
    Starless
        Stars that could not be fitted stay in the image, with NaN and a reason in the table.

    Raises
    ------
    ValueError
        If the exposure has no variance, the table lacks a column, or radii do not fit.
    """
    settings = settings or SubtractStarsSettings()
    fit = fit_haloes(exposure, stars, psf, settings, core)
    starless = remove(exposure, fit, psf, settings)
    return refit_background(starless, settings) if settings.refit_background else starless


def remove(exposure, fit: HaloFit, psf, settings, share=None) -> Starless:
    """The image less the fitted stars; `share` (r) -> factor, one a star, for parts of them."""
    light, variance = modelled(exposure.shape, fit, psf, share)
    image, mask = exposure.image - light, exposure.mask.copy()
    noise = np.sqrt(np.median(exposure.variance[exposure.usable])) if fit.haloes else 1.0
    mask[light > settings.flag_above * noise] |= np.uint16(MaskBit.HALO)
    fill_cores(image, mask, fit, share)
    total = np.where(exposure.variance > 0, exposure.variance + variance, 0)
    meta = {**exposure.meta, "stars_removed": len(fit.haloes)}
    log.info("%d of %d bright stars removed", len(fit.haloes), len(fit.table))
    cleaned = exposure.replace(
        image=image, variance=total, mask=mask, mask_bits=OWN_BITS, meta=meta
    )
    return Starless(cleaned, fit.table, light)


def modelled(shape, fit: HaloFit, psf, share=None):
    """Light of the fitted stars (ny, nx) float32 in ADU, and the variance of its error, ADU².

    The latter is P² var(a) of each star's flux and (a P e(r))² with the PSF's relative error e(r).
    Errors of stars that overlap are added as if independent.
    """
    light, variance = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    error = np.sqrt(np.maximum(np.diag(fit.covariance), 0))
    for k, (halo, flux) in enumerate(zip(fit.haloes, fit.flux, strict=True)):
        r = halo.radii()
        part = halo.light if share is None else halo.light * share[k](r)
        doubt = np.hypot(error[k], flux * _by_radius(psf, r))
        light[halo.box] += np.float32(flux) * part
        variance[halo.box] += np.square(doubt * part).astype(np.float32)
    return light, variance


def _by_radius(psf, r):
    """`relative_error` at many radii, from a table of them."""
    knots = np.arange(0, np.ceil(r.max()) + 2) if r.size else np.zeros(2)
    return np.interp(r, knots, psf.relative_error(knots))


def fill_cores(image, mask, fit: HaloFit, share=None):
    """Lost pixels of a removed star: the model less the model is 0.  In place.

    They are those connected with its core, trails too; they stay masked, and with INTERP no other
    filling touches them before a convolution.
    """
    lost = has_bits(mask, CORE)
    for k, halo in enumerate(fit.haloes):
        r = halo.radii()
        if share is not None and not np.all(share[k](r) == 1):
            continue
        labels, _ = ndimage.label(lost[halo.box], np.ones((3, 3)))
        touched = np.unique(labels[(labels > 0) & (r <= CENTRAL * fit.fwhm)])
        core = np.isin(labels, touched) & (labels > 0)
        image[halo.box][core] = 0
        mask[halo.box][core] |= np.uint16(MaskBit.INTERP)


def interpolate_saturated(
    exposure: Exposure, stars, psf, settings: SubtractStarsSettings | None = None, core=None
) -> Exposure:
    """Saturated cores filled by the fitted stars, for convolutions only: they stay masked.

    Parameters
    ----------
    exposure, stars, psf, settings, core
        As for `subtract_stars`.

    Returns
    -------
    Exposure
        Filled pixels keep SAT and get INTERP; their variance is that of the model's error and of
        the typical noise.
    """
    settings = settings or SubtractStarsSettings()
    fit = fit_haloes(exposure, stars, psf, settings, core)
    light, doubt = modelled(exposure.shape, fit, psf)
    image, mask, variance = exposure.image.copy(), exposure.mask.copy(), exposure.variance.copy()
    blank = np.ones(exposure.shape, np.float32)
    fill_cores(blank, mask, fit)
    filled = blank == 0
    image[filled] = light[filled]
    variance[filled] = np.median(exposure.variance[exposure.usable]) + doubt[filled]
    return exposure.replace(image=image, variance=variance, mask=mask, mask_bits=OWN_BITS)


def refit_background(starless: Starless, settings) -> Starless:
    """Without the sky that is seen once the haloes are gone: those had stood in its way."""
    exposure = starless.exposure
    if not starless.removed["ok"].any() or not exposure.usable.any():
        return starless
    sky = fit_sky(exposure.image, exposure.usable).level
    image = np.where(has_bits(exposure.mask, MaskBit.NO_DATA | MaskBit.INTERP), exposure.image,
                     exposure.image - sky)  # fmt: skip
    level = float(np.median(sky[::16, ::16]))
    table = starless.removed.copy()
    table.meta["background"] = level * u.adu
    log.info("background after the haloes: %.3g ADU", level)
    old = exposure.sky
    changed = exposure.replace(image=image, sky=None if old is None else old + level)
    return Starless(changed, table, starless.light)
