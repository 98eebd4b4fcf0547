"""Light of one star on the part of the image that it covers."""

import dataclasses

import numpy as np

LEAST_REACH = 15  # px


@dataclasses.dataclass(frozen=True, eq=False)
class Halo:
    """A star of unit flux on its box of the image.

    Parameters
    ----------
    x, y : float
        px.
    box : (slice, slice)
        Rows and columns of the image.
    light : ndarray (h, w) float32
        Of unit flux; 0 beyond the reach.
    """

    x: float
    y: float
    box: tuple[slice, slice]
    light: np.ndarray

    def radii(self) -> np.ndarray:
        """Distance (h, w) float32 of the box's pixels from the star, px."""
        return distance(self.x, self.y, self.box)


def unit_halo(psf, x, y, reach, shape, core=None) -> Halo:
    """A star of unit flux at (x, y), followed to `reach` px, cut at the image's border.

    Parameters
    ----------
    psf : object with ``render(x, y, size)``
        Stamp (size, size) of a unit star about the pixel next to (x, y).
    x, y, reach : float
    shape : (ny, nx)
    core : PsfField, optional
        Core that varies over the field, handed to `render`.
    """
    half = max(int(np.ceil(reach)), LEAST_REACH)
    box, inside = boxes(x, y, half, shape)
    here = {} if core is None else {"core": core.epsf(x, y)}
    light = psf.render(x, y, 2 * half + 1, **here)[inside].astype(np.float32)
    light[distance(x, y, box) > half] = 0
    return Halo(x, y, box, light)


def boxes(x, y, half, shape):
    """The box (rows, columns) of side 2 half + 1 about (x, y) in the image and in a stamp."""
    middle = round(float(y)), round(float(x))
    image, stamp = [], []
    for m, n in zip(middle, shape, strict=True):
        start, stop = max(m - half, 0), min(m + half + 1, n)
        stop = max(start, stop)
        image.append(slice(start, stop))
        stamp.append(slice(start - m + half, stop - m + half))
    return tuple(image), tuple(stamp)


def overlap(a, b):
    """The common part of two boxes of the image, seen from each; None if they are apart."""
    in_a, in_b = [], []
    for s, t in zip(a, b, strict=True):
        start, stop = max(s.start, t.start), min(s.stop, t.stop)
        if start >= stop:
            return None
        in_a.append(slice(start - s.start, stop - s.start))
        in_b.append(slice(start - t.start, stop - t.start))
    return tuple(in_a), tuple(in_b)


def distance(x, y, box) -> np.ndarray:
    """Distance (h, w) float32 of the pixels of a box from (x, y), px."""
    rows, cols = (np.arange(s.start, s.stop, dtype=np.float32) for s in box)
    return np.hypot(rows[:, None] - np.float32(y), cols[None, :] - np.float32(x))


def profiles(psf, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and greatest value of the PSF on rings of 1 px, each (radius + 1,) float64."""
    image = psf.at(2 * radius + 1).ravel()
    offset = np.arange(-radius, radius + 1)
    ring = np.rint(np.hypot(offset[:, None], offset)).astype(int).ravel()
    count = np.bincount(ring)[: radius + 1]
    top = np.full(ring.max() + 1, -np.inf)
    np.maximum.at(top, ring, image)
    return np.bincount(ring, image)[: radius + 1] / count, top[: radius + 1]


def reach_of(flux, profile, level) -> np.ndarray:
    """Radius (n,) in px at which stars of `flux` fall below `level` ADU, spikes too.

    `profile` (r,) holds the greatest value on each ring.
    """
    falling = np.maximum.accumulate(np.maximum(profile, 0)[::-1])[::-1]
    with np.errstate(divide="ignore"):
        wanted = level / np.maximum(np.asarray(flux, float), 0)
    return len(profile) - np.searchsorted(falling[::-1], wanted, side="right")
