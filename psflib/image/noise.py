"""Correlation of noise between pixels, measured in empty sky."""

import numpy as np
from scipy import ndimage

from psflib.image import correlation
from psflib.image.convolve import convolve_by_tiles
from psflib.image.exposure import Exposure
from psflib.loops import footprints
from psflib.loops import noise as loops

LOCAL = 33  # px, side of the box whose mean counts as sky
SAMPLE = 100_000  # about as many pixels tell the level of the sky
STRIPS = 8, 64  # of rows of a large image that tell its noise, and their height
FAINTEST = 0.02  # power of a wave beyond which no filter goes: amplitudes grow by up to 7


def noise_correlation(image, variance, select, max_lag: int = 4) -> np.ndarray:
    """Correlation coefficient of the noise at all lags up to `max_lag`.

    Parameters
    ----------
    image, variance : ndarray (ny, nx) float32
        Sky-free image (ADU) and its variance (ADU²).
    select : ndarray (ny, nx) bool
        Empty sky; only pairs with both pixels in it count.
    max_lag : int

    Returns
    -------
    ndarray (2 * max_lag + 1, 2 * max_lag + 1) float64
        1 at the centre; entry [max_lag + dy, max_lag + dx] belongs to lag (dy, dx).
        All NaN but the centre if fewer than 100 pixels are selected, or all have one value.
    """
    side = 2 * max_lag + 1
    rho = np.full((side, side), np.nan)
    rho[max_lag, max_lag] = 1.0
    if select.sum() < 100:
        return rho
    z = np.zeros(image.shape, np.float32)
    np.divide(image, np.sqrt(variance), out=z, where=select & (variance > 0))
    z[select] -= np.median(z[select])
    np.clip(z, -5, 5, out=z)  # one cosmic ray must not speak for all
    half = loops.lag_products(z, select, max_lag)
    if not half[0, max_lag] > 0:
        return rho
    rho[max_lag:] = half
    rho[: max_lag + 1] = half[::-1, ::-1]
    rho /= rho[max_lag, max_lag]
    return rho


def empty_sky(image, variance, usable, fwhm: float, threshold: float = 5.0) -> np.ndarray:
    """Pixels without sources: away from peaks of the image smoothed by the seeing.

    The cut is the same on both signs about the clipped median, or it would skew the noise (a
    residual background of 0.7 sigma made white noise look 40 % blue).
    """
    if usable.sum() < 100:
        return np.zeros_like(usable)
    sigma = fwhm / 2.355
    smooth = np.where(usable, image, 0).astype(np.float32, copy=False)
    smooth = convolve_by_tiles(smooth, _gaussian(sigma)[None], max(image.shape), tolerance=1e-3)
    step = max(7, usable.size // SAMPLE)
    level, spread = clipped(smooth[usable][::step])
    expected = np.sqrt(np.median(variance[usable][::step])) / (2 * np.sqrt(np.pi) * sigma)
    sources = np.abs(smooth - level) > threshold * max(spread, expected)
    near = np.empty(sources.shape, bool)
    footprints.grow_diamond(sources, int(np.ceil(2 * fwhm)), near)
    return usable & ~near


def _gaussian(sigma):
    """Gaussian of unit sum, reaching 4 sigma."""
    r = np.arange(-int(np.ceil(4 * sigma)), int(np.ceil(4 * sigma)) + 1)
    profile = np.exp(-0.5 * np.square(r / sigma))
    return np.outer(profile, profile) / profile.sum() ** 2


def strips(plane: np.ndarray) -> np.ndarray:
    """Rows all over a large plane (ny, nx), one strip above the other; a small one itself."""
    count, height = STRIPS
    if len(plane) <= count * height:
        return plane
    starts = np.linspace(0, len(plane) - height, count).astype(int)
    return np.concatenate([plane[y : y + height] for y in starts])


def robust_std(sample: np.ndarray) -> float:
    """1.4826 times the median absolute deviation: the standard deviation, if Gaussian."""
    return float(1.4826 * np.median(np.abs(sample - np.median(sample))))


def clipped(sample, rounds=8):
    """Median and 1.4826 times the median absolute deviation of what lies within 3 sigma."""
    for _ in range(rounds):
        level, spread = np.median(sample), robust_std(sample)
        keep = np.abs(sample - level) <= 3 * spread
        if keep.all() or spread == 0:
            break
        sample = sample[keep]
    return float(level), float(spread)


def crowded_variance(exposure: Exposure) -> np.ndarray:
    """Variance (ny, nx) float32, ADU², that a star stands out from: noise and unresolved stars.

    The difference is free of the latter, so that they are in `meta["confusion"]` (ADU, rms), not
    in the variance; but neighbours too many to be told apart are noise to the star of a PSF.
    """
    confusion = exposure.meta.get("confusion", 0.0)
    if not confusion:
        return exposure.variance
    return np.where(exposure.variance > 0, exposure.variance + np.float32(confusion**2), 0)


def local_mean(image, select, side):
    """Mean of the selected pixels in a box around each pixel, float32; 0 where there are none."""
    total = ndimage.uniform_filter(np.where(select, image, 0).astype(np.float32), side)
    share = ndimage.uniform_filter(select.astype(np.float32), side)
    return np.divide(total, share, out=np.zeros_like(total), where=share > 1e-3)


def input_correlation(exposure: Exposure, max_lag: int = 3) -> np.ndarray | None:
    """Noise correlation of an exposure (see `noise_correlation`), or None if it is white.

    Warped, stacked and resampled images have correlated noise; 2 % at the nearest lags is where
    it starts to matter, and values within their error count as 0.  Structure of the sky that is
    wider than `LOCAL` px is taken out first: both images share it, so it is no noise of theirs
    (left in, two frames of one night had correlations of 0.1 at all lags).  So are stars too faint
    to be found.  The result is a covariance: all its powers are positive.
    """
    sky = empty_sky(exposure.image, exposure.variance, exposure.usable, exposure.meta["fwhm"])
    if sky.sum() < 5000:
        return None
    image = exposure.image - local_mean(exposure.image, sky, LOCAL)
    rho = noise_correlation(image, exposure.variance, sky, max_lag)
    rho, _ = correlation.without_stars(rho, exposure.meta["fwhm"])
    error = 1 / np.sqrt(sky.sum())
    near = rho[max_lag - 1 : max_lag + 2, max_lag - 1 : max_lag + 2].copy()
    near[1, 1] = 0
    if np.abs(near).max() < max(0.02, 5 * error):
        return None
    rho[np.abs(rho) < 3 * error] = 0
    return correlation.as_covariance(rho)


def power_spectrum(rho: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Noise power (relative to white noise of the same variance) on a `shape` rfft2 grid.

    For filters that divide by it: waves that have less than `FAINTEST` are not made stronger.
    """
    return np.maximum(correlation.powers(rho, shape), FAINTEST)


def variance_factor(rho: np.ndarray, filter_: np.ndarray) -> float:
    """Variance of filtered noise of correlation `rho`, relative to that of filtered white noise."""
    lag = rho.shape[0] // 2
    total = 0.0
    ny, nx = filter_.shape
    for dy in range(-lag, lag + 1):
        for dx in range(-lag, lag + 1):
            if abs(dy) >= ny or abs(dx) >= nx:
                continue
            a = filter_[max(dy, 0) : ny + min(dy, 0), max(dx, 0) : nx + min(dx, 0)]
            b = filter_[max(-dy, 0) : ny + min(-dy, 0), max(-dx, 0) : nx + min(-dx, 0)]
            total += rho[lag + dy, lag + dx] * np.sum(a * b)
    return float(total / np.sum(np.square(filter_)))
