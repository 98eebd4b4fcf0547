"""Which pixels the kernel is fitted on: the footprints of sources, and sky for the background."""

import dataclasses
import itertools

import numpy as np
from scipy import spatial

from psflib.errors import NotEnoughStars
from psflib.image import polynomial
from psflib.image.noise import clipped
from psflib.loops import footprints as loops

BLOCK = 16  # polynomials are constant over a block in the normal matrix, exact in the residuals
TILE = 32  # pixels convolved together
CELLS = 8  # cells an axis in which the most telling blocks are chosen
SAMPLE = 30_000  # pixels that a median of the whole image is taken from
# px; what matches an undersampled image is smoothed by more than its own PSF: within 1 FWHM of
# 0.9 px the flux ratio came out as 1.8 for 1.2
LEAST_APERTURE = 2.0
BRIGHT = 100.0  # in units of the noise: sources whose light reaches across the kernel's box
BRIGHT_GUESS = 10.0  # likewise; filled values above this are kept away from
FAR = np.float32(1e30)


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

    @property
    def useful(self) -> np.ndarray:
        """Constant sources whose flux ratio is known to 10 %, (n,) bool."""
        with np.errstate(invalid="ignore"):
            known = np.isfinite(self.ratio) & (self.error < 0.1 * self.ratio)
        return known & ~self.variable

    def count_useful(self) -> int:
        """Number of useful sources.

        Raises
        ------
        NotEnoughStars
            There is none.
        """
        count = int(self.useful.sum())
        if count == 0:
            raise NotEnoughStars("matching kernel", 0, 1)
        return count


