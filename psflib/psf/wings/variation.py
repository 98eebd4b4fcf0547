"""`WingVariation`: how bright the wing is over the field, ring by ring."""

import dataclasses

import numpy as np

LEAST_FACTOR = 0.2  # of the wing, however far a place is from the stars that told


@dataclasses.dataclass(frozen=True, eq=False)
class WingVariation:
    """The wing at (x, y) is the stored one times 1 + Σ_k t_k(r) (s_k · (x - x0, y - y0)/scale).

    t_k are tents in log r with their tops at `radii`; inside the first and beyond the last they
    stay level.

    Parameters
    ----------
    radii : ndarray (k,) float64
        px, ascending.
    slopes, errors : ndarray (k, 2) float64
        Along x and y, a relative change per `scale`, and standard errors; 0 where the stars tell
        none.
    energy : ndarray (k,) float64
        Light of the wing under each tent within `ee_radius`: what a change of 1 adds to the sum.
    centre : (float, float)
        (x0, y0), px.
    scale : float
        px.
    """

    radii: np.ndarray
    slopes: np.ndarray
    errors: np.ndarray
    energy: np.ndarray
    centre: tuple[float, float]
    scale: float

    def changes(self, x: float, y: float) -> np.ndarray:
        """Relative change (k,) of the wing at a place."""
        place = np.array([x - self.centre[0], y - self.centre[1]]) / self.scale
        return np.maximum(self.slopes @ place, LEAST_FACTOR - 1)

    def factor(self, x: float, y: float, radius) -> np.ndarray:
        """Factor of the wing at a place and radius (px, array)."""
        return 1 + np.tensordot(self.changes(x, y), tents(radius, self.radii), 1)

    def total(self, x: float, y: float) -> float:
        """Sum of core and wing within `ee_radius` before they are scaled to 1."""
        return 1 + float(self.changes(x, y) @ self.energy)


def tents(radius, nodes) -> np.ndarray:
    """Shares (k, ...) of the nodes at radii (px, array): piecewise linear in log r, of sum 1."""
    where = np.interp(np.log(np.maximum(radius, 1e-3)), np.log(nodes), np.arange(len(nodes)))
    steps = np.arange(len(nodes)).reshape(-1, *(1,) * np.ndim(radius))
    return np.clip(1 - np.abs(where - steps), 0, None)
