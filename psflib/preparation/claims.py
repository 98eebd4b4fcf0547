"""What the user tells, checked against what the pixels say.

Planes that surveys hand out are easily named as others: a sigma plane as variance (24 % of the sky
masked as cosmic rays), a map of exposure times as weight, a mask whose bits mark every source.
The sky's own noise tells them apart.
"""

import numpy as np

from psflib.errors import BadImage
from psflib.image.covariance import cell_means
from psflib.image.exposure import Exposure, MaskBit, has_bits
from psflib.image.noise import robust_std
from psflib.image.smooth import smoothed
from psflib.image.where import true_pixels
from psflib.preparation.sky import Sky

AGREES = (0.5, 2.0)  # claimed over measured variance of empty sky that pass for the same
BLOCK = 4  # px; noise of blocks tells the variance that resampling has spread over neighbours
EXCLUDED = 1.5  # photon noise of the sky alone over the measured, above which a gain is impossible
FEWEST_BLOCKS = 100
MOSAIC = 0.5  # sigma of a pixel that the skies of a colour mosaic are apart
MOSAIC_SAMPLE = 20_000  # pixels that tell a sky to 0.01 of them
BRIGHT = 10.0  # sigma, of the pixels that a mask must leave
COVERED = 0.7  # share of them that a mask may take
FEWEST = 30  # of them, to judge a mask by
SCATTERS = 0.35  # of the logarithm of neighbours' variances: that of 17 values taken for true
OF_COUNTS = 0.5  # correlation with the image, above which a variance is made of its counts
AVERAGED = 3.0  # px, of the Gaussian that averages it
ABSURD = 0.05  # of the neighbours' variance, below which a single value cannot be one


