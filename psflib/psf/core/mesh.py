"""Where the B-splines of a model stand: at every node in the core, at every third in the wing.

The prior lets a wing bend so little that splines of a pixel's width follow it as well as those of
a third of one, and the banded factors of the normal equations cost a tenth.  Knots only are left
out, so that what the mesh can say the nodes can say, and nothing is interpolated.
"""

import dataclasses
import functools

import numpy as np

from psflib.image.splines import b_splines
from psflib.psf.core.smoothness import expected_light

COARSER = 3  # nodes between knots in the wing
CORE = 0.02  # of the peak: where the model is fainter, everywhere farther out, its wing begins
MARGIN = 1.0  # px, added to that
FEWEST = 12  # nodes in the wing on each side; with less nothing is to be gained
ROUNDING = 1e-9  # of the spread of a spline over nodes, which is 1 at most


@dataclasses.dataclass(frozen=True, eq=False)
class Mesh:
    """Splines along one axis, the same along rows and columns.

    Parameters
    ----------
    spread : ndarray (n, m)
        Coefficient on each of n nodes of a model that is 1 on one of the m splines.
    first : ndarray (n - 3,) int64
        The first of the four splines that are seen by the nodes k ... k + 3.
    blocks : ndarray (n - 3, 4, 4)
        Taps of those splines from taps (last axis) of these nodes.
    gather : ndarray (m, n)
        Coefficients of the splines from those on the nodes, by least squares: a left inverse.
    """

    spread: np.ndarray
    first: np.ndarray
    blocks: np.ndarray
    gather: np.ndarray

    @property
    def whole(self):
        """True if there is a spline at every node."""
        return self.spread.shape[0] == self.spread.shape[1]

    def extend(self, coef):
        """Coefficients (..., n, n) on the nodes, from those of the splines (..., m, m)."""
        return coef if self.whole else self.spread @ coef @ self.spread.T

    def restrict(self, coef):
        """Coefficients (..., m, m) of the splines, from those on the nodes (..., n, n)."""
        return coef if self.whole else self.gather @ coef @ self.gather.T

    def adjoint(self, image):
        """What `extend` is to models, to their products with images (..., n, n): (..., m, m)."""
        return image if self.whole else self.spread.T @ image @ self.spread

    def places(self, vector):
        """`start` (k,), `taps` (k, 4) of a difference (at most 4,) at all k places on the nodes."""
        n, length = len(self.spread), len(vector)
        at = np.arange(n - length + 1)
        cell = np.minimum(at, n - 4)
        fine = np.zeros((len(at), 4))
        fine[np.arange(len(at))[:, None], (at - cell)[:, None] + np.arange(length)] = vector
        return self.first[cell], np.einsum("kab,kb->ka", self.blocks[cell], fine)


def whole_mesh(side) -> Mesh:
    """A spline at each of `side` nodes."""
    one = np.eye(side)
    return Mesh(one, np.arange(side - 3), np.tile(np.eye(4), (side - 3, 1, 1)), one)


def mesh_for(psi, oversample) -> Mesh:
    """Mesh for a model like `psi` (os·s, os·s): fine as far as its light goes."""
    side = len(psi)
    axis = np.abs(np.arange(side) - (side - 1) / 2)
    bright = expected_light(psi) > CORE * psi.max()
    reach = (np.maximum(axis[:, None], axis) * bright).max() + MARGIN * oversample
    if oversample < COARSER or (side - 1) / 2 - reach < FEWEST:
        return whole_mesh(side)
    return coarse_mesh(side, int(reach))


@functools.lru_cache(maxsize=8)
def coarse_mesh(side, reach) -> Mesh:
    """Splines at every node up to `reach` nodes from the middle, at every third beyond."""
    # Nodes 1 ... side - 2 are the knots of the splines of all nodes; both halves are alike.
    middle, last = side // 2, side - 2
    half = list(range(middle, middle + reach + 1))
    while last - half[-1] >= 2 * COARSER:
        half.append(half[-1] + COARSER)
    outwards = np.array([*half, last])
    knots = np.unique(np.concatenate([side - 1 - outwards, outwards]))
    first = np.searchsorted(knots, np.arange(1, side - 2), side="right") - 1
    spread = _on_nodes(knots, side)
    blocks = np.array([
        spread[cell : cell + 4, start : start + 4].T for cell, start in enumerate(first)
    ])  # fmt: skip
    return Mesh(spread, first, blocks, np.linalg.pinv(spread))


def _on_nodes(knots, side):
    """Coefficients (side, m) on the nodes of each cubic B-spline of `knots`."""
    beyond = np.arange(1, 4)
    own = np.concatenate([
        (knots[0] - beyond * (knots[1] - knots[0]))[::-1], knots,
        knots[-1] + beyond * (knots[-1] - knots[-2]),
    ]).astype(float)  # fmt: skip
    nodes = np.arange(-2.0, side + 2)
    # four places a cell determine a cubic; they are the middles of its quarters
    at = np.arange(1, side - 2)[:, None] + (np.arange(4) + 0.5) / 4
    fine, coarse = (b_splines(at.ravel(), np.asarray(k, float), 3).T for k in (nodes, own))
    spread = np.linalg.lstsq(fine, coarse, rcond=None)[0]
    return np.where(np.abs(spread) > ROUNDING, spread, 0.0)
