"""Candidates on a difference: peaks of the matched filter, both signs, with flags."""

import logging

import numpy as np
from astropy.table import QTable
from scipy import ndimage, spatial

from psflib.decorrelation.score import reversed_psf, score
from psflib.detection.alarms import (
    ScoreNoise,
    empty_of_candidates,
    expected_alarms,
    height_of,
    score_noise,
    snr_of,
    threshold_for,
)
from psflib.detection.columns import candidate_table, describe, pixel_area
from psflib.detection.dipoles import dipoles
from psflib.detection.fits import Splines, fit_candidates, fit_planes, turned
from psflib.detection.flags import CandidateFlag, set_flags
from psflib.detection.peaks import find_peaks
from psflib.detection.ranking import rank
from psflib.detection.selftest import self_test
from psflib.detection.surroundings import surroundings
from psflib.detection.verdict import verdict
from psflib.errors import BadDifference, BadImage
from psflib.image.convolve import BilinearWeights, node_grid
from psflib.image.difference import Difference
from psflib.image.exposure import MaskBit, has_bits
from psflib.image.patches import patch_centres
from psflib.loops import candidates as loops
from psflib.settings.detect import DetectSettings

log = logging.getLogger(__name__)

TWIN, TWIN_SNR = 0.6, 4.0  # of a peak's score, and least, of one of the other sign beside it


def detect(
    difference: Difference,
    threshold: float | None = None,
    settings=None,
    injection=None,
    noise: ScoreNoise | None = None,
) -> QTable:
    """Candidates above a significance, measured.

    Parameters
    ----------
    difference : Difference
        Decorrelated, or the claimed significance is wrong; what needs its science image and
        template is unknown without them.
    threshold : float, optional
        Sigma; overrides the settings'.
    settings : DetectSettings, optional
    injection : QTable, optional
        What became of sources put into the science image (`psflib.inject`); its completeness goes
        to the table's `meta`.
    noise : ScoreNoise, optional
        Of the score; measured in empty sky if it is not given.

    Returns
    -------
    QTable
        Strongest first, the columns of `COLUMNS`; with a WCS also `ra, dec` (deg) and `sky`, with
        a zero point `mag, mag_err`.  `meta` has `threshold` (sigma), `expected_alarms` (peaks of
        both signs that noise lifts over it in `area` px, see `alarms`), what really does it and
        the `purity` that follows (see `self_test`), `completeness`, `pixel_area` (arcsec²),
        `mjd`, `date_obs`, `zero_point`, `streaks` as far as they are known, the `verdict` (good,
        suspicious, bad), its `reasons` and the numbers behind them (`evidence`), see `verdict`.

    Raises
    ------
    BadDifference
        If the verdict is bad and the setting `on_bad` is fail.
    BadImage
        If a threshold by false alarms is asked for and no WCS tells the area of a pixel.
    """
    if injection is not None and not {"found", "completeness"} <= {
        *injection.colnames, *injection.meta
    }:  # fmt: skip
        raise ValueError("injection must be what `psflib.inject` returned, or injection.ecsv")
    settings = settings or DetectSettings()
    snr = score(difference) if difference.score is None else difference.score
    difference, fwhm = difference.replace(score=snr), psf_fwhm(difference)
    sky = empty_of_candidates(difference)
    noise = noise or score_noise(snr, sky)
    threshold = threshold_of(difference, noise, settings) if threshold is None else threshold
    if not 0 < threshold < np.inf:
        raise ValueError(f"threshold must be a positive number of sigma; got {threshold}")
    least = height_of(threshold)
    planes = fit_planes(difference)
    psf = reversed_psf(difference)
    splines = Splines.of(turned(psf))
    y, x = find_peaks(snr, least * min(1.0, noise.scatter.min()), noise.moments, fwhm)
    fits = fit_candidates(planes, splines, snr, y, x, fwhm)
    scale = scatter_at(difference, noise, fits.x, fits.y)
    strength = np.abs(fits.flux) * np.sqrt(fits.power) / scale  # of the fit, not of the pixel
    order = np.argsort(-strength, kind="stable")
    rows = order[strength[order] >= least]
    fits, scale = fits.take(rows), scale[rows]
    around = surroundings(difference, planes, splines, fits, scale, fwhm)
    table = candidate_table(difference, fits, scale, around, fwhm)
    own, opposite = np.abs(snr[fits.y, fits.x]), _opposite(snr, fits.y, fits.x, splines.size)
    twin = opposite > np.maximum(TWIN * own, TWIN_SNR)
    at = fits.y + fits.dy, fits.x + fits.dx
    pairs = dipoles(difference, planes[1], psf, snr, *at, fwhm, twin)
    table["opposite"] = np.maximum(opposite, 0) / own
    table["masked"] = fits.masked
    pairs.add_to(table, difference)
    flag = _flags(difference, fits, fwhm, settings)
    flag[(twin & ~pairs.moved) | pairs.misplaced] |= CandidateFlag.DIPOLE
    set_flags(table, flag)
    table.add_column(rank(table, injection), table.index_column("flag"), "real")
    describe(table)
    table.meta.update(_told(difference, noise, threshold))
    table.meta["matching_error"] = around.share
    table.meta.update(self_test(difference, table, noise, sky))
    if injection is not None:
        table.meta["completeness"] = injection.meta["completeness"]
    return _judged(table, difference, sky, settings.on_bad)


