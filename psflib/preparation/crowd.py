"""How much of what looks like noise of the sky is stars too many to be told apart.

At 60,000 stars per Mpx the scatter between pixels is twice the noise: variances four times too
large found nothing, and let a told gain look wrong.
"""

import numpy as np
from scipy import ndimage

from psflib.image import noise
from psflib.image.correlation import without_stars

#: Share from which it counts: GOTO, DES, DECam and EABA have up to 0.08, 6000 stars per Mpx 0.15.
LEAST = 0.2
ALIKE = 0.15  # correlation of neighbours below which there is no such share
SIDE = 256  # px, of the blocks that a share is told of
FEWEST = 5000  # pixels of sky of a block: its correlations are known to 0.015
LAGS = 3
ROWS = 4  # every so many tell whether there is anything to look for
WITHIN = 3.0  # sigma
DARK = 0.3  # share of the pixels in which the white noise is looked for


def share_of_stars(image, rms, usable, fwhm) -> np.ndarray:
    """Share (ny, nx) float32 of the sky's variance that is unresolved stars.

    Neighbouring pixels of the sky are then alike as the PSF is with itself; noise of resampled
    images reaches less far (`image.correlation.without_stars`).  Once that is found, second
    differences along both axes, to which stars are smooth, bound the noise from above (after
    Immerkaer 1996): of a beam full of stars correlations find three quarters.

    Parameters
    ----------
    image, rms : ndarray (ny, nx) float32
        Without sky level; scatter of the sky, ADU.
    usable : ndarray (ny, nx) bool
    fwhm : float
        Of the stars, px.
    """
    sky = usable & (np.abs(image) < WITHIN * rms)
    image = image - noise.local_mean(image, sky, noise.LOCAL)
    parts = [max(1, round(n / SIDE)) for n in image.shape]
    edges = [np.linspace(0, n, p + 1).astype(int) for n, p in zip(image.shape, parts, strict=True)]
    share = np.zeros(parts)
    for i, j in np.ndindex(*parts):
        box = np.s_[edges[0][i] : edges[0][i + 1], edges[1][j] : edges[1][j + 1]]
        if sky[box].sum() > FEWEST:
            rho = noise.noise_correlation(image[box], np.square(rms[box]), sky[box], LAGS)
            _, found = without_stars(rho, fwhm)
            if found > LEAST:
                scatter = float(np.median(rms[box]))
                share[i, j] = max(found, 1 - (_white_noise(image[box], usable[box]) / scatter) ** 2)
    at = np.meshgrid(
        *(np.linspace(-0.5, p - 0.5, n) for n, p in zip(image.shape, parts, strict=True)),
        indexing="ij",
    )
    return ndimage.map_coordinates(share, at, order=1, mode="nearest").astype(np.float32)


def is_alike(image, rms, usable) -> bool:
    """True if neighbours along the rows are so alike that it is worth to look for stars."""
    image, rms, usable = (plane[::ROWS] for plane in (image, rms, usable))
    sky = usable & (np.abs(image) < WITHIN * rms)
    pairs = np.count_nonzero(sky[:, 1:] & sky[:, :-1])
    if pairs < FEWEST:
        return False
    z = np.where(sky, image / rms, np.float32(0))
    return bool(np.vdot(z[:, 1:], z[:, :-1]) / pairs > ALIKE * np.mean(np.square(z[sky])))


def _white_noise(image, usable):
    """Scatter of the second differences along both axes, as that of a pixel of white noise.

    Of the darkest places, where stars add least: a mean of 3 x 3 px does not know the noise of the
    second difference of the same pixels.
    """
    second = np.diff(np.diff(image, 2, axis=0), 2, axis=1)
    level = ndimage.uniform_filter(image, 3)[1:-1, 1:-1]
    known = ndimage.minimum_filter(usable, 3)[1:-1, 1:-1]
    if not known.any():
        return np.inf
    dark = known & (level <= np.quantile(level[known], DARK))
    return noise.robust_std(second[dark]) / 6
