"""All methods of subtraction on one field, judged by one referee.

Sources of known flux are put into the science image before anything is matched; then every method
subtracts, and the same pixels, stars and sources judge them all.
"""

import dataclasses
import logging
import time

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy import ndimage, spatial

from psflib.decorrelation.decorrelate import decorrelate
from psflib.detection.detect import detect
from psflib.errors import PsflibError
from psflib.image import noise
from psflib.image.difference import Difference
from psflib.image.exposure import Exposure
from psflib.image.noise import empty_sky, robust_std
from psflib.judging.metrics import recovery, values
from psflib.preparation.prepare import prepare
from psflib.psf.build import build_psf
from psflib.registration import register
from psflib.stars.sources import detect_sources
from psflib.subtraction import METHODS, SubtractSettings
from psflib.subtraction.zogy.scale import scale_of_pixels
from psflib.words import NONE

log = logging.getLogger(__name__)

BINS = (30, 100, 300, 1000)  # S/N, lower limits of the bins of stars; the last has no upper
CLEARANCE = 12  # px between an injected source and the next, a masked pixel or the border
SNR = (6.0, 60.0)  # of injected sources
STAMP = 41  # px, side of their stamps
LIKE_A_STAR = 0.15  # in ln FWHM
SAME_PLACE = 1.0  # px, between the two images
STEADY = 0.05  # relative change of flux that is no sign of a variable
KEPT = 0.9  # share of the stars of a bin, best first: variable ones are among the others


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare_methods` tells, and the images behind it.

    Parameters
    ----------
    table : QTable
        A row a method, see `compare_methods`.
    differences : dict of str to Difference
        Decorrelated, with their scores; methods that failed are missing.
    science : Exposure
        With the injected sources.
    template : Exposure
        On its grid.
    sigma : ndarray (ny, nx) float32
        Noise of the two images together, ADU of the science image: the referee's measure.
    stars : QTable
        x, y (px), snr; brightest first.
    injected : QTable
        kind, x, y (px), delta_flux (ADU), snr.
    """

    table: QTable
    differences: dict[str, Difference]
    science: Exposure
    template: Exposure
    sigma: np.ndarray
    stars: QTable
    injected: QTable


def compare_methods(science, template, methods=None, settings=None, **options) -> QTable:
    """Subtract by several methods and judge them alike.

    Parameters
    ----------
    science, template : Exposure
        As read or prepared.
    methods : sequence of str, optional
        Of `psflib.subtraction.METHODS`; default all.
    settings : SubtractSettings, optional
        The settings of each method.
    **options
        psfs : pair of PSFs of science and template, built from their stars if not given;
        injected : number of sources put into the science image (default 40);
        seed : of their places, fluxes and photon noise (default 1);
        warm : run every method once before the clock (default False).

    Returns
    -------
    QTable
        method; seconds and decorrelate (CPU s of the two steps); usable (share of the science
        image's usable pixels that are left); sky (robust std of D over its claimed sigma in empty
        sky), correlation (largest of the nearest lags, with sign), score (robust std of the score
        in empty sky); star_30 ... star_1000 (rms of D over the noise of both images within 1 FWHM
        of stars of S/N 30-100, 100-300, 300-1000, > 1000, without the tenth of them that fits
        worst; 1 is perfect); found and injected (sources of S/N > 8); flux_bias and flux_bias_err
        (mean error of their fluxes, relative), pull (scatter of their fluxes over the claimed
        error); others (candidates without flags that are nothing injected, per 1e6 px: real
        changes are among them); note (why a method failed).
        meta: seed, number of stars in each bin, CPU s of both PSFs.

    Raises
    ------
    ValueError
        Unknown method.
    """
    return compare(science, template, methods, settings, **options).table


def compare(
    science, template, methods=None, settings=None, *, psfs=None, injected=40, seed=1, warm=False
) -> Comparison:
    """`compare_methods` with its images; same arguments."""
    methods = tuple(METHODS) if methods is None else tuple(methods)
    unknown = [m for m in methods if m not in METHODS]
    if unknown or not methods:
        raise ValueError(f"unknown method {unknown}; any of {', '.join(METHODS)}")
    settings = settings or SubtractSettings()
    science = prepare(science)
    template, _ = register(science, prepare(template), settings.register)
    psfs, psf_seconds = _psfs(science, template, psfs)
    scale = 1 / (scale_of_pixels(science, template) or 1.0)
    sigma = np.sqrt(science.variance + np.float32(scale**2) * template.variance)
    stars = _stars(science, template)
    science, sources = inject(science, template, psfs[0], sigma, injected, seed)
    differences, rows = {}, {}
    for method in methods:
        rows[method], made = _run(method, science, template, settings, psfs, warm)
        if made is not None:
            differences[method] = made
    field = _Field(science, sigma, stars, sources, _common(differences, science, template))
    for method, made in differences.items():
        rows[method] |= field.figures(*made)
    table = _table(methods, rows)
    table.meta |= {"seed": seed, "stars": field.counts, "psf_seconds": round(psf_seconds, 3)}
    clean = {name: pair[1] for name, pair in differences.items()}
    return Comparison(table, clean, science, template, sigma, stars, sources)


def _psfs(science, template, psfs):
    """PSFs of both images, and the CPU seconds that they took."""
    begin = time.process_time()
    if psfs is None:
        psfs = build_psf(science), build_psf(template)
    return psfs, time.process_time() - begin


def _stars(science, template) -> QTable:
    """Sources that look like stars and are as bright in both images, brightest first."""
    one, two = (
        detect_sources(e.image, e.variance, e.mask, e.meta["fwhm"]) for e in (science, template)
    )
    ratio = one["fwhm"] / science.meta["fwhm"]
    good = one["converged"] & ~one["merged"] & (one["snr"] >= BINS[0])
    good &= np.abs(np.log(np.maximum(ratio, 1e-3))) < LIKE_A_STAR
    one = one[good & (one["flux"] > 0)]
    two = two[two["flux"] > 0]
    if len(one) and len(two):
        distance, which = spatial.cKDTree(np.c_[two["x"], two["y"]]).query(
            np.c_[one["x"], one["y"]]
        )
        change = np.log(one["flux"] / two["flux"][which])
        change -= np.median(change[distance < SAME_PLACE]) if (distance < SAME_PLACE).any() else 0
        doubt = STEADY + 5 / one["snr"] + 5 / np.maximum(two["snr"][which], 1)
        one = one[(distance < SAME_PLACE) & (np.abs(change) < doubt)]
    one = one[np.argsort(-one["snr"], kind="stable")]
    return QTable({"x": one["x"] * u.pix, "y": one["y"] * u.pix, "snr": one["snr"]})


def inject(science, template, psf, sigma, count, seed) -> tuple[Exposure, QTable]:
    """The science image with new point sources on the centres of pixels, and their list.

    They have the PSF of their place, S/N log-uniform in `SNR` and photon noise of their own (with
    a gain), and stand clear of masked pixels, of the border and of each other.
    """
    rng = np.random.default_rng([seed, 17])
    free = science.usable & template.usable
    free[:CLEARANCE] = free[-CLEARANCE:] = free[:, :CLEARANCE] = free[:, -CLEARANCE:] = False
    free = ndimage.distance_transform_edt(free) > CLEARANCE
    image, variance = science.image.copy(), science.variance.copy()
    rows = []
    for _ in range(count):
        y, x = np.nonzero(free)
        if not len(y):
            break
        k = rng.integers(len(y))
        rows.append(_inject_one(rng, (image, variance), science.gain, psf, sigma, x[k], y[k]))
        box = slice(max(y[k] - 2 * CLEARANCE, 0), y[k] + 2 * CLEARANCE + 1)
        free[box, max(x[k] - 2 * CLEARANCE, 0) : x[k] + 2 * CLEARANCE + 1] = False
    x, y, flux, snr = np.array(rows, float).reshape(-1, 4).T
    table = QTable(
        {
            "kind": np.full(len(x), "transient"), "x": x * u.pix, "y": y * u.pix,
            "delta_flux": flux * u.adu, "snr": snr,
        }
    )  # fmt: skip
    return science.replace(image=image, variance=variance), table


def _inject_one(rng, planes, gain, psf, sigma, x, y):
    """Add a source to image and variance; its row."""
    snr = np.exp(rng.uniform(*np.log(SNR)))
    half = STAMP // 2
    rows, cols = (slice(max(c - half, 0), c + half + 1) for c in (y, x))
    stamp = psf.at(float(x), float(y), STAMP)
    inner = planes[0][rows, cols].shape
    top, left = rows.start - (y - half), cols.start - (x - half)
    stamp = stamp[top : top + inner[0], left : left + inner[1]]
    unit = np.sum(np.square(stamp) / np.square(sigma[rows, cols]))
    flux = snr / np.sqrt(unit)
    light = flux * stamp
    if gain:
        light = light + rng.normal(0, 1, stamp.shape) * np.sqrt(np.maximum(flux * stamp, 0) / gain)
        planes[1][rows, cols] += np.maximum(flux * stamp, 0).astype(np.float32) / gain
    planes[0][rows, cols] += light.astype(np.float32)
    return x, y, flux, snr


def _run(method, science, template, settings, psfs, warm):
    """Times of a method, and its difference before and after decorrelation (None if it failed)."""

    def subtract():
        return METHODS[method](
            science, template, getattr(settings, method),
            lambda exposure: psfs[0] if exposure is science else psfs[1],
        )  # fmt: skip

    try:
        if warm:
            decorrelate(subtract())
        begin = time.process_time()
        raw = subtract()
        middle = time.process_time()
        clean = decorrelate(raw)
    except PsflibError as error:
        log.warning("%s: %s", method, error)
        return {"note": str(error)}, None
    seconds = {"seconds": middle - begin, "decorrelate": time.process_time() - middle}
    return seconds, (raw, clean)


def _common(differences, science, template):
    """Pixels that mean something in every difference."""
    usable = science.usable & template.usable
    for raw, clean in differences.values():
        usable = usable & raw.usable & clean.usable
    return usable


class _Field:
    """The referee: the stars, sources, sky and noise that all methods have in common."""

    def __init__(self, science, sigma, stars, sources, usable):
        self.sigma, self.sources, self.usable = sigma, sources, usable
        self.fwhm, self.shape = science.meta["fwhm"], science.shape
        self.before = science.usable.sum()
        self.sky = empty_sky(science.image, science.variance, usable, self.fwhm)
        self.discs = self._discs(stars)
        self.counts = {f"star_{low}": len(discs) for low, discs in self.discs.items()}

    def _discs(self, stars):
        """Pixels within 1 FWHM of each star, by bin; stars near a source or a hole are left out."""
        at = np.c_[values(self.sources, "x"), values(self.sources, "y")].reshape(-1, 2)
        tree = spatial.cKDTree(at) if len(at) else None
        discs: dict[int, list] = {low: [] for low in BINS}
        for x, y, snr in zip(*(values(stars, n) for n in ("x", "y", "snr")), strict=True):
            near = tree is not None and tree.query((x, y))[0] < CLEARANCE
            rows, cols = self._disc(x, y)
            if not near and len(rows) and self.usable[rows, cols].all():
                discs[max(low for low in BINS if low <= snr)].append((rows, cols))
        return discs

    def _disc(self, x, y):
        reach = int(np.ceil(self.fwhm))
        j, i = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        j, i = j + round(y), i + round(x)
        inside = np.hypot(j - y, i - x) <= self.fwhm
        rows, cols = j[inside], i[inside]
        off = (rows < 0) | (cols < 0) | (rows >= self.shape[0]) | (cols >= self.shape[1])
        return (rows[:0], cols[:0]) if off.any() else (rows, cols)

    def figures(self, raw, clean) -> dict:
        """All figures of one difference."""
        z = clean.image / self.sigma
        row = {"usable": (raw.usable & clean.usable).sum() / self.before, **self._noise(clean)}
        for low, discs in self.discs.items():
            squares = [np.mean(np.square(z[disc])) for disc in discs]
            kept = np.sort(squares)[: int(np.ceil(KEPT * len(squares)))]
            row[f"star_{low}"] = float(np.sqrt(np.mean(kept))) if len(kept) else np.nan
        found = recovery(detect(clean), self.sources, self.usable.sum())
        return row | {
            "found": found.found, "injected": found.expected, "flux_bias": found.flux_bias,
            "flux_bias_err": found.flux_error, "pull": found.pull_std,
            "others": found.others_per_mpx,
        }  # fmt: skip

    def _noise(self, clean):
        sky = self.sky & (clean.variance > 0)
        if sky.sum() < 100:
            return {}
        rho = noise.noise_correlation(clean.image, clean.variance, sky, 1)
        near = np.delete(rho.ravel(), rho.size // 2)
        score = clean.score[sky & (clean.score != 0)]
        return {
            "sky": robust_std(clean.image[sky] / np.sqrt(clean.variance[sky])),
            "correlation": float(near[np.argmax(np.abs(near))]),
            "score": robust_std(score) if score.size else np.nan,
        }


_COLUMNS = (
    "seconds", "decorrelate", "usable", "sky", "correlation", "score",
    *(f"star_{low}" for low in BINS), "found", "injected", "flux_bias", "flux_bias_err", "pull",
    "others",
)  # fmt: skip


def _table(methods, rows):
    table = QTable({"method": list(methods)})
    for name in _COLUMNS:
        table[name] = np.array([float(rows[m].get(name, np.nan)) for m in methods])
    for name in ("found", "injected"):
        table[name] = np.nan_to_num(table[name]).astype(int)
    for name in ("seconds", "decorrelate"):
        table[name] = table[name] * u.s
    table["note"] = [rows[m].get("note", NONE) for m in methods]
    return table
