"""Cosmic rays of a single image, told from stars by the width of its PSF."""

import math

import numpy as np

from psflib.loops import cosmics as loops
from psflib.loops.footprints import grow

# Share of the given FWHM that the narrowest star may have, in the sharpest corner of the field, at
# some FWHM (px).  Well-sampled images can afford more margin; far below 2 px the square pixels make
# the widths, and profiles are steeper than Gaussians.
SHARPEST = {1.3: 0.9, 2.0: 0.97, 3.0: 0.88}
FACTOR = 0.85  # share of a star's light beside a pixel that must be there: pixels are no Gaussians
EVIDENCE = 3.0  # sigma, that a run is no sum of stars
FOLLOW = (3.0, 1.5)  # sigma of contrast and of evidence, beside a ray
LEAST = 4.0  # sigma, of a pixel of a ray above the background
BEYOND = 0.3  # share of an edge pixel that the next one may have: stars fall off slower near by
LONE = 1.25**0.5  # sigma, noise of a pixel less the mean of its four neighbours
LARGEST_RING = 32  # px, radius
SHARPER = 1.0, 0.85, 0.7, 0.6, 0.5  # of the FWHM, tried where stars are hit
MOST_HIT = 0.05  # share of bright stars, beyond what chance hits
FEWEST_JUDGES = 10  # stars
BESIDE = (17, 9), (-9, 17), (-17, -9), (9, -17)  # px (x, y) from the stars: what chance hits


