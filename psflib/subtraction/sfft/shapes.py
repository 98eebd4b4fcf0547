"""Single pixels in the middle of a kernel and smooth bumps further out, where it is smooth."""

import numpy as np

from psflib.image.splines import b_splines

LEAST = 0.05  # of its sum that a bump must have in the outer part


def mixed_shapes(half: int, inner: float, spacing: float = 3.0) -> np.ndarray:
    """Shapes of a kernel of side 2 half + 1: a disc, for the corners would be noise alone.

    A box of 3 FWHM has 600 pixels, most of them in the faint wings; what the mixture leaves is
    a fourth (the idea, with blocks in place of bumps: Bramich et al. 2013, MNRAS 428, 2275).

    Parameters
    ----------
    inner : float
        Radius (px) up to which every pixel is free.
    spacing : float
        px between the quadratic B-splines beyond; all pixels are free if `half` is below inner.

    Returns
    -------
    ndarray (n_shapes, side²) float64
        Bumps have unit sum.
    """
    line = np.arange(-half, half + 1)
    radius = np.hypot(line[:, None], line[None, :]).ravel()
    pixels = np.eye(len(radius))[radius <= inner]
    outside = (radius > inner) & (radius <= max(half, inner) + 0.5)
    if not outside.any():
        return pixels
    count = max(1, round((2 * half + 1) / spacing))
    step = (2 * half + 1) / count
    knots = -half - 0.5 + step * np.arange(-2, count + 3)
    values = b_splines(line.astype(float), knots, 2)
    bumps = np.einsum("iy,jx->ijyx", values, values).reshape(-1, len(radius))
    share = (bumps * outside).sum(1) / bumps.sum(1)
    bumps = (bumps * outside)[share > LEAST]
    return np.concatenate([pixels, bumps / bumps.sum(1, keepdims=True)])
