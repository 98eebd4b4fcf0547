"""The light of every object of a field in every epoch."""

import dataclasses
import logging
from collections.abc import Callable, Sequence

import numpy as np
from astropy import units as u
from astropy.table import QTable

from psflib.detection.columns import magnitudes
from psflib.errors import BadImage, PsflibError
from psflib.image.cutout import cutout
from psflib.image.difference import Difference
from psflib.image.sky_frames import icrs_to_pixel
from psflib.lightcurves.objects import NOT_FOUND, Objects, find_objects
from psflib.lightcurves.photometry import forced_fluxes
from psflib.lightcurves.statistics import MEANING, statistics
from psflib.settings.lightcurves import LightcurveSettings

log = logging.getLogger(__name__)

SIDE = 25  # px of the cut-outs


@dataclasses.dataclass(frozen=True, eq=False)
class Epoch:
    """One epoch of a field.

    Parameters
    ----------
    name : str
    candidates : QTable
        As `detect` found them.
    read : callable
        Its decorrelated `Difference`; called once, so that no two are held at a time.
    """

    name: str
    candidates: QTable
    read: Callable[[], Difference]

    @property
    def mjd(self) -> float:
        """Time of the exposure, NaN where it is not known."""
        return float(self.candidates.meta.get("mjd", np.nan))

    @property
    def matching_error(self) -> float:
        """Share of the template's light that the matching leaves, rms; 0 where it is not known."""
        return float(self.candidates.meta.get("matching_error", 0.0))

    @property
    def zero_point(self) -> float:
        """Magnitude of one unit of flux, NaN where it is not known."""
        return float(self.candidates.meta.get("zero_point", np.nan))


@dataclasses.dataclass(frozen=True, eq=False)
class LightCurves:
    """What `light_curves` found.

    Parameters
    ----------
    objects : QTable
        A row an object: `object`, `ra, dec` (deg) or `x, y` (px), and `statistics.MEANING`.
    points : QTable
        A row an object and epoch, in the order of time: `object`, `epoch`, `mjd`, `x, y` (px),
        `flux, flux_err`, `snr`, `limit` (upper limit of the flux where it was not found), `mag,
        mag_err, limit_mag` (with a zero point), `found` (bool), `candidate` (its id, -1 if not
        found), `flags` ("not found", "not covered" or those of the candidate), `masked`, `verdict`,
        `scale` (flux of a source over that in the template, by which fluxes of epochs compare).
    epochs : list of str
        In the order of time.
    cutouts : ndarray (p, e, SIDE, SIDE) float32
        Decorrelated difference over its noise about the first p objects, NaN outside.
    """

    objects: QTable
    points: QTable
    epochs: list[str]
    cutouts: np.ndarray


def light_curves(
    epochs: Sequence[Epoch], settings: LightcurveSettings | None = None
) -> LightCurves:
    """Forced photometry of everything that any epoch has found, in every epoch.

    Parameters
    ----------
    epochs : sequence of Epoch
        In any order; one that cannot be read is left out with a warning.
    settings : LightcurveSettings, optional

    Raises
    ------
    ValueError
        If two epochs have one name.
    BadImage
        If no epoch can be read.
    """
    settings = settings or LightcurveSettings()
    if len({epoch.name for epoch in epochs}) < len(epochs):
        raise ValueError("two epochs have one name")
    epochs = sorted(epochs, key=lambda e: (np.isnan(e.mjd), e.mjd))
    objects, epochs, on_sky = _gathered(epochs, settings)
    light = _template_light(objects, epochs)
    planes, kept, cutouts = [], [], []
    for number, epoch in enumerate(epochs):
        try:
            difference = epoch.read()
        except PsflibError as error:
            log.warning("epoch %s is left out: %s", epoch.name, error)
            continue
        x, y = _pixels(objects.place, difference.wcs, on_sky)
        left = epoch.matching_error * np.maximum(light[:, number], 0)
        planes.append((x, y, _scale(difference), forced_fluxes(difference, x, y, left)))
        cutouts.append(_cut(difference, x[: settings.pictures], y[: settings.pictures]))
        kept.append(number)
    if not kept:
        raise BadImage("no epoch of this field has a difference that can be read")
    objects = Objects(objects.place, objects.candidate[:, kept], objects.clean)
    epochs = [epochs[number] for number in kept]
    points, facts = _points(objects, epochs, planes, settings)
    table = _objects(objects, facts, on_sky)
    pictures = np.array(cutouts).reshape(len(epochs), -1, SIDE, SIDE).swapaxes(0, 1)
    return LightCurves(table, points, [epoch.name for epoch in epochs], pictures)


