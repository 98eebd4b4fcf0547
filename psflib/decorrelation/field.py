"""A filter over the field: exact at nodes, blended between them by few terms.

The nodes are as dense as the filter's change demands, and the terms as few as its variety does;
so the cost is that of a handful of convolutions, whatever the number of nodes, and nothing has
seams.  Bilinear weights sum to one, and so does each filter: the gain at zero frequency is 1
everywhere.
"""

import logging
from collections.abc import Callable

import numpy as np

from psflib.decorrelation.filters import cut, reach
from psflib.image.convolve import VaryingKernel, blend_nodes, constant_kernel, edge_grid

log = logging.getLogger(__name__)

COUNTS = (3, 5, 9, 17)  # nodes an axis; each grid holds the one before


def constant_filter(filter_at: Callable, shape: tuple[int, int]) -> VaryingKernel:
    """The filter of the image's centre, for all of it."""
    psi = filter_at((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    return constant_kernel(cut(psi, reach(psi[None])))


def varying_filter(
    filter_at: Callable, shape: tuple[int, int], accuracy: float = 0.02
) -> VaryingKernel:
    """Blend of the filter over the field.

    Parameters
    ----------
    filter_at : callable (x, y) -> ndarray (k, k) of unit sum
    shape : (ny, nx) of the image
    accuracy : float
        The grid is refined until the blend between its nodes is off by less than this, in the
        L1 norm relative to the filter's own; the finer grid that showed it is the one used, which
        has a quarter of that error.  A quarter of it may be lost to the truncation of the terms.

    Returns
    -------
    VaryingKernel
        Its `weights` are the amplitudes of the terms at the nodes.
    """
    filters = _grid(filter_at, shape, COUNTS[0], None)
    for finer in COUNTS[1:]:
        coarse, filters = filters, _grid(filter_at, shape, finer, filters)
        error = _error_between(coarse, filters)
        if error < accuracy:
            break
    else:
        log.warning(
            "the whitening filter varies faster than %d nodes follow: off by %.3f between them",
            finer, error / 4,
        )  # fmt: skip
    half = reach(filters.reshape(-1, *filters.shape[2:]))
    return blend_nodes(cut(filters, half), *edge_grid(shape, finer), tolerance=accuracy / 4)


def _grid(filter_at, shape, count, known):
    """Filters at all nodes, (count, count, k, k), those of the coarser grid taken over."""
    x, y = edge_grid(shape, count)
    return np.array(
        [
            [
                known[j // 2, i // 2]
                if known is not None and i % 2 == 0 and j % 2 == 0
                else filter_at(x[i], y[j])
                for i in range(count)
            ]
            for j in range(count)
        ]
    )


def _error_between(coarse, fine):
    """Largest L1 error, relative, of the bilinear blend of `coarse` at the nodes of `fine`."""
    blend = np.empty_like(fine)
    blend[::2, ::2] = coarse
    blend[1::2, ::2] = (coarse[1:] + coarse[:-1]) / 2
    blend[:, 1::2] = (blend[:, 2::2] + blend[:, :-2:2]) / 2
    return (np.abs(blend - fine).sum((2, 3)) / np.abs(fine).sum((2, 3))).max()
