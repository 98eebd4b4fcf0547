"""Bright stars fit to build a wing from, in three ranges; the others keep the reason why not.

The core range is not saturated and ties the wing to the core; the middle range is saturated in
the core only; the outer range reaches farthest.
"""

import dataclasses

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy import ndimage

from psflib.image.exposure import MaskBit, has_bits
from psflib.psf.wings.stars import WingStar
from psflib.stamps.build import pixels
from psflib.words import NONE

#: Reasons not to be a PSF star that do not matter for the wing.
ACCEPTED_REASONS = (NONE, "saturated", "more than needed", "crowded")
#: What a star may be called whose saturated core was filled in without a mark, as in coadds.
FILLED_REASONS = ("saturated", "size", "not on the stellar locus", "ellipticity", "masked")
PLATEAU = 0.2  # relative; where image over PSF stays within it, the star is not saturated
RING = 1.5  # px, width of the rings of that test
SATURATED_PIXELS = 4  # smaller groups are hot pixels
CORE_SHARE = 0.3  # of the stars, kept for the core range
NOISE_SHARE = 0.02  # a stamp ends where the star is this many sigma of a pixel
OUTSHONE = 0.1  # of a star's own light at 2 FWHM: more of a brighter star's there spoils it
OWN_LIGHT = 0.3  # of a halo: fainter detections in it may be its spikes
LEAST_VALID = 0.3  # fraction of the stamp's usable pixels
PIXELS = 8_000_000  # in all stamps together, to bound time and memory


@dataclasses.dataclass
class Candidate:
    """A bright source: place (px), flux (ADU, a guess), radius of its saturated core (px)."""

    x: float
    y: float
    flux: float
    saturated: float = 0.0
    row: int = -1  # in the star table
    reason: str = ""


def candidates(exposure, stars, profile, fwhm, min_snr, core_half):
    """Saturated groups of pixels and point sources of the table, brightest first.

    Parameters
    ----------
    profile : callable
        PSF per px² at radius r (px).
    core_half : int
        Half side of the core's box, px: to there the profile is known.

    Returns
    -------
    list of Candidate
        Those with a reason are bright but not fit.
    """
    x, y = pixels(stars["x"]), pixels(stars["y"])
    usable = exposure.usable
    found = saturated_groups(exposure, usable, profile, fwhm)
    taken = np.zeros(len(stars), bool)
    for star in found:
        near = np.hypot(x - star.x, y - star.y)
        inside = near < star.saturated + 2 * fwhm
        taken |= inside
        if inside.any():
            star.row = int(np.argmin(near))
    aperture = np.arange(int(np.ceil(1.5 * fwhm)) + 1, dtype=float)
    share = max(float(np.trapezoid(2 * np.pi * aperture * profile(aperture), aperture)), 0.1)
    reason = np.asarray(stars["reason"]).astype(str)
    bright = ~taken & (np.nan_to_num(pixels(stars["snr"])) >= min_snr)
    bright &= np.isfinite(pixels(stars["flux"]))
    for i in np.flatnonzero(bright):
        why = "" if reason[i] in ACCEPTED_REASONS else reason[i]
        flux = float(pixels(stars["flux"])[i]) / share
        star = Candidate(float(x[i]), float(y[i]), flux, 0.0, int(i), why)
        if reason[i] in FILLED_REASONS:
            _find_filled(star, exposure.image, usable, profile, core_half)
        found.append(star)
    return sorted(found, key=lambda star: -star.flux)


def _find_filled(star, image, usable, profile, reach):
    """Radius and flux of a star whose core was filled in, in place.

    Image over PSF rises outwards and then stays: the core is saturated to there.  A galaxy rises
    on; one whose ratio is flat by chance is found out by its fit.
    """
    box, rows, cols = _box(image.shape, star.x, star.y, reach)
    r = np.hypot(rows[:, None] - star.y, cols - star.x)
    use = usable[box] & (r < reach)
    ratio = image[box] / profile(r)
    edges = np.arange(0, reach + 0.1, RING)
    rings = [ratio[use & (r >= a) & (r < a + RING)] for a in edges[:-1]]
    levels = np.array([np.median(v) if len(v) else np.nan for v in rings])
    for k in range(len(levels) - 3):
        rest = levels[k:]
        top = np.nanmedian(rest)
        if top > 0 and np.nanmax(np.abs(rest - top)) < PLATEAU * top:
            star.saturated, star.flux = float(edges[k]), float(top)
            star.reason = ""
            return