def sky_variances(image: np.ndarray, empty: np.ndarray, sky: Sky) -> tuple[float, float]:
    """Variance of a pixel of empty sky, ADU²: of single pixels, and as blocks of them tell it.

    Blocks hold the noise that neighbours share; 0 if there are too few.
    """
    whole = tuple(slice(n // BLOCK * BLOCK) for n in image.shape)
    means = cell_means(image[whole], BLOCK)[cell_means(empty[whole], BLOCK) == 1]
    blocks = robust_std(means) ** 2 * BLOCK**2 if len(means) >= FEWEST_BLOCKS else 0.0
    return sky.median_rms**2, float(blocks)


def check_variance(exposure: Exposure, empty: np.ndarray, measured: tuple[float, float]) -> None:
    """Refuse a variance plane that is none.

    Parameters
    ----------
    exposure : Exposure
        As read, with its `variance`.
    empty : ndarray (ny, nx) bool
        Usable pixels of the sky.
    measured : (float, float)
        See `sky_variances`.

    Raises
    ------
    BadImage
        With what the plane looks like, and what to do.
    """
    claimed = float(np.median(exposure.variance[empty][::7])) if empty.any() else 0.0
    if claimed <= 0 or any(_agree(claimed, value) for value in measured):
        return
    kinds = {
        "sigma (standard deviation)": claimed**2,
        "inverse variance": 1 / claimed,
        "inverse sigma": 1 / claimed**2,
    }
    like = [kind for kind, value in kinds.items() if _agree(value, measured[0])]
    looks = (
        f"as {like[0]} it would agree: name it so"
        if like
        else "it agrees as no kind of noise plane: a weight of arbitrary scale, an exposure map, "
        "or a plane in another unit"
    )
    name = exposure.meta.get("planes", {}).get("variance", "the variance plane")
    raise BadImage(
        f"{name} claims a noise of {np.sqrt(claimed):.4g} ADU for empty sky, the pixels show "
        f"{np.sqrt(measured[0]):.4g} ADU; {looks}. Left out, the variance is measured"
    )


def checked_gain(
    exposure: Exposure, sky: Sky, measured: tuple[float, float], usable, notes: list[str]
) -> float | None:
    """The gain that the sky's noise allows: the given one, or the pixels' own, said in `notes`.

    The photon noise of the sky alone cannot exceed the noise that is seen.  Where it does, pixels
    are no longer the counts that the gain is meant for (counts per second, images scaled to 0..1);
    raw integers are, and then it is the level that is no sky: a bias that was not taken off.
    """
    given, level = exposure.gain, sky.median_level
    if given is None or level <= 5 * sky.median_rms:
        return given
    seen = max(measured)
    if level / given <= EXCLUDED * seen:
        return given
    excess = f"a sky of {level:.4g} ADU at a gain of {given:.4g} e-/ADU alone has a noise of "
    excess += f"{np.sqrt(level / given):.4g} ADU, the pixels show {np.sqrt(seen):.4g}"
    if _are_counts(exposure.image[usable]):
        notes.append(f"{excess}: a bias level stands in the sky? The gain is kept")
        return given
    own = level / seen
    notes.append(
        f"{excess}: the gain is not that of these pixels (counts per second? rescaled?); "
        f"{own:.4g} e-/ADU taken from the sky's level and noise"
    )
    return float(own)


def check_mask(exposure: Exposure, image: np.ndarray, sky: Sky) -> None:
    """Refuse a mask that marks the sources themselves.

    Raises
    ------
    BadImage
        If most pixels above 10 sigma are masked by the user's mask; bits are named where known.
    """
    data = ~has_bits(exposure.mask, MaskBit.NO_DATA)
    bright = data & (image > BRIGHT * sky.rms)
    bad = has_bits(exposure.mask, MaskBit.BAD)
    count, others = int(bright.sum()), int((data & ~bright).sum())
    share = int((bright & bad).sum()) / max(count, 1)
    elsewhere = int((bad & data & ~bright).sum()) / max(others, 1)
    # a mask that takes as much of the sky, as of a half-covered field, does not aim at sources
    if count < FEWEST or share < COVERED or share < 2 * elsewhere:
        return
    names = exposure.meta.get("mask_names") or {}
    which = f" ({', '.join(map(str, names))})" if names else ""
    raise BadImage(
        f"the mask takes {share:.0%} of the pixels above {BRIGHT:.0f} sigma, and {elsewhere:.0%} "
        f"of the others: some of its bits{which} mark sources, not defects. Name those that are "
        "bad (mask_bits) or those to ignore (mask_ignore)"
    )


def mosaic_of(image: np.ndarray, empty: np.ndarray, sky: Sky) -> float:
    """How far the sky of even and odd rows and columns is apart, in sigma of a pixel.

    A raw frame of a colour camera has three skies and three PSFs; what is built of it misses a
    quarter of the light (PANOPTES).  0 if there is too little sky.
    """
    levels = []
    for part in np.ndindex(2, 2):
        own = tuple(slice(start, None, 2) for start in part)
        values = image[own][empty[own]]
        if len(values) < FEWEST_BLOCKS:
            return 0.0
        levels.append(float(np.median(values[:: max(1, len(values) // MOSAIC_SAMPLE)])))
    return (max(levels) - min(levels)) / sky.median_rms


def steady_variance(exposure: Exposure, image, empty, notes: list[str]) -> np.ndarray:
    """The variance plane, averaged where it is the scatter of a few values at each pixel.

    Tools that combine images give the scatter of these as uncertainty (ccdproc).  Weights by it
    choose the pixels whose values happened to agree.  A plane made of the pixel's own counts
    scatters as well, but with the image, and is known how to be treated (`psflib.image.weights`).
    """
    variance = exposure.variance
    pair = empty[:, 1:] & empty[:, :-1] & (variance[:, 1:] > 0) & (variance[:, :-1] > 0)
    if pair.sum() < FEWEST_BLOCKS:
        return variance
    step = max(1, int(pair.sum()) // MOSAIC_SAMPLE)
    left, right = (np.log(part[pair][::step]) for part in (variance[:, :-1], variance[:, 1:]))
    scatter = robust_std(right - left) / np.sqrt(2)
    counts = np.corrcoef(left, image[:, :-1][pair][::step])[0, 1] if scatter > SCATTERS else 1.0
    if scatter <= SCATTERS or abs(counts) > OF_COUNTS:
        return variance
    known = (variance > 0).astype(np.float32)
    share = smoothed(known, AVERAGED)
    mean = np.divide(smoothed(variance, AVERAGED), share, where=share > 0, out=np.zeros_like(share))
    notes.append(
        f"the variance plane scatters by {scatter:.0%} from pixel to pixel, as the scatter of a "
        f"few values does: averaged over {2 * AVERAGED:g} px"
    )
    return np.where(known > 0, mean, 0).astype(variance.dtype)


def absurd_variances(variance: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Pixels (ny, nx) bool whose variance is far below that of both neighbours on an axis."""
    low = usable & (variance < ABSURD * np.median(variance[usable][::7]))
    if not low.any():
        return low
    padded = np.pad(variance, 1, mode="reflect")
    y, x = true_pixels(low)
    around = [padded[y + 1 + dy, x + 1 + dx] for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))]
    low[y, x] = variance[y, x] < ABSURD * np.median(around, axis=0)
    return low


def _agree(claimed, measured):
    return AGREES[0] <= claimed / measured <= AGREES[1] if measured > 0 else False


def _are_counts(values):
    """Whether pixels are whole numbers, as a converter gives them."""
    some = values[:: max(1, len(values) // 10_000)]
    return bool(np.all(some == np.round(some)))
