"""Which detections are stars fit to build a PSF from; the others keep the reason why not."""

import logging
import math
from collections import Counter

import numpy as np
import sep
from astropy import units as u
from astropy.table import QTable, Table

from psflib.errors import NotEnoughStars
from psflib.image import polynomial
from psflib.image.exposure import UNUSABLE, Exposure, MaskBit
from psflib.image.noise import crowded_variance
from psflib.settings.select_stars import StarSettings
from psflib.stars import sources
from psflib.stars.catalog import known_kinds
from psflib.stars.contamination import contamination
from psflib.stars.locus import stellar_locus
from psflib.stars.saturation import expected_peak, peak_scale, turn_over
from psflib.stars.widths import estimate_fwhm
from psflib.words import spoken

log = logging.getLogger(__name__)

#: A star may lack these few of its pixels, as a fraction of the disc of radius `mask_radius`.
MASKED_FRACTION = 0.1
#: ... and this part of its light: what is left still tells where it is and how wide.
HIDDEN_LIGHT = 0.25
#: Factors of the limits of S/N and contamination, step by step: to come to enough stars, and,
#: further, only if there are not even five.
LOOSER = ((1.0, 1.0), (0.75, 2.0), (0.5, 4.0))
LOOSEST = ((0.3, 10.0), (0.15, 100.0))
FEWEST_STARS = 5
AGREEMENT = 0.2  # of ln(FWHM) of the filter and of the stars found with it


def detect_stars(exposure: Exposure, settings: StarSettings | None = None) -> Table:
    """All detections on a prepared exposure, saturated stars included.

    Returns
    -------
    Table
        See `psflib.stars.sources.detect_sources`.

    Raises
    ------
    ValueError
        If the exposure has no variance yet.
    """
    if exposure.variance is None:
        raise ValueError("this exposure has no variance yet: call psflib.prepare first")
    settings = settings or StarSettings()
    planes = exposure.image, crowded_variance(exposure), exposure.mask
    known = settings.fwhm or exposure.meta.get("fwhm")
    found = sources.detect_sources(*planes, fwhm=known, threshold=settings.threshold)
    if settings.fwhm or known is None or exposure.meta.get("fwhm_given"):
        return found
    # `prepare` measured it before cosmic rays were masked: what is detected has to bear it out.
    seen = sources.typical_fwhm(found)
    if seen is None or abs(np.log(seen / known)) < AGREEMENT:
        return found
    again = estimate_fwhm(*planes)
    if abs(np.log(again / known)) < AGREEMENT:
        return found
    log.warning("stars of %.2f px where %.2f px were expected: detected again", again, known)
    return sources.detect_sources(*planes, fwhm=again, threshold=settings.threshold)


def select_stars(
    exposure: Exposure, settings: StarSettings | None = None, catalog: Table | None = None
) -> QTable:
    """Detect sources and choose the stars to build the PSF from.

    Cuts in this order, the first that fails being the reason: not finite, edge, saturated,
    masked, galaxy in the catalogue, blended, S/N, size, ellipticity, not on the stellar locus,
    crowded, more than needed.  If fewer than `settings.enough` stars are left, S/N and crowding
    are loosened by steps, as far as that brings more stars.

    Parameters
    ----------
    exposure : Exposure
        Prepared: free of sky, with variance.
    settings : StarSettings, optional
    catalog : Table, optional
        Adds to what the image tells, see `psflib.stars.catalog.known_kinds`: an entry with a
        parallax or a proper motion is a star whatever its size and ellipticity; one flagged as a
        galaxy is none.  Detections that are not in it are judged as without it.

    Returns
    -------
    QTable
        Every detection: id, x, y (px), ra, dec (deg, if there is a WCS), flux, flux_err (ADU,
        aperture of radius 1.5 FWHM), snr, fwhm (px), ellipticity, peak (ADU), contamination
        (neighbours' light over its own), locus (px, FWHM of a star at its place), selected,
        reserved (bool; reserved stars are selected too), reason ("none" if selected).
        meta: fwhm (px, median of the selected), counts (detections by reason), relaxed (list of
        str: which cuts were loosened, and a doubtful locus), locus ('clear'; 'doubtful': sizes do
        not crowd at one value, the selected may be galaxies; 'too few' to tell), locus_order
        (degree of the field trend of the size, -1 if there were too few stars to see a locus),
        turn_over (ADU above the sky, peak from which stars are not linear; absent if not seen).

    Raises
    ------
    NotEnoughStars
        If not a single star passes the loosest cuts.
    ValueError
        If the catalogue has no usable positions.
    """
    settings = settings or StarSettings()
    found = detect_stars(exposure, settings)
    fwhm = found.meta["fwhm"]
    found["contamination"] = contamination(found["x"], found["y"], found["flux"], fwhm)
    found["known"] = np.zeros(len(found), bool)
    galaxy = found["known"].copy()
    if catalog is not None:
        found["known"], galaxy = known_kinds(
            catalog, found["x"], found["y"], exposure.wcs, settings.match_radius
        )
    permanent = _permanent_cuts(exposure, found, fwhm, settings)
    level = _not_linear(exposure, found, permanent, settings)
    _reject(permanent, galaxy, "galaxy in the catalogue")
    reason, relaxed, locus = _loosen(exposure.shape, found, permanent, settings)
    found["locus"] = locus.size(found["x"], found["y"])
    _share_out(found, reason, settings)
    if not (reason == "").any():
        raise NotEnoughStars(_why_none(reason), 0, 1)
    table = _table(exposure, found, reason, settings)
    table.meta = _meta(found, reason, relaxed, locus, level)
    return table


