"""The one noise model of all weights: variances that do not know the noise of their own pixel.

Planes made of a pixel's own counts (most cameras', ccdproc's, LSST's) are small where the noise
is negative, so that weighted means come out low: 0.7 ADU in a sky of 300 at 1.5 e-/ADU, and 0.2
sigma in a matched filter.  What is claimed is right on average and is kept; only weights change.
"""

import numpy as np

from psflib.image.exposure import Exposure
from psflib.image.noise import strips
from psflib.image.smooth import own_share, smoothed, taps_of
from psflib.image.where import true_pixels
from psflib.loops import footprints as loops

FAR, NEAR = 3.0, 1.0  # px, sigma of the averages that stand for a pixel of sky and of a source
REACH = 3.0  # sigma, of these averages
BRIGHT = 5.0  # sigma of a pixel above which it belongs to a source
SKY = 4.0  # sigma of a pixel, within which the variance may follow the square of its noise
APART = 12  # px, beyond the reach of the averages, of variances that a pixel's is compared with
AWAY = 8  # px from sources that the noise is looked for
TELLING = 0.1  # correlation of a variance with its pixel's noise that is worth the work
MOST = 4.0  # factor by which a weight may differ from the claim
CLEARLY, TOO_BRIGHT = 6.0, 60.0  # sigma of the pixels of sources that tell of their own counts,
EXACT = 0.02  # by a variance that follows them to this part
FEWEST = 30  # of such pixels
BATCH = 20_000  # of them, at most


def weights(exposure: Exposure) -> np.ndarray:
    """Weight of each pixel in any weighted sum.

    Parameters
    ----------
    exposure : Exposure
        Without sky, with variance.

    Returns
    -------
    ndarray (ny, nx) float32
        1 / `weight_variance`, ADU⁻²; 0 where the pixel is unusable or has no variance.

    Raises
    ------
    ValueError
        If the exposure has no variance.
    """
    if exposure.variance is None:
        raise ValueError("this exposure has no variance yet: call psflib.prepare first")
    usable = exposure.usable & (exposure.variance > 0)
    variance = weight_variance(exposure.image, exposure.variance, usable)
    return np.divide(1, variance, out=np.zeros(exposure.shape, np.float32), where=usable)


