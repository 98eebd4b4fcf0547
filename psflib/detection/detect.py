"""Candidates on a difference: peaks of the matched filter, both signs, with flags."""

import dataclasses
import logging

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy import ndimage, spatial

from psflib.decorrelation.score import reversed_psf, score
from psflib.detection.verdict import verdict
from psflib.errors import BadDifference
from psflib.image.difference import Difference
from psflib.image.exposure import UNUSABLE, MaskBit, has_bits
from psflib.image.sky_frames import to_icrs
from psflib.image.weights import weight_variance
from psflib.settings.detect import DetectSettings

log = logging.getLogger(__name__)

BAD_EPOCH = "bad_epoch"  # flag of all candidates of a difference that cannot be believed
REACH = 0.6  # FWHM, from the peak of the score to the best fit of the PSF
STEPS = 8  # of that fit, at most ...
SETTLED = 0.01  # px, the last


def detect(difference: Difference, threshold: float | None = None, settings=None) -> QTable:
    """Candidates above a significance.

    Parameters
    ----------
    difference : Difference
        Decorrelated, or the claimed significance is wrong.
    threshold : float, optional
        Sigma; overrides the settings'.
    settings : DetectSettings, optional

    Returns
    -------
    QTable
        `id, x, y` (px), `ra, dec` (deg, with a WCS), `flux, flux_err` (ADU, PSF flux, negative
        where the source faded; the error holds the PSF's own), `snr` (significance: of the flux
        over its noise alone), `fwhm` (px), `flags`, strongest first.  Flags are '' for a
        clean candidate, or words: masked (much of its PSF is masked), shape (does not look like
        the PSF), sharp (narrower than the PSF: cosmic ray), halo (in the halo of a saturated
        star), dipole (a twin of the other sign beside it: misregistration), bad_epoch (of a
        difference that cannot be believed).  `meta` has the `verdict` (good, suspicious, bad), its
        `reasons` and the numbers behind them (`evidence`), see `psflib.detection.verdict`.

    Raises
    ------
    BadDifference
        If the verdict is bad and the setting `on_bad` is fail.
    """
    settings = settings or DetectSettings()
    threshold = settings.threshold if threshold is None else threshold
    snr = score(difference) if difference.score is None else difference.score
    fwhm = psf_fwhm(difference)
    psf = reversed_psf(difference)
    usable = difference.usable & (difference.variance > 0)
    weights = weight_variance(difference.image, difference.variance, usable)
    y, x = _peaks(snr, threshold, fwhm)
    halo = _near_saturated(difference.mask, y, x, fwhm)
    rows = [
        _measure((difference, weights), snr, psf, int(j), int(i), fwhm, settings, bool(h))
        for j, i, h in zip(y, x, halo, strict=True)
    ]
    rows = [row for row in rows if abs(row[4]) >= threshold]
    rows.sort(key=lambda row: -abs(row[4]))  # the refined S/N, not that of the pixel
    table = _table(rows, difference, threshold, fwhm)
    return _judged(table, difference.replace(score=snr), settings.on_bad)


def _judged(table, difference, on_bad):
    """The candidates with the verdict on their difference, and what follows from it."""
    found = verdict(difference, table)
    table.meta.update(found.meta)
    text = f"verdict: {found.word}" + "".join(f"; {reason}" for reason in found.reasons)
    log.log(logging.INFO if found.word == "good" else logging.WARNING, "%s", text)
    if found.word != "bad" or on_bad == "keep":
        return table
    if on_bad == "fail":
        raise BadDifference(found.reasons)
    flags = np.asarray(table["flags"]).astype(str)
    table["flags"] = np.array([f"{f},{BAD_EPOCH}" if f else BAD_EPOCH for f in flags], dtype=str)
    return table


def psf_fwhm(difference: Difference) -> float:
    """FWHM at the field centre in px, from the PSF's area above half of its peak."""
    ny, nx = difference.shape
    psf = difference.psf_at((nx - 1) / 2, (ny - 1) / 2, 41)
    fine = ndimage.zoom(psf, 5, order=3)
    step = (len(psf) - 1) / (len(fine) - 1)  # first and last samples stay where they are
    return float(2 * step * np.sqrt((fine > 0.5 * fine.max()).sum() / np.pi))