def _meta(found, reason, relaxed, locus, level):
    """What is said of the whole selection; doubts are logged too."""
    selected, counts = reason == "", dict(Counter(spoken(reason).tolist()))
    log.info("%d of %d detections selected: %s", selected.sum(), len(found), counts)
    if locus.state != "clear" and not found["known"][selected].all():
        log.warning(
            "stellar locus %s (%.1f sigma above its surroundings): are the %d selected stars? "
            "Look at the sizes, or give select_stars.fwhm or a catalogue",
            locus.state, locus.significance, selected.sum(),
        )  # fmt: skip
    if locus.state == "doubtful":
        relaxed = [*relaxed, "doubtful stellar locus"]
    meta = {
        "fwhm": float(np.median(found["fwhm"][selected])),
        "counts": counts,
        "relaxed": relaxed,
        "locus": locus.state,
        "locus_order": locus.order,
    }
    return meta if level is None else {**meta, "turn_over": level}


def _why_none(reason):
    """What became of all detections, and what can be done."""
    counts = ", ".join(f"{text} {n}" for text, n in Counter(reason.tolist()).most_common())
    return (
        f"star selection among {len(reason)} detections ({counts or 'a lower threshold may help'}; "
        "see the section select_stars of the settings)"
    )


def _permanent_cuts(exposure, found, fwhm, settings):
    """Reason of each row from the cuts that are never loosened, S/N and later ones left out."""
    x, y = found["x"], found["y"]
    ny, nx = exposure.shape
    edge = settings.edge * fwhm
    saturated = _count(exposure.mask & np.uint16(MaskBit.SAT), x, y, 1.5 * fwhm) > 0
    bad = exposure.mask & np.uint16(UNUSABLE)
    radius = settings.mask_radius * fwhm
    masked = np.asarray(found["hidden"]) > HIDDEN_LIGHT
    masked |= _count(bad, x, y, radius) > MASKED_FRACTION * np.pi * radius**2
    finite = np.isfinite(found["flux"]) & np.isfinite(found["flux_err"]) & (found["flux_err"] > 0)
    inside = (x > edge) & (x < nx - 1 - edge) & (y > edge) & (y < ny - 1 - edge)
    reason = np.full(len(found), "", dtype="U28")
    _reject(reason, ~finite, "not finite")
    _reject(reason, ~inside, "edge")
    _reject(reason, saturated, "saturated")
    _reject(reason, masked, "masked")
    return reason


def _not_linear(exposure, found, reason, settings):
    """Reject stars too bright for the detector; returns the peak where they turn over, or None.

    Stars that are not marked as saturated show the locus, and by it what peak a flux makes.
    """
    cut, locus = _cuts(exposure.shape, found, reason, settings, settings.min_snr, np.inf)
    x, y, flux, peak = (np.asarray(found[name]) for name in ("x", "y", "flux", "peak"))
    expected = expected_peak(x, y, np.maximum(flux, 0), locus.size(x, y))
    bright = (found["snr"] > settings.min_snr) & (peak > 0) & (expected > 0)
    stars = bright & (cut == "")
    expected *= peak_scale(peak[stars], expected[stars])
    # the peak of a faint star is noise's choice of a pixel
    seen = bright & (reason == "") & (found["snr"] > 2 * settings.min_snr)
    seen &= np.asarray(found["hidden"]) == 0  # its peak may be what is not seen
    seen &= found["fwhm"] < 1.5 * locus.size(x, y)
    level = turn_over(peak[seen], expected[seen])
    given = np.inf
    if exposure.saturation is not None:
        given = exposure.saturation - (exposure.sky or 0)
    least = min(given, np.inf if level is None else level)
    _reject(reason, expected > settings.saturation_fraction * least, "saturated")
    return level