def weight_variance(image: np.ndarray, variance: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """The variance without what the noise of the same pixel adds to it.

    The part is found by regression of one on the other and its square in the sky, both without
    their local averages: for counts over a gain it is 1/gain, for a smooth plane 0; counts that
    are cut off at 0 curve it (-0.008 ADU in a sky of 5 electrons by the slope alone).  Planes that
    know the counts of bright pixels alone, as those that `prepare` measures, show it there.  What
    takes the place of a pixel's own counts is an average of others, without itself.

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
    slope, curve = _slope_of_sky(strips(image), strips(variance), strips(seen), noise)
    shine = np.abs(smoothed(image, NEAR, REACH)) if slope else image
    bright = _bright(shine > BRIGHT * noise, seen)
    slopes = slope, _slope_of_sources(image, variance, bright, noise, slope)
    if slopes == (0.0, 0.0):
        return variance
    weight = variance.copy()
    if slope:
        own = image - _others(image)
        weight -= np.float32(slope) * own
        np.clip(own, -SKY * noise, SKY * noise, out=own)
        weight -= np.float32(curve) * np.square(own, out=own)
    own = _second_differences(image, bright)
    weight[bright] = variance[bright] - np.float32(slopes[1]) * own
    np.clip(weight, variance / MOST, variance * MOST, out=weight)
    return np.where(seen, weight, variance)


def _others(image):
    """Average (ny, nx) of the pixels around each, without itself."""
    share = np.float32(own_share(FAR, REACH))
    return (smoothed(image, FAR, REACH) - share * image) / (1 - share)


def _annulus(image):
    """Average (ny, nx) of the pixels around each, without itself and its eight neighbours; and its
    variance for white noise of 1."""
    inner, taps = smoothed(image, FAR, REACH, within=1), taps_of(FAR, REACH)
    outside = 1 - own_share(FAR, REACH, within=1)
    squares = [2 * np.sum(t**2) - t[0] ** 2 for t in (taps, taps[:2])]
    left = (squares[0] ** 2 - squares[1] ** 2) / outside**2
    return (smoothed(image, FAR, REACH) - inner) / np.float32(outside), left


def _slope_of_sky(image, variance, seen, noise) -> tuple[float, float]:
    """Change of the variance with its pixel's noise in the sky, and with the noise squared; 0 if it
    tells nothing.

    What both are compared with has no pixel in common, not even if the variance was smoothed over
    3 x 3 pixels; else a fifth of that plane's bias is left.
    """
    sources = np.empty(seen.shape, bool)
    near = np.abs(smoothed(image, NEAR, REACH))
    loops.grow(near > noise, AWAY, sources)  # their light makes both planes bright
    sky = seen & ~sources
    sky[[0, -1]] = sky[:, [0, -1]] = False
    around, known = np.zeros_like(variance), np.zeros_like(variance)
    for shift, axis in ((APART, 0), (-APART, 0), (APART, 1), (-APART, 1)):
        there = np.roll(sky, shift, axis)
        around += np.where(there, np.roll(variance, shift, axis), 0)
        known += there
    sky &= known > 0
    annulus, left = _annulus(image)
    own = (image - annulus)[sky].astype(float)
    follows = variance[sky].astype(float) - around[sky] / known[sky]
    follows = np.clip(follows, -(3 * noise**2), 3 * noise**2)  # rims of sources
    if len(own) < 1000 or not own.any() or not follows.any():
        return 0.0, 0.0
    slope = own @ follows / (own @ own)
    telling = abs(slope) * np.sqrt((own @ own) / max(follows @ follows, 1e-300))
    if telling < TELLING:
        return 0.0, 0.0
    square = np.square(np.clip(own, -SKY * noise, SKY * noise))
    design = np.array([own, square - square.mean()])
    slope, curve = np.linalg.solve(design @ design.T, design @ follows)
    return float(slope * (1 + left)), float(curve * (1 + left) ** 2)


def _bright(marked, seen):
    """Rows and columns of the marked pixels whose eight neighbours are known too."""
    marked[[0, -1]] = marked[:, [0, -1]] = False
    y, x = true_pixels(marked & seen)
    whole = np.ones(len(y), bool)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            whole &= seen[y + dy, x + dx]
    return y[whole], x[whole]


def _second_differences(plane, at):
    """What a pixel has beyond the value that a quadratic surface through its neighbours has."""
    (y, x), taps = at, (-0.5, 1.0, -0.5)
    total = np.zeros(len(y), np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            total += np.float32(taps[dy + 1] * taps[dx + 1]) * plane[y + dy, x + dx]
    return total


def _slope_of_sources(image, variance, bright, noise, otherwise):
    """The same in sources: 0 unless the variance is a pixel's own counts there; `otherwise` where
    too few pixels tell.

    A smooth model of the light rises with the counts as well; only own counts agree with them in
    the second differences, which are noise for the most part, pixel for pixel.
    """
    values = image[bright]
    some = np.flatnonzero((values > CLEARLY * noise) & (values < TOO_BRIGHT * noise))
    y, x = (axis[some[:: max(1, len(some) // BATCH)]] for axis in bright)
    least = np.full(len(y), np.inf, np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            np.minimum(least, image[y + dy, x + dx], out=least)
    at = tuple(axis[least > CLEARLY * noise] for axis in (y, x))
    if len(at[0]) < FEWEST:
        return otherwise
    own, follows = (_second_differences(plane, at).astype(float) for plane in (image, variance))
    if not own.any():
        return 0.0
    slope = own @ follows / (own @ own)
    misfit = np.median(np.abs(follows - slope * own))
    return slope if misfit < EXACT * np.median(np.abs(slope * own)) else 0.0
