"""Sums within circles, pixels on the rim with exactly the area that lies inside."""

import numpy as np

from psflib.psf.extended import radii

HALF_DIAGONAL = np.sqrt(0.5)  # px


def disc_share(dy, dx, radius):
    """Area (px²) of pixels that lies within a circle, exact.

    Parameters
    ----------
    dy, dx : ndarray
        Centres of the pixels, px from that of the circle.
    radius : float
        px.

    Returns
    -------
    ndarray float64
        0 to 1.
    """
    bottom, top, left, right = dy - 0.5, dy + 0.5, dx - 0.5, dx + 0.5
    return (
        _from_centre(top, right, radius) - _from_centre(top, left, radius)
        - _from_centre(bottom, right, radius) + _from_centre(bottom, left, radius)
    )  # fmt: skip


def disc(shape, radius):
    """`disc_share` of the pixels of an odd array about its centre pixel."""
    y, x = (np.arange(n) - n // 2.0 for n in shape)
    return disc_share(y[:, None], x[None, :], radius)


def enclosed_energy(plane, edges):
    """Sum of a centred plane (h, h), h odd, within each of the circles `edges` (px)."""
    radius = radii(plane.shape)
    order = np.argsort(radius, axis=None)
    dy, dx = (part - n // 2 for part, n in
              zip(np.unravel_index(order, plane.shape), plane.shape, strict=True))  # fmt: skip
    radius, light = radius.ravel()[order], plane.ravel()[order]
    total = np.concatenate([[0.0], np.cumsum(light)])
    out = []
    for edge in edges:
        rim = slice(*np.searchsorted(radius, [edge - HALF_DIAGONAL, edge + HALF_DIAGONAL]))
        out.append(total[rim.start] + np.sum(light[rim] * disc_share(dy[rim], dx[rim], edge)))
    return np.array(out)


def _from_centre(y, x, radius):
    """Signed area of the disc within the rectangle from its centre to (y, x)."""
    sign = np.sign(y) * np.sign(x)
    y, x = np.minimum(np.abs(y), radius), np.minimum(np.abs(x), radius)
    flat = np.minimum(np.sqrt(radius**2 - y**2), x)  # so far the rectangle's edge is inside
    return sign * (flat * y + _below_arc(x, radius) - _below_arc(flat, radius))


def _below_arc(x, radius):
    """∫ sqrt(radius² - t²) dt from 0 to x."""
    inside = np.sqrt(np.maximum(radius**2 - x**2, 0))
    angle = np.arcsin(np.clip(x / max(radius, 1e-300), -1, 1))
    return 0.5 * (x * inside + radius**2 * angle)