def threshold_of(difference: Difference, noise: ScoreNoise, settings: DetectSettings) -> float:
    """Sigma, as it is set or as it follows from the false alarms that are allowed."""
    if settings.false_alarms is None:
        return settings.threshold
    area = pixel_area(difference)
    if area is None:
        raise BadImage(
            "false_alarms are per square degree, and no WCS tells the area of a pixel: give the "
            "image a WCS, or a `threshold` in sigma"
        )
    return snr_of(threshold_for(noise, settings.false_alarms * noise.area * area / 3600**2))


def scatter_at(difference, noise, x, y):
    """What the S/N that white noise would have at (x, y) is to be divided by."""
    meta, left = difference.meta, noise.scatter_at(x, y)
    if meta.get("score_scatter"):
        nodes = np.array(meta["score_scatter"], float)
        rows, columns = nodes.shape
        at = node_grid(difference.shape, columns)[0], node_grid(difference.shape, rows)[1]
        return left * BilinearWeights(nodes[None], *at).at_points(x, y)[0]
    scale = meta.get("score_scale", 1.0)
    return left * (scale if np.isfinite(scale) else 1.0)


def _judged(table, difference, sky, on_bad):
    """The candidates with the verdict on their difference, and what follows from it."""
    found = verdict(difference, table, sky=sky)
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


def _on_streak(mask, y, x, fwhm):
    """Whether the light of a streak is within a FWHM: its mask ends where it fades."""
    ny, nx = mask.shape
    found = np.zeros(len(y), bool)
    for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False):
        row = np.clip(np.rint(y + fwhm * np.sin(angle)).astype(int), 0, ny - 1)
        column = np.clip(np.rint(x + fwhm * np.cos(angle)).astype(int), 0, nx - 1)
        found |= has_bits(mask[row, column], MaskBit.STREAK)
    return found


def _flags(difference, fits, fwhm, settings):
    """`CandidateFlag`s (n,) of int32."""
    flag = _shape_flags(fits, settings)
    flag[_near_saturated(difference.mask, fits.y, fits.x, fwhm)] |= CandidateFlag.HALO
    flag[_on_streak(difference.mask, fits.y, fits.x, fwhm)] |= CandidateFlag.STREAK
    return flag


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
    """Strongest score (n,) of the other sign within the PSF."""
    strongest = np.empty(len(y))
    loops.strongest_opposite(snr, y, x, max(2, size // 4), strongest)
    return strongest


def _told(difference, noise, threshold):
    """What the table's meta has beside the verdict."""
    known = ("mjd", "date_obs", "zero_point", "streaks")
    area = pixel_area(difference)
    return {
        "threshold": float(threshold),
        "expected_alarms": expected_alarms(noise, height_of(threshold)),
        "area": noise.area,
        **({} if area is None else {"pixel_area": area}),
        **{name: difference.meta[name] for name in known if difference.meta.get(name) is not None},
    }
