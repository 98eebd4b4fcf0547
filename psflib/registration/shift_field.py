"""A smooth map of the shifts that are left between matched positions."""

import dataclasses

import numpy as np

from psflib.image import polynomial

#: Models from the stiffest, and the number of their parameters (both axes): a shift, a
#: similarity, polynomials of degree 1 to 3.
MODELS = {"shift": 2, "similarity": 4, "linear": 6, "quadratic": 12, "cubic": 20}
DEGREES = {"shift": 0, "similarity": 1, "linear": 1, "quadratic": 2, "cubic": 3}
PER_PARAMETER = 1.5  # matched stars (two coordinates each) that a parameter needs
BETTER = 0.01  # share of its loss by which a freer model must win, beside what chance gives it
OUTLIER = 4.685  # standard deviations, of Tukey's biweight: 95 % efficient for Gaussian noise
MOST_LOSS = 9.0  # of one coordinate, in variances
LEAST_SCATTER = 0.01  # px; PSFs of two images never have the same centroid to better than this
ROUNDS = 15
CONVERGED = 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class ShiftField:
    """Shift (dx, dy) in px over a plane of positions.

    Parameters
    ----------
    model : str
        One of `MODELS`.
    coefficients : ndarray (p,)
    low, high : ndarray (2,)
        Corners of the box that the stars cover, px; beyond it, terms above the first degree
        keep the value that they have at its border.
    scatter : float
        px, of one coordinate of a star's residual beyond the noise of its position.
    weight : ndarray (n,)
        Of each pair, 0 (an outlier) to 1.
    residual : ndarray (n, 2)
        px, of each pair as if it had been held out.
    error : float
        px, rms of the field's own error at the stars, both axes together.
    """

    model: str
    coefficients: np.ndarray
    low: np.ndarray
    high: np.ndarray
    scatter: float
    weight: np.ndarray
    residual: np.ndarray
    error: float

    def __call__(self, xy):
        """Shifts (n, 2) at positions (n, 2)."""
        return _design(self.model, xy, self.low, self.high) @ self.coefficients


def fit_shift_field(xy, shift, error, stiffest="shift") -> ShiftField:
    """The smooth field through shifts at positions; stars held out choose its degree.

    Parameters
    ----------
    xy, shift : ndarray (n, 2)
        px.
    error : ndarray (n,)
        px, standard deviation of each coordinate of a shift by noise.
    stiffest : str
        First of `MODELS` to be tried.

    Notes
    -----
    Robust by Tukey's biweight (Holland & Welsch 1977, Comm. Stat. A6, 813).  The residual of a
    star that is held out is that of the fit with it, divided by one minus its leverage.
    """
    names = list(MODELS)[list(MODELS).index(stiffest) :]
    fields = [
        _fit(name, xy, shift, error)
        for name in names
        if name == stiffest or len(xy) >= PER_PARAMETER * MODELS[name]
    ]
    sigma = np.hypot(error, min(field.scatter for field in fields))[:, None]
    losses = [np.minimum(np.square(f.residual / sigma), MOST_LOSS).mean() for f in fields]
    best = 0
    for k in range(1, len(fields)):
        # held out, useless parameters lose by 1/(2n) each on average, but with as much scatter
        freedom = (MODELS[names[k]] - MODELS[names[best]]) / (2 * len(xy))
        if losses[k] < (1 - BETTER - freedom) * losses[best]:
            best = k
    return fields[best]


def _fit(model, xy, shift, error):
    low, high = xy.min(axis=0), xy.max(axis=0)
    design = _design(model, xy, low, high)
    off = shift - np.median(shift, axis=0)
    scatter = _scatter(off, error, 2)
    for _ in range(ROUNDS):
        sigma = np.hypot(error, scatter)
        size = np.sqrt(np.square(off).sum(axis=1) / 2) / sigma
        weight = np.where(size < OUTLIER, np.square(1 - np.square(size / OUTLIER)), 0)
        if not weight.any():
            weight[:] = 1
        scaled = design * np.sqrt(weight)[:, None, None] / sigma[:, None, None]
        flat = scaled.reshape(-1, scaled.shape[2])
        values = (shift * np.sqrt(weight)[:, None] / sigma[:, None]).ravel()
        inverse = np.linalg.pinv(flat.T @ flat, hermitian=True)
        coefficients = inverse @ (flat.T @ values)
        off = shift - design @ coefficients
        last, scatter = scatter, _scatter(off[weight > 0], error[weight > 0], len(coefficients))
        if abs(scatter - last) < CONVERGED * scatter:
            break
    leverage = np.einsum("nip,pq,niq->ni", scaled, inverse, scaled)
    held_out = off / np.maximum(1 - leverage, 0.05)
    own = np.sqrt(np.einsum("nip,pq,niq->n", design, inverse, design).mean())
    return ShiftField(model, coefficients, low, high, scatter, weight, held_out, float(own))


def _scatter(off, error, parameters):
    """Scatter of one coordinate beyond the noise, px: robust, corrected for what was fitted."""
    spread = 1.4826 * np.median(np.abs(off)) * np.sqrt(off.size / max(off.size - parameters, 1))
    noise = np.median(error)
    return float(max(np.sqrt(max(spread**2 - noise**2, 0)), LEAST_SCATTER))


def _design(model, xy, low, high):
    """Terms of both coordinates of the shift: (n, 2, p)."""
    degree = DEGREES[model]
    terms = _terms(degree, xy, low, high)
    if model == "similarity":
        one, u, v = terms
        zero = np.zeros_like(one)
        rows = [[one, zero, u, -v], [zero, one, v, u]]
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    out = np.zeros((len(xy), 2, 2 * len(terms)))
    out[:, 0, : len(terms)] = out[:, 1, len(terms) :] = terms.T
    return out


def _terms(degree, xy, low, high):
    """Chebyshev terms on the square about the box; above degree 1 they are held beyond the box."""
    side = max(float((high - low).max()), 1.0)
    corner = (low + high - side) / 2
    square = int(side) + 1, int(side) + 1
    x, y = (np.clip(xy, low, high) - corner).T
    terms = polynomial.evaluate(degree, x, y, square)
    x, y = (xy - corner).T
    terms[: 3 if degree else 1] = polynomial.evaluate(min(degree, 1), x, y, square)
    return terms
