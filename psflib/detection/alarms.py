"""False alarms: how many peaks of the score noise alone lifts over a threshold.

Of a smooth Gaussian random field of unit variance the maxima above nu have the density

    √(det L) / (2 π)^1.5 nu exp(-nu² / 2)    per px

(Adler 1981, The Geometry of Random Fields, theorem 5.3.1 and chapter 6; Rice 1944 in one
dimension), L (2, 2) the second derivatives of its autocorrelation at lag 0, with the sign turned.
It is that of peaks wherever they stand, between pixels too: a fit of the place finds those.
"""

import dataclasses

import numpy as np

from psflib.decorrelation.score import score_cells
from psflib.image import noise
from psflib.image.convolve import BilinearWeights
from psflib.image.difference import Difference
from psflib.loops import footprints

SKY_SCORE = 5.0  # sigma of the score beyond which a pixel is no empty sky ...
SKY_REACH = 5  # px, with what is about it
ROWS = 128  # that tell its typical scatter
FEWEST = 1000  # pixels of empty sky that tell the smoothness ...
STEP = 2  # px along both axes, between those that tell it: the score is smooth
SPREAD_OF_MAD = 1.17  # error of a scatter by the median deviation, times √n of n values
LOWEST, HIGHEST = 2.0, 40.0  # sigma, between which a threshold is looked for


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreNoise:
    """What the empty sky says of a score's noise.

    Parameters
    ----------
    area : int
        Pixels on which the score means something.
    moments : ndarray (2, 2)
        L, axes (y, x), px⁻².
    x, y : ndarray (columns,), (rows,)
        Centres of the cells, px.
    scatter : ndarray (rows, columns)
        Standard deviation of the score; 1 where its difference from 1 is that of the sample.
    """

    area: int
    moments: np.ndarray
    x: np.ndarray
    y: np.ndarray
    scatter: np.ndarray

    @property
    def density(self) -> float:
        """√(det L) / (2 π)^1.5, per px."""
        return float(np.sqrt(np.linalg.det(self.moments)) / (2 * np.pi) ** 1.5)

    def scatter_at(self, x, y) -> np.ndarray:
        """Standard deviation of the score at positions (n,), bilinear between the cells."""
        return BilinearWeights(self.scatter[None], self.x, self.y).at_points(x, y)[0]