def _gathered(epochs, settings):
    """Objects, the epochs that have a place in their frame, and whether that is the sky."""
    on_sky = any("ra" in epoch.candidates.colnames for epoch in epochs if len(epoch.candidates))
    if on_sky:
        for epoch in epochs:
            if "ra" not in epoch.candidates.colnames and len(epoch.candidates):
                log.warning("epoch %s is left out: it has no WCS, others have", epoch.name)
        epochs = [e for e in epochs if "ra" in e.candidates.colnames or not len(e.candidates)]
    tables = [epoch.candidates for epoch in epochs]
    reach = settings.radius * _fwhm(epochs, on_sky)
    found = find_objects([_places(table, on_sky) for table in tables], tables, reach)
    if settings.only_clean:
        found = found.take(found.clean > 0)
    if len(found) > settings.most:
        log.warning(
            "%d objects: the light of the first %d is measured (lightcurves.most), those that were "
            "found clean most often", len(found), settings.most,
        )  # fmt: skip
    return found.take(slice(settings.most)), epochs, on_sky


def _fwhm(epochs, on_sky):
    """FWHM of the PSF of the first epoch that has candidates, in rad or px; 0 if none has."""
    table = next((epoch.candidates for epoch in epochs if len(epoch.candidates)), None)
    if table is None:
        return 0.0
    scale = np.deg2rad(np.sqrt(table.meta["pixel_area"]) / 3600) if on_sky else 1.0
    return scale * float(table["fwhm"][0].value)


def _places(table, on_sky):
    """Unit vectors, or (x, y, 0), of candidates: (n, 3)."""
    if not len(table):
        return np.zeros((0, 3))
    if not on_sky:
        x, y = (np.asarray(table[name].value, float) for name in ("x", "y"))
        return np.stack([x, y, np.zeros(len(x))], 1)
    ra, dec = (np.deg2rad(np.asarray(table[name].value, float)) for name in ("ra", "dec"))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], 1)


def _sky(place):
    """Right ascension and declination, deg, of vectors (m, 3)."""
    ra = np.rad2deg(np.arctan2(place[:, 1], place[:, 0])) % 360
    return ra, np.rad2deg(np.arctan2(place[:, 2], np.hypot(place[:, 0], place[:, 1])))


def _pixels(place, wcs, on_sky):
    if not on_sky:
        return place[:, 0], place[:, 1]
    ra, dec = _sky(place)
    return icrs_to_pixel(ra, dec, wcs)


def _scale(difference):
    """Science flux of a source of unit template flux, at the field's centre."""
    ny, nx = difference.shape
    scale = float(difference.kernel.flux_scale((nx - 1) / 2, (ny - 1) / 2))
    return scale if scale > 0 else np.nan


def _template_light(objects, epochs):
    """PSF flux of the template (m, e) at each object: of that epoch, else the median of others."""
    light = np.full(objects.candidate.shape, np.nan)
    for number, epoch in enumerate(epochs):
        rows = objects.candidate[:, number]
        if "template_flux" in epoch.candidates.colnames:
            flux = np.asarray(epoch.candidates["template_flux"].value, float)
            light[rows != NOT_FOUND, number] = flux[rows[rows != NOT_FOUND]]
    known = np.isfinite(light)
    median = np.zeros(len(light))
    some = known.any(axis=1)
    median[some] = np.nanmedian(light[some], axis=1)
    return np.where(known, light, median[:, None])


