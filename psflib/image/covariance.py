"""Covariance of the noise of neighbouring pixels, as maps of low resolution."""

import dataclasses

import numpy as np

from psflib.image.convolve import bilinear
from psflib.loops.cells import cell_sums

LAGS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (dy, dx); the other four of the nearest are the same
SPACING = 64  # px, side of a map's cell


@dataclasses.dataclass(frozen=True, eq=False)
class CovarianceMaps:
    """Covariance of the noise of a pixel and of its neighbours.

    maps : ndarray (4, ny, nx) float32
        ADU², mean of each cell, at the lags (dy, dx) of `lags`.
    spacing : int
        Side of a cell, px; cell (0, 0) begins at pixel (0, 0).
    """

    maps: np.ndarray
    spacing: int = SPACING
    lags: tuple = LAGS

    def at(self, x: float, y: float) -> np.ndarray:
        """Covariance at (x, y), ADU², one value a lag."""
        middle = self.spacing * np.arange(max(self.maps.shape[1:])) + (self.spacing - 1) / 2
        return bilinear(
            self.maps, middle[: self.maps.shape[2]], middle[: self.maps.shape[1]],
            np.float64(x), np.float64(y),
        )  # fmt: skip


def cell_means(plane: np.ndarray, spacing: int = SPACING, counts=None) -> np.ndarray:
    """Mean of each cell, (ny, nx) float64.

    The last row and column may be smaller cells; with fewer cells asked for by `counts` (ny, nx),
    the last ones take what is left.
    """
    counts = counts or [-(-n // spacing) for n in plane.shape]
    cells = [
        np.minimum(np.arange(n) // spacing, count - 1)
        for n, count in zip(plane.shape, counts, strict=True)
    ]
    total = np.zeros(counts)
    cell_sums(plane, *cells, total)
    return total / np.outer(
        *(np.bincount(of, minlength=n) for of, n in zip(cells, counts, strict=True))
    )


def cell_centres(shape: tuple[int, int], spacing: int = SPACING):
    """Positions (x, y) of the cells' centres, inside the image."""
    y, x = (np.minimum(np.arange(0, n, spacing) + (spacing - 1) / 2, n - 1) for n in shape)
    return x, y
