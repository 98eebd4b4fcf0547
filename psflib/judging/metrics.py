"""Numbers that judge a product: recovery of a known truth, whiteness of noise."""

import dataclasses

import numpy as np
from astropy.table import QTable
from scipy import spatial

from psflib.decorrelation.reduced import reduced
from psflib.image import noise
from psflib.image.difference import Difference
from psflib.image.exposure import Exposure
from psflib.image.noise import empty_sky, robust_std

RADIUS = 1.5  # px within which a candidate counts as the true source
FEWEST = 100  # pixels of sky in which noise is measured
CLEAR = 12  # px about a known change that tell nothing of the noise


@dataclasses.dataclass(frozen=True)
class Recovery:
    """What was found of what is there.

    expected, found : true changes above the S/N limit, and how many of them are clean candidates
    others : clean candidates that belong to no true change;  others_per_mpx : the same by area
    flux_bias, flux_error : mean of (measured / true - 1), weighted by S/N², and its error
    pull_std : scatter of (measured - true) / claimed error
    """

    expected: int
    found: int
    others: int
    others_per_mpx: float
    flux_bias: float
    flux_error: float
    pull_std: float


@dataclasses.dataclass(frozen=True)
class Whiteness:
    """Noise of empty sky.

    std : of D/sigma; correlation_before, correlation_after : largest of the 8 nearest lags, with
    sign; score_std : of the matched-filter significance.  Standard deviations are 1.4826 times
    the median absolute deviation; NaN of less than 100 pixels.
    """

    std: float
    correlation_before: float
    correlation_after: float
    score_std: float
    n_pixels: int


@dataclasses.dataclass(frozen=True, eq=False)
class NoiseMaps:
    """Correlation of the noise in blocks of the field.

    correlation : ndarray (blocks, blocks, 2L+1, 2L+1) float64
        [block row, block column, L + dy, L + dx]; 1 at lag 0, NaN where a block has too little
        empty sky.
    error : ndarray of the same shape
        Standard error of each value in one realisation of the noise; 0 at lag 0.
    variance : ndarray (blocks, blocks) float64
        Mean square over the claimed variance; variance_error : its standard error.
    n_pixels : ndarray (blocks, blocks) int
        Pixels of empty sky that count.
    x, y : ndarray (blocks,)
        Centres of the blocks, px.
    """

    correlation: np.ndarray
    error: np.ndarray
    variance: np.ndarray
    variance_error: np.ndarray
    n_pixels: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @property
    def max_lag(self) -> int:
        return self.correlation.shape[-1] // 2

    def at_lag(self, dy: int, dx: int) -> np.ndarray:
        """Correlation at one lag over the field, (blocks, blocks)."""
        return self.correlation[..., self.max_lag + dy, self.max_lag + dx]

    def nearest(self, values=None) -> np.ndarray:
        """The four nearest lags (0, 1), (1, -1), (1, 0), (1, 1); the others are the same, mirrored.

        Of `correlation`, or of another array of its shape; (blocks, blocks, 4).
        """
        values = self.correlation if values is None else values
        lag = self.max_lag
        return np.concatenate(
            [values[..., lag, lag + 1, None], values[..., lag + 1, lag - 1 : lag + 2]], -1
        )

    @property
    def largest(self) -> float:
        """Largest size of the nearest lags' correlations over the field."""
        return max(_known(np.abs(self.nearest())), default=np.nan)

    @property
    def rms(self) -> float:
        """Root mean square of the nearest lags' correlations over the field."""
        return _root_mean_square(self.nearest())

    @property
    def floor(self) -> float:
        """What `rms` is in one realisation of white noise."""
        return _root_mean_square(self.nearest(self.error))


