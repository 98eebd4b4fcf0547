"""Variances to weigh by: those that do not know the noise of their own pixel.

Planes made of a pixel's own counts (most cameras', ccdproc's, LSST's) are small where the noise
is negative, so that weighted means come out low: 0.7 ADU in a sky of 300 at 1.5 e-/ADU, and 0.2
sigma in a matched filter.  What is claimed is right on average and is kept; only weights change.
"""

import numpy as np

from psflib.image.smooth import smoothed
from psflib.loops import footprints as loops

FAR, NEAR = 3.0, 1.0  # px, sigma of the averages that stand for a pixel of sky and of a source
REACH = 3.0  # sigma, of these averages
BRIGHT = 5.0  # sigma of a pixel above which it belongs to a source
AWAY = 8  # px from sources that the noise is looked for
TELLING = 0.1  # correlation of a variance with its pixel's noise that is worth the work
SAMPLE = 200_000  # pixels of sky that tell it
MOST = 4.0  # factor by which a weight may differ from the claim


def weight_variance(image: np.ndarray, variance: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """The variance without what the noise of the same pixel adds to it.

    The part is found by regression of one on the other in the sky, both without their local
    averages: for counts over a gain it is 1/gain, for a smooth plane 0.

    Parameters
    ----------
    image, variance : ndarray (ny, nx) float32
        Without sky, in any unit, and in its square.
    usable : ndarray (ny, nx) bool

    Returns
    -------
    ndarray (ny, nx) float32
        `variance` itself if it does not follow the noise.
    """
    seen = usable & (variance > 0)
    if seen.sum() < 1000:
        return variance
    image = np.where(seen, image, np.float32(0)).astype(np.float32, copy=False)
    noise = np.float32(np.sqrt(np.median(variance[seen][::7])))
    near, far = smoothed(image, NEAR, REACH), smoothed(image, FAR, REACH)
    sources = np.empty(seen.shape, bool)
    loops.grow(np.abs(near) > noise, AWAY, sources)  # their light makes both planes bright
    sky = seen & ~sources
    rows = slice(None, None, max(1, sky.size // SAMPLE))
    own = (image - far)[rows][sky[rows]].astype(float)
    follows = (variance - smoothed(np.where(seen, variance, noise**2), FAR, REACH))[rows][sky[rows]]
    follows = np.clip(follows.astype(float), -(3 * noise**2), 3 * noise**2)  # rims of sources
    if len(own) < 1000 or not own.any():
        return variance
    slope = own @ follows / (own @ own)
    if abs(slope) * np.sqrt((own @ own) / max(follows @ follows, 1e-300)) < TELLING:
        return variance
    average = np.where(np.abs(near) < BRIGHT * noise, far, near)
    weight = variance - np.float32(slope) * (image - average)
    np.clip(weight, variance / MOST, variance * MOST, out=weight)
    return np.where(seen, weight, variance)
