"""Injection and recovery: sources into the science image, one more difference and detection."""

import contextlib
import dataclasses
import logging
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy import ndimage, spatial

from psflib.decorrelation.decorrelate import decorrelate
from psflib.decorrelation.score import score
from psflib.detection.alarms import empty_of_candidates, score_noise
from psflib.detection.detect import detect, psf_fwhm, threshold_of
from psflib.image.difference import Difference
from psflib.image.exposure import Exposure
from psflib.injection import fluxes, places
from psflib.injection.summary import summarise
from psflib.settings.decorrelate import DecorrelateSettings
from psflib.settings.detect import DetectSettings
from psflib.settings.inject import InjectSettings
from psflib.settings.subtract import SubtractSettings
from psflib.stars.select import detect_stars
from psflib.subtraction.run import subtract_aligned

log = logging.getLogger(__name__)

REACH = 1.0  # FWHM, from a source to the candidate that it is found as ...
LEAST_REACH = 1.5  # px, and at least
MARGIN = 2.5  # FWHM from the borders, so that the PSF is not cut
UNKNOWN = "unknown"  # in the place of words


@dataclasses.dataclass(frozen=True)
class Chain:
    """Settings of the stages that a source goes through.

    subtract : SubtractSettings;  decorrelate : DecorrelateSettings;  detect : DetectSettings.
    """

    subtract: SubtractSettings = dataclasses.field(default_factory=SubtractSettings)
    decorrelate: DecorrelateSettings = dataclasses.field(default_factory=DecorrelateSettings)
    detect: DetectSettings = dataclasses.field(default_factory=DetectSettings)


def inject(
    science: Exposure,
    template: Exposure,
    psf,
    difference: Difference,
    settings: InjectSettings | None = None,
    chain: Chain | None = None,
    stars=None,
) -> QTable:
    """Put sources into a science image, subtract and detect again, and see which are found.

    The kernel is fitted anew, so that what it learns of the sources is seen; PSFs, masks, sky and
    the registered template are those of the real difference.

    Parameters
    ----------
    science : Exposure
        Prepared, as it went into the difference.
    template : Exposure
        Registered, on the grid of the science image, as `psflib.register` gives it; variances of
        the images that a difference carries hold doubts of its matching.
    psf : PsfField
        Of the science image.
    difference : Difference
        The real one, decorrelated: its noise and what is found on it say where to put sources,
        and how bright.
    settings : InjectSettings, optional
    chain : Chain, optional
        Settings of the real difference.
    stars : Table, optional
        Every detection on the science image (`select_stars`); detected here if not given.

    Returns
    -------
    QTable
        A row an injected source: id, true_x, true_y (px), true_flux (ADU), true_snr (its own
        photons in the noise), sigma (ADU, noise of a faint source's flux at the place), drawn
        (what place was looked for: sky, which is anywhere, galaxy, star), place (what is there),
        true_star_distance, true_host_distance (px, to the nearest bright star and galaxy of the
        science image; NaN without any), found (bool); then the columns of the candidate that it
        is found as, NaN or "unknown" where it is not.  meta: see `summarise`.

    Raises
    ------
    ValueError
        If the images are not prepared or not on one grid.
    """
    if "fwhm" not in science.meta or science.variance is None:
        raise ValueError("science must be prepared: psflib.prepare(science)")
    if not science.shape == template.shape == difference.shape:
        raise ValueError("science, template and difference must have one grid: psflib.register")
    settings, chain = settings or InjectSettings(), chain or Chain()
    rng = np.random.default_rng([settings.seed, *science.shape])
    known: Any = score(difference) if difference.score is None else difference.score
    difference = difference.replace(score=known)
    fwhm = psf_fwhm(difference)
    sources = places.seen_sources(detect_stars(science) if stars is None else stars, fwhm)
    noise = score_noise(known, empty_of_candidates(difference))
    threshold = threshold_of(difference, noise, chain.detect)
    free, searched = free_pixels(difference, fwhm, threshold)
    put = places.choose_places(rng, free, sources, fwhm, _counts(settings, searched.sum()))
    sigma = fluxes.local_noise(difference, noise, put.x, put.y)
    snr = fluxes.draw_snr(rng, len(put.x), threshold, settings)
    ny, nx = science.shape
    photons = fluxes.photon_noise(difference.psf_at((nx - 1) / 2, (ny - 1) / 2), science.gain)
    flux = fluxes.flux_of_snr(snr, sigma, photons)
    truth = truth_table(put, flux, snr, sigma, difference.meta.get("unit", 1.0))
    seen = fluxes.with_sources(rng, science, psf, put.x, put.y, flux)
    clean = _subtracted(seen, template, psf, chain)
    # many faint sources would count as noise of the sky
    found = _detected(clean, chain.detect, threshold, noise)
    table = matched(truth, found, max(REACH * fwhm, LEAST_REACH))
    table.meta |= {"seed": settings.seed, "notes": []}
    summarise(table, searched.mean(), threshold, found.meta.get("zero_point"))
    return table


