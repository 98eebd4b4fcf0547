"""Shape of a kernel or PSF in three numbers: maxima, place and elongation."""

import numpy as np
from scipy import ndimage

SADDLES = np.linspace(0.01, 0.97, 33)  # of the first maximum, above which a second is looked for
OUT = 0.15  # of it, that the second stands out of the saddle between them
WINDOW = 2.0  # px, standard deviation of the window in which a kernel's core is looked for ...
ROUNDS = 20  # in so many steps


def lobes(image) -> float:
    """Height of the second maximum over the first, of a kernel or PSF smoothed by a pixel.

    One that stands out of its saddle: rings and trails have many on one ridge.
    """
    smooth = ndimage.gaussian_filter(image, 1.0)
    if not smooth.max() > 0:
        return 0.0
    smooth /= smooth.max()
    found = 0.0
    for level in SADDLES:
        labels, n = ndimage.label(smooth > level)
        heights = np.sort(ndimage.maximum(smooth, labels, np.arange(1, n + 1)))[:-1]
        found = max(found, *heights[heights > level + OUT], 0.0)
    return float(found)


def shift(image) -> float:
    """Distance (px) of a kernel's core from its middle: the centroid under a Gaussian window."""
    smooth = np.maximum(ndimage.gaussian_filter(image, 1.0), 0)
    if not smooth.any():
        return np.nan
    j, i = np.indices(image.shape) - image.shape[0] // 2
    y, x = (float(axis.flat[smooth.argmax()]) for axis in (j, i))
    for _ in range(ROUNDS):
        weight = smooth * np.exp(-0.5 * ((j - y) ** 2 + (i - x) ** 2) / WINDOW**2)
        y, x = (float((weight * axis).sum() / weight.sum()) for axis in (j, i))
    return float(np.hypot(y, x))


def ellipticity(image) -> float:
    """(a² - b²)/(a² + b²) of the second moments of what is above a tenth of the peak."""
    light = np.where(image > 0.1 * image.max(), image, 0)
    j, i = np.indices(image.shape)
    total = light.sum()
    if not total > 0:
        return np.nan
    y, x = ((light * axis).sum() / total for axis in (j, i))
    yy, xx, xy = (
        (light * product).sum() / total
        for product in ((j - y) ** 2, (i - x) ** 2, (j - y) * (i - x))
    )
    return float(np.hypot(xx - yy, 2 * xy) / (xx + yy)) if xx + yy > 0 else np.nan