def saturated_groups(exposure, usable, profile, fwhm):
    """Candidates from connected saturated pixels.

    Their place is that farthest from unsaturated pixels, which a bleed trail does not move; their
    flux follows from the ring just outside.
    """
    saturated = has_bits(exposure.mask, MaskBit.SAT)
    labels, _ = ndimage.label(saturated, structure=np.ones((3, 3)))
    found = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        own = np.pad(labels[box] == label, 1)
        if own.sum() < SATURATED_PIXELS:
            continue
        depth = ndimage.distance_transform_edt(own)
        radius = float(depth.max())
        y, x = np.argwhere(depth >= radius - 0.5).mean(axis=0) - 1 + [s.start for s in box]
        flux = _ring_flux(exposure.image, usable, x, y, radius, profile, fwhm)
        reason = "" if flux > 0 else "no light around its saturated core"
        found.append(Candidate(float(x), float(y), flux, radius, reason=reason))
    return found


def _ring_flux(image, usable, x, y, radius, profile, fwhm):
    """Flux of a star from the median ratio of image and PSF just outside the saturated core."""
    outer = radius + 2 + fwhm
    box, rows, cols = _box(image.shape, x, y, int(np.ceil(outer)))
    r = np.hypot(rows[:, None] - y, cols - x)
    use = (r > radius + 1) & (r <= outer) & usable[box]
    if use.sum() < 8:
        return 0.0
    return float(np.median(image[box][use] / profile(r[use])))


def _box(shape, x, y, half):
    top, left = max(round(y) - half, 0), max(round(x) - half, 0)
    bottom, right = min(round(y) + half + 1, shape[0]), min(round(x) + half + 1, shape[1])
    return (slice(top, bottom), slice(left, right)), np.arange(top, bottom), np.arange(left, right)


def choose(found, shape, profile, fwhm, match_radius, most):
    """Candidates to be used, in order; the others get a reason, in place."""
    edge = 2 * fwhm
    x, y, flux = (np.array([getattr(star, name) for star in found]) for name in ("x", "y", "flux"))
    for k, star in enumerate(found):
        if star.reason:
            continue
        inside = edge <= star.x <= shape[1] - 1 - edge and edge <= star.y <= shape[0] - 1 - edge
        if not inside:
            star.reason = "edge"
            continue
        own = star.flux * profile(np.array([max(2 * fwhm, star.saturated + fwhm)]))[0]
        light = flux[:k] * profile(np.hypot(x[:k] - star.x, y[:k] - star.y))
        if (light > OUTSHONE * own).any():
            star.reason = "in the halo of a brighter star"
    fit = [star for star in found if star.reason == ""]
    core = [star for star in fit if range_of(star, match_radius) == "core"]
    others = [star for star in fit if range_of(star, match_radius) != "core"]
    n_core = max(most - len(others), min(len(core), int(np.ceil(CORE_SHARE * most))))
    kept = others[: most - min(n_core, len(core))] + core[:n_core]
    for star in fit:
        if star not in kept:
            star.reason = "more than needed"
    return sorted(kept, key=lambda star: -star.flux)


def range_of(star, match_radius) -> str:
    """ "core", "middle" or "outer", by the radius of the saturated core."""
    if star.saturated == 0:
        return "core"
    return "middle" if star.saturated <= match_radius else "outer"


def reach_of(flux, profile, sigma, least, most) -> int:
    """Half side of a star's stamp, px: to where its light is a small part of the noise."""
    r = np.arange(least, most + 1, dtype=float)
    bright = flux * profile(r) > NOISE_SHARE * sigma
    return int(r[bright][-1]) if bright.any() else least


