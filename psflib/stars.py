"""Which detections are stars fit to build a PSF from; the others keep the reason why not."""

import logging
import math
from collections import Counter

import numpy as np
import sep
from astropy import units as u
from astropy.table import QTable, Table
from pydantic import BaseModel, ConfigDict, Field
from scipy.spatial import cKDTree

from psflib import polynomial, sources
from psflib.errors import NotEnoughStars
from psflib.exposure import UNUSABLE, Exposure, MaskBit

log = logging.getLogger(__name__)

#: A star may lack these few of its pixels, as a fraction of the disc of radius `mask_radius`.
MASKED_FRACTION = 0.1
#: Factors of the limits of S/N and contamination, step by step: to come to enough stars, and,
#: further, only if there are not even five.
LOOSER = ((1.0, 1.0), (0.75, 2.0), (0.5, 4.0))
LOOSEST = ((0.3, 10.0), (0.15, 100.0))
FEWEST_STARS = 5


class StarSettings(BaseModel):
    """Settings of the stage `select_stars`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(5.0, gt=0, description="Detection threshold, sigma.")
    fwhm: float | None = Field(
        None, gt=0, description="FWHM of the stars, px; null measures it. Give it for odd images."
    )
    min_snr: float = Field(30.0, gt=0, description="S/N a star needs; lowered if stars are few.")
    saturation_fraction: float = Field(
        0.8, gt=0, le=1, description="Peaks above this fraction of saturation are rejected."
    )
    edge: float = Field(3.0, ge=0, description="Distance from the border, in FWHM.")
    mask_radius: float = Field(3.0, gt=0, description="Where masked pixels are counted, in FWHM.")
    min_fwhm: float = Field(1.0, gt=0, description="px; below is a hot pixel or cosmic ray.")
    max_fwhm: float = Field(20.0, gt=0, description="px; above cannot be a star.")
    max_ellipticity: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Largest difference in (a-b)/(a+b), as a vector, from the stars around.",
    )
    locus_width: float = Field(
        0.10, gt=0, lt=1, description="Widest accepted half-width of the stellar locus, relative."
    )
    contamination: float = Field(
        0.05, gt=0, description="Neighbours' light over the star's own; raised if stars are few."
    )
    enough: int = Field(20, ge=1, description="With fewer stars the cuts are loosened by steps.")
    cell: int = Field(256, ge=16, description="Side (px) of the cells that share the stars out.")
    per_cell: int = Field(
        10, ge=1, description="Most stars from one cell, best S/N first; more in a small image."
    )
    most: int = Field(300, ge=1, description="Most stars of the image.")
    reserve: float = Field(
        0.2, ge=0, lt=1, description="Fraction kept out of every fit, to judge the PSF."
    )
    seed: int = Field(1, description="Of the choice of reserved stars.")


def detect_stars(exposure: Exposure, settings: StarSettings | None = None) -> Table:
    """All detections on a prepared exposure, saturated stars included.

    Returns
    -------
    Table
        See `psflib.sources.detect_sources`.

    Raises
    ------
    ValueError
        If the exposure has no variance yet.
    """
    if exposure.variance is None:
        raise ValueError("this exposure has no variance yet: call psflib.prepare first")
    settings = settings or StarSettings()
    planes = exposure.image, exposure.variance, exposure.mask
    fwhm = settings.fwhm or sources.estimate_fwhm(*planes)
    return sources.detect_sources(*planes, fwhm=fwhm, threshold=settings.threshold)


def select_stars(exposure: Exposure, settings: StarSettings | None = None) -> QTable:
    """Detect sources and choose the stars to build the PSF from.

    Cuts in this order, the first that fails being the reason: not finite, edge, saturated,
    masked, blended, S/N, size, ellipticity, not on the stellar locus, crowded, more than needed.
    If fewer than `settings.enough` stars are left, S/N and crowding are loosened by steps.

    Parameters
    ----------
    exposure : Exposure
        Prepared: free of sky, with variance.
    settings : StarSettings, optional

    Returns
    -------
    QTable
        Every detection: id, x, y (px), ra, dec (deg, if there is a WCS), flux, flux_err (ADU,
        aperture of radius 1.5 FWHM), snr, fwhm (px), ellipticity, peak (ADU), contamination
        (neighbours' light over its own), selected, reserved (bool; reserved stars are selected
        too), reason ('' if selected).
        meta: fwhm (px, median of the selected), counts (detections by reason), relaxed (list of
        str: which cuts were loosened), locus_order (degree of the field trend of the size, -1 if
        there were too few stars to see a locus).

    Raises
    ------
    NotEnoughStars
        If not a single star passes the loosest cuts.
    """
    settings = settings or StarSettings()
    found = detect_stars(exposure, settings)
    fwhm = found.meta["fwhm"]
    found["contamination"] = contamination(found["x"], found["y"], found["flux"], fwhm)
    permanent = _permanent_cuts(exposure, found, fwhm, settings)
    reason, relaxed, order = _loosen(exposure.shape, found, permanent, settings)
    _share_out(found, reason, settings)
    selected = reason == ""
    if not selected.any():
        raise NotEnoughStars("star selection", 0, 1)
    table = _table(exposure, found, reason, settings)
    table.meta = {
        "fwhm": float(np.median(found["fwhm"][selected])),
        "counts": dict(Counter(reason.tolist())),
        "relaxed": relaxed,
        "locus_order": order,
    }
    log.info("%d of %d detections selected: %s", selected.sum(), len(found), table.meta["counts"])
    return table


def contamination(x, y, flux, fwhm):
    """Light of the neighbours in each source's stamp over its own flux.

    A neighbour within 3 FWHM counts in full; farther ones as (3 FWHM / r)^5, a little more than
    the wing of a Moffat of beta 3 leaves in the star's aperture.

    Parameters
    ----------
    x, y : ndarray (n,)
        px.
    flux : ndarray (n,)
        ADU.
    fwhm : float
        px.

    Returns
    -------
    ndarray (n,) float64
    """
    light = np.maximum(np.nan_to_num(np.asarray(flux, float)), 0)
    total = np.zeros(len(light))
    if len(light) < 2:
        return total
    pairs = cKDTree(np.c_[x, y]).query_pairs(20 * fwhm, output_type="ndarray")
    distance = np.hypot(x[pairs[:, 0]] - x[pairs[:, 1]], y[pairs[:, 0]] - y[pairs[:, 1]])
    share = np.minimum(1, (3 * fwhm / np.maximum(distance, 1e-3)) ** 5)
    np.add.at(total, pairs[:, 0], share * light[pairs[:, 1]])
    np.add.at(total, pairs[:, 1], share * light[pairs[:, 0]])
    return np.where(light > 0, total / np.maximum(light, 1e-30), np.inf)


def stellar_locus(x, y, size, snr, shape, width):
    """Which of these sources have the size of a star.

    ln(size) of stars is a low-order polynomial of the position with a small scatter; it is found
    from its densest window, then fitted and clipped in turn.

    Parameters
    ----------
    x, y, size, snr : ndarray (n,)
        Position (px), FWHM (px), S/N.
    shape : (ny, nx)
        Of the image.
    width : float
        Widest accepted deviation of ln(size).

    Returns
    -------
    member : ndarray (n,) bool
    order : int
        Degree of the polynomial; -1 if fewer than 5 sources are given (then those within
        2.5 `width` of the smallest half's median are taken).
    """
    log_size = np.log(size)
    if len(size) < FEWEST_STARS:
        if not len(size):
            return np.zeros(0, bool), -1
        typical = np.median(np.sort(log_size)[: (len(size) + 1) // 2])
        return np.abs(log_size - typical) < 2.5 * width, -1
    centre = sources.densest(log_size, 1.5 * width)
    member, order = np.abs(log_size - centre) < 1.5 * width, 0
    for _ in range(6):
        order = int(np.searchsorted([12, 36], member.sum(), side="right"))
        at = polynomial.evaluate(order, x, y, shape).T
        error = np.hypot(0.02, 1 / snr)
        solution, *_ = np.linalg.lstsq(
            at[member] / error[member, None], log_size[member] / error[member], rcond=1e-10
        )
        residual = log_size - at @ solution
        residual -= np.median(residual[member])
        spread = 1.4826 * np.median(np.abs(residual[member]))
        limit = np.clip(3 * np.hypot(max(spread, 0.01), 0.5 / snr), 0.03, width)
        # Far from all stars the polynomial may run away; the centre still binds.
        again = (np.abs(residual) < limit) & (np.abs(log_size - centre) < 3 * width)
        if again.sum() < FEWEST_STARS or np.array_equal(again, member):
            break
        member = again
    return member, order


def _permanent_cuts(exposure, found, fwhm, settings):
    """Reason of each row from the cuts that are never loosened, S/N and later ones left out."""
    x, y = found["x"], found["y"]
    ny, nx = exposure.shape
    edge = settings.edge * fwhm
    saturated = _count(exposure.mask & np.uint16(MaskBit.SAT), x, y, 1.5 * fwhm) > 0
    if exposure.saturation is not None:
        level = exposure.saturation - (exposure.sky or 0)
        saturated |= found["peak"] > settings.saturation_fraction * level
    bad = exposure.mask & np.uint16(UNUSABLE)
    radius = settings.mask_radius * fwhm
    masked = _count(bad, x, y, max(1.0, fwhm)) > 0
    masked |= _count(bad, x, y, radius) > MASKED_FRACTION * np.pi * radius**2
    finite = np.isfinite(found["flux"]) & np.isfinite(found["flux_err"]) & (found["flux_err"] > 0)
    inside = (x > edge) & (x < nx - 1 - edge) & (y > edge) & (y < ny - 1 - edge)
    reason = np.full(len(found), "", dtype="U28")
    _reject(reason, ~finite, "not finite")
    _reject(reason, ~inside, "edge")
    _reject(reason, saturated, "saturated")
    _reject(reason, masked, "masked")
    return reason


def _loosen(shape, found, permanent, settings):
    """Reasons after all cuts, loosened by steps until enough stars pass; what was loosened."""
    for snr_factor, crowd_factor in (*LOOSER, *LOOSEST):
        min_snr = settings.min_snr * snr_factor
        crowding = settings.contamination * crowd_factor
        reason, order = _cuts(shape, found, permanent, settings, min_snr, crowding)
        passed = np.sum(reason == "")
        if passed >= settings.enough or (passed >= FEWEST_STARS and snr_factor <= LOOSER[-1][0]):
            break
    relaxed = []
    if snr_factor < 1:
        relaxed = [f"min_snr {min_snr:g}", f"contamination {crowding:g}"]
        log.warning("few stars: cuts loosened to %s; %d pass", ", ".join(relaxed), passed)
    return reason, relaxed, order


def _cuts(shape, found, permanent, settings, min_snr, crowding):
    """Reasons with the given limits of S/N and contamination, and the order of the locus."""
    reason = permanent.copy()
    fwhm = np.asarray(found["fwhm"])
    crowded = found["contamination"] > crowding
    _reject(reason, found["merged"] & crowded, "blended")
    _reject(reason, found["snr"] < min_snr, "S/N")
    sane = found["converged"] & (fwhm >= settings.min_fwhm) & (fwhm <= settings.max_fwhm)
    _reject(reason, ~sane, "size")
    rows = np.flatnonzero(reason == "")
    reason[rows[_odd_shape(found[rows], shape) > settings.max_ellipticity]] = "ellipticity"
    rows = np.flatnonzero(reason == "")
    member, order = stellar_locus(
        found["x"][rows], found["y"][rows], fwhm[rows], found["snr"][rows], shape,
        settings.locus_width,
    )  # fmt: skip
    reason[rows[~member]] = "not on the stellar locus"
    _reject(reason, crowded, "crowded")
    return reason, order


def _odd_shape(found, shape):
    """Distance of each row's (e1, e2) from what is usual at its place.

    Stars of a trailed or astigmatic image are elongated too, but alike; galaxies point anywhere.
    """
    order = int(np.searchsorted([FEWEST_STARS, 30], len(found), side="right")) - 1
    if order < 0:
        return np.zeros(len(found))
    error = np.full(len(found), 0.03)
    parts = [
        polynomial.fit_robust(order, found["x"], found["y"], found[e], error, shape)[1] * error
        for e in ("e1", "e2")
    ]
    return np.hypot(*parts)


def _share_out(found, reason, settings):
    """Keep the best of each cell, and no more than `most` over all; marks the others."""
    rows = np.flatnonzero(reason == "")
    cell_x, cell_y = found["x"][rows] // settings.cell, found["y"][rows] // settings.cell
    order = np.lexsort((-found["snr"][rows], cell_x, cell_y))
    rank = np.empty(len(rows), int)
    _, first = np.unique(np.c_[cell_y, cell_x][order], axis=0, return_index=True)
    # A small image has few cells; they may hold more each, for three times `enough` in all.
    per_cell = max(settings.per_cell, math.ceil(3 * settings.enough / max(len(first), 1)))
    start = np.zeros(len(rows), int)
    start[first] = first
    rank[order] = np.arange(len(rows)) - np.maximum.accumulate(start)
    best = np.lexsort((-found["snr"][rows], rank))
    keep = np.zeros(len(rows), bool)
    keep[best[: settings.most]] = True
    reason[rows[~keep | (rank >= per_cell)]] = "more than needed"


def _table(exposure, found, reason, settings):
    """The star table of an exposure; see `select_stars`."""
    selected = reason == ""
    table = QTable({"id": np.arange(len(found)), "x": found["x"] * u.pix, "y": found["y"] * u.pix})
    if exposure.wcs is not None and exposure.wcs.has_celestial:
        sky = exposure.wcs.celestial.pixel_to_world(found["x"], found["y"]).icrs
        table["ra"], table["dec"] = sky.ra.to(u.deg), sky.dec.to(u.deg)
    table["flux"], table["flux_err"] = found["flux"] * u.adu, found["flux_err"] * u.adu
    table["snr"], table["fwhm"] = found["snr"], found["fwhm"] * u.pix
    table["ellipticity"], table["peak"] = found["ellipticity"], found["peak"] * u.adu
    table["contamination"] = found["contamination"]
    table["selected"] = selected
    table["reserved"] = _reserve(selected, settings)
    table["reason"] = reason
    return table


def _reserve(selected, settings):
    """Draw the reserved stars: none if there are fewer than ten to draw from."""
    reserved, rows = np.zeros(len(selected), bool), np.flatnonzero(selected)
    if len(rows) >= 10:
        rng = np.random.default_rng(settings.seed)
        reserved[rng.choice(rows, int(settings.reserve * len(rows)), replace=False)] = True
    return reserved


def _reject(reason, rows, text):
    """Give a reason to those `rows` (bool) that have none yet."""
    reason[np.asarray(rows) & (reason == "")] = text


def _count(plane, x, y, radius):
    """Number of nonzero pixels of `plane` within `radius` px of each position."""
    total, _, _ = sep.sum_circle((plane != 0).astype(np.float32), x, y, radius, subpix=1)
    return total
