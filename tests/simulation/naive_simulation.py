"""What the loops of the simulator do, one pixel at a time."""

import numpy as np


def point_source(shape, x, y, flux, core_radius, g1, g2, beta, wing, wing_radius, radius):
    """Image of one source: sheared Moffat and circular wing, cut at `radius`."""
    row, col = np.indices(shape)
    dx, dy = col - x, row - y
    shear = np.array([[1 + g1, g2], [g2, 1 - g1]]) / np.sqrt(1 - g1**2 - g2**2)
    u, v = np.einsum("ij,jyx->iyx", np.linalg.inv(shear), np.array([dx, dy]))
    core = (beta - 1) / (np.pi * core_radius**2) * (1 + (u**2 + v**2) / core_radius**2) ** -beta
    far = 1 / (2 * np.pi * wing_radius**2) * (1 + (dx**2 + dy**2) / wing_radius**2) ** -1.5
    return np.where(np.hypot(dx, dy) <= radius, flux * ((1 - wing) * core + wing * far), 0)