def _loosen(shape, found, permanent, settings):
    """Reasons after all cuts, loosened by steps until enough pass; what was loosened; the locus."""
    best: tuple = ()
    most = -1
    for snr_factor, crowd_factor in (*LOOSER, *LOOSEST):
        min_snr = settings.min_snr * snr_factor
        crowding = settings.contamination * crowd_factor
        reason, locus = _cuts(shape, found, permanent, settings, min_snr, crowding)
        passed = np.sum(reason == "")
        if passed > most:
            relaxed = [f"min_snr {min_snr:g}", f"contamination {crowding:g}"]
            best, most = (reason, relaxed if snr_factor < 1 else [], locus), passed
        if most >= settings.enough or (most >= FEWEST_STARS and snr_factor <= LOOSER[-1][0]):
            break
    if best[1]:
        log.warning("few stars: cuts loosened to %s; %d pass", ", ".join(best[1]), most)
    return best


def _cuts(shape, found, permanent, settings, min_snr, crowding):
    """Reasons with the given limits of S/N and contamination, and the stellar locus."""
    reason = permanent.copy()
    fwhm, known = np.asarray(found["fwhm"]), np.asarray(found["known"])
    crowded = found["contamination"] > crowding
    _reject(reason, found["merged"] & crowded, "blended")
    _reject(reason, found["snr"] < min_snr, "S/N")
    sane = found["converged"] & (fwhm >= settings.min_fwhm) & (fwhm <= settings.max_fwhm)
    _reject(reason, ~sane, "size")
    rows = np.flatnonzero(reason == "")
    odd = _odd_shape(found[rows], shape) > settings.max_ellipticity
    reason[rows[odd & ~known[rows]]] = "ellipticity"
    rows = np.flatnonzero(reason == "")
    locus = stellar_locus(
        found["x"][rows], found["y"][rows], fwhm[rows], found["snr"][rows], shape,
        settings.locus_width,
    )  # fmt: skip
    reason[rows[~locus.member & ~known[rows]]] = "not on the stellar locus"
    _reject(reason, crowded, "crowded")
    return reason, locus


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
    table["contamination"], table["locus"] = found["contamination"], found["locus"] * u.pix
    table["selected"] = selected
    table["reserved"] = np.zeros(len(found), bool)
    chosen = found[selected]
    table["reserved"][selected] = _reserve(chosen["x"], chosen["y"], chosen["flux"], settings)
    table["reason"] = spoken(reason)
    return table


def _reserve(x, y, flux, settings):
    """Draw the reserved stars (n,) bool: none of fewer than ten.

    One star of each run of like flux, from where the field lacks one most; never the brightest of
    all, which no other can stand for in the fit and which would outweigh all others as a judge.
    """
    reserved = np.zeros(len(x), bool)
    count = int(settings.reserve * len(x))
    if len(x) < 10 or count == 0:
        return reserved
    cell = _quantile_cell(x) * 4 + _quantile_cell(y)
    lacking = np.bincount(cell, minlength=16) * count / len(x)
    rng = np.random.default_rng(settings.seed)
    runs = np.array_split(np.argsort(flux), count)
    for k in rng.permutation(count):
        run = runs[k]
        wish = lacking[cell[run]] + rng.uniform(0, 0.5, len(run))
        wish[run == runs[-1][-1]] = -np.inf
        star = run[np.argmax(wish)]
        lacking[cell[star]] -= 1
        reserved[star] = True
    return reserved


def _quantile_cell(values):
    """In which quarter (0 to 3) of the values each lies."""
    return np.searchsorted(np.percentile(values, [25, 50, 75]), values)


def _reject(reason, rows, text):
    """Give a reason to those `rows` (bool) that have none yet."""
    reason[np.asarray(rows) & (reason == "")] = text


def _count(plane, x, y, radius):
    """Number of nonzero pixels of `plane` within `radius` px of each position."""
    total, _, _ = sep.sum_circle((plane != 0).astype(np.float32), x, y, radius, subpix=1)
    return total
