"""Variance of empty sky, as a smooth function of the position."""

import numpy as np

CELL = 128  # px, side of the cells whose median counts
STEP = 4  # px, between the pixels that are looked at
FEW = 30  # pixels of sky that a cell needs


class SkyVariance:
    """Smooth variance of empty sky, without the photon noise of sources.

    The median of each cell's sky, and a straight surface through the cells around: an average
    would be biased at the border wherever the sky has a gradient.

    Parameters
    ----------
    variance : ndarray (ny, nx) float32
        ADU².
    sky : ndarray (ny, nx) bool
        Empty sky with data; all data if there is too little of it.
    """

    def __init__(self, variance: np.ndarray, sky: np.ndarray):
        places = [
            (y0, x0) for y0 in _starts(sky.shape[0], STEP) for x0 in _starts(sky.shape[1], STEP)
        ]
        cells = [_cell(variance, sky, y0, x0) for y0, x0 in places]
        cells = [c for c in cells if c is not None]
        if not cells:
            known = variance[variance > 0]
            typical = float(np.median(known[::STEP])) if known.size else 1.0
            cells = [((sky.shape[1] - 1) / 2, (sky.shape[0] - 1) / 2, typical, 1.0)]
        self._x, self._y, self._value, self._weight = np.array(cells).T

    def __call__(self, x: float, y: float) -> float:
        """Variance of the sky at (x, y), ADU²."""
        dx, dy = (self._x - x) / CELL, (self._y - y) / CELL
        distance = dx**2 + dy**2
        weight = self._weight * np.exp(-0.5 * (distance - distance.min()))
        design = np.stack([np.ones_like(dx), dx, dy])
        normal = (design * weight) @ design.T
        normal[[1, 2], [1, 2]] += 1e-2 * weight.sum()  # cells in one line tell no slope across it
        value = np.linalg.solve(normal, (design * weight) @ self._value)[0]
        return float(np.clip(value, self._value.min() / 2, self._value.max() * 2))

    @property
    def typical(self) -> float:
        """Median over the cells, ADU²."""
        return float(np.median(self._value))


def _starts(n, step):
    """Edges of cells of about `CELL` px, whole steps."""
    count = max(1, round(n / CELL))
    return [step * (i * n // (count * step)) for i in range(count)]


def _cell(variance, sky, y0, x0):
    """Centre, median and weight of the cell that begins at (y0, x0); None without sky."""
    sizes = [n / max(1, round(n / CELL)) for n in sky.shape]
    box = np.s_[y0 : y0 + int(sizes[0]) : STEP, x0 : x0 + int(sizes[1]) : STEP]
    good = sky[box]
    if good.sum() < FEW:
        return None
    y, x = np.nonzero(good)
    value = float(np.median(variance[box][good]))
    return x0 + STEP * x.mean(), y0 + STEP * y.mean(), value, float(good.mean())
