"""Part of a plane about a place."""

import numpy as np


def cutout(plane: np.ndarray, x: float, y: float, side: int) -> np.ndarray:
    """The plane about a place, in its own floating type; NaN outside of it.

    Parameters
    ----------
    plane : ndarray (ny, nx)
    x, y : float
        0-based px; all is NaN if one is not finite.
    side : int
        px, odd; the pixel nearest to (x, y) is in the middle.

    Returns
    -------
    ndarray (side, side)
    """
    out = np.full((side, side), np.nan, np.result_type(plane, np.float32))
    if not np.isfinite([x, y]).all():
        return out
    row, col = round(float(y)) - side // 2, round(float(x)) - side // 2
    ny, nx = plane.shape
    y0, y1, x0, x1 = max(row, 0), min(row + side, ny), max(col, 0), min(col + side, nx)
    if y0 < y1 and x0 < x1:
        out[y0 - row : y1 - row, x0 - col : x1 - col] = plane[y0:y1, x0:x1]
    return out