def not_injected(reason: str) -> QTable:
    """A table without rows that says why nothing is known."""
    names = ("true_x", "true_y", "true_flux", "true_snr", "found")
    table = QTable({name: np.zeros(0, bool if name == "found" else float) for name in names})
    table.meta |= {"n": 0, "completeness": {}, "bins": {}, "notes": [f"no injection: {reason}"]}
    return table


def _counts(settings, searched):
    """Sources anywhere, on galaxies and near stars, in so many px."""
    total = int(np.clip(settings.density * searched / 1e6, settings.least, settings.most))
    shares = np.array([settings.on_galaxies, settings.near_stars])
    special = np.round(total * shares).astype(int)
    return total - int(special.sum()), *special.tolist()


def free_pixels(difference, fwhm, threshold):
    """Where a source may be put, and what is searched, (ny, nx) bool.

    Searched is what has a score.  Not free is what is a candidate already: a source there would be
    counted as found whatever is done to it.
    """
    searched = (difference.score != 0) & difference.usable
    near = np.abs(difference.score) >= threshold
    reach = max(REACH * fwhm, LEAST_REACH)
    free = searched.copy()
    if near.any():
        free &= ndimage.distance_transform_edt(~near) > reach
    margin = int(np.ceil(MARGIN * fwhm))
    for edge in (np.s_[:margin], np.s_[-margin:], np.s_[:, :margin], np.s_[:, -margin:]):
        free[edge] = False
    return free, searched


def truth_table(put, flux, snr, sigma, unit):
    count = len(put.x)
    table = QTable()
    table["id"] = np.arange(1, count + 1)
    table["true_x"], table["true_y"] = put.x * u.pix, put.y * u.pix
    table["true_flux"] = flux * unit * u.adu
    table["true_snr"] = snr
    table["sigma"] = sigma * unit * u.adu
    table["drawn"], table["place"] = put.drawn.astype(str), put.kind.astype(str)
    for name in ("star_distance", "host_distance"):
        distance = getattr(put, name)
        table[f"true_{name}"] = np.where(np.isfinite(distance), distance, np.nan) * u.pix
    return table


def _subtracted(science, template, psf, chain) -> Difference:
    """The decorrelated difference of these images, by the stages of the real one."""
    with _unsaid():
        raw = subtract_aligned(science, template, chain.subtract.method, chain.subtract, psf)
        return decorrelate(raw, chain.decorrelate)


def _detected(difference, settings, threshold, noise) -> QTable:
    """Its candidates, whatever the verdict: a bad difference is not their own fault."""
    with _unsaid():
        kept = settings.model_copy(update={"on_bad": "keep"})
        return detect(difference, threshold, kept, noise=noise)


@contextlib.contextmanager
def _unsaid():
    """The stages say nothing of an image that nobody took: it has been said of the real one."""
    root = logging.getLogger("psflib")
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def matched(truth, candidates, reach):
    """The truth with `found` and the columns of the nearest positive candidate within `reach`."""
    rows = np.full(len(truth), -1)
    positive = np.flatnonzero(np.asarray(candidates["snr"]) > 0)
    if len(positive) and len(truth):
        at = np.c_[[candidates[name][positive].value for name in ("x", "y")]].T
        to = np.c_[[truth[f"true_{name}"].value for name in ("x", "y")]].T
        distance, nearest = spatial.cKDTree(at).query(to)
        rows = np.where(distance <= reach, positive[nearest], -1)
    truth["found"] = rows >= 0
    for name in candidates.colnames:
        if name not in ("id", "sky"):
            truth[name] = _taken(candidates[name], rows)
    return truth


def _taken(column, rows) -> Any:
    """The rows of a column; NaN, False, 0 or "unknown" in the place of row -1."""
    none = rows < 0
    if not len(column):
        unit = getattr(column, "unit", None)
        column = np.zeros(1, column.dtype) * unit if unit else np.zeros(1, column.dtype)
    values = column[np.where(none, 0, rows)].copy()
    kind = values.dtype.kind
    if kind in "US":
        values = np.where(none, UNKNOWN, np.asarray(values).astype(str))
    elif kind == "f":
        values[none] = np.nan
    else:
        values = np.where(none, 0, np.asarray(values)).astype(values.dtype)
    return values
