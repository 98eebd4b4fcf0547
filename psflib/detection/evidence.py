"""What can be measured on a difference to judge it by: numbers, NaN where one is not known."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.table import QTable
from scipy import spatial

from psflib.detection.alarms import empty_of_candidates
from psflib.detection.shapes import ellipticity, lobes, shift
from psflib.image import noise
from psflib.image.convolve import node_grid
from psflib.image.difference import Difference
from psflib.image.exposure import Exposure
from psflib.image.smooth import smoothed
from psflib.image.where import true_pixels
from psflib.loops import footprints

NODES = 9  # an axis, at which the kernel is looked at
SKY_SAMPLE = 200_000  # px of a quadrant that tell it to 0.3 %
FEWEST_SKY = 1000  # pixels of it that tell a standard deviation to 2 %
CLASSES = {"faint": (10.0, 50.0), "medium": (50.0, 250.0), "bright": (250.0, np.inf)}  # S/N
FEWEST_STARS = 4  # of a class; a median of fewer is that of a variable star
FEWEST_LIT = 10  # stars that tell a share: one of four is no quarter of them
BRIGHT_HELD = 300.0  # S/N from which stars that were held out do not count
FEWEST_OF_HALF = 3  # such stars in half of the field
SEEN = 10.0  # S/N of them in the template, in a box
COVERED = 0.8  # share of the box that is usable
LOWER = 1 / 3  # quantile of their residuals that counts
STEP = 7  # every so many pixels tell the median of a variance
SKY_LEVEL = 5.0  # noises of a pixel that a sky needs to tell the gain
LIT = 20.0  # S/N of stars whose flux tells what share of their light is left
PSF_SIZE = 41  # px, of what is looked at
TWIN = 1.0  # FWHM from a star within which a candidate belongs to it


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """What a verdict rests on.

    Parameters
    ----------
    difference : Difference
        Decorrelated, with its score.
    candidates : QTable
        As `detect` finds them, with what the self-test says in its `meta`.
    science : Exposure, optional
        The prepared science image, whose stars tell what the subtraction leaves of them.
    sky : ndarray (ny, nx) bool, optional
        `empty_of_candidates`, if it is known.
    """

    difference: Difference
    candidates: QTable
    science: Exposure | None = None
    sky: np.ndarray | None = None

    @property
    def meta(self) -> Mapping[str, Any]:
        return self.difference.meta


def measure(evidence: Evidence) -> dict[str, float]:
    """Every number of `MEASURES` by its name; what cannot be measured is NaN."""
    found: dict[str, float] = {}
    for group in (registration, kernel, coverage, sky, told, stars, held_out, candidates, psf):
        found |= {name: float(value) for name, value in group(evidence).items()}
    return found


def registration(evidence) -> dict[str, float]:
    """What the step of registration leaves, px rms of matched stars.

    registration : of the stars' shifts;  registration_varying : of what of them varies over the
    field, which a kernel does not take up.
    """
    return {
        "registration": _number(evidence.meta, "registration_after"),
        "registration_varying": _number(evidence.meta, "registration_varying"),
    }


def kernel(evidence) -> dict[str, float]:
    """Sum of the kernel over the field, where its middle is, and whether it has several.

    kernel_sum : smallest;  kernel_spread : largest over smallest, infinite where that is not
    positive;  kernel_shift : px, of its core from the middle;  kernel_lobes : height of its second
    maximum over the first.
    """
    matching = evidence.difference.kernel
    sums = np.asarray(matching.on_grid(*node_grid(matching.shape, NODES)), float).sum((1, 2))
    low = _number(evidence.meta, "kernel_sum_min", float(sums.min()))
    high = _number(evidence.meta, "kernel_sum_max", float(sums.max()))
    found = {"kernel_sum": low, "kernel_spread": high / low if low > 0 else np.inf}
    ny, nx = matching.shape
    image = np.asarray(matching.at((nx - 1) / 2, (ny - 1) / 2), float)
    return found | {"kernel_shift": shift(image), "kernel_lobes": lobes(image)}


def coverage(evidence) -> dict[str, float]:
    """Share of the pixels that mean something."""
    return {"usable": np.mean(evidence.difference.usable)}


def sky(evidence) -> dict[str, float]:
    """Noise of empty sky against what is claimed, and what neighbours share of it.

    claimed_noise : factor (at least 1) by which the noise of the images is off what their variances
    say, before it was corrected;  quadrant_noise : the same of the result, in its worst quadrant;
    score_noise : scatter of the score before it was divided by it;  correlation : largest of the
    8 nearest lags.
    """
    difference, meta = evidence.difference, evidence.meta
    found = {
        "claimed_noise": _off(_number(meta, "noise_factor")),
        "score_noise": _off(_number(meta, "score_scale")),
        "quadrant_noise": np.nan,
        "correlation": np.nan,
    }
    select = empty_of_candidates(difference) if evidence.sky is None else evidence.sky
    if select.sum() < FEWEST_SKY:
        return found
    parts = [_sample(difference, select, box) for box in _quadrants(difference.shape)]
    widths = [_off(noise.robust_std(z)) for z in parts if z.size]
    found["quadrant_noise"] = max(widths, default=np.nan)
    strips = noise.strips
    image, variance = strips(difference.image), strips(difference.variance)
    rho = noise.noise_correlation(image, variance, strips(select), 1)
    found["correlation"] = np.abs(np.delete(rho.ravel(), 4)).max()
    return found


def _quadrants(shape):
    middle = [-(-n // 2) for n in shape]
    halves = [(slice(None, m), slice(m, None)) for m in middle]
    return itertools.product(*halves)


def _sample(difference, select, box):
    """Pixels of the sky of this box in units of their noise, at most about `SKY_SAMPLE`; none of a
    box with fewer than `FEWEST_SKY`."""
    image, variance, select = difference.image[box], difference.variance[box], select[box]
    count = np.count_nonzero(select)
    rows = slice(None, None, max(1, count // SKY_SAMPLE))
    if count < FEWEST_SKY:
        return np.zeros(0)
    select = select[rows]
    return image[rows][select] / np.sqrt(variance[rows][select])


def told(evidence) -> dict[str, float]:
    """The factor by which the told gain misses the sky's noise, of the image that it misses most.

    Photons of the sky and the read noise must make what is seen.  Where the read noise is not told
    it may be what is missing, so that only a noise that is smaller speaks against a gain.
    mosaic : how far the sky of even and odd rows and columns is apart, in sigma of a pixel.
    """
    images = [image for image in (evidence.science, evidence.difference.template) if image]
    off = [_gain_off(image) for image in images]
    known = [value for value in off if np.isfinite(value)]
    apart = [_number(image.meta, "mosaic", 0.0) for image in images]
    return {"told_gain": max(known, default=np.nan), "mosaic": max(apart, default=0.0)}


def _gain_off(image):
    gain, rms = _number(image.meta, "gain_told"), _number(image.meta, "sky_rms")
    level, read = image.sky or 0.0, image.read_noise
    if not (gain > 0 and rms > 0 and level > SKY_LEVEL * rms):
        return np.nan
    claimed = level / gain + ((read or 0.0) / gain) ** 2
    return max(claimed / rms**2, 1.0) if read is None else _off(claimed / rms**2)


def stars(evidence) -> dict[str, float]:
    """What is left of the science image's stars, and how many of them are candidates.

    residual_faint, _medium, _bright : rms of the difference within one FWHM over its sigma, or over
    what the images claim if that is more, of the stars of this brightness;  light_left : share of
    a star's light that stays, of those of S/N above 20 (root of the squares, noise taken off);
    stars_found, stars_clean : share of the medium and bright stars at which a candidate stands, of
    any kind or without a flag.  The first two are the value that two thirds of the stars exceed: in
    a sparse field, half of what shines may be new.  flux_split : factor (at least 1) between the
    median flux ratios, science over template, of two halves of the field.
    """
    names = [f"residual_{name}" for name in CLASSES]
    others = ("light_left", "stars_found", "stars_clean", "flux_split")
    found = dict.fromkeys([*names, *others], np.nan)
    if evidence.science is None:
        return found
    x, y, snr = _peaks(evidence.science, evidence.difference)
    if not len(x):
        return found
    radius = float(evidence.science.meta["fwhm"])
    rms, left = _residuals(evidence.difference, evidence.science, x, y, radius)
    # images that share exposures have less noise than they claim; their stars' residuals do not
    rms *= min(_number(evidence.meta, "noise_factor", 1.0), 1.0)
    for name, (low, high) in CLASSES.items():
        values = rms[(snr >= low) & (snr < high) & np.isfinite(rms)]
        if len(values) >= FEWEST_STARS:
            found[f"residual_{name}"] = np.quantile(values, LOWER)
    values = left[(snr >= LIT) & np.isfinite(left)]
    if len(values) >= FEWEST_STARS:
        found["light_left"] = np.quantile(values, LOWER)
    found["flux_split"] = _split(evidence, x, y, int(np.ceil(radius)))
    lit = (snr >= CLASSES["medium"][0]) & np.isfinite(rms)
    if lit.sum() >= FEWEST_LIT:
        every = evidence.candidates
        for name, table in (("stars_found", every), ("stars_clean", every[_clean(every)])):
            found[name] = np.mean(_taken(table, x[lit], y[lit], TWIN * radius))
    return found


def held_out(evidence) -> dict[str, float]:
    """Rms of the difference over its sigma at stars that the fit of the kernel did not see.

    Of the faint ones, the larger of two classes: a kernel that some cells of a sparse field were
    left out of knows its wings too little for bright ones (rms of 25 in good pairs).
    """
    lower, rms = (evidence.meta.get(f"heldout_{name}") or () for name in ("snr", "residual"))
    known = [r for low, r in zip(lower, rms, strict=False) if low < BRIGHT_HELD and np.isfinite(r)]
    return {"held_out": max(known, default=np.nan)}


def candidates(evidence) -> dict[str, float]:
    """How many clean candidates there are per Mpx, less 3 sigma of their number, and of one sign.

    density : the lower bound of the number per Mpx;  one_sign : that of the number of the more
    frequent sign, over the number of the other;  noise_alarms : that of the peaks that the sky's
    noise makes above 4 sigma, over what a Gaussian field would make.
    """
    return _crowds(evidence) | {"noise_alarms": _noise_alarms(evidence.candidates.meta)}


def _noise_alarms(meta):
    """See `psflib.detection.selftest`; NaN where there is too little sky."""
    counted, peaks, expected = (
        _number(meta, name) for name in ("halves_4", "alarms_halves_4", "expected_alarms_4")
    )
    if not expected > 0:
        return np.nan
    return peaks / expected * (_at_least(counted) / counted) if counted else 0.0 * peaks


def _crowds(evidence):
    area = evidence.difference.usable.sum() / 1e6
    if not area:
        return {"density": np.nan, "one_sign": np.nan}
    table = evidence.candidates
    flux = np.asarray(getattr(table["flux"], "value", table["flux"]), float)
    clean = _clean(table)
    up, down = int((flux[clean] > 0).sum()), int((flux[clean] < 0).sum())
    return {
        "density": _at_least(up + down) / area,
        "one_sign": _at_least(max(up, down)) / max(1, min(up, down)),
    }


def psf(evidence) -> dict[str, float]:
    """How well the PSF fits the stars that it has not seen, whether its solution came to an end (0
    or 1), and what it looks like in the middle of the field."""
    return psf_numbers(evidence.difference.psf, evidence.difference.shape)


def psf_numbers(model, shape) -> dict[str, float]:
    """`psf` of a PSF with ``at(x, y, size)`` of an image of this shape (ny, nx).

    psf_lobes : height of its second maximum over the first;  psf_ellipticity : (a² - b²)/(a² + b²)
    of its second moments above a tenth of the peak.
    """
    meta = getattr(model, "meta", None) or {}
    ended = meta.get("converged")
    image = np.asarray(model.at((shape[1] - 1) / 2, (shape[0] - 1) / 2, PSF_SIZE), float)
    return {
        "reserve_chi2": _number(meta, "reserve_chi2"),
        "unfinished": np.nan if ended is None else float(not ended),
        "psf_lobes": lobes(image),
        "psf_ellipticity": ellipticity(image),
    }


def _number(meta, name, default=np.nan) -> float:
    value = meta.get(name)
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else default


def _off(factor) -> float:
    """By what factor (at least 1) something is off 1, on either side."""
    if not np.isfinite(factor):
        return np.nan
    return max(factor, 1 / factor) if factor > 0 else np.inf


def _at_least(count) -> float:
    """Lower bound (3 sigma) of the mean behind a Poisson count."""
    return max(0.0, count - 3 * np.sqrt(count))


def _clean(table) -> np.ndarray:
    return np.asarray(table["clean"], bool)


def _peaks(science, difference):
    """x, y (px, int) and S/N of the stars: lone maxima of the science image, usable in both."""
    fwhm = float(science.meta["fwhm"])
    sigma = max(fwhm, 1.0) / 2.355
    usable = science.usable & difference.usable & (science.variance > 0)
    image = np.where(usable, science.image, np.float32(0))
    level = np.median(science.variance[usable][::STEP]) if usable.any() else 1.0
    # of a Gaussian: S/N = peak / sigma * sqrt(pi) s, s its standard deviation in px
    least = CLASSES["faint"][0] * np.sqrt(level / np.pi) / sigma
    top = np.zeros(image.shape, bool)
    reach = int(np.ceil(2 * fwhm))
    footprints.mark_peaks(
        smoothed(image, 0.5 * sigma),
        np.float32(0),
        usable & (image >= np.float32(least)),
        reach,
        top,
    )
    y, x = true_pixels(top)
    signal = image[y, x] * np.sqrt(np.pi) * sigma
    own = image[y, x] * 4 * np.pi * sigma**2 * _photons(science)
    snr = signal / np.sqrt(level + own / (4 * np.pi * sigma**2))
    keep = snr >= CLASSES["faint"][0]
    return x[keep], y[keep], snr[keep]


def _photons(science):
    """ADU² of noise for an ADU of light; 0 if no gain is known."""
    return 1 / science.gain if science.gain else 0.0


def _residuals(difference, science, x, y, radius):
    """For each star: rms of D / sigma within `radius` px, and share of its light that is left."""
    half = int(np.ceil(radius))
    j, i = np.mgrid[-half : half + 1, -half : half + 1]
    within = j**2 + i**2 <= radius**2
    j, i = j[within], i[within]
    ny, nx = difference.shape
    rows, columns = y[:, None] + j, x[:, None] + i
    inside = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
    rows, columns = np.clip(rows, 0, ny - 1), np.clip(columns, 0, nx - 1)
    data, variance = (
        plane[rows, columns].astype(float) for plane in (difference.image, difference.variance)
    )
    use = inside & difference.usable[rows, columns] & (variance > 0)
    count = use.sum(1)
    variance = np.where(use, variance, 1.0)
    square = np.where(use, data**2, 0)
    light = np.where(use, science.image[rows, columns].astype(float) ** 2, 0).sum(1)
    enough = count >= 0.7 * len(j)
    rms, left = np.full(len(x), np.nan), np.full(len(x), np.nan)
    np.sqrt((square / variance).sum(1) / np.maximum(count, 1), out=rms, where=enough)
    excess = np.maximum((square - np.where(use, variance, 0)).sum(1), 0)
    np.sqrt(np.divide(excess, light, out=np.zeros(len(x)), where=light > 0), out=left, where=enough)
    return rms, left


def _split(evidence, x, y, half):
    """Largest factor between the flux ratios of left and right, or of lower and upper stars."""
    science, template = evidence.science, evidence.difference.template
    if template is None or not len(x):
        return np.nan
    ny, nx = science.shape
    usable = evidence.difference.usable & template.usable
    side = slice(-half, half + 1)
    j, i = (axis.ravel() for axis in np.mgrid[side, side])
    rows, columns = np.clip(y[:, None] + j, 0, ny - 1), np.clip(x[:, None] + i, 0, nx - 1)
    use = usable[rows, columns]
    ours, theirs = (
        np.where(use, image.image[rows, columns], 0).sum(1) for image in (science, template)
    )
    noise = np.sqrt(np.where(use, template.variance[rows, columns], 0).sum(1))
    seen = (use.mean(1) > COVERED) & (theirs > SEEN * noise) & (ours > 0)  # or they are new
    x, y, ratio = x[seen], y[seen], ours[seen] / theirs[seen]
    factors = [np.nan]
    for first in (x < nx / 2, y < ny / 2):
        if min(first.sum(), (~first).sum()) >= FEWEST_OF_HALF:
            factors.append(_off(np.median(ratio[first]) / np.median(ratio[~first])))
    return np.nanmax(factors) if len(factors) > 1 else np.nan


def _taken(table, x, y, radius):
    """Boolean (n,): a candidate stands within `radius` px."""
    place = np.c_[
        [np.asarray(getattr(table[name], "value", table[name]), float) for name in ("x", "y")]
    ].T
    if not len(place):
        return np.zeros(len(x), bool)
    return spatial.cKDTree(place).query(np.c_[x, y])[0] <= radius