def noise_correlation(
    image: np.ndarray, variance: np.ndarray, select: np.ndarray, blocks: int = 4, max_lag: int = 1
) -> NoiseMaps:
    """Correlation and variance of the noise over the field, with their errors.

    Parameters
    ----------
    image, variance : ndarray (ny, nx) float32
        Sky-free image (ADU) and the variance (ADU²) that it claims.
    select : ndarray (ny, nx) bool
        Empty sky.
    blocks : int
        Blocks on each axis, at least 1.
    max_lag : int

    Notes
    -----
    The errors are those of Gaussian noise with the mean correlation rho of the field (Bartlett's
    formula, e.g. Priestley 1981, section 5.3.3, for two axes):

        n var r(a) = sum_u [ rho(u)² + rho(u+a) rho(u-a) + 2 rho(a)² rho(u)²
                             - 4 rho(a) rho(u) rho(u-a) ].
    """
    if blocks < 1 or max_lag < 1:
        raise ValueError(f"blocks and max_lag must be at least 1; got {blocks} and {max_lag}")
    edges = [np.linspace(0, n, blocks + 1).astype(int) for n in image.shape]
    side = 2 * max_lag + 1
    rho = np.full((blocks, blocks, side, side), np.nan)
    level = np.full((blocks, blocks), np.nan)
    count = np.zeros((blocks, blocks), int)
    for row, col in np.ndindex(blocks, blocks):
        box = tuple(slice(e[k], e[k + 1]) for e, k in zip(edges, (row, col), strict=True))
        rho[row, col] = noise.noise_correlation(image[box], variance[box], select[box], max_lag)
        count[row, col] = select[box].sum()
        level[row, col] = _mean_square(image[box][select[box]], variance[box][select[box]])
    known = np.isfinite(rho).all((2, 3))
    level[~known] = np.nan
    spread, of_square = _sampling_error(rho[known], count[known])
    number = np.maximum(count, 1)
    error = np.where(known[..., None, None], np.sqrt(spread / number[..., None, None]), np.nan)
    y, x = ((e[1:] + e[:-1] - 1) / 2 for e in edges)
    return NoiseMaps(rho, error, level, level * np.sqrt(of_square / number), count, x, y)


def refiltered(raw: Difference, clean: Difference, nodes: int, rank: int) -> Difference:
    """`raw` through the filter of `clean`, with fewer nodes and terms.

    See `psflib.decorrelation.reduced`.  The variance plane is that of `clean`: what a filter that
    varies less makes of the noise is to be seen against it.
    """
    if clean.whitening is None:
        raise ValueError("the second difference has no filter: decorrelate it first")
    whitening = reduced(clean.whitening, raw.shape, nodes, rank)
    image = whitening.convolve(np.where(raw.usable, raw.image, 0))
    return clean.replace(image=image, whitening=whitening, covariance=None, score=None)


def _mean_square(values, variance):
    """Mean of (value / sigma)² about the median, without what is beyond 5 sigma."""
    if not values.size:
        return np.nan
    z = (values - np.median(values)) / np.sqrt(variance)
    return float(np.mean(np.square(np.clip(z, -5, 5, dtype=float))))


def _known(values):
    return values[np.isfinite(values)].tolist()


def _root_mean_square(values):
    """Of those that are known; NaN if none is."""
    known = _known(np.square(values))
    return float(np.sqrt(np.mean(known))) if known else np.nan


def _sampling_error(rho, weight):
    """n times the variance of each lag's correlation, and of the mean square, by Bartlett."""
    if not len(rho):
        return np.full(rho.shape[1:], np.nan), np.nan
    mean = np.average(rho, axis=0, weights=weight)
    floor = 3 / np.sqrt(weight.sum())
    mean[np.abs(mean) < floor] = 0  # or the errors of many lags would add up to a correlation
    lag = len(mean) // 2
    wide = np.pad(mean, 2 * lag)  # as far as u +- a reaches
    square, spread = np.sum(mean**2), np.empty(mean.shape)
    for dy, dx in np.ndindex(*mean.shape):
        shift = dy - lag, dx - lag
        plus, minus = np.roll(wide, shift, (0, 1)), np.roll(wide, (-shift[0], -shift[1]), (0, 1))
        a = mean[dy, dx]
        spread[dy, dx] = (
            square + np.sum(plus * minus) + 2 * a**2 * square - 4 * a * np.sum(wide * plus)
        )
    spread[lag, lag] = 0
    return np.maximum(spread, 0), 2 * square


