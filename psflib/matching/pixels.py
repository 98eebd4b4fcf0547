"""Which pixels the kernel is fitted on: the footprints of sources, and sky for the background."""

import dataclasses

import numpy as np
import sep
from scipy import ndimage, spatial

from psflib import polynomial
from psflib.noise import clipped

BLOCK = 16  # polynomials are constant over a block; a field is many blocks, so the error is 1e-4
TILE = 32  # pixels convolved together


@dataclasses.dataclass(frozen=True)
class Sources:
    """Peaks found on either image.

    x, y : ndarray (n,) int64;  ratio, error : flux ratio and its error in an aperture, relative
    to the trend over the field;  variable, constant : bool, what the ratio says;  trend :
    coefficients of the flux ratio over the field;  order : degree of `trend`.
    """

    x: np.ndarray
    y: np.ndarray
    ratio: np.ndarray
    error: np.ndarray
    variable: np.ndarray
    constant: np.ndarray
    trend: np.ndarray
    order: int

    @property
    def scale(self) -> float:
        """Flux ratio at the centre of the field."""
        centre = polynomial.evaluate(self.order, 0.5, 0.5, (2, 2))
        return float(self.trend @ centre)


@dataclasses.dataclass(frozen=True)
class FitPixels:
    """Pixels of the fit, sorted by tile and block.

    y, x (n,) int64; block_start (blocks + 1,), block_x, block_y (blocks,) centres;
    tile_start (tiles + 1,), tile_x, tile_y (tiles,) corners; source (n,) index of the source
    whose disc holds the pixel, or -1; near (n,) index of the nearest source.
    """

    y: np.ndarray
    x: np.ndarray
    block_start: np.ndarray
    block_x: np.ndarray
    block_y: np.ndarray
    tile_start: np.ndarray
    tile_x: np.ndarray
    tile_y: np.ndarray
    source: np.ndarray
    near: np.ndarray


def smoothed(image, sigma):
    """Gaussian average, float32."""
    return ndimage.gaussian_filter(image, sigma, mode="constant", truncate=5.0)


def find_sources(target, convolved, good, fwhm, match_sigma) -> Sources:
    """Peaks above 5 sigma on either image, and their flux ratios.

    target, convolved : (image, variance) pairs, the second filled and not yet convolved.
    """
    a, var_a = target
    b, var_b = convolved
    b_smooth = smoothed(b, match_sigma)
    x, y = _peaks((a, var_a), (b, var_b), good, fwhm)
    ratio, error = _flux_ratio(a, b_smooth, var_a, var_b, good, x, y, fwhm, match_sigma)
    known = np.isfinite(ratio) & (error < 0.2 * np.abs(ratio))
    trusted = _precise(ratio, error, known)
    order, trend = _trend(x[trusted], y[trusted], ratio[trusted], error[trusted], a.shape)
    expected = trend @ polynomial.evaluate(order, x, y, a.shape)
    change, sigma = np.abs(ratio / expected - 1), error / np.abs(expected)
    with np.errstate(invalid="ignore"):
        variable = known & (change > np.hypot(4 * sigma, 0.04))
        constant = known & (change < 0.03) & (sigma < 0.012)
    return Sources(x, y, ratio, error, variable, constant, trend, order)


def _peaks(first, second, good, fwhm):
    """Local maxima above 5 sigma of both images, smoothed by the seeing; one list, no doubles."""
    sigma = fwhm / 2.355
    found = np.zeros(good.shape, bool)
    size = 2 * round(0.5 * fwhm) + 1
    for image, variance in (first, second):
        smooth = smoothed(np.where(good, image, 0), sigma)
        # about the clipped median: a residual background is no source
        level, spread = clipped(smooth[good][::7])
        white = np.sqrt(np.median(variance[good])) / (2 * np.sqrt(np.pi) * sigma)
        limit = level + 5 * max(spread, white)
        found |= (smooth > limit) & (smooth == ndimage.maximum_filter(smooth, size))
    y, x = np.nonzero(found & good)
    if len(x) > 1:  # the same source, half a pixel apart on the two images
        pairs = spatial.cKDTree(np.c_[x, y]).query_pairs(0.5 * fwhm, output_type="ndarray")
        keep = np.ones(len(x), bool)
        keep[pairs[:, 1]] = False
        y, x = y[keep], x[keep]
    return x, y


