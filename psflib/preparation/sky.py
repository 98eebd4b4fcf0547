"""Sky level and sky noise of an image.

The sky is a low-order polynomial through a mesh of clipped values, not the mesh itself: a mesh
follows haloes and crowded regions and takes their light away (tried: twice the large-scale error
in crowded fields).  Images whose sky is not smooth at that order can ask for the mesh.
"""

import dataclasses

import numpy as np
import sep

from psflib.errors import BadImage
from psflib.image import polynomial
from psflib.image.covariance import cell_means
from psflib.image.smooth import smoothed
from psflib.loops import footprints as loops

#: Standard deviation of a Gaussian that is clipped at 3 of its own until nothing changes, the root
#: of s² = 1 - 2 c pdf(c) / (2 cdf(c) - 1), c = 3 s.
CLIPPED_RMS = 0.98485


@dataclasses.dataclass(frozen=True)
class Sky:
    """Sky of an image: `level` (ny, nx) float32 and `rms` (ny, nx) float32, both in ADU."""

    level: np.ndarray
    rms: np.ndarray

    @property
    def median_level(self) -> float:
        return float(np.median(self.level[::16, ::16]))

    @property
    def median_rms(self) -> float:
        return float(np.median(self.rms[::16, ::16]))


def fit_sky(image: np.ndarray, usable: np.ndarray, *, box: int = 64, order: int | None = 2) -> Sky:
    """Sky level and noise, sources masked.

    Parameters
    ----------
    image : ndarray (ny, nx) float32, ADU
    usable : ndarray (ny, nx) bool
    box : int
        Side of a mesh cell in pixels; larger than the largest object to be kept.
    order : int or None
        Degree of the polynomial through the mesh; None takes the mesh itself.

    Raises
    ------
    BadImage
        If no pixel is usable.
    """
    if not usable.any():
        raise BadImage("no usable pixel to measure the sky from")
    ny, nx = image.shape
    box = max(8, min(box, ny // 4, nx // 4))
    first = sep.Background(image, mask=~usable, bw=box, bh=box)
    covered = _covered(image, usable, first, box)
    mesh = sep.Background(image, mask=covered, bw=box, bh=box)
    level = mesh.back()
    if order is not None:
        level = _through_mesh(level, covered, _rms(mesh), box, order)
    # A slope across a cell is no noise: 10 % of the sky over 512 px made variances 5 % too large.
    flat = sep.Background(image - level, mask=covered, bw=box, bh=box)
    return Sky(level, _rms(flat))


def _rms(mesh):
    """Noise (ny, nx) float32, ADU, of what sep clipped at 3 sigma."""
    rms = mesh.rms()
    rms *= np.float32(1 / CLIPPED_RMS)
    return np.maximum(rms, 1e-3 * max(mesh.globalrms, 1e-20), out=rms)


def _covered(image, usable, first, box):
    """Unusable pixels and sources; only the brighter sources where the faint ones cover the sky.

    sep takes no value from a cell with half of its pixels masked, and none at all if that holds
    for most cells (9000 stars per Mpx: a sky of 0); better a sky with faint sources in it.
    """
    for threshold, grow in ((3.0, 4), (10.0, 2), (30.0, 2)):
        covered = ~usable | source_mask(
            image, first.back(), first.globalrms, usable, threshold, grow
        )
        if (cell_means(covered, box) < 0.5).mean() > 0.5:
            return covered
    return covered if covered.mean() <= 0.9 else ~usable


def source_mask(image, level, rms, usable, threshold=3.0, grow=4) -> np.ndarray:
    """Pixels of sources: smoothed by 1 px, above `threshold` sigma, grown by `grow` px."""
    smooth = smoothed(np.where(usable, image - level, 0), 1.0)
    # a Gaussian of sigma 1 lowers white noise to 1/sqrt(4 pi) = 0.28
    above = smooth > threshold * 0.28 * rms
    core = above.copy()  # a pixel and its four neighbours, that single pixels of noise do not make
    core[1:] &= above[:-1]
    core[:-1] &= above[1:]
    core[:, 1:] &= above[:, :-1]
    core[:, :-1] &= above[:, 1:]
    out = np.empty_like(core)
    loops.grow(core, grow, out)
    return out


def _through_mesh(back, covered, rms, box, order):
    """Robust polynomial through the mesh values, each weighted by its free pixels."""
    ny, nx = back.shape
    y = np.arange(box // 2, ny, box)
    x = np.arange(box // 2, nx, box)
    free = 1 - cell_means(covered, box, (len(y), len(x)))
    # two rows of cells do not tell a slope from a curvature
    order = min(order, _order_for(int((free > 0.1).sum())), len(x) - 1, len(y) - 1)
    gx, gy = np.meshgrid(x, y)
    good = free > 0.1 if (free > 0.1).sum() >= polynomial.n_terms(order) else free >= 0
    values = back[gy, gx].astype(float)[good]
    errors = (rms[gy, gx] / np.sqrt(np.maximum(free, 0.01) * box * box))[good]
    px, py = np.meshgrid(_middles(x, box, nx), _middles(y, box, ny))
    coefficients, _ = polynomial.fit_robust(order, px[good], py[good], values, errors, back.shape)
    return polynomial.product_map(coefficients, order, back.shape)


def _middles(nodes, box, length):
    """Where the light of each cell lies: a cell cut by the border has its node off its middle."""
    start = nodes - box // 2
    return (start + np.minimum(start + box, length)) // 2


def _order_for(n_cells):
    """Highest order that `n_cells` mesh values hold up."""
    return max(o for o in range(4) if o == 0 or n_cells >= 2 * polynomial.n_terms(o))
