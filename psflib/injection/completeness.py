"""Completeness as a smooth curve over brightness, by maximum likelihood, and its limits."""

import dataclasses

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri

FEWEST = 20  # sources, of fewer no curve is told
WIDTHS = (0.05, 0.1, 0.2, 0.4, 0.8)  # of ln(brightness), from which the fit starts ...
PLATEAUS = (0.5, 0.8, 0.95, 0.995)
STARTS = 40  # and so many limits
# a source near a threshold of 5 is found or lost by noise of 1, a fifth of it; a factor of e to
# either side is as likely as not
USUAL_WIDTH = np.log(0.2), 1.0
# the limit, where sources do not tell it: so many e-foldings about their middle
ANYWHERE = 2.0
HALF = 0.5  # a source found and one lost, half of each: bright ones may be missed though none was
STEPS = 50
SETTLED = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Completeness:
    """Share of sources that are found: plateau times Phi((ln b - middle) / width).

    Parameters
    ----------
    middle, width : float
        Of ln(b), b the brightness (flux or S/N).
    plateau : float
        Share of the brightest that is found.
    covariance : ndarray (3, 3)
        Of middle, ln(width), logit(plateau).
    n : int
        Sources that it rests on.
    low, high : float
        Faintest and brightest of them; limits beyond are not told.
    """

    middle: float
    width: float
    plateau: float
    covariance: np.ndarray
    n: int
    low: float
    high: float

    def at(self, brightness) -> np.ndarray:
        """Completeness at these brightnesses, in their shape; 0 where they are not positive."""
        brightness = np.asarray(brightness, float)
        known = np.log(np.where(brightness > 0, brightness, 1.0))
        share = self.plateau * ndtr((known - self.middle) / self.width)
        return np.where(brightness > 0, share, 0.0)

    def limit(self, share: float) -> tuple[float, float]:
        """Brightness at which `share` of the sources is found, and its standard error.

        NaN if that share is never reached, or lies beyond the sources that were tried.
        """
        if not 0 < share < self.plateau:
            return np.nan, np.nan
        z = ndtri(share / self.plateau)
        density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
        by_plateau = -self.width * share / self.plateau**2 / density
        slope = [1.0, self.width * z, by_plateau * self.plateau * (1 - self.plateau)]
        value = float(np.exp(self.middle + self.width * z))
        if not self.low <= value <= self.high:
            return np.nan, np.nan
        return value, float(value * np.sqrt(slope @ self.covariance @ slope))

    @property
    def plateau_err(self) -> float:
        """Standard error of the plateau."""
        return float(self.plateau * (1 - self.plateau) * np.sqrt(self.covariance[2, 2]))


def fit_completeness(brightness, found) -> Completeness | None:
    """The curve that makes what was found and lost most likely.

    Parameters
    ----------
    brightness : ndarray (n,)
        Flux or S/N of each source, > 0.
    found : ndarray (n,) bool

    Returns
    -------
    Completeness or None
        None of fewer than `FEWEST` sources, or where none was found.
    """
    brightness, found = np.asarray(brightness, float), np.asarray(found, bool)
    known = np.isfinite(brightness) & (brightness > 0)
    brightness, found = brightness[known], found[known]
    if len(found) < FEWEST or not found.any():
        return None
    u = np.log(brightness)
    theta = _start(u, found)
    best = _posterior(theta, u, found)
    damping = 1e-3
    for _ in range(STEPS):  # Fisher scoring, with steps that are shortened until they climb
        gradient, information = _derivatives(theta, u, found)
        step = np.linalg.solve(information + damping * np.diag(np.diag(information)), gradient)
        value = _posterior(theta + step, u, found)
        if value < best:
            damping *= 10
            continue
        theta, best, damping = theta + step, value, damping / 10
        if np.abs(step).max() < SETTLED:
            break
    covariance = np.linalg.inv(_derivatives(theta, u, found)[1])
    middle, width, plateau = theta[0], np.exp(theta[1]), expit(theta[2])
    return Completeness(
        float(middle), float(width), float(plateau), covariance, len(u),
        float(brightness.min()), float(brightness.max()),
    )  # fmt: skip


def _start(u, found):
    """The likeliest of a coarse grid of (middle, ln width, logit plateau)."""
    grid = [
        (middle, np.log(width), logit(plateau))
        for middle in np.linspace(u.min(), u.max(), STARTS)
        for width in WIDTHS
        for plateau in PLATEAUS
    ]
    return np.array(max(grid, key=lambda theta: _posterior(theta, u, found)))


def _shares(theta, u):
    """Share that is found of each, kept off 0 and 1 by what rounding makes of them."""
    return np.clip(expit(theta[2]) * ndtr((u - theta[0]) / np.exp(theta[1])), 1e-12, 1 - 1e-12)


def _posterior(theta, u, found):
    share = _shares(theta, u)
    plateau = np.clip(expit(theta[2]), 1e-12, 1 - 1e-12)
    usual, spread = USUAL_WIDTH
    off = (theta[0] - u.mean()) / ANYWHERE, (theta[1] - usual) / spread
    prior = HALF * np.log(plateau * (1 - plateau)) - 0.5 * np.sum(np.square(off))
    return np.log(np.where(found, share, 1 - share)).sum() + prior


def _derivatives(theta, u, found):
    """Gradient (3,) of the posterior, and the expected information (3, 3)."""
    width, plateau = np.exp(theta[1]), expit(theta[2])
    z = (u - theta[0]) / width
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    slopes = np.array(
        [-plateau * density / width, -plateau * density * z, plateau * (1 - plateau) * ndtr(z)]
    )
    share = _shares(theta, u)
    weight = 1 / (share * (1 - share))
    gradient = slopes @ (weight * (found - share))
    information = (slopes * weight) @ slopes.T
    usual, spread = USUAL_WIDTH
    gradient += [
        -(theta[0] - u.mean()) / ANYWHERE**2, -(theta[1] - usual) / spread**2,
        HALF * (1 - 2 * plateau),
    ]  # fmt: skip
    information += np.diag([ANYWHERE**-2.0, 1 / spread**2, 2 * HALF * plateau * (1 - plateau)])
    return gradient, information
