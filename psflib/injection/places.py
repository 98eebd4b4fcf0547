"""Where sources are put: anywhere, on galaxies and near bright stars, none on top of another."""

import dataclasses

import numpy as np
from scipy import spatial

from psflib.stamps.build import pixels

KINDS = ("sky", "galaxy", "star")  # what a place is on or near
APART = 6.0  # FWHM between injected sources: the boxes of two matched filters
EXTENDED = 1.3  # times the width of a star, from which a source is a galaxy
SEEN = 15.0  # S/N from which its width tells
BRIGHT = 300.0  # S/N of stars that count as bright
NEAR = 5.0  # FWHM from a bright star, that are near it
LEAST_NEAR = 1.5  # FWHM from it, nearer than which nothing is put on purpose
ROUNDS = 4  # times as many places as are needed are drawn


@dataclasses.dataclass(frozen=True, eq=False)
class Sources:
    """What is seen in the science image, (n,) each.

    x, y : px;  width : px, FWHM of galaxies, 0 of others;  bright : bool, bright stars.
    """

    x: np.ndarray
    y: np.ndarray
    width: np.ndarray
    bright: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Places:
    """Places (n,) of injected sources.

    x, y : px;  drawn : str, what they were looked for ("sky" is anywhere);  kind : str, what is
    there, of `KINDS`;  star_distance, host_distance : px to the nearest bright star and galaxy,
    infinite without any.
    """

    x: np.ndarray
    y: np.ndarray
    drawn: np.ndarray
    kind: np.ndarray
    star_distance: np.ndarray
    host_distance: np.ndarray


def seen_sources(stars, fwhm: float) -> Sources:
    """Galaxies and bright stars of a star table, which holds every detection.

    Parameters
    ----------
    stars : QTable or Table
        As of `select_stars` or `detect_stars`: x, y, snr, fwhm; `locus` and `reason` if known.
    fwhm : float
        Of the PSF, px.
    """
    x, y, snr, width = (pixels(stars[name]) for name in ("x", "y", "snr", "fwhm"))
    usual = pixels(stars["locus"]) if "locus" in stars.colnames else np.full(len(x), fwhm)
    usual = np.where(np.isfinite(usual) & (usual > 0), usual, fwhm)
    extended = (snr > SEEN) & (width > EXTENDED * usual)
    saturated = np.zeros(len(x), bool)
    if "reason" in stars.colnames:  # these are wide, or blends of stars
        reason = np.asarray(stars["reason"]).astype(str)
        saturated = reason == "saturated"
        extended &= ~np.isin(reason, ("saturated", "masked", "blended", "edge"))
    bright = ((snr > BRIGHT) & ~extended) | saturated
    return Sources(x, y, np.where(extended, width, 0.0), bright)


def choose_places(rng, free, sources: Sources, fwhm: float, counts) -> Places:
    """Draw places, sub-pixel phases evenly; fewer than asked for where there is no room.

    Parameters
    ----------
    rng : numpy Generator
    free : ndarray (ny, nx) bool
        Pixels in which a source may be centred.
    sources : Sources
    fwhm : float
        px.
    counts : (int, int, int)
        Anywhere, on galaxies, near bright stars.
    """
    draws = _anywhere, _on_galaxies, _near_stars
    found, owner = np.zeros((0, 2)), np.zeros(0, int)
    # those that need a certain place choose first
    for k in (2, 1, 0):
        drawn = draws[k](rng, free.shape, sources, fwhm, ROUNDS * counts[k])
        drawn = drawn[_inside(free, drawn)]
        found, new = _spread(found, drawn, APART * fwhm, counts[k])
        owner = np.append(owner, np.full(new, k))
    x, y = found.T
    host, star = sources.width > 0, sources.bright
    near_host, which = _nearest(x, y, sources.x[host], sources.y[host])
    near_star, _ = _nearest(x, y, sources.x[star], sources.y[star])
    reach = np.append(sources.width[host], 0.0)[which]
    kind = np.zeros(len(x), int)
    kind[near_host <= reach] = 1
    kind[near_star <= NEAR * fwhm] = 2
    names = np.array(KINDS)
    return Places(x, y, names[owner], names[kind], near_star, near_host)


def _anywhere(rng, shape, sources, fwhm, count):
    ny, nx = shape
    return rng.uniform([-0.5, -0.5], [nx - 0.5, ny - 0.5], (count, 2))


def _on_galaxies(rng, shape, sources, fwhm, count):
    """Half of the light of a galaxy lies within about half of its FWHM."""
    return _about(rng, sources, sources.width > 0, count, lambda n: rng.normal(0, 0.4, (n, 2)))


def _near_stars(rng, shape, sources, fwhm, count):
    def ring(n):
        radius = fwhm * np.sqrt(rng.uniform(LEAST_NEAR**2, NEAR**2, n))
        angle = rng.uniform(0, 2 * np.pi, n)
        return np.c_[radius * np.cos(angle), radius * np.sin(angle)]

    return _about(rng, sources, sources.bright, count, ring, scaled=False)


def _about(rng, sources, select, count, offsets, scaled=True):
    rows = np.flatnonzero(select)
    if not len(rows):
        return np.zeros((0, 2))
    row = rng.choice(rows, count)
    size = sources.width[row] if scaled else np.ones(count)
    return np.c_[sources.x[row], sources.y[row]] + size[:, None] * offsets(count)


def _inside(free, places):
    column, row = np.rint(places).astype(int).T
    ny, nx = free.shape
    inside = (column >= 0) & (row >= 0) & (column < nx) & (row < ny)
    inside[inside] = free[row[inside], column[inside]]
    return inside


def _spread(taken, places, apart, count):
    """`taken` with at most `count` of the places, in their order, none within `apart` of another;
    and how many were added."""
    every = np.concatenate([taken, places])
    keep = np.ones(len(every), bool)
    keep[len(taken) :] = False
    if not len(every):
        return every, 0
    tree = spatial.cKDTree(every)
    added = 0
    for row in range(len(taken), len(every)):
        if added == count:
            break
        if not keep[tree.query_ball_point(every[row], apart)].any():
            keep[row] = True
            added += 1
    return every[keep], added


def _nearest(x, y, at_x, at_y):
    """Distance (n,) to the nearest, infinite without any, and which it is."""
    if not len(at_x):
        return np.full(len(x), np.inf), np.full(len(x), len(at_x))
    return spatial.cKDTree(np.c_[at_x, at_y]).query(np.c_[x, y])
