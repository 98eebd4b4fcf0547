"""Areas without data, told by their statistics: many neighbours that hold exactly one value.

Surveys write 0, -32768, -1e30, 1e-30 or NaN where they have not looked; no list of such values is
complete.  What noise does not do is repeat itself: if a pixel holds the value v with probability p
whatever its neighbours hold, n given pixels all do with p^n.  Of quantised skies (photon counting,
8-bit cameras) p is large, and so must an area be before it is believed to be empty.
"""

import numpy as np
from scipy import ndimage

from psflib.image.noise import robust_std
from psflib.loops import footprints as loops

CHANCE = 1e-4  # of one area of noise in an image that is taken for empty
LEAST = 9  # pixels of an area, whatever the chance
LINE = 16  # px, that a border of one pixel is longer than an area must be large
MOST_VALUES = 8  # that are looked at, those with the largest areas first
PERCOLATES = 0.3  # chance of a value, above which its pixels of noise hang together
BRIGHT = 10.0  # sigma above the sky, that pixels around a saturated area have


def empty_areas(image: np.ndarray, usable: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Pixels of areas, borders and lines that hold exactly one value.

    Parameters
    ----------
    image : ndarray (ny, nx) float32
        As read, sky included.
    usable : ndarray (ny, nx) bool

    Returns
    -------
    empty : ndarray (ny, nx) bool
    values : list of float
        What they hold.

    Notes
    -----
    p is the share of v among the pixels that follow a neighbour of another value which is itself
    unlike the one before it, so that no area counts.  Saturated areas hold one value too, but
    light leads up to them.
    """
    empty = np.zeros(image.shape, bool)
    values = []
    typical = float(np.median(image[usable][:: max(1, usable.size // 100_000)]))
    for value in _repeated(image, usable):
        same = (image == value) & usable
        chance = _chance(image, same, usable)
        area = _solid(same, chance)
        for _ in range(2):  # where few pixels told the chance, those outside the area know better
            outside = usable & ~area
            seen = int((same & outside).sum()) / max(int(outside.sum()), 1)
            if not area.any() or seen <= chance:
                break
            chance = seen
            area = _solid(same, chance)
        if area.any() and not _saturated(image, usable & ~area, area, value, typical):
            empty |= area
            values.append(float(value))
    return empty, values


def _repeated(image, usable):
    """Values of blocks of 3 x 3 equal pixels or of long lines, the most frequent first."""
    across = (image[:, 1:] == image[:, :-1]) & usable[:, 1:] & usable[:, :-1]
    down = (image[1:] == image[:-1]) & usable[1:] & usable[:-1]
    found = []
    if min(image.shape) > 2:
        rows = across[:, 1:] & across[:, :-1]
        found.append(
            image[2:, 2:][rows[2:] & rows[1:-1] & rows[:-2] & down[1:, 2:] & down[:-1, 2:]]
        )
    for equal, plane in ((across, image[:, 1:]), (down.T, image[1:].T)):
        # a whole line, as of a border of one pixel
        lines = equal.mean(axis=1) > 0.5
        found.append(plane[lines][equal[lines]])
    values, counts = np.unique(np.concatenate([f.ravel() for f in found]), return_counts=True)
    return values[np.argsort(-counts, kind="stable")][:MOST_VALUES]


def _chance(image, same, usable):
    """Probability that a pixel of noise holds the value."""
    follows = usable[:, 2:] & usable[:, 1:-1] & ~same[:, 1:-1]
    follows &= image[:, 1:-1] != image[:, :-2]
    count = np.count_nonzero(follows)
    # one more than seen: what was never seen is not impossible
    return (np.count_nonzero(same[:, 2:] & follows) + 1) / (count + 2)


def _solid(same, chance):
    """Pixels of areas too large for noise."""
    needed = max(LEAST, np.log(CHANCE / same.size) / np.log(min(chance, 0.9999)))
    side = int(np.ceil(np.sqrt(needed)))
    area = np.zeros(same.shape, bool)
    # wherever a box of this side lies, it holds one of these pixels
    if same[side - 1 :: side, side - 1 :: side].any():
        loops.opened(same, side, area)
    length = int(np.ceil(needed)) + LINE
    for plane, filled in ((same, area), (same.T, area.T)):
        # thin borders only: a line within the image is a dead column, which is bad, not missing
        for inwards in (slice(None), slice(None, None, -1)):
            _fill_from_border(plane[inwards], length, filled[inwards])
    if chance < PERCOLATES and area.any():  # ragged rims belong to it
        area = ndimage.binary_propagation(area, mask=same)
    return area


def _fill_from_border(plane, length, filled):
    """Set pixels of `filled` in lines of `length` that hang together from the first row on."""
    line = np.ones(plane.shape[1], bool)
    for row, out in zip(plane, filled, strict=True):
        line &= _long(row, length)
        if not line.any():
            break
        out |= line


def _long(row, length):
    """Pixels (n,) bool of runs of at least `length` marked ones."""
    steps = np.flatnonzero(np.diff(row, prepend=False, append=False))
    out = np.zeros(len(row), bool)
    for start, stop in steps.reshape(-1, 2):
        out[start:stop] = stop - start >= length
    return out


def _saturated(image, others, area, value, typical):
    """Whether light leads up to the area, as to the core of a star.

    Of a small star, or beside a bleeding column, it falls to a tenth of saturation within 2 px
    (EABA), but not to the sky.
    """
    if value <= typical:
        return False
    rows, columns = (np.flatnonzero(area.any(axis=axis)) for axis in (1, 0))
    box = tuple(slice(max(at[0] - 2, 0), at[-1] + 3) for at in (rows, columns))
    rim = ndimage.binary_dilation(area[box], iterations=2) & others[box]
    if not rim.any():
        return False
    noise = robust_std(image[others][:: max(1, others.size // 100_000)])
    return np.median(image[box][rim]) > typical + BRIGHT * noise
