"""Candidates on a difference: peaks of the matched filter, both signs, with flags."""

import logging

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy import ndimage, spatial

from psflib.decorrelation.score import reversed_psf, score
from psflib.detection.dipoles import dipoles, in_units
from psflib.detection.fits import fit_candidates
from psflib.detection.flags import CandidateFlag, set_flags
from psflib.detection.verdict import verdict
from psflib.errors import BadDifference
from psflib.image.difference import Difference
from psflib.image.exposure import MaskBit, has_bits
from psflib.image.patches import patch_centres
from psflib.image.sky_frames import to_icrs
from psflib.image.weights import weight_variance
from psflib.loops import candidates as loops
from psflib.loops import footprints
from psflib.settings.detect import DetectSettings

log = logging.getLogger(__name__)



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
        over its noise alone), `fwhm` (px), `flag` (int32, bits of `CandidateFlag`), `flags` (the
        same in words, "clean" if there are none), `clean` (bool), strongest first.  `meta` has the `verdict` (good, suspicious, bad), its
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
    fits = fit_candidates(difference, weights, psf, snr, y, x, fwhm)
    halo = _near_saturated(difference.mask, y, x, fwhm)
    twin = _opposite(snr, y, x, psf.images.shape[-1])
    at = fits.y + fits.dy, fits.x + fits.dx
    pairs = dipoles(difference, weights, psf, snr, *at, fwhm, twin)
    dipole = (twin & ~pairs.moved) | pairs.misplaced
    columns = _measured(fits, difference, halo, dipole, settings) | pairs.columns
    strength = np.abs(columns["snr"])  # the refined S/N, not that of the pixel
    order = np.argsort(-strength, kind="stable")
    rows = order[strength[order] >= threshold]
    columns = {name: values[rows] for name, values in columns.items()}
    table = _table(columns, difference, threshold, fwhm)
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
    set_flags(table, table["flag"] | CandidateFlag.BAD_EPOCH)
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
    strength = np.abs(snr)
    found = np.zeros(snr.shape, bool)
    below = np.nextafter(np.float32(threshold), np.float32(0))  # the threshold itself is enough
    footprints.mark_peaks(strength, below, strength > below, max(1, round(0.5 * fwhm)), found)
    y, x = np.nonzero(found)
    order = np.argsort(-strength[y, x], kind="stable")
    y, x = y[order], x[order]
    keep = np.ones(len(y), bool)
    if len(y) > 1:
        pairs = spatial.cKDTree(np.c_[x, y]).query_pairs(fwhm, output_type="ndarray")
        alike = snr[y[pairs[:, 0]], x[pairs[:, 0]]] * snr[y[pairs[:, 1]], x[pairs[:, 1]]] > 0
        keep[pairs.max(axis=1)[alike]] = False
    return y[keep], x[keep]


def _near_saturated(mask, y, x, fwhm):
    """True where a saturated star's halo rules: within 2 FWHM + 2.5 radii of its saturated core.

    Haloes of two epochs never match exactly until they are modelled and removed.
    """
    near = np.zeros(len(x), bool)
    saturated = has_bits(mask, MaskBit.SAT)
    if not len(x) or not saturated.any():
        return near
    centres, area = patch_centres(saturated)
    reach = 2 * fwhm + 2.5 * np.sqrt(area / np.pi)
    around = spatial.cKDTree(np.c_[y, x]).query_ball_point(centres, reach)
    near[np.unique(np.concatenate([np.asarray(rows, int) for rows in around]))] = True
    return near


def _measured(fits, difference, halo, dipole, settings):
    """Columns of the table, one entry a candidate: place, PSF flux and its error, S/N, flags."""
    x, y = fits.x + fits.dx, fits.y + fits.dy
    scale = difference.meta.get("score_scale", 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = (scale if np.isfinite(scale) else 1.0) / np.sqrt(fits.power)
        snr = fits.flux / error
    total = np.hypot(error, fits.flux * _psf_error(difference, x, y))
    flag = _shape_flags(fits, settings)
    flag[halo] |= CandidateFlag.HALO
    flag[dipole] |= CandidateFlag.DIPOLE
    return {"x": x, "y": y, "flux": fits.flux, "flux_err": total, "snr": snr, "flag": flag}


def _psf_error(difference, x, y) -> np.ndarray:
    """Relative error that the PSF's own error puts on fluxes; 0 for a PSF that has none to tell."""
    known = getattr(difference.psf, "flux_error", None)
    return np.zeros(len(x)) if known is None else np.nan_to_num(known(x, y))


def _shape_flags(fits, settings):
    """What the pixels under the PSF say against the candidates: `CandidateFlag`s (n,) of int32."""
    masked = (fits.count < 5) | (fits.masked > settings.masked_fraction)
    with np.errstate(divide="ignore", invalid="ignore"):
        reduced = fits.chi2 / (fits.count - 1)
        limit = settings.max_chi2 * (1 + settings.psf_error**2 * fits.flux**2 * fits.power)
        # the central pixel holds what its neighbours do not: a cosmic ray, not a star
        doubt = 1 / fits.centre_weight + (0.2 * fits.flux * fits.peak) ** 2
        sharp = fits.centre_off * np.sign(fits.flux) > 5 * np.sqrt(doubt)
    flag = np.zeros(len(masked), np.int32)
    flag[masked] |= CandidateFlag.MASKED
    flag[~masked & (reduced > limit)] |= CandidateFlag.SHAPE
    flag[~masked & (fits.centre_weight > 0) & sharp] |= CandidateFlag.SHARP
    return flag


def _opposite(snr, y, x, size):
    """Peaks with one of the other sign, at least 60 % as strong, within the PSF: misregistration"""
    strongest = np.empty(len(y))
    loops.strongest_opposite(snr, y, x, max(2, size // 4), strongest)
    return strongest > np.maximum(0.6 * np.abs(snr[y, x]), 4)


def _table(columns, difference, threshold, fwhm):
    x, y = columns["x"], columns["y"]
    table = QTable()
    table["id"] = np.arange(1, len(x) + 1)
    table["x"], table["y"] = x * u.pix, y * u.pix
    if difference.wcs is not None:
        wcs = difference.wcs
        ra, dec = to_icrs(wcs.all_pix2world(x, y, 0), wcs) if len(x) else (x, y)
        table["ra"], table["dec"] = ra * u.deg, dec * u.deg
    unit = difference.meta.get("unit", 1.0) * u.adu  # of the image as it was given
    table["flux"], table["flux_err"] = columns["flux"] * unit, columns["flux_err"] * unit
    table["snr"] = columns["snr"]
    table["fwhm"] = np.full(len(x), fwhm) * u.pix
    for name, values in in_units(columns, difference).items():
        table[name] = values
    set_flags(table, columns["flag"])
    table.meta["threshold"] = float(threshold)
    return table
