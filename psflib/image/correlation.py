"""Correlations of noise that are covariances: none of their powers is negative.

What is measured between pixels at some lags is not: cut off at the largest lag, or with the
insignificant ones set to 0, the power of some waves becomes negative (-8 for frames of a Bayer
mosaic), and the noise that is predicted after a filter with it.
"""

import numpy as np
from scipy import fft

SIDE = 64  # px, of the transforms: waves between them differ by 1 % from these at 5 px of lag
LEAST_POWER = 1e-3  # of any wave, relative to white noise
CUT = 0.2  # of the largest correlation, that one at the largest lag may be
ROUNDS = 200  # of projections
STARS = 0.03  # share of the variance from which faint stars are taken for what they are
SHAPE = 0.1  # of their correlation, that their PSF is unsure by
LEAST = 0.2  # quantile over the lags; the sky's local mean takes a little of the farthest
TELLING = 0.1  # least correlation of stars at the lags that are compared


def as_covariance(rho: np.ndarray) -> np.ndarray:
    """The nearest correlation whose powers are all positive.

    If it has died away within the lags, that of least squares (alternating projections with
    Dykstra's corrections: Boyle & Dykstra 1986).  If not - rows, bands and mosaics correlate at all
    lags - it is multiplied with a triangle first, which is what the mean power of neighbouring
    waves is (Bartlett 1950); the nearest valid one would have narrow deep troughs there.

    Parameters
    ----------
    rho : ndarray (odd, odd)
        Correlation, 1 at the centre, the same at opposite lags, finite.

    Returns
    -------
    ndarray (odd, odd) float64
        1 at the centre; `rho` itself if it is valid and has died away.
    """
    rho = np.array(rho, float)
    middle = len(rho) // 2
    apart = np.abs(rho)
    apart[middle, middle] = 0
    rim = max(apart[[0, -1]].max(), apart[:, [0, -1]].max())
    if rim > CUT * apart.max():
        triangle = 1 - np.abs(np.arange(-middle, middle + 1)) / (middle + 1)
        return _lifted(rho * np.outer(triangle, triangle))
    return _lifted(_projected(rho))


def _projected(rho):
    """The nearest correlation of these lags that has no power below `LEAST_POWER`, about."""
    index = np.arange(len(rho)) - len(rho) // 2
    box, middle = np.ix_(index % SIDE, index % SIDE), len(rho) // 2
    correction = np.zeros((SIDE, SIDE // 2 + 1))
    for _ in range(ROUNDS):
        power = powers(rho, (SIDE, SIDE))
        if power.min() > 0.5 * LEAST_POWER:
            break
        wanted = np.maximum(power + correction, LEAST_POWER)
        correction += power - wanted
        rho = fft.irfft2(wanted, (SIDE, SIDE))[box]
        rho[middle, middle] = 1
    return rho


def _lifted(rho):
    """The correlation with as much white noise as its least power lacks."""
    lack = LEAST_POWER - powers(rho, (4 * SIDE, 4 * SIDE)).min()
    if lack <= 0.6 * LEAST_POWER:
        return rho
    share = lack / (1 - LEAST_POWER)
    rho = rho / (1 + share)
    rho[len(rho) // 2, len(rho) // 2] = 1
    return rho


def without_stars(rho: np.ndarray, fwhm: float) -> tuple[np.ndarray, float]:
    """The correlation without what faint stars add to it, and their share of the variance.

    Stars too faint or too many to be found correlate pixels as their PSF does with itself: a
    Gaussian of sqrt(2) times its width.  Both images have them, so that the difference does not.
    Their share is what is there at nearly all lags; noise of resampled images reaches less far.

    Parameters
    ----------
    rho : ndarray (odd, odd)
    fwhm : float
        Of the PSF, px.

    Returns
    -------
    rho : ndarray (odd, odd)
        Of the noise; lags within the error of the stars' part are 0.
    share : float
        0 if there is no sign of stars.
    """
    lag = np.arange(len(rho)) - len(rho) // 2
    stars = np.exp(-0.25 * np.add.outer(lag**2, lag**2) / (fwhm / 2.355) ** 2)
    compared = (stars > TELLING) & (stars < 1)
    if not compared.any():
        return rho, 0.0
    share = float(np.clip(np.quantile(rho[compared] / stars[compared], LEAST), 0, 0.98))
    if share < STARS:
        return rho, 0.0
    rest = (rho - share * stars) / (1 - share)
    rest[np.abs(rest) < (0.02 + SHAPE * share) / (1 - share)] = 0
    rest[len(rho) // 2, len(rho) // 2] = 1
    return rest, share


def powers(rho: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Noise power (relative to white noise of the same variance) on a `shape` rfft2 grid."""
    plane = np.zeros(shape)
    index = np.arange(len(rho)) - len(rho) // 2
    np.add.at(plane, np.ix_(index % shape[0], index % shape[1]), rho)
    return fft.rfft2(plane).real
