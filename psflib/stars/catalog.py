"""What a catalogue of the sky knows of the detections: certain stars, certain galaxies."""

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import proj_plane_pixel_area
from scipy.spatial import cKDTree

SIGNIFICANT = 3.0  # of a parallax or a proper motion, that a galaxy cannot have
GALAXY_COLUMNS = ("galaxy", "in_galaxy_candidates")
MOTIONS = ("parallax", "pmra", "pmdec")


def known_kinds(catalog, x, y, wcs, radius):
    """Which detections a catalogue confirms as stars, and which it calls galaxies.

    Parameters
    ----------
    catalog : Table
        x, y (px) or ra, dec (deg); any of parallax, pmra, pmdec with `..._error`, and galaxy or
        in_galaxy_candidates (bool).  Values that are missing say nothing.
    x, y : ndarray (n,)
        px.
    wcs : astropy.wcs.WCS or None
    radius : float
        Of the match, arcsec; for a catalogue in px without a WCS, px.

    Returns
    -------
    star, galaxy : ndarray (n,) bool

    Raises
    ------
    ValueError
        If the catalogue has no positions, or needs a WCS that the image lacks.
    """
    catalog = catalog[np.all([np.isfinite(_plain(catalog[n])) for n in _names(catalog, wcs)], 0)]
    if not len(catalog) or not len(x):
        return np.zeros(len(x), bool), np.zeros(len(x), bool)
    nearest, distance = _nearest(catalog, np.asarray(x, float), np.asarray(y, float), wcs)
    galaxy = np.zeros(len(catalog), bool)
    for name in GALAXY_COLUMNS:
        if name in catalog.colnames:
            galaxy |= np.ma.filled(np.ma.asarray(catalog[name]), False).astype(bool)
    star, matched = _moves(catalog) & ~galaxy, distance <= radius
    return matched & star[nearest], matched & galaxy[nearest]


def _names(catalog, wcs):
    """The two columns of the positions."""
    if {"x", "y"} <= set(catalog.colnames):
        return "x", "y"
    if not {"ra", "dec"} <= set(catalog.colnames):
        raise ValueError("the catalogue needs the columns ra, dec (deg) or x, y (px)")
    if wcs is None or not wcs.has_celestial:
        raise ValueError("a catalogue of ra, dec needs an image with a WCS")
    return "ra", "dec"


def _moves(catalog):
    """Rows (bool) with a significant parallax or proper motion."""
    moves = np.zeros(len(catalog), bool)
    for name in MOTIONS:
        if {name, f"{name}_error"} <= set(catalog.colnames):
            value, error = _plain(catalog[name]), _plain(catalog[f"{name}_error"])
            # only a positive parallax is one
            size = value if name == "parallax" else np.abs(value)
            moves |= (error > 0) & (size > SIGNIFICANT * error)
    return moves


def _nearest(catalog, x, y, wcs):
    """Row of the nearest entry and its distance (arcsec, or px) for each detection."""
    first, second = (_plain(catalog[name]) for name in _names(catalog, wcs))
    if "x" in catalog.colnames:
        distance, nearest = cKDTree(np.c_[first, second]).query(np.c_[x, y])
        if wcs is not None and wcs.has_celestial:
            distance = distance * np.sqrt(proj_plane_pixel_area(wcs.celestial)) * 3600
        return nearest, distance
    here = wcs.celestial.pixel_to_world(x, y).icrs
    nearest, distance, _ = here.match_to_catalog_sky(SkyCoord(first * u.deg, second * u.deg))
    return nearest, distance.to_value(u.arcsec)


def _plain(column):
    """Values as float64, NaN where they are missing."""
    values = getattr(column, "value", column)
    return np.ma.filled(np.ma.asarray(values).astype(float), np.nan)
