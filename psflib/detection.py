"""Candidates on a difference: peaks of the matched filter, both signs, with flags."""

import numpy as np
from astropy import units as u
from astropy.table import QTable
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage, spatial

from psflib.difference import Difference
from psflib.exposure import UNUSABLE, MaskBit
from psflib.scoring import filtered, psf_size

STAMP = 3  # half side of the box in which a candidate's shape is judged, in units of FWHM / 2


class DetectSettings(BaseModel):
    """Settings of the stage `detect`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(
        5.0, gt=0, description="significance of a candidate, sigma; raise for fewer false alarms"
    )
    max_chi2: float = Field(
        3.0, gt=1,
        description="reduced chi-square of the PSF fit above which a candidate is flagged 'shape'",
    )  # fmt: skip
    masked_fraction: float = Field(
        0.25, gt=0, lt=1,
        description="masked share of the inner PSF above which a candidate is flagged 'masked'",
    )  # fmt: skip


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
        `id, x, y` (px), `ra, dec` (deg, with a WCS), `flux, flux_err` (ADU, PSF flux; negative
        where the source faded), `snr`, `fwhm` (px), `flags`, strongest first.  Flags are '' for a
        clean candidate, or words: masked (much of its PSF is masked), shape (does not look like
        the PSF), sharp (narrower than the PSF: cosmic ray), halo (in the halo of a saturated
        star), dipole (a twin of the other sign beside it: misregistration).
    """
    settings = settings or DetectSettings()
    threshold = settings.threshold if threshold is None else threshold
    top, bottom = filtered(difference)
    bottom /= np.float32(difference.meta.get("score_scale", 1.0) ** 2)
    top /= np.float32(difference.meta.get("score_scale", 1.0) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = np.where(bottom > 0, top / np.sqrt(bottom), 0)
    fwhm = psf_fwhm(difference)
    y, x = _peaks(snr, threshold, fwhm)
    halo = _near_saturated(difference.mask, y, x, fwhm)
    rows = [
        _measure(difference, top, bottom, snr, j, i, settings, h)
        for j, i, h in zip(y, x, halo, strict=True)
    ]
    return _table(rows, difference, threshold)


def psf_fwhm(difference: Difference) -> float:
    """FWHM at the field centre in px, from the PSF's area above half of its peak."""
    ny, nx = difference.shape
    psf = difference.psf_at((nx - 1) / 2, (ny - 1) / 2, 41)
    fine = ndimage.zoom(psf, 5, order=3)
    return float(2 * np.sqrt((fine > 0.5 * fine.max()).sum() / 25 / np.pi))


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
    labels, count = ndimage.label((mask & np.uint16(MaskBit.SAT)) != 0, structure=np.ones((3, 3)))
    if count == 0 or not len(x):
        return np.zeros(len(x), bool)
    area = np.bincount(labels.ravel())[1:]
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, np.arange(1, count + 1)))
    reach = 2 * fwhm + 2.5 * np.sqrt(area / np.pi)
    distance = np.hypot(y[:, None] - centres[:, 0], x[:, None] - centres[:, 1])
    return (distance < reach).any(1)


def _measure(difference, top, bottom, snr, y, x, settings, in_halo):
    """One candidate: refined position, PSF flux, quality of the PSF fit, flags."""
    dy, dx = _vertex(np.abs(snr), y, x)
    flux, error = top[y, x] / bottom[y, x], 1 / np.sqrt(bottom[y, x])
    flags = []
    chi2, masked, sharp = _shape(difference, y, x, dy, dx)
    if masked > settings.masked_fraction:
        flags.append("masked")
    # a PSF known to 5 % leaves a residual that grows with the flux: not a reason to doubt a star
    if chi2 > settings.max_chi2 * (1 + (0.05 * snr[y, x]) ** 2 / 4):
        flags.append("shape")
    if sharp:
        flags.append("sharp")
    if in_halo:
        flags.append("halo")
    if _opposite(snr, y, x, psf_size(difference)):
        flags.append("dipole")
    return x + dx, y + dy, flux, error, snr[y, x], ",".join(flags)


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


def _shape(difference, y, x, dy, dx):
    """(reduced chi-square of a PSF fit, masked fraction of the PSF, sharper than the PSF)."""
    half = max(2, round(0.8 * (psf_size(difference) // 5)))
    ys, xs = slice(max(y - half, 0), y + half + 1), slice(max(x - half, 0), x + half + 1)
    psf = _shifted(difference.psf_at(x, y, 2 * half + 9), dy, dx)[4:-4, 4:-4]
    psf = psf[ys.start - y + half :, xs.start - x + half :]
    data, variance = difference.image[ys, xs], difference.variance[ys, xs]
    psf = psf[: data.shape[0], : data.shape[1]]
    use = ((difference.mask[ys, xs] & np.uint16(UNUSABLE)) == 0) & (variance > 0)
    masked = 1 - np.abs(psf[use]).sum() / np.abs(psf).sum()
    if use.sum() < 5:
        return np.inf, 1.0, False
    p, d, w = psf[use], data[use].astype(float), 1 / variance[use].astype(float)
    flux = np.sum(w * p * d) / np.sum(w * p * p)
    chi2 = np.sum(w * np.square(d - flux * p)) / (use.sum() - 1)
    centre = (data[y - ys.start, x - xs.start] - flux * psf[y - ys.start, x - xs.start]) / np.sqrt(
        variance[y - ys.start, x - xs.start] + (0.2 * flux * psf.max()) ** 2
    )
    return chi2, float(masked), bool(centre * np.sign(flux) > 5)


def _shifted(image, dy, dx):
    return ndimage.shift(image, (dy, dx), order=3, mode="constant")


def _opposite(snr, y, x, size):
    """A peak of the other sign, at least 60 % as strong, within the PSF: misregistration."""
    half = max(2, size // 4)
    box = snr[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
    return bool((-box * np.sign(snr[y, x])).max() > max(0.6 * abs(snr[y, x]), 4))


def _table(rows, difference, threshold):
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    x, y = np.array(columns[0], float), np.array(columns[1], float)
    table = QTable()
    table["id"] = np.arange(1, len(x) + 1)
    table["x"], table["y"] = x * u.pix, y * u.pix
    if difference.wcs is not None:
        ra, dec = difference.wcs.all_pix2world(x, y, 0) if len(x) else (x, y)
        table["ra"], table["dec"] = ra * u.deg, dec * u.deg
    table["flux"] = np.array(columns[2], float) * u.adu
    table["flux_err"] = np.array(columns[3], float) * u.adu
    table["snr"] = np.array(columns[4], float)
    table["fwhm"] = np.full(len(x), psf_fwhm(difference)) * u.pix
    table["flags"] = np.array(columns[5], dtype=str)
    table.meta["threshold"] = float(threshold)
    return table
