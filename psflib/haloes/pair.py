"""Haloes out of two images before they are subtracted, each by its own PSF.

Wings beyond the reach of a matching kernel differ between epochs, and no kernel can make them
equal.  A star that is saturated on either image is removed whole from both: nothing of it can be
matched.  Any other bright star keeps its inner part, from which the kernel is learnt, and loses
its far wing by one and the same taper on both images.
"""

import dataclasses
import logging

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy import spatial

from psflib.haloes.choice import choose_stars
from psflib.haloes.fit import HaloFit, fit_haloes, saturated
from psflib.haloes.model import profiles
from psflib.haloes.removal import remove
from psflib.image.exposure import OWN_BITS, Exposure, MaskBit, has_bits
from psflib.image.sky_frames import pixel_to_pixel
from psflib.psf.core.field import PsfField
from psflib.psf.core.stage import core_epsf
from psflib.psf.extended import raised_cosine
from psflib.psf.wings.stage import ExtendedPsfField, extended_psf
from psflib.settings.subtract_stars import HaloSettings
from psflib.stamps.build import build_stamps, pixels
from psflib.stars.select import select_stars

log = logging.getLogger(__name__)

KEPT, GONE = 6.0, 10.0  # FWHM, between which the wing of an unsaturated star fades
SAME = 2.0  # FWHM, within which detections on two images are one star
PROFILE_ERROR = 0.01  # of a star's light, at least, whatever the PSF claims
CORE_ERROR = 0.1  # inside what its fit saw: a halo's flux is not quite the core's
TRUSTED = 1.0  # sigma of the noise; error of the removed light above which a pixel is masked


@dataclasses.dataclass(frozen=True, eq=False)
class StarsAndPsf:
    """What is known of one image's stars.

    Parameters
    ----------
    stars : QTable
        From `select_stars`.
    extended : ExtendedPsfField
    core : PsfField, optional
        Core that varies over the field.
    """

    stars: QTable
    extended: ExtendedPsfField
    core: PsfField | None = None


def stars_and_psf(exposure: Exposure, core: PsfField | None = None) -> StarsAndPsf:
    """Star table, core PSF (unless given) and extended PSF of a prepared exposure, by default."""
    stars = select_stars(exposure)
    if core is None:
        core = core_epsf(build_stamps(exposure, stars), exposure.shape)
    return StarsAndPsf(stars, extended_psf(exposure, stars, core), core)


def without_haloes(
    science: Exposure, template: Exposure, of_science: StarsAndPsf, of_template: StarsAndPsf,
    settings: HaloSettings | None = None,
) -> tuple[Exposure, Exposure]:  # fmt: skip
    """Both images without the haloes of their bright and saturated stars.

    Parameters
    ----------
    science, template : Exposure
        Prepared, each on its own grid; stars are the same by their WCS, or by pixels without.
    of_science, of_template : StarsAndPsf
    settings : HaloSettings, optional

    Returns
    -------
    science, template : Exposure
        Saturated cores hold 0 for convolution only: they stay masked, and so does what the PSF's
        error makes worth less than the noise.  meta['stars_removed'] counts the stars.
    """
    settings = settings or HaloSettings()
    images, known = (science, template), (of_science, of_template)
    lacking = [k.extended.meta["fallback"] for k in known if _no_wing(k.extended)]
    if lacking:
        log.warning("haloes stay: no wing is known (%s)", "; ".join(lacking))
        return images
    places = _union(images, known, settings)
    fits = [
        fit_haloes(image, _table(place), k.extended, settings, core=k.core)
        for image, place, k in zip(images, places, known, strict=True)
    ]
    both = np.asarray(fits[0].table["ok"]) & np.asarray(fits[1].table["ok"])
    full = _saturated(images, fits)
    cleaned = []
    fwhm = max(science.meta["fwhm"], template.meta["fwhm"])  # of one survey: pixels are alike
    shares = [_share(full[i], fwhm) for i in np.flatnonzero(both)]
    for image, fit, k in zip(images, fits, known, strict=True):
        part = _take(fit, both)
        done = remove(image, part, k.extended, settings, shares)
        inner = settings.core * image.meta["fwhm"]
        cleaned.append(_doubted(done.exposure, part, k.extended, shares, inner))
    log.info("haloes of %d stars removed, %d of them saturated", both.sum(), (both & full).sum())
    return cleaned[0], cleaned[1]