def values(table: QTable, name: str) -> np.ndarray:
    """A column as a plain array, in its own unit."""
    column = table[name]
    return np.asarray(getattr(column, "value", column))


def recovery(candidates: QTable, truth: QTable, area: float, snr_min: float = 8.0) -> Recovery:
    """Match clean candidates to the truth of one epoch.

    Parameters
    ----------
    candidates : QTable with x, y, flux, flux_err, clean
    truth : QTable with kind, x, y, delta_flux, snr
        Transients are expected to be found; variable stars may be found.
    area : float
        Usable area in px.
    snr_min : float
        True S/N above which a transient is expected.
    """
    clean = candidates[values(candidates, "clean")]
    kind = values(truth, "kind")
    changed = np.isin(kind, ("transient", "variable"))
    expected = (kind == "transient") & (np.abs(values(truth, "snr")) >= snr_min)
    place = np.c_[values(truth, "x"), values(truth, "y")]
    at = np.c_[values(clean, "x"), values(clean, "y")]
    if not len(at):
        return Recovery(int(expected.sum()), 0, 0, 0.0, np.nan, np.nan, np.nan)
    distance, nearest = spatial.cKDTree(at).query(place)
    found = expected & (distance < RADIUS)
    lone = spatial.cKDTree(place[changed]).query(at)[0] > 2 * RADIUS
    bias, error, pull = _flux(clean[nearest[found]], truth[found])
    return Recovery(
        int(expected.sum()), int(found.sum()), int(lone.sum()), float(lone.sum() / area * 1e6),
        bias, error, pull,
    )  # fmt: skip


def _flux(found, truth):
    if not len(found):
        return np.nan, np.nan, np.nan
    true, measured = values(truth, "delta_flux"), values(found, "flux")
    weight = np.square(values(truth, "snr"))
    bias = np.average(measured / true - 1, weights=weight)
    pulls = (measured - true) / values(found, "flux_err")
    return float(bias), float(1 / np.sqrt(weight.sum())), float(np.std(pulls))


def whiteness(raw: Difference, clean: Difference, science: Exposure, avoid=None) -> Whiteness:
    """Noise of empty sky before and after decorrelation.

    avoid : (x, y), optional
        Positions of known changes, left out with 12 px around them.
    """
    usable = clean.usable & raw.usable
    sky = empty_sky(science.image, science.variance, usable, science.meta["fwhm"])
    if avoid is not None:
        for i, j in np.rint(np.transpose(avoid)).astype(int):
            sky[max(j - CLEAR, 0) : j + CLEAR + 1, max(i - CLEAR, 0) : i + CLEAR + 1] = False
    if clean.score is None:
        raise ValueError("the second difference has no score: decorrelate it first")
    if sky.sum() < FEWEST:
        return Whiteness(np.nan, np.nan, np.nan, np.nan, int(sky.sum()))
    before = noise.noise_correlation(raw.image, raw.variance, sky, 1)
    after = noise.noise_correlation(clean.image, clean.variance, sky, 1)
    z = clean.image[sky] / np.sqrt(clean.variance[sky])
    score = clean.score[sky & (clean.score != 0)]
    spread = robust_std(score) if score.size else np.nan
    return Whiteness(robust_std(z), _largest(before), _largest(after), spread, int(sky.sum()))


def _largest(rho):
    """The neighbour's correlation of largest size, with its sign."""
    near = np.delete(rho.ravel(), rho.size // 2)
    return float(near[np.argmax(np.abs(near))])
