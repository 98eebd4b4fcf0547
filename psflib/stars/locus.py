"""The stellar locus: stars all have the size of the PSF, which varies smoothly over the field."""

import dataclasses

import numpy as np

from psflib.image import polynomial

FEWEST = 5  # sources, to see a locus among them
DRAWS = 1500  # of three sources that may be stars
STEEPEST = 0.4  # change of ln(size) from the centre to an edge
BELOW = 1.0  # what a source below the locus costs, against the gain of one on it
WORTH = 8.0  # a higher degree must lower chi² by this much a term
MEMBERS_A_TERM = 4
MOST_ORDER = 3
MOST_BEND = 0.2  # of the polynomial in ln(size), away from the plane
SIGNIFICANT = 2.0
# Sizes of bright stars scatter by less (measured: 0.003 to 0.016), small galaxies by 0.04; in
# undersampled images the sub-pixel phase adds to it, 0.04 at FWHM 1.3 px.
LOOSE = 0.03
PHASES_BELOW = 2.0  # px
PHASE_SPREAD = 0.1  # more for each factor of e in size


@dataclasses.dataclass(frozen=True)
class Locus:
    """Which sources have the size of a star, and how sure that is.

    Parameters
    ----------
    member : ndarray (n,) bool
    coefficients : ndarray (k,) float64
        Of ln(size / px) of a star over the field.
    plane : ndarray (3,) float64
        Its first guess; far from all stars it binds the polynomial, which may run away there.
    shape : (ny, nx)
        Of the image.
    order : int
        Degree of the polynomial; -1 if there were too few sources to see a locus.
    significance : float
        Members over as many sources as stand beside the locus, in standard errors.
    spread : float
        Of ln(size) of the brighter half of the members about the polynomial.
    """

    member: np.ndarray
    coefficients: np.ndarray
    plane: np.ndarray
    shape: tuple[int, int]
    order: int
    significance: float
    spread: float

    @property
    def state(self) -> str:
        """'clear', 'doubtful' (sizes do not crowd at one value), or 'too few' to tell."""
        if self.order < 0:
            return "too few"
        undersampled = max(0.0, np.log(PHASES_BELOW) - self.coefficients[0])
        tight = self.spread <= LOOSE + PHASE_SPREAD * undersampled
        return "clear" if self.significance >= SIGNIFICANT and tight else "doubtful"

    def size(self, x, y) -> np.ndarray:
        """Size (px) that a star has at (x, y)."""
        near = self.plane @ polynomial.evaluate(1, x, y, self.shape)
        terms = polynomial.evaluate(max(self.order, 0), x, y, self.shape)
        return np.exp(np.clip(self.coefficients @ terms, near - MOST_BEND, near + MOST_BEND))


def stellar_locus(x, y, size, snr, shape, width, seed=0) -> Locus:
    """Find the sources that have the size of a star.

    ln(size) of stars is a low-order polynomial of the position with a small scatter; galaxies are
    larger, blends too, and next to nothing is smaller.  Of many planes through three sources, the
    one with most sources on it and fewest below it is taken, then refined to a polynomial whose
    degree the data choose, fitted and clipped in turn.

    Parameters
    ----------
    x, y, size, snr : ndarray (n,)
        Position (px), FWHM (px), S/N.
    shape : (ny, nx)
        Of the image.
    width : float
        Widest accepted deviation of ln(size).
    seed : int
        Of the draws.

    Returns
    -------
    Locus
        With fewer than 5 sources, members are those within 2.5 `width` of the median of the
        smaller half.
    """
    x, y, size, snr = (np.asarray(a, float) for a in (x, y, size, snr))
    log_size = np.log(size)
    if len(size) < FEWEST:
        return _of_few(log_size, shape, width)
    error = np.hypot(0.02, 1 / snr)
    plane = _best_plane(x, y, log_size, error, shape, 0.6 * width, seed)
    residual = log_size - plane @ polynomial.evaluate(1, x, y, shape)
    member = np.abs(residual) < width
    for _ in range(8):
        order, coefficients = _fit(x, y, log_size, error, member, shape)
        found = Locus(member, coefficients, plane, tuple(shape), order, 0.0, 0.0)
        residual = log_size - np.log(found.size(x, y))
        again = np.abs(residual) < _limit(residual, member, snr, width)
        if again.sum() < FEWEST or np.array_equal(again, member):
            break
        member = again
    bright = member & (snr >= np.median(snr[member]))
    return dataclasses.replace(
        found, member=member, significance=_significance(residual, member),
        spread=float(_spread(residual[bright])),
    )  # fmt: skip