def _no_wing(extended):
    """A PSF that is a core alone has nothing to say on haloes."""
    return isinstance(extended, ExtendedPsfField) and not extended.wing.any()


def _union(images, known, settings):
    """Positions (x, y) on each image of all stars that have a halo on either."""
    chosen = []
    for image, k in zip(images, known, strict=True):
        profile, _ = profiles(k.extended, settings.max_radius)
        rows, second = choose_stars(image, k.stars, profile, image.meta["fwhm"], settings)
        rows = rows[~second]
        chosen.append(np.column_stack([pixels(k.stars[name])[rows] for name in ("x", "y")]))
    moved = _to_grid(images[1], images[0], chosen[1])
    new = np.ones(len(moved), bool)
    if len(moved) and len(chosen[0]):
        new = spatial.cKDTree(chosen[0]).query(moved)[0] > SAME * images[0].meta["fwhm"]
    in_template = np.vstack([_to_grid(images[0], images[1], chosen[0]), chosen[1][new]])
    if len(chosen[1]) and len(chosen[0]):  # where it was detected, not where the other image says
        near, index = spatial.cKDTree(chosen[1]).query(in_template[: len(chosen[0])])
        found = near < SAME * images[1].meta["fwhm"]
        in_template[: len(chosen[0])][found] = chosen[1][index[found]]
    return np.vstack([chosen[0], moved[new]]), in_template


def _to_grid(source, target, positions):
    """Positions (n, 2) on one image's grid as seen on the other's."""
    if source.wcs is None or target.wcs is None or not len(positions):
        return positions
    return np.stack(pixel_to_pixel(source.wcs, target.wcs, *positions.T, quiet=True), 1)


def _table(places):
    x, y = places.T
    return QTable({"id": np.arange(len(x)), "x": x * u.pix, "y": y * u.pix})


def _saturated(images, fits):
    """Stars (n,) that are saturated on either image."""
    full = np.zeros(len(fits[0].table), bool)
    for image, fit in zip(images, fits, strict=True):
        full[np.asarray(fit.table["ok"])] |= saturated(image, fit)
    return full


def _share(whole, fwhm):
    """Part of a star's light to be removed, by radius."""
    if whole:
        return np.ones_like
    return lambda r: raised_cosine(r, 0.5 * (KEPT + GONE) * fwhm, (GONE - KEPT) * fwhm)


def _take(fit: HaloFit, rows) -> HaloFit:
    """The stars of a fit that are in `rows` (boolean over its table)."""
    mine = rows[np.asarray(fit.table["ok"])]
    table = fit.table.copy()
    table["ok"] = rows
    haloes = [halo for halo, keep in zip(fit.haloes, mine, strict=True) if keep]
    return HaloFit(table, haloes, fit.covariance[np.ix_(mine, mine)], fit.fwhm)


def _doubted(exposure, fit: HaloFit, psf, shares, inner):
    """Pixels masked where the removed light is less well known than the noise.

    The error of a wing is the same all over the width of a PSF; as independent noise of each
    pixel it has to be as many times larger as there are pixels in the PSF.
    """
    error = np.zeros(exposure.shape)
    amplitude = np.sqrt(np.maximum(np.diag(fit.covariance), 0))
    for halo, flux, a, share in zip(fit.haloes, fit.flux, amplitude, shares, strict=True):
        r = halo.radii()
        knots = np.arange(0, np.ceil(r.max()) + 2)
        relative = np.interp(r, knots, psf.relative_error(knots))
        relative = np.hypot(relative, np.where(r < inner, CORE_ERROR, PROFILE_ERROR))
        error[halo.box] += np.square(np.hypot(flux * relative, a) * halo.light * share(r))
    known = exposure.variance > 0
    noise = np.median(exposure.variance[exposure.usable])
    image, mask, variance = (
        plane.copy() for plane in (exposure.image, exposure.mask, exposure.variance)
    )
    lost = (error > TRUSTED**2 * noise) & ~has_bits(mask, MaskBit.NO_DATA)
    image[lost] = 0
    mask[lost] |= np.uint16(MaskBit.SAT | MaskBit.INTERP)
    area = 4 * np.pi * (fit.fwhm / 2.355) ** 2
    variance[known] += np.float32(area) * np.minimum(error, noise).astype(np.float32)[known]
    return exposure.replace(image=image, variance=variance, mask=mask, mask_bits=OWN_BITS)