def _flux_ratio(a, b_smooth, var_a, var_b, good, x, y, radius, sigma):
    """Aperture flux of `a` over that of the smoothed `b`; NaN where too much is masked."""
    bad = ~good
    xs, ys = x.astype(float), y.astype(float)
    flux_a, error_a, _ = sep.sum_circle(a, xs, ys, radius, err=np.sqrt(var_a), mask=bad, subpix=5)
    flux_b, error_b, _ = sep.sum_circle(
        b_smooth, xs, ys, radius, err=np.sqrt(var_b), mask=bad, subpix=5
    )
    covered, _, _ = sep.sum_circle(good.astype(np.float32), xs, ys, radius, subpix=5)
    with np.errstate(all="ignore"):
        ratio = flux_a / flux_b
        error = np.abs(ratio) * np.hypot(error_a / flux_a, error_b / flux_b)
        usable = (covered > 0.8 * np.pi * radius**2) & (flux_b > 5 * error_b)
    return np.where(usable, ratio, np.nan), np.where(usable, error, np.inf)


def _precise(ratio, error, known):
    """The sources to trust for the flux ratio: a ratio of noisy fluxes is biased by (error)².

    Those good to 5 % if there are ten of them, else to 10 %, else all known.
    """
    for limit in (0.05, 0.1):
        good = known & (error < limit * np.abs(ratio))
        if good.sum() >= 10:
            return good
    return known


def _trend(x, y, ratio, error, shape):
    """Smooth flux ratio over the field."""
    if len(x) == 0:
        return 0, np.array([1.0])
    order = 0 if len(x) < 12 else 1 if len(x) < 60 else 2
    weight_floor = np.hypot(error, 0.01 * np.abs(ratio))
    coefficients, _ = polynomial.fit_robust(order, x, y, ratio, weight_floor, shape, rounds=8)
    return order, coefficients


def footprints(signal, noise, good, margin):
    """Connected pixels above 3 x noise with a peak above 3.3 x noise, grown by 2 px."""
    labels, count = ndimage.label(signal > 3 * noise, structure=np.ones((3, 3)))
    peak = ndimage.maximum(signal, labels, np.arange(count + 1))
    keep = np.asarray(peak) > 3.3 * noise
    keep[0] = False
    inside = ndimage.binary_dilation(keep[labels], structure=np.ones((3, 3)), iterations=2)
    inside &= good
    if margin:
        inside[:margin] = inside[-margin:] = False
        inside[:, :margin] = inside[:, -margin:] = False
    return inside


def sort_pixels(inside, sources: Sources, radius) -> FitPixels:
    """Pixels of a boolean plane, sorted by tile and block within, with their source."""
    y, x = np.nonzero(inside)
    key = np.lexsort((x, y, x // BLOCK, y // BLOCK, x // TILE, y // TILE))
    y, x = y[key], x[key]
    tile_start, first = _runs(y // TILE, x // TILE)
    tile_y, tile_x = y[first] // TILE * TILE, x[first] // TILE * TILE
    block_start, first = _runs(y // BLOCK, x // BLOCK)
    centre = (BLOCK - 1) / 2
    block_y, block_x = y[first] // BLOCK * BLOCK + centre, x[first] // BLOCK * BLOCK + centre
    source, near = np.full(len(y), -1), np.full(len(y), -1)
    if len(sources.x) and len(y):
        distance, near = spatial.cKDTree(np.c_[sources.x, sources.y]).query(np.c_[x, y])
        source = np.where(distance <= radius, near, -1)
        near = np.where(distance <= 4 * radius, near, -1)
    return FitPixels(y, x, block_start, block_x, block_y, tile_start, tile_x, tile_y, source, near)


def _runs(*keys):
    """Start of each run of equal keys, with the end appended, and the starts alone."""
    if len(keys[0]) == 0:
        return np.zeros(1, np.int64), np.zeros(0, np.int64)
    change = np.any([np.diff(k) != 0 for k in keys], axis=0)
    first = np.concatenate([[0], np.flatnonzero(change) + 1])
    return np.append(first, len(keys[0])), first
