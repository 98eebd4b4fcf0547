"""Noise of stamps: a variance free of the star's own noise, and the error of the local sky.

Weights that follow the noise favour pixels that came out low: each counts for about one electron
too little, in the sky of a star or, with a fixed sky, in its flux.  The variance is therefore put
together from the sky's, taken around the star, and the photons of a smooth profile.
"""

import dataclasses

import numpy as np
from scipy.ndimage import uniform_filter

from psflib.stars.neighbors import hidden_sources, light_of_others
from psflib.stars.profile import (
    StarProfile,
    common_residual,
    fit_profile,
    masked_medians,
    offsets,
)

SECTORS = 8  # of the sky around a star
OUTSIDE = 0.35  # sides of the stamp; farther from the star is its sky
ROUNDS = 2  # of profile and neighbours in turn
CHANGE = 1.5  # of the variance over 3 × 3 pixels that no profile explains


def photon_slope(variance, light, good, core, sky_variance) -> float:
    """Increase of the variance with the light, ADU² per ADU: the inverse of the gain.

    Sums over the core of each star, then the median of the stars, each as its light counts; 0 if
    the variance holds no photon noise.

    Parameters
    ----------
    variance, light : ndarray (n, s, s)
    good, core : ndarray (n, s, s) bool
    sky_variance : ndarray (n,)
    """
    use = good & core
    more = np.where(use, variance - sky_variance[:, None, None], 0.0).sum(axis=(1, 2))
    total = np.where(use, light, 0.0).sum(axis=(1, 2))
    known = total > 0
    if not known.any():
        return 0.0
    slope, counts = more[known] / total[known], total[known]
    order = np.argsort(slope)
    half = np.searchsorted(np.cumsum(counts[order]), 0.5 * counts.sum())
    return float(max(slope[order][half], 0.0))


def sky_variances(variance, data, good, slope):
    """Median of the variance without the photons of the stamp's own light (n,)."""
    # A star whose light has drowned the sky takes what the others have.
    values = masked_medians(variance - slope * data, good)
    usable = values > 0
    return np.where(usable, values, np.median(values[usable]) if usable.any() else 1.0)


def model_variance(variance, good, sky_variance, slope, light):
    """Variance (n, s, s): the sky's and the photons' of `light`.

    Where the given variance, over 3 × 3 pixels, is `CHANGE` times as large or as small, there is
    something that the profile does not know (a seam of a coadd, a neighbour): its ratio is kept.
    """
    smooth = sky_variance[:, None, None] + slope * np.maximum(light, 0.0)
    axes = (1, 3, 3)
    given = uniform_filter(np.where(good, variance, 0.0), axes, mode="constant")
    expected = uniform_filter(np.where(good, smooth, 0.0), axes, mode="constant")
    known = (expected > 0) & (given > 0)
    ratio = np.where(known, given, 1.0) / np.where(known, expected, 1.0)
    return np.where((ratio > CHANGE) | (ratio < 1 / CHANGE), smooth * ratio, smooth)


def sky_error(residual, use, dy, dx) -> float:
    """Standard error of the local sky, from the residuals in the pixels `use` around a star.

    The scatter of the means of 8 sectors, which holds correlated noise and slopes too; at least
    that of white noise.  NaN if fewer than 8 pixels are left.

    Parameters
    ----------
    residual : ndarray (s, s)
    use : ndarray (s, s) bool
    dy, dx : ndarray
        Offsets from the star, px; they broadcast to (s, s).
    """
    values = residual[use]
    if values.size < SECTORS:
        return np.nan
    middle = np.median(values)
    sigma = 1.4826 * np.median(np.abs(values - middle))
    keep = np.abs(values - middle) <= 4 * sigma
    angle = np.broadcast_to(np.arctan2(dy, dx), use.shape)[use][keep]
    sector = np.minimum((angle / (2 * np.pi) + 0.5) * SECTORS, SECTORS - 1).astype(int)
    count = np.bincount(sector, minlength=SECTORS)
    total = np.bincount(sector, values[keep], minlength=SECTORS)
    full = count >= 5
    white = np.std(values[keep]) / np.sqrt(max(count.sum(), 1))
    if full.sum() < 3:
        return float(white)
    means = total[full] / count[full]
    return float(max(np.std(means, ddof=1) / np.sqrt(full.sum()), white))