def empty_of_candidates(difference: Difference) -> np.ndarray:
    """Usable pixels (ny, nx) bool away from anything significant of either sign in the score."""
    usable = difference.usable & (difference.variance > 0)
    if difference.score is None:
        return usable
    strength = np.abs(difference.score)
    sample = strength[:: max(1, len(strength) // ROWS)]
    known = sample[sample > 0]
    # a score that scatters more than it claims would lose its own noise
    typical = max(1.0, 1.4826 * float(np.median(known))) if known.size else 1.0
    near = np.empty(usable.shape, bool)
    footprints.grow(strength > SKY_SCORE * typical, SKY_REACH, near)
    return usable & ~near


def score_noise(score: np.ndarray, sky: np.ndarray) -> ScoreNoise:
    """Scatter and smoothness of a score in empty sky.

    Parameters
    ----------
    score : ndarray (ny, nx) float32
        In sigma; 0 where it means nothing.
    sky : ndarray (ny, nx) bool
        Empty sky; with less than `FEWEST` px of it the score is taken as white noise of 1 that
        went through a Gaussian of 1 px.
    """
    known = sky & (score != 0)
    part, select = noise.strips(score), noise.strips(known)
    if len(part) < len(score):
        select = select.copy()
        for row in (-1, -2):  # no pairs across the seams: 1.4 % of them make the density 7 % wrong
            select[noise.STRIPS[1] + row :: noise.STRIPS[1]] = False
    rho = noise.noise_correlation(part, np.ones_like(part), select, 2)
    if known.sum() < FEWEST or not (rho[2:4, 1:4] > 0).all():
        rho = np.exp(-0.25 * np.add.outer(*2 * [np.square(np.arange(-2.0, 3.0))]))
    moments = second_moments(rho)
    # px that tell one value: the sum of rho² of a Gaussian
    alike = max(1.0, np.pi / np.sqrt(np.linalg.det(moments)) / STEP**2)
    return ScoreNoise(int(np.count_nonzero(score)), moments, *_scatter(score, known, alike))


def _scatter(score, known, alike):
    """Centres (x, y) of cells and the score's scatter in each, shrunk by what the sample leaves
    open: first their mean to 1, then each to their mean (James & Stein 1961)."""
    x, y, cells = score_cells(score.shape)
    values, errors = np.ones((len(y), len(x))), np.full((len(y), len(x)), np.inf)
    for place, cell in cells.items():
        sample = score[cell][::STEP, ::STEP][known[cell][::STEP, ::STEP]]
        if sample.size >= FEWEST // STEP**2:
            values[place] = 1.4826 * np.median(np.abs(sample))
            errors[place] = SPREAD_OF_MAD * values[place] * np.sqrt(alike / sample.size)
    weights = errors**-2.0
    if not weights.any():
        return x, y, np.ones(values.shape)
    mean = _shrunk(np.sum(weights * values) / weights.sum(), 1.0, 1 / weights.sum())
    told = weights > 0
    apart = np.mean(np.square(values[told] - mean))
    share = max(0.0, 1 - np.mean(np.square(errors[told])) / apart) if apart else 0.0
    return x, y, np.where(told, mean + share * (values - mean), mean)


def _shrunk(value, towards, variance):
    """`value`, nearer to where it is expected by as much as its error asks for."""
    off = value - towards
    return towards + off * max(0.0, 1 - variance / off**2) if off else towards


def second_moments(rho: np.ndarray) -> np.ndarray:
    """L (2, 2), axes (y, x), px⁻², of an autocorrelation (5, 5) known at lags up to 2 px.

    -2 ln rho / lag² is L of a Gaussian exactly; of others it goes with lag², which lags 1 and 2
    tell, as far as the correlation at lag 2 is positive.
    """
    line = {lag: _bend(rho, lag) for lag in ((1, 0), (2, 0), (0, 1), (0, 2))}
    moments = np.zeros((2, 2))
    for axis, (one, two) in enumerate((((1, 0), (2, 0)), ((0, 1), (0, 2)))):
        straight = np.isfinite(line[two]) and 4 * line[one] > line[two]
        moments[axis, axis] = (4 * line[one] - line[two] / 4) / 3 if straight else line[one]
    moments[0, 1] = moments[1, 0] = (_bend(rho, (1, 1)) - _bend(rho, (1, -1))) / 4
    if np.linalg.det(moments) <= 0:
        moments[0, 1] = moments[1, 0] = 0.0
    return moments


def _bend(rho, lag):
    value = rho[2 + lag[0], 2 + lag[1]]
    return -2 * np.log(value) if value > 0 else np.nan


def height_of(snr):
    """Height of the score's peak of a candidate of this significance; see `snr_of`."""
    return (snr + np.sqrt(np.square(snr) + 4)) / 2


def snr_of(height):
    """Significance of a candidate whose score peaks at `height` (positive, sigma).

    The highest of all places near a source is higher than its own by 1 / height on average: two
    coordinates are fitted beside the flux.
    """
    return height - 1 / height


def expected_alarms(noise_: ScoreNoise, threshold: float) -> float:
    """Peaks of both signs that noise lifts over the height `threshold` (sigma) in the whole area.

    Heights are divided by the score's scatter, as those of candidates are.
    """
    return 2 * noise_.area * noise_.density * threshold * np.exp(-(threshold**2) / 2)


def threshold_for(noise_: ScoreNoise, alarms: float) -> float:
    """The height (sigma) that noise is expected to exceed `alarms` times in the whole area.

    At least `LOWEST`: below it the peaks of noise are not counted by the formula.

    Raises
    ------
    ValueError
        If `alarms` is not positive.
    """
    if not alarms > 0:
        raise ValueError(f"the number of false alarms must be positive; got {alarms}")
    low, high = LOWEST, HIGHEST
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if expected_alarms(noise_, middle) > alarms else (low, middle)
    return low