def _peaks(snr, threshold, fwhm):
    """Local extrema of |snr|, strongest first, none within one FWHM of a stronger of its sign."""
    size = 2 * max(1, round(0.5 * fwhm)) + 1
    strength = np.abs(snr)
    y, x = np.nonzero(
        (strength >= threshold) & (strength == ndimage.maximum_filter(strength, size))
    )
    order = np.argsort(-strength[y, x], kind="stable")
    y, x = y[order], x[order]
    keep = np.ones(len(y), bool)
    if len(y) > 1:
        for i, j in spatial.cKDTree(np.c_[x, y]).query_pairs(fwhm, output_type="ndarray"):
            first, second = min(i, j), max(i, j)
            if snr[y[first], x[first]] * snr[y[second], x[second]] > 0:
                keep[second] = False
    return y[keep], x[keep]


def _near_saturated(mask, y, x, fwhm):
    """True where a saturated star's halo rules: within 2 FWHM + 2.5 radii of its saturated core.

    Haloes of two epochs never match exactly until they are modelled and removed.
    """
    labels, count = ndimage.label(has_bits(mask, MaskBit.SAT), structure=np.ones((3, 3)))
    if count == 0 or not len(x):
        return np.zeros(len(x), bool)
    area = np.bincount(labels.ravel())[1:]
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, np.arange(1, count + 1)))
    reach = 2 * fwhm + 2.5 * np.sqrt(area / np.pi)
    distance = np.hypot(y[:, None] - centres[:, 0], x[:, None] - centres[:, 1])
    return (distance < reach).any(1)


def _measure(planes, snr, psf, y, x, fwhm, settings, in_halo):
    """One candidate: refined position, PSF flux, quality of the PSF fit, flags.

    planes : the difference, and the variance (ny, nx) that weighs
    """
    difference, weights = planes
    box = _cutout(difference, weights, psf.at(x, y)[::-1, ::-1], y, x)
    # the PSF goes to the refined position: half a pixel off costs 2 to 4 % of the flux
    moved, flux, power, (dy, dx) = _fit(box, _vertex(np.abs(snr), y, x), REACH * fwhm)
    scale = difference.meta.get("score_scale", 1.0)
    error = (scale if np.isfinite(scale) else 1.0) / np.sqrt(power)
    flags = _flags(box, moved, flux, settings)
    if in_halo:
        flags.append("halo")
    if _opposite(snr, y, x, psf.images.shape[-1]):
        flags.append("dipole")
    total = np.hypot(error, flux * _psf_error(difference, x + dx, y + dy))
    return x + dx, y + dy, flux, total, flux / error, ",".join(flags)


def _psf_error(difference, x, y) -> float:
    """Relative error that the PSF's own error puts on fluxes; 0 for a PSF that has none to tell."""
    known = getattr(difference.psf, "flux_error", None)
    return 0.0 if known is None else float(np.nan_to_num(known(x, y)))


def _fit(box, start, reach):
    """Shifted PSF, flux, sum of psf² / variance and shift (dy, dx) of the best fit of the PSF.

    Gauss-Newton steps on the difference itself: beside bright stars the peak of a score is off
    towards smaller errors (0.7 px and 10 % of the flux, where the errors of the PSFs are in it).
    A fit that leaves the peak's surroundings, to a neighbour say, stays at the start.
    """
    best = shift = np.array(start)
    for _ in range(STEPS):
        moved = ndimage.shift(box.psf, shift, order=3, mode="nearest")
        columns = np.array([moved, *(-slope for slope in np.gradient(moved))])
        weighted = (columns * box.weight).reshape(3, -1)
        matrix, vector = weighted @ columns.reshape(3, -1).T, weighted @ box.data.ravel()
        if vector[0] == 0 or not np.linalg.cond(matrix) < 1e8:
            break
        flux, *change = np.linalg.solve(matrix, vector)
        step = np.clip(np.array(change) / flux, -0.5, 0.5) if flux else np.zeros(2)
        shift = shift + step
        if np.hypot(*(shift - start)) > reach:
            break
        if np.abs(step).max() < SETTLED:
            best = shift
            break
    moved = ndimage.shift(box.psf, best, order=3, mode="nearest")
    power = np.sum(np.square(moved) * box.weight)
    return moved, np.sum(moved * box.data * box.weight) / power, power, best