@dataclasses.dataclass(frozen=True, eq=False)
class StampNoise:
    """What `weigh` found of the stamps.

    Parameters
    ----------
    weight : ndarray (n, s, s) float64
        Inverse variances, 0 at unusable pixels and neighbours.
    sky_variance : ndarray (n,)
        ADU².
    slope : float
        ADU² per ADU, see `photon_slope`.
    background_err : ndarray (n,)
        ADU, see `sky_error`.
    snr : ndarray (n,)
        S/N of the star's flux under these weights.
    """

    weight: np.ndarray
    sky_variance: np.ndarray
    slope: float
    background_err: np.ndarray
    snr: np.ndarray


def weigh(data, given, good, delta, others, fwhm) -> StampNoise:
    """Weights of stamps: smooth variance, pixels with the light of other sources left out.

    Parameters
    ----------
    data, given : ndarray (n, s, s)
        Free of sky, and the variance of each pixel as it came.
    good : ndarray (n, s, s) bool
    delta : ndarray (n, 2)
        Offset (row, col) of each star from the centre pixel, px.
    others : list of (ndarray (m, 2), ndarray (m,))
        Known neighbours of each star: positions (row, col) in the stamp, and fluxes over its own.
    fwhm : float
        px.
    """
    for _ in range(ROUNDS):
        model = _model(data, given, good, delta, fwhm)
        good = good & ~_foreign(model, data, good, delta, others, fwhm)
    model = _model(data, given, good, delta, fwhm)
    weight = np.where(good, 1 / model.variance, 0.0)
    dy, dx = offsets(delta, data.shape[1])
    outside = good & (np.hypot(dy, dx) > OUTSIDE * data.shape[1])
    rest = data - model.light
    error = np.array([sky_error(rest[n], outside[n], dy[n], dx[n]) for n in range(len(data))])
    error = np.where(np.isfinite(error), error, np.sqrt(model.sky_variance / SECTORS))
    snr = np.sqrt((weight * model.light**2).sum(axis=(1, 2)))
    return StampNoise(weight, model.sky_variance, model.slope, error, snr)


def _foreign(model, data, good, delta, others, fwhm):
    """Pixels (n, s, s) with light of neighbours, known or found in the residuals."""
    rest = data - model.sky[:, None, None] - model.light
    hidden = hidden_sources(
        rest, model.variance, good, delta, model.flux, model.light, model.spread, fwhm
    )
    foreign = np.zeros(data.shape, bool)
    for n, ((places, ratios), (more, fluxes)) in enumerate(zip(others, hidden, strict=True)):
        foreign[n] = light_of_others(
            model.profile, np.sqrt(model.variance[n]), data.shape[1] // 2 + delta[n],
            np.concatenate([places, more]),
            np.concatenate([model.flux[n] * ratios, fluxes]), fwhm,
        )  # fmt: skip
    return foreign


@dataclasses.dataclass(frozen=True, eq=False)
class _Model:
    """Smooth light and variance of the stamps; arrays (n, s, s) or (n,), `spread` per flux."""

    profile: StarProfile
    flux: np.ndarray
    sky: np.ndarray
    light: np.ndarray
    spread: np.ndarray
    slope: float
    sky_variance: np.ndarray
    variance: np.ndarray


def _model(data, given, good, delta, fwhm):
    profile, flux, sky, light = fit_profile(data, good, delta, fwhm)
    dy, dx = offsets(delta, data.shape[1])
    scale = flux[:, None, None]
    rest = np.where(good, data - sky[:, None, None] - scale * light, 0.0)
    usual, spread = common_residual(rest, flux, light)
    light = scale * (light + usual)
    radius = np.hypot(dy, dx)
    outside, core = good & (radius > OUTSIDE * data.shape[1]), radius <= fwhm
    # First guess of the sky's variance; with the slope known, every pixel tells it.
    around = sky_variances(given, data, outside, 0.0)
    slope = photon_slope(given, np.where(good, data, 0.0), good, core, around)
    around = sky_variances(given, data, good, slope)
    variance = model_variance(given, good, around, slope, light)
    return _Model(profile, flux, sky, light, spread, slope, around, variance)


def refine_weight(weight, sky_variance, slope, model):
    """Weights with the photon noise of a better model of the light.

    Parameters
    ----------
    weight : ndarray (n, s, s)
        From `weigh`; 0 stays 0, and so does a pixel with more than twice the noise that sky and
        light explain.
    sky_variance : ndarray (n,)
        ADU².
    slope : float
        ADU² per ADU.
    model : ndarray (n, s, s)
        Expected light of the stars, without sky, ADU.
    """
    variance = np.asarray(sky_variance)[:, None, None] + slope * np.maximum(model, 0.0)
    refined = np.where(weight > 0, 1 / variance, 0.0)
    return np.where(weight < 0.5 * refined, weight, refined).astype(weight.dtype, copy=False)
