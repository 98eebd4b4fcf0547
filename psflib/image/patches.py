"""Patches of marked pixels that hang together, corners included."""

import numpy as np
from scipy import ndimage


def patch_centres(marked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (row, column), px, and number of pixels of each patch, in the order of its first.

    Parameters
    ----------
    marked : ndarray (ny, nx) bool

    Returns
    -------
    centres : ndarray (n, 2) float64
    area : ndarray (n,) int
    """
    # scipy's center_of_mass goes over the plane once for every sum; patches are few pixels
    labels, _ = ndimage.label(marked, structure=np.ones((3, 3)))
    places = np.nonzero(labels)
    which = labels[places] - 1
    area = np.bincount(which)
    return np.stack([np.bincount(which, at) / area for at in places], 1), area
