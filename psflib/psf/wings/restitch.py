"""An extended PSF stitched anew, and the profile that each bright star gives it."""

import dataclasses

import numpy as np
from astropy import units as u
from astropy.table import QTable

from psflib.image.exposure import Exposure
from psflib.psf.extended import on_native, radii, raised_cosine, stitch_psf
from psflib.psf.wings.field import ExtendedPsfField
from psflib.psf.wings.result import radial_profile
from psflib.stamps.build import pixels
from psflib.words import NONE

LEAST = 0.02  # share of the wing in the seam from which it can be told from the core
STEP = 1.12  # ratio of the radii of neighbouring rings
FEWEST = 8  # pixels a ring


def restitch(
    extended: ExtendedPsfField, match_radius: float, feather_width: float, ee_radius: float
) -> ExtendedPsfField:
    """The same core and wing joined elsewhere; no star is looked at again.

    The wing is known from where the present seam begins; further in the core stands for it.

    Parameters
    ----------
    extended : ExtendedPsfField
    match_radius, feather_width, ee_radius : float
        As in `stitch_psf`, px.

    Raises
    ------
    ValueError
        If the seam does not fit into core and wing; with all radii.
    """
    side = len(extended.wing)
    r = radii((side, side))
    core = on_native(extended.core, extended.oversample, side)
    share = raised_cosine(r, extended.match_radius, extended.feather_width)
    wing = np.where(share > LEAST, extended.wing / np.maximum(share, LEAST), core)
    made = stitch_psf(
        extended.core, extended.oversample, wing, match_radius=match_radius,
        feather_width=feather_width, ee_aperture_radius=ee_radius,
    )  # fmt: skip
    new = dataclasses.replace(
        extended, core=made.core, wing=made.wing, match_radius=match_radius,
        feather_width=feather_width, ee_radius=ee_radius, tail=_scaled(extended, made.wing),
    )  # fmt: skip
    profile = radial_profile(new.at(side))
    error = extended.relative_error(pixels(profile["r"]))
    profile["error"] = np.abs(np.asarray(profile["value"])) * error
    return dataclasses.replace(new, profile=profile)


def _scaled(extended, wing):
    """The power law beyond the data, by the factor that the wing's edge took."""
    if extended.tail is None:
        return None
    edge = radii(wing.shape) > extended.match_radius + extended.feather_width
    before, after = extended.wing[edge].sum(), wing[edge].sum()
    factor = after / before if before > 0 else 1.0
    tail = extended.tail
    return dataclasses.replace(
        tail, value=tail.value * factor, value_error=tail.value_error * abs(factor)
    )


def star_profiles(exposure: Exposure, extended: ExtendedPsfField) -> QTable:
    """What each bright star says of the profile: medians on rings, over its flux.

    Returns
    -------
    QTable
        id, range (of the star), r (px), value (per px²); one row a star and ring with data.
    """
    half = len(extended.wing) // 2
    edges = np.unique(np.round(STEP ** np.arange(0, np.log(max(half, 2)) / np.log(STEP) + 1)))
    rows: list[tuple] = []
    stars = extended.stars[np.asarray(extended.stars["ok"])]
    ranges = stars["range"] if "range" in stars.colnames else np.full(len(stars), NONE)
    for star, name in zip(stars, ranges, strict=True):
        found = _rings(exposure, star, edges, half)
        rows += [(star["id"], str(name), r * u.pix, value) for r, value in found]
    names = ("id", "range", "r", "value")
    if not rows:
        return QTable({"id": [], "range": [], "r": [] * u.pix, "value": []})
    return QTable(rows=rows, names=names)


def _rings(exposure, star, edges, half):
    """(radius, median of the light over the flux) of each ring with enough usable pixels."""
    x, y, flux, sky = (float(pixels(star[n])) for n in ("x", "y", "flux", "background"))
    if not np.isfinite([x, y, flux, sky]).all() or flux <= 0:
        return []
    row, col = round(y), round(x)
    box = tuple(slice(max(c - half, 0), c + half + 1) for c in (row, col))
    rows, cols = (np.arange(s.start, s.start + n) for s, n in
                  zip(box, exposure.image[box].shape, strict=True))  # fmt: skip
    r = np.hypot(rows[:, None] - y, cols - x)
    usable = exposure.usable[box]
    ring = np.digitize(r[usable], edges)
    light = (exposure.image[box][usable] - sky) / flux
    out = []
    for k in range(1, len(edges)):
        values = light[ring == k]
        if len(values) >= FEWEST:
            out.append((float(np.sqrt(edges[k - 1] * edges[k])), float(np.median(values))))
    return out