def _cut(difference, x, y):
    """The difference over its noise about places, (n, SIDE, SIDE) float32, NaN without data."""
    usable = difference.usable & (difference.variance > 0)
    light = np.where(usable, difference.image, np.float32(np.nan))
    cuts = [cutout(light, *at, SIDE) for at in zip(x, y, strict=True)]
    noise = [np.sqrt(cutout(difference.variance, *at, SIDE)) for at in zip(x, y, strict=True)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.array(cuts).reshape(-1, SIDE, SIDE) / np.array(noise).reshape(-1, SIDE, SIDE)


def _points(objects, epochs, planes, settings):
    """The long table, and the statistics of each object."""
    blocks, (found, clean) = [], np.zeros((2, len(objects), len(epochs)), bool)
    for number, (epoch, (x, y, scale, forced)) in enumerate(zip(epochs, planes, strict=True)):
        rows = objects.candidate[:, number]
        block = {**_block(epoch, rows, x, y, forced, settings), "scale": np.full(len(rows), scale)}
        found[:, number] = block["found"]
        clean[:, number] = block["flags"] == "clean"
        blocks.append(block)
    flux, error = (
        np.stack([getattr(forced, name) / scale for *_, scale, forced in planes], 1)
        for name in FLUXES
    )
    table = QTable({name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]})
    order = np.argsort(table["object"], kind="stable")  # epochs stay in the order of time
    table = table[order]
    for name, unit in UNITS.items():
        table[name] = table[name] * unit
    return table, statistics(flux, error, found, clean)


FLUXES = "flux", "flux_err"
UNITS = {
    "x": u.pix, "y": u.pix, "flux": u.adu, "flux_err": u.adu, "limit": u.adu, "mag": u.mag,
    "mag_err": u.mag, "limit_mag": u.mag, "mjd": u.day,
}  # fmt: skip


def _block(epoch, rows, x, y, forced, settings):
    """Columns of the points of one epoch."""
    count, table = len(rows), epoch.candidates
    known = np.isfinite(forced.flux)
    found = rows != NOT_FOUND
    flags = np.where(known, "not found", "not covered").astype("U64")
    ids = np.full(count, -1)
    if found.any():
        flags[found] = np.asarray(table["flags"])[rows[found]]
        ids[found] = np.asarray(table["id"])[rows[found]]
    limit = np.where(found, np.nan, settings.limit * forced.flux_err)
    zero = epoch.zero_point
    mag, error = magnitudes(forced.flux, forced.flux_err, zero)
    limit_mag, _ = magnitudes(limit, limit, zero)
    return {
        "object": np.arange(1, count + 1),
        "epoch": np.full(count, epoch.name),
        "mjd": np.full(count, epoch.mjd),
        "x": x, "y": y,
        "flux": forced.flux, "flux_err": forced.flux_err, "snr": forced.snr, "limit": limit,
        "mag": mag, "mag_err": error, "limit_mag": limit_mag,
        "found": found, "candidate": ids, "flags": flags, "masked": forced.masked,
        "verdict": np.full(count, str(table.meta.get("verdict", "unknown"))),
    }  # fmt: skip


def _objects(objects, facts, on_sky):
    table = QTable({"object": np.arange(1, len(objects) + 1)})
    if on_sky:
        ra, dec = _sky(objects.place)
        table["ra"], table["dec"] = ra * u.deg, dec * u.deg
    else:
        table["x"], table["y"] = objects.place[:, 0] * u.pix, objects.place[:, 1] * u.pix
    for name, meaning in MEANING.items():
        values = facts[name]
        flux = name in ("mean_flux", "mean_flux_err", "amplitude", "excess")
        table[name] = values * u.adu if flux else values
        table[name].info.description = meaning
    return table
