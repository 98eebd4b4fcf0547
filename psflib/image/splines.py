"""B-splines on any knots."""

import numpy as np


def b_splines(x: np.ndarray, knots: np.ndarray, degree: int) -> np.ndarray:
    """Values of all B-splines at `x`, by the recursion of Cox and de Boor.

    `scipy.interpolate` has the same, but adds a tenth or more to what each job imports.

    Parameters
    ----------
    x : ndarray (m,) float64
        Within knots[degree] to knots[-degree - 1], the last one included.
    knots : ndarray (n + degree + 1,) float64
        Ascending; multiple knots are allowed.
    degree : int

    Returns
    -------
    ndarray (n, m) float64
        Of sum 1 over the n splines.
    """
    last = np.searchsorted(knots, knots[-1]) - 1  # the interval that holds the right end
    where = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, last)
    value = (np.arange(len(knots) - 1)[:, None] == where).astype(float)
    for k in range(1, degree + 1):
        width = knots[k:] - knots[:-k]
        inverse = np.divide(1.0, width, out=np.zeros(len(width)), where=width > 0)
        rising = (x - knots[: -k - 1, None]) * inverse[:-1, None]
        falling = (knots[k + 1 :, None] - x) * inverse[1:, None]
        value = rising * value[:-1] + falling * value[1:]
    return value