@dataclasses.dataclass(frozen=True)
class FitPixels:
    """Pixels of the fit, sorted by tile and block.

    y, x (n,) int32; block_start (blocks + 1,), block_x, block_y (blocks,) centres;
    tile_start (tiles + 1,), tile_x, tile_y (tiles,) corners; source (n,) index of the source
    whose disc holds the pixel, or -1; near (n,) index of the nearest source, or -1.
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
    """Gaussian average (ny, nx) float32 of a float32 plane, zeros outside."""
    half = int(np.ceil(4 * sigma))
    taps = np.exp(-0.5 * np.square(np.arange(half + 1) / sigma))
    taps /= 2 * taps.sum() - taps[0]
    out = np.empty(image.shape, np.float32)
    loops.smooth(np.ascontiguousarray(image, np.float32), taps.astype(np.float32), out)
    return out


def grown(mask, radius: int):
    """Pixels within a box of `radius` px around true ones."""
    out = np.empty(mask.shape, bool)
    loops.grow(mask, radius, out)
    return out


def sample(plane, select):
    """Some of the selected pixels, spread evenly over the image."""
    step = max(1, round(np.sqrt(plane.size / SAMPLE)))
    values = plane[::step, ::step][select[::step, ::step]]
    return values if len(values) > 1000 else plane[select]


def find_sources(target, convolved, b_smooth, good, fwhm) -> Sources:
    """Peaks above 5 sigma on either image, and their flux ratios.

    target, convolved : (image, variance) pairs, the second filled and not yet convolved;
    b_smooth : the convolved image at about the target's resolution.
    """
    a, var_a = target
    b, var_b = convolved
    x, y = _peaks((a, var_a), (b, var_b), good, fwhm)
    radius = max(fwhm, LEAST_APERTURE)
    ratio, error = _flux_ratio(a, b_smooth, var_a, var_b, good, x, y, radius)
    known = np.isfinite(ratio) & (error < 0.2 * np.abs(ratio))
    trusted = _precise(ratio, error, known)
    order, trend = _trend(x[trusted], y[trusted], ratio[trusted], error[trusted], a.shape)
    expected = trend @ polynomial.evaluate(order, x, y, a.shape)
    change, sigma = np.abs(ratio / expected - 1), error / np.abs(expected)
    # known well enough on the scale of what is expected: of a source that only the convolved
    # image has, the ratio is 0
    known = np.isfinite(ratio) & (sigma < 0.2)
    with np.errstate(invalid="ignore"):
        variable = known & (change > np.hypot(4 * sigma, 0.04))
        constant = known & (change < 0.03) & (sigma < 0.012)
    return Sources(x, y, ratio, error, variable, constant, trend, order)


def _peaks(first, second, good, fwhm):
    """Local maxima above 5 sigma of both images, smoothed by the seeing; one list, no doubles."""
    sigma = fwhm / 2.355
    found = np.zeros(good.shape, bool)
    for image, variance in (first, second):
        smooth = smoothed(np.where(good, image, np.float32(0)), sigma)
        # about the clipped median: a residual background is no source
        level, spread = clipped(sample(smooth, good))
        white = np.sqrt(np.median(sample(variance, good))) / (2 * np.sqrt(np.pi) * sigma)
        limit = level + 5 * max(spread, white)
        loops.mark_peaks(smooth, np.float32(limit), good, max(1, round(0.5 * fwhm)), found)
    y, x = np.nonzero(found)
    if len(x) > 1:  # the same source, half a pixel apart on the two images
        pairs = spatial.cKDTree(np.c_[x, y]).query_pairs(0.5 * fwhm, output_type="ndarray")
        keep = np.ones(len(x), bool)
        keep[pairs[:, 1]] = False
        y, x = y[keep], x[keep]
    return x, y


def _flux_ratio(a, b_smooth, var_a, var_b, good, x, y, radius):
    """Aperture flux of `a` over that of the smoothed `b`; NaN where too much is masked."""
    sums = np.empty((len(x), 5))
    loops.disc_sums(a, b_smooth, var_a, var_b, good, x, y, float(radius), sums)
    flux_a, flux_b, noise_a, noise_b, covered = sums.T
    with np.errstate(all="ignore"):
        ratio = flux_a / flux_b
        error = np.sqrt(noise_a + ratio**2 * noise_b) / np.abs(flux_b)
        usable = (covered > 0.8) & (flux_b > 5 * np.sqrt(noise_b))
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
    # relative errors: a source that only the convolved image has is 0.03 +- 0.002 for 2.3, and by
    # its absolute error would speak for all
    relative = np.hypot(error / np.abs(ratio), 0.01) * np.abs(np.median(ratio))
    coefficients, _ = polynomial.fit_robust(order, x, y, ratio, relative, shape, rounds=8)
    return order, coefficients


def footprints(signal, noise, good, filled, half, margin):
    """Pixels of the fit: good, with the signal of a source, and off the border.

    Above 3.1 x noise, grown by 2 px; around bright sources as far as the kernel reaches, or its
    far parts would be free there (rings of 10 sigma at the corners of its box); not where it
    reaches into cores of stars that are filled, for guesses of them bias the flux scale (9 % when
    the 30 brightest of 120 stars have a hole).

    filled : bool, pixels whose value is a guess
    """
    inside = grown(signal > np.float32(3.1 * noise), 2)
    inside |= grown(signal > np.float32(BRIGHT * noise), half)
    inside &= good
    inside &= ~grown(filled & (signal > np.float32(BRIGHT_GUESS * noise)), half)
    _clear_border(inside, margin)
    return inside


def sky(signal, limit, good, distance2, radius, inside, margin):
    """Good pixels without signal, off the footprints and more than `radius` from every source."""
    select = np.abs(signal) < np.float32(limit)
    select &= good
    select &= ~inside
    select &= distance2 > np.float32(radius**2)
    _clear_border(select, margin)
    return select


def _clear_border(select, margin):
    if margin:
        select[:margin] = select[-margin:] = False
        select[:, :margin] = select[:, -margin:] = False


def most_telling(signal, variance, inside, budget: int):
    """Blocks to fit, (ny, nx) / BLOCK bool: all that hold pixels, or the densest in S/N² of each
    cell of the image, if there are more pixels than the budget."""
    shape = [-(-n // BLOCK) for n in inside.shape]
    count, power = np.zeros(shape, np.int64), np.zeros(shape)
    loops.block_power(signal, variance, inside, BLOCK, count, power)
    if count.sum() <= budget:
        return count > 0
    chosen = np.zeros(shape, bool)
    density = power / np.maximum(count, 1)
    edges = [np.linspace(0, n, min(CELLS, n) + 1).astype(int) for n in shape]
    share = budget / (len(edges[0]) - 1) / (len(edges[1]) - 1)
    for y0, y1 in itertools.pairwise(edges[0]):
        for x0, x1 in itertools.pairwise(edges[1]):
            cell = np.s_[y0:y1, x0:x1]
            order = np.argsort(-density[cell], axis=None, kind="stable")
            before = np.cumsum(count[cell].ravel()[order]) - count[cell].ravel()[order]
            keep = np.zeros(order.shape, bool)
            keep[order] = before < share
            chosen[cell] = keep.reshape(chosen[cell].shape) & (count[cell] > 0)
    return chosen


def sort_pixels(inside, chosen=None, source=None, distance2=None, radius=0.0) -> FitPixels:
    """Pixels of a boolean plane, sorted by tile and block within, with their source.

    source, distance2 : planes of `loops.nearest_source`
    """
    if chosen is None:
        chosen = np.ones([-(-n // BLOCK) for n in inside.shape], bool)
    y, x, block_start, block_y, block_x, tile_start, tile_y, tile_x = loops.collect(
        inside, chosen, BLOCK, TILE
    )
    centre = (BLOCK - 1) / 2
    near = np.full(len(y), -1) if source is None else source[y, x].astype(np.int64)
    own = near if source is None else np.where(distance2[y, x] <= radius**2, near, -1)
    return FitPixels(
        y, x, block_start, block_x + centre, block_y + centre, tile_start, tile_x, tile_y, own, near
    )
