"""A varying filter with fewer nodes or terms, to see what they are good for."""

import numpy as np

from psflib.image.convolve import BilinearWeights, VaryingKernel, blend_nodes, edge_grid


def reduced(
    whitening: VaryingKernel, shape: tuple[int, int], nodes: int, rank: int
) -> VaryingKernel:
    """The filter known at nodes x nodes places only, with `rank` terms beside its mean.

    Parameters
    ----------
    whitening : VaryingKernel
        As `decorrelate` applies it.
    shape : (ny, nx) of the image
    nodes : int
        Places on each axis, the first and last at the borders; 1 is the centre.
    rank : int
        Terms that vary, the strongest first; 0 is the mean over the nodes.

    Returns
    -------
    VaryingKernel
        Of unit sum everywhere.
    """
    if nodes < 1 or rank < 0:
        raise ValueError(f"nodes must be positive and rank not negative; got {nodes} and {rank}")
    x, y = edge_grid(shape, nodes)
    blend = blend_nodes(np.array([[whitening.at(i, j) for i in x] for j in y]), x, y, 1e-6)
    strengths = blend.weights(x[None, :], y[:, None])  # at the nodes, those themselves
    return VaryingKernel(blend.images[: rank + 1], BilinearWeights(strengths[: rank + 1], x, y))