def find_cosmic_rays(image, variance, unusable, *, fwhm, threshold=6.0) -> np.ndarray:
    """Pixels hit by cosmic rays.

    Laplacian edges (van Dokkum 2001, PASP 113, 1420) say where to look; a pixel is taken for a ray
    only if no sum of stars, galaxies and haloes of this PSF could be as sharp (`loops.cosmics`).
    In undersampled images few rays can prove that, and the others are left in: stars survive.

    Parameters
    ----------
    image : ndarray (ny, nx)
        In any unit, with or without its sky.
    variance : ndarray (ny, nx)
        In that unit squared.  The counts of the rays may be in it or not.
    unusable : ndarray (ny, nx) bool
        Pixels that say nothing and are never found; those that are not finite or whose variance
        is not above zero are added.
    fwhm : float
        Of the stars, px; across their narrow side if they are trailed
        (`psflib.stars.widths.estimate_widths`).
    threshold : float
        Sigma by which a lone pixel exceeds the mean of its four neighbours; longer rays are taken
        at the same significance, and followed to fainter pixels.

    Returns
    -------
    ndarray (ny, nx) bool

    Raises
    ------
    ValueError
        If the planes differ in shape, or `fwhm` or `threshold` is not a number above zero.
    """
    image, variance, unusable = _planes(image, variance, unusable)
    for name, value in (("fwhm", fwhm), ("threshold", threshold)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a number above zero, not {value}")
    state = np.zeros(image.shape, np.uint8)
    unit = _unit(variance, unusable)
    if unit is None:
        return state > 0
    radius = min(max(3, round(1.5 * fwhm)), LARGEST_RING)
    pad = radius + 1
    z, v = np.empty((2, *(n + 2 * pad for n in image.shape)), np.float32)
    loops.pad_planes(image, variance, unusable, unit, pad, z, v)
    queue = np.empty(image.size, np.int64)
    place = z, v, pad, _ring(radius)
    bounds, limits = _bounds(fwhm), np.array([threshold / LONE, EVIDENCE])
    count = loops.seed_rays(*place, bounds, limits, LEAST, state, queue)
    count = loops.follow_rays(*place, bounds, np.array(FOLLOW), LEAST, state, queue, count)
    loops.add_edges(*place, bounds, LEAST, state, queue, count)
    return (state & (loops.RAY | loops.EDGE)) > 0


def spare_stars(image, variance, unusable, stars, *, fwhm, threshold=6.0) -> np.ndarray:
    """As `find_cosmic_rays`, for a PSF as sharp as the image's own stars are.

    A diffraction-limited core falls into its first dark ring faster than the Gaussian of its FWHM:
    of JWST-like stars of 2.05 px three quarters lost pixels.  Where more stars are hit than as many
    places beside them, rays are sought again as if the PSF were narrower, by steps.

    Parameters
    ----------
    image, variance, unusable, fwhm, threshold
        As of `find_cosmic_rays`.
    stars : ndarray (n, 2)
        (x, y) of bright stars, px.

    Returns
    -------
    rays : ndarray (ny, nx) bool
    """
    for sharper in SHARPER:
        rays = find_cosmic_rays(image, variance, unusable, fwhm=fwhm * sharper, threshold=threshold)
        if len(stars) < FEWEST_JUDGES:
            break
        near = np.empty_like(rays)
        grow(rays, max(1, round(fwhm / 2)), near)
        beside = [_share_hit(near, stars + np.array(step)) for step in BESIDE]
        if _share_hit(near, stars) < MOST_HIT + np.mean(beside):
            break
    return rays


def _share_hit(near, places):
    """Share of places (n, 2) (x, y) that are marked; off the image they are mirrored."""
    ny, nx = near.shape
    col, row = np.rint(places).astype(int).T
    return near[np.abs(row) % ny, np.abs(col) % nx].mean()


def lobes(image, variance, rays) -> np.ndarray:
    """Pixels beside rays that no noise explains below the sky: a ray that was resampled rings.

    Nothing in the sky is dark, so that no width has to be known.  EABA's frames were aligned by an
    interpolation: a hot pixel of 130 sigma has neighbours of -24, which make candidates elsewhere.

    Parameters
    ----------
    image, variance : ndarray (ny, nx)
        Without sky.
    rays : ndarray (ny, nx) bool

    Returns
    -------
    ndarray (ny, nx) bool
    """
    near = np.empty(image.shape, bool)
    grow(rays, 2, near)
    return near & (image < -LEAST * np.sqrt(variance))


def _planes(image, variance, unusable):
    """Native arrays of one type, so that two versions of each loop are compiled at most."""
    image, variance = np.asarray(image), np.asarray(variance)
    unusable = np.ascontiguousarray(unusable, bool)
    if image.ndim != 2 or not image.shape == variance.shape == unusable.shape:
        raise ValueError(
            f"image {image.shape}, variance {variance.shape} and mask {unusable.shape} must be "
            "planes of one shape"
        )
    single = image.dtype.itemsize == variance.dtype.itemsize == 4
    kind = np.float32 if single and image.dtype.kind == variance.dtype.kind == "f" else np.float64
    return np.ascontiguousarray(image, kind), np.ascontiguousarray(variance, kind), unusable


def _unit(variance, unusable):
    """Typical noise, as a power of two so that nothing is rounded; None without any pixel."""
    known = variance[~unusable & (variance > 0) & np.isfinite(variance)]
    if not known.size:
        return None
    middle = float(np.median(known[:: max(1, known.size // 100_000)]))
    return 2.0 ** round(0.5 * math.log2(middle))


def _bounds(fwhm):
    """Least light at the ends of runs of 1, 2 and 3 pixels, and a pixel further outwards.

    For a Gaussian and all its positions, relative to the mean of the run; the first row along
    lines and columns, the second along diagonals, whose pixels are √2 apart.
    """
    width = fwhm * np.interp(fwhm, [*SHARPEST], [*SHARPEST.values()])
    g = math.exp(-4 * math.log(2) / width**2)
    return FACTOR * np.array(
        [[h, h**2, 3 * h**4 / (1 + 2 * h), min(h**3, BEYOND)] for h in (g, g * g)]
    )


def _ring(radius):
    angle = 2 * math.pi * (np.arange(loops.RING) + 0.5) / loops.RING
    return np.rint(radius * np.stack([np.sin(angle), np.cos(angle)], axis=1)).astype(np.int64)