def cut_stars(exposure, weight, stars, chosen, profile, fwhm, match_radius, halves, radius):
    """`WingStar`s of the chosen candidates; those with too few usable pixels get a reason.

    Parameters
    ----------
    weight : ndarray (ny, nx) float32
        `smooth_weight` of the exposure.
    halves : sequence of int
        Half side of each stamp, px.
    radius : float
        Least radius of the mask on a neighbour, FWHM.
    """
    weight = weight.copy()
    weight[neighbours(exposure.shape, stars, chosen, profile, fwhm, radius)] = 0
    cut = []
    for star, half in zip(chosen, halves, strict=True):
        row, col = round(star.y), round(star.x)
        data, own = (window(plane, row, col, half) for plane in (exposure.image, weight))
        made = WingStar(
            data, own, np.array([star.y - row, star.x - col]), star.flux, row=row, col=col,
            table_row=star.row, range=range_of(star, match_radius),
        )  # fmt: skip
        # also where no bit says that the core is saturated
        axis = np.arange(2 * half + 1) - half
        r = np.hypot(axis[:, None] - made.delta[0], axis - made.delta[1])
        own[r < star.saturated] = 0
        if np.mean(own > 0) < LEAST_VALID:
            made.reason = "too few usable pixels"
        cut.append(made)
    return cut


def window(plane, row, col, half):
    """Square of side 2·half + 1 about a pixel, 0 off the image."""
    out = np.zeros((2 * half + 1, 2 * half + 1), plane.dtype)
    top, left = row - half, col - half
    box = tuple(
        slice(max(start, 0), min(start + len(out), n))
        for start, n in zip((top, left), plane.shape, strict=True)
    )
    out[box[0].start - top : box[0].stop - top, box[1].start - left : box[1].stop - left] = plane[
        box
    ]
    return out


def neighbours(shape, stars, chosen, profile, fwhm, radius):
    """Pixels (ny, nx) of detections that are neither bright stars nor part of their haloes.

    Without that a bright star would mask its own spikes, and with them its halo.
    """
    x, y = pixels(stars["x"]), pixels(stars["y"])
    snr = np.nan_to_num(pixels(stars["snr"]))
    surface = np.nan_to_num(pixels(stars["flux"])) / (np.pi * (1.5 * fwhm) ** 2)
    halo = np.zeros(len(x))
    for star in chosen:
        light = star.flux * profile(np.hypot(x - star.x, y - star.y))
        halo = np.maximum(halo, light)
    reach = fwhm * np.clip(radius + np.log10(np.maximum(snr, 10) / 10), None, 6)
    near = np.zeros(shape, bool)
    own = {star.row for star in chosen}
    for i in np.flatnonzero((surface > OWN_LIGHT * halo) & np.isfinite(x + y)):
        if i in own:
            continue
        box, rows, cols = _box(shape, x[i], y[i], int(np.ceil(reach[i])))
        near[box] |= np.hypot(rows[:, None] - y[i], cols - x[i]) <= reach[i]
    return near


def star_table(stars, used, rejected, gain) -> QTable:
    """Bright stars, used or not: see `ExtendedPsfField.stars`."""
    rows = []
    for star in used:
        name = stars["id"][star.table_row] if star.table_row >= 0 else -1
        y, x = np.array([star.row, star.col]) + star.delta
        rows.append((name, x, y, star.flux / gain, star.flux_error / gain, star.background[0],
                     star.centre_error, star.half, star.reason == "", star.range == "core",
                     star.range, star.reason or NONE))  # fmt: skip
    for star in rejected:
        name = stars["id"][star.row] if star.row >= 0 else -1
        rows.append((name, star.x, star.y, star.flux, np.nan, np.nan, np.nan, 0, False, False,
                     NONE, star.reason))  # fmt: skip
    names = ("id", "x", "y", "flux", "flux_err", "background", "centre_err", "reach", "ok",
             "from_core", "range", "reason")  # fmt: skip
    types = (int, float, float, float, float, float, float, int, bool, bool, "U6", "U64")
    table = QTable(rows=rows or None, names=names, dtype=types)
    for name, unit in (("x", u.pix), ("y", u.pix), ("flux", u.adu), ("flux_err", u.adu),
                       ("background", u.adu), ("centre_err", u.pix), ("reach", u.pix)):  # fmt: skip
        table[name] = table[name] * unit
    return table