def _flags(box, psf, flux, settings):
    """What the pixels under the PSF say against the candidate."""
    core = psf > 0.02 * psf.max()
    use = core & (box.weight > 0)
    if use.sum() < 5 or 1 - psf[use].sum() / psf[core].sum() > settings.masked_fraction:
        return ["masked"]
    flags = []
    rest = box.data[use] - flux * psf[use]
    chi2 = np.sum(box.weight[use] * np.square(rest)) / (use.sum() - 1)
    snr2 = np.square(flux) * np.sum(np.square(psf) * box.weight)
    if chi2 > settings.max_chi2 * (1 + settings.psf_error**2 * snr2):
        flags.append("shape")
    at = box.y, box.x
    if box.weight[at] > 0:
        # the central pixel holds what its neighbours do not: a cosmic ray, not a star
        doubt = 1 / box.weight[at] + (0.2 * flux * psf.max()) ** 2
        if (box.data[at] - flux * psf[at]) * np.sign(flux) > 5 * np.sqrt(doubt):
            flags.append("sharp")
    return flags


@dataclasses.dataclass(frozen=True)
class Box:
    """Pixels around a candidate: data, weight (0 where unusable) and PSF, cut at the border.

    y, x : the candidate's pixel within the box.
    """

    data: np.ndarray
    weight: np.ndarray
    psf: np.ndarray
    y: int
    x: int


def _cutout(difference, weights, psf, y, x):
    half = len(psf) // 2
    ny, nx = difference.shape
    ys, xs = (
        slice(max(y - half, 0), min(y + half + 1, ny)),
        slice(max(x - half, 0), min(x + half + 1, nx)),
    )
    variance = weights[ys, xs].astype(float)
    usable = ~has_bits(difference.mask[ys, xs], UNUSABLE) & (variance > 0)
    weight = np.divide(1, variance, out=np.zeros_like(variance), where=usable)
    inside = psf[ys.start - y + half : ys.stop - y + half, xs.start - x + half : xs.stop - x + half]
    return Box(difference.image[ys, xs].astype(float), weight, inside, y - ys.start, x - xs.start)


def _vertex(plane, y, x):
    """Offset (dy, dx) of the maximum of a parabola through three pixels an axis, within 0.5 px."""
    offsets = []
    for line, at in ((plane[:, x], y), (plane[y], x)):
        if not 0 < at < len(line) - 1:
            offsets.append(0.0)
            continue
        low, mid, high = map(float, line[at - 1 : at + 2])
        curve = low - 2 * mid + high
        offsets.append(float(np.clip(0.5 * (low - high) / curve, -0.5, 0.5)) if curve < 0 else 0.0)
    return offsets


def _opposite(snr, y, x, size):
    """A peak of the other sign, at least 60 % as strong, within the PSF: misregistration."""
    half = max(2, size // 4)
    box = snr[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
    return bool((-box * np.sign(snr[y, x])).max() > max(0.6 * abs(snr[y, x]), 4))


def _table(rows, difference, threshold, fwhm):
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    x, y = np.array(columns[0], float), np.array(columns[1], float)
    table = QTable()
    table["id"] = np.arange(1, len(x) + 1)
    table["x"], table["y"] = x * u.pix, y * u.pix
    if difference.wcs is not None:
        wcs = difference.wcs
        ra, dec = to_icrs(wcs.all_pix2world(x, y, 0), wcs) if len(x) else (x, y)
        table["ra"], table["dec"] = ra * u.deg, dec * u.deg
    unit = difference.meta.get("unit", 1.0) * u.adu  # of the image as it was given
    table["flux"] = np.array(columns[2], float) * unit
    table["flux_err"] = np.array(columns[3], float) * unit
    table["snr"] = np.array(columns[4], float)
    table["fwhm"] = np.full(len(x), fwhm) * u.pix
    table["flags"] = np.array(columns[5], dtype=str)
    table.meta["threshold"] = float(threshold)
    return table
