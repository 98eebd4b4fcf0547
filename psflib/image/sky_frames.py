"""Sky coordinates of one image in the frame of another's: equatorial of any equinox, galactic."""

import warnings

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame

from psflib.errors import BadImage

#: ICRS and FK5 of 2000 differ by some 20 mas, less than headers are to be trusted: many a WCS
#: fitted to Gaia says FK5.
_J2000 = {("", 2000.0), ("ICRS", None), ("FK5", 2000.0)}


def pixel_to_pixel(source: WCS, target: WCS, x, y, *, distorted: bool = True, **options):
    """Positions (0-based px) on one image as seen on another, whatever the frames of their WCS.

    Parameters
    ----------
    source, target : WCS
        Celestial.
    x, y : ndarray
        On the grid of `source`.
    distorted : bool, optional
        Whether the distortion of `target` is inverted; `options` go to `WCS.all_world2pix`.

    Returns
    -------
    x, y : ndarray

    Raises
    ------
    BadImage
        If a frame is not known.
    """
    sky = in_frame_of(source.all_pix2world(x, y, 0), source, target)
    back = target.all_world2pix if distorted else target.wcs_world2pix
    return back(*sky, 0, **options)


def in_frame_of(sky, source: WCS, target: WCS):
    """World coordinates (two arrays, deg) of `source` as world coordinates of `target`."""
    if _key(source) == _key(target):
        return sky
    return _from_frame(_coordinates(sky, source).transform_to(_frame(target)), target)


def to_icrs(sky, wcs: WCS) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination (deg) of world coordinates of `wcs`."""
    if _key(wcs) == ("J2000", 0, 1):
        return sky[0], sky[1]
    found = _coordinates(sky, wcs).icrs
    return found.ra.deg, found.dec.deg


def _key(wcs):
    """Equal for two WCS whose world coordinates mean the same."""
    kind = wcs.wcs.ctype[wcs.wcs.lng][:4]
    radesys, equinox = wcs.wcs.radesys.strip().upper(), wcs.wcs.equinox
    equinox = None if np.isnan(equinox) or radesys == "ICRS" else float(equinox)
    if kind == "RA--" and ((radesys, equinox) in _J2000 or (not radesys and equinox is None)):
        return "J2000", wcs.wcs.lng, wcs.wcs.lat
    if kind != "RA--":  # galactic coordinates have no equinox
        radesys, equinox = "", None
    return kind, radesys, equinox, wcs.wcs.lng, wcs.wcs.lat


def _frame(wcs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return wcs_to_celestial_frame(wcs)
        except ValueError as error:
            raise BadImage(
                f"the sky coordinates of the WCS (CTYPE {', '.join(wcs.wcs.ctype)}, RADESYS "
                f"{wcs.wcs.radesys!r}, EQUINOX {wcs.wcs.equinox:g}) are of no frame that is known: "
                "correct these cards"
            ) from error


def _coordinates(sky, wcs):
    lon, lat = sky[wcs.wcs.lng], sky[wcs.wcs.lat]
    return SkyCoord(lon, lat, unit="deg", frame=_frame(wcs))


def _from_frame(coordinates, wcs):
    pair = [None, None]
    pair[wcs.wcs.lng] = coordinates.spherical.lon.deg
    pair[wcs.wcs.lat] = coordinates.spherical.lat.deg
    return pair


def icrs_to_pixel(ra, dec, wcs: WCS) -> tuple[np.ndarray, np.ndarray]:
    """Positions (0-based px) of right ascensions and declinations (deg, ICRS), NaN where none.

    The inverse of a distortion means nothing far outside of the image: what does not lead back to
    where it came from within 0.1 px of the image's own scale is no position.
    """
    ra, dec = np.atleast_1d(np.asarray(ra, float)), np.atleast_1d(np.asarray(dec, float))
    if not len(ra):
        return ra, dec
    sky = [ra, dec]
    if _key(wcs) != ("J2000", 0, 1):
        target = SkyCoord(ra, dec, unit="deg", frame="icrs").transform_to(_frame(wcs))
        sky = _from_frame(target, wcs)
    x, y = np.full((2, len(ra)), np.nan)
    linear = np.array(wcs.wcs_world2pix(*sky, 0))
    seen = np.isfinite(linear).all(axis=0)  # not on the other half of the sky
    if seen.any():
        at = wcs.all_world2pix(*(np.asarray(axis)[seen] for axis in sky), 0, quiet=True)
        with np.errstate(invalid="ignore"):
            back = wcs.wcs_world2pix(*wcs.all_pix2world(*at, 0), 0)
            right = np.hypot(*(np.array(back) - linear[:, seen])) < 0.1
        x[seen], y[seen] = np.where(right, at, np.nan)
    return x, y