def _of_few(log_size, shape, width):
    """A handful of sources: the smaller half's median, if there is any."""
    typical = np.median(np.sort(log_size)[: (len(log_size) + 1) // 2]) if len(log_size) else 0.0
    member = np.abs(log_size - typical) < 2.5 * width
    level = np.array([typical, 0.0, 0.0])
    return Locus(member, level[:1], level, tuple(shape), -1, 0.0, 0.0)


def _best_plane(x, y, log_size, error, shape, width, seed):
    """Coefficients (3,) of the plane on which most stand and below which fewest."""
    slopes = polynomial.evaluate(1, x, y, shape).T
    rng = np.random.default_rng(seed)
    flat = np.sort(log_size)[:: max(1, len(log_size) // 300)]
    planes = np.zeros((len(flat), 3))
    planes[:, 0] = flat
    if len(log_size) >= 3 * MEMBERS_A_TERM:
        drawn = rng.integers(0, len(log_size), (DRAWS, 3))
        drawn = drawn[(np.diff(np.sort(drawn, axis=1), axis=1) > 0).all(axis=1)]
        corners = slopes[drawn]
        solid = np.abs(np.linalg.det(corners)) > 0.1
        found = np.linalg.solve(corners[solid], log_size[drawn[solid], None])[..., 0]
        planes = np.vstack([planes, found[(np.abs(found[:, 1:]) < STEEPEST).all(axis=1)]])
    reach = np.hypot(width, 2 * error)
    weight = 1 / error  # the bright tell stars from galaxies
    score = np.empty(len(planes))
    for k, plane in enumerate(planes):
        away = (log_size - slopes @ plane) / reach
        on = np.clip(1 - away * away, 0, None)
        score[k] = weight @ on - BELOW * weight[away < -1].sum()
    return planes[np.argmax(score)]


def _fit(x, y, log_size, error, member, shape):
    """Polynomial through the members, of the degree that they ask for: degree, coefficients."""
    at, values, error = (x[member], y[member]), log_size[member], error[member]
    best, chi2 = None, np.inf
    for order in range(MOST_ORDER + 1):
        terms = polynomial.n_terms(order)
        if order and len(values) < MEMBERS_A_TERM * terms:
            break
        coefficients, residual = polynomial.fit_robust(order, *at, values, error, shape)
        now = np.sum(np.minimum(residual**2, 9.0)) + WORTH * terms
        if now < chi2:
            best, chi2 = (order, coefficients), now
    return best


def _limit(residual, member, snr, width):
    """Accepted deviation of each source: three times the scatter of members and its own error."""
    spread = _spread(residual[member])
    return np.clip(3 * np.hypot(max(spread, 0.01), 0.5 / snr), 0.03, width)


def _spread(residual):
    """Robust standard deviation about 0."""
    return 1.4826 * np.median(np.abs(residual)) if len(residual) else 0.0


def _significance(residual, member):
    """Members' excess over the denser of the two strips beside them, of the same width."""
    half = np.max(np.abs(residual[member]), initial=0.03)
    inside = np.sum(np.abs(residual) <= half)
    above = np.sum((residual > half) & (residual <= 3 * half))
    below = np.sum((residual < -half) & (residual >= -3 * half))
    beside = max(above, below)
    return float((inside - beside) / np.sqrt(max(inside + beside, 1)))
