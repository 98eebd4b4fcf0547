"""Which stars have a halo that is worth removing."""

import numpy as np
from scipy import ndimage

from psflib.haloes.model import boxes, distance
from psflib.image.exposure import MaskBit, has_bits
from psflib.stamps.build import pixels
from psflib.words import NONE

#: Reasons not to be a PSF star with which a star is a star all the same.
STARS = (NONE, "saturated", "more than needed", "crowded", "blended", "edge", "masked")
APERTURE = 1.5  # FWHM, of the fluxes of a star table
HIDDEN = ("saturated", "masked")  # whose flux says little; the light about them decides
RING = (3.0, 4.0)  # FWHM


def choose_stars(exposure, stars, profile, fwhm, settings) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the stars whose halo matters, and which are second detections of another one.

    Parameters
    ----------
    exposure : Exposure
    stars : QTable
        x, y; with the columns `reason` and `flux` of `select_stars` galaxies, and stars too faint
        to have a halo, are left out.
    profile : ndarray (r,)
        Mean of the PSF on rings of 1 px.
    fwhm : float
        px.
    """
    rows = np.arange(len(stars))
    x, y = pixels(stars["x"]), pixels(stars["y"])
    keep = np.isfinite(x) & np.isfinite(y)
    flux = pixels(stars["flux"]) if "flux" in stars.colnames else np.ones(len(stars))
    detected = "reason" in stars.colnames and "flux" in stars.colnames
    if detected:
        reason = np.asarray(stars["reason"]).astype(str)
        noise = np.sqrt(np.median(exposure.variance[exposure.usable]))
        at = min(round(3 * fwhm), len(profile) - 1)
        halo = flux / _share(profile, APERTURE * fwhm) * profile[at]
        hidden = np.isin(reason, HIDDEN) & keep
        halo[hidden] = _ring_light(exposure, x[hidden], y[hidden], fwhm)
        keep &= np.isin(reason, STARS) & (halo > settings.min_halo * noise) & np.isfinite(flux)
    rows = rows[keep]
    # A catalogue knows its stars; detections break up about a saturated one.
    core = _core_radii(exposure, x[rows], y[rows]) if detected else np.zeros(len(rows))
    return rows, _second(x[rows], y[rows], flux[rows], np.maximum(core, fwhm))


def _ring_light(exposure, x, y, fwhm):
    """Median of the usable pixels 3 to 4 FWHM from each star, ADU; 3 FWHM farther out if none."""
    usable, out = exposure.usable, np.zeros(len(x))
    for i in range(len(x)):
        for shift in (0, 3, 6):
            inner, outer = (fwhm * (r + shift) for r in RING)
            box, _ = boxes(x[i], y[i], int(outer) + 1, exposure.shape)
            r = distance(x[i], y[i], box)
            ring = exposure.image[box][(r >= inner) & (r <= outer) & usable[box]]
            if len(ring) > 10:
                out[i] = np.median(ring)
                break
    return out


def _share(profile, radius):
    """Flux of the PSF within a radius, from its profile."""
    r = np.arange(len(profile))
    area = np.where(r == 0, np.pi / 4, 2 * np.pi * r)
    return float((area * profile)[: round(radius) + 1].sum())


def _core_radii(exposure, x, y):
    """Radius (n,) of a disc as large as the saturated core on which a star lies, px; else 0."""
    full = has_bits(exposure.mask, MaskBit.SAT | MaskBit.BAD)
    labels, count = ndimage.label(full, np.ones((3, 3)))
    area = np.bincount(labels.ravel(), minlength=count + 1)
    ny, nx = exposure.shape
    row, col = np.clip(np.rint(y), 0, ny - 1), np.clip(np.rint(x), 0, nx - 1)
    core = labels[row.astype(int), col.astype(int)]
    return np.where(core > 0, np.sqrt(area[core] / np.pi), 0)


def _second(x, y, flux, reach):
    """True for a star within the `reach` of a brighter one."""
    second = np.zeros(len(x), bool)
    order = np.lexsort((y, x, -flux))
    for k, i in enumerate(order):
        brighter = order[:k][~second[order[:k]]]
        apart = np.hypot(x[brighter] - x[i], y[brighter] - y[i])
        second[i] = bool(np.any(apart < reach[brighter]))
    return second
