"""The sky well outside the haloes, at the place of every bright star.

What stamps cannot know (see `gauge`) is measured here: a polynomial through cells of the
image without its haloes.  A zero of the wing that is still wrong leaves light about the stars that
is in proportion to their fluxes (the lift); it is fitted beside the polynomial, or the sky would
take it.  A cell weighs the less the more halo was taken from it that no stamp has seen; what
remains is common to all stars, and so is its error.
"""

import numpy as np

from psflib.image import polynomial
from psflib.loops import cells
from psflib.psf.wings.stars import TUKEY, sources_in

BOX = 48  # px, side of a cell; larger in images with more than 24 of them a side
STRIDE = 2  # every second pixel is enough for a mean
LEAST_FREE = 0.25  # of a cell
ORDER = 2  # as in `prepare`, whose polynomial took a part of the haloes for sky
HALO_ERROR = 0.4  # relative, of what was taken off beyond all stamps: an aureole has twice as much
KNOWN_ERROR = 0.02  # the same within them
FEWEST_CELLS = 8
PASSES = 4  # of the robust mean of a cell
OUTSIDE = 2.0  # a cell is outside if its halo is below this many times its own error


def sky_cells(rest, weight, haloes, fwhm, norm=None):
    """Clipped means of the cells of an image without haloes.

    Parameters
    ----------
    rest, weight : ndarray (ny, nx) float32
        Image minus haloes, and inverse variance.
    haloes : ndarray (3, ny, nx) float32
        The haloes; their part beyond the stamps; the lift, ADU per unit of the wing.
    norm : ndarray (ny, nx), optional
        `search_norm` of `weight`, if it is known already.

    Returns
    -------
    ndarray (n, 7)
        x, y, mean, its error, and the means of `haloes`.
    """
    box = max(16, min(BOX, min(rest.shape) // 5), max(rest.shape) // 24)
    good = (weight > 0) & ~sources_in(rest, weight, fwhm, norm=norm)
    rows, columns = (-(-n // box) for n in rest.shape)
    known = np.empty((rows * columns, 7))
    cells.robust_cells(
        rest, weight, good, haloes, box, STRIDE, LEAST_FREE, TUKEY, PASSES, known
    )  # fmt: skip
    return known[np.isfinite(known).all(1)]  # a halo may be beyond what float32 holds


def tukey_mean(values, weight):
    """Mean with Tukey's weights, as skies are fitted beside a star, and its error."""
    found = np.empty(2)
    cells.tukey_mean(values.astype(float), weight.astype(float), TUKEY, PASSES, found)
    return float(found[0]), float(found[1])


class OutsideSky:
    """Polynomial through the cells: level and errors anywhere.

    Attributes
    ----------
    scatter : float
        ADU, of the cells about it beyond their errors: what the sky may differ by at any place.
    n_outside : int
        Cells with next to no halo.
    """

    def __init__(self, cells, shape):
        self.shape, self.cells = shape, cells
        x, y, level, error, halo, far, lift = cells.T
        self.n_outside = int(np.sum(halo < OUTSIDE * error))
        doubt = np.hypot(HALO_ERROR * far, KNOWN_ERROR * (halo - far))
        self.order = max(
            order for order in range(ORDER + 1)
            if order == 0 or len(cells) >= 3 * polynomial.n_terms(order)
        )  # fmt: skip
        terms = polynomial.evaluate(self.order, x, y, shape)
        scale = max(float(np.abs(lift).max(initial=0)), 1e-300)
        design = np.vstack([terms, lift / scale])
        spread = np.hypot(error, doubt)
        for _ in range(2):
            found, residual = polynomial.solve_robust(design.T, level, spread)
            sigma = 1.4826 * np.median(np.abs(residual * spread))
            self.scatter = float(np.sqrt(max(sigma**2 - np.median(error) ** 2, 0)))
            spread = np.sqrt(error**2 + self.scatter**2 + doubt**2)
        self.coefficients = found[:-1]
        scaled = design / spread
        solver = (np.linalg.pinv(scaled.T) / spread)[:-1]  # coefficients = solver · levels
        self._covariance = solver @ np.diag(spread**2) @ solver.T
        self._halo = solver @ (HALO_ERROR * far)

    def at(self, x, y):
        """Level at (x, y), its error that is independent from star to star, and the common one."""
        terms = polynomial.evaluate(self.order, np.asarray(x, float), np.asarray(y, float),
                                    self.shape)  # fmt: skip
        level = self.coefficients @ terms
        formal = np.einsum("in,ij,jn->n", terms, self._covariance, terms)
        common = np.sqrt(formal + (self._halo @ terms) ** 2)
        return level, np.full(level.shape, max(self.scatter, 1e-12)), common
