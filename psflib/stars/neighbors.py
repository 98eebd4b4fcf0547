"""Pixels of a stamp that hold other sources' light."""

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter

from psflib.stars.profile import StarProfile, offsets

FAINT = 0.5  # sigma of a pixel; light below it is left
OWN_CORE = 1.0  # FWHM; nearer to the star only sources within `radius` are masked
HIDDEN = 5.0  # S/N of a source that the detection missed
OFF_CENTRE = 0.2  # px, error of a centroid


def near_others(shape, centre, others, radius):
    """Pixels within `radius` of another source and nearer to it than to the star itself."""
    own = distances(shape, centre)
    near = np.zeros(shape, bool)
    for other in others:
        distance = distances(shape, other)
        near |= (distance <= radius) & (distance < own)
    return near


def distances(shape, centre):
    """Distance of every pixel from (row, col), px."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(y - centre[0], x - centre[1])


def light_of_others(profile: StarProfile, sigma, centre, others, flux, fwhm):
    """Pixels where a neighbour is expected to shine above `FAINT` sigma.

    However bright it is, the star's own core is left: there it shows in the fit's χ².

    Parameters
    ----------
    profile : StarProfile
    sigma : ndarray (s, s)
        Noise of each pixel.
    centre : (row, col)
        Of the star in the stamp.
    others : ndarray (m, 2)
        Positions (row, col) of the neighbours in the stamp.
    flux : ndarray (m,)
    fwhm : float
        px.

    Returns
    -------
    ndarray (s, s) bool
    """
    y, x = np.ogrid[: sigma.shape[0], : sigma.shape[1]]
    light = np.zeros(sigma.shape)
    for (row, col), f in zip(others, flux, strict=True):
        light += f * profile.at(y - row, x - col)
    return (light > FAINT * sigma) & (distances(sigma.shape, centre) > OWN_CORE * fwhm)


def hidden_sources(rest, variance, good, delta, flux, light, spread, fwhm):
    """Sources in the stamps that stand in no table: faint neighbours, blends, cosmic rays.

    Peaks of the residuals, S/N > `HIDDEN` in a Gaussian of the stars' FWHM, outside the star's
    own core.  A star that lacks pixels there is left as it is: its centroid cannot be trusted.

    Parameters
    ----------
    rest, variance : ndarray (n, s, s)
        Data without the star and its sky; variance.
    good : ndarray (n, s, s) bool
    delta : ndarray (n, 2)
        Offset (row, col) of each star from the centre pixel, px.
    flux : ndarray (n,)
    light : ndarray (n, s, s)
        Model of the stars.
    spread : ndarray (n, s, s) or (s, s)
        Scatter of the residuals among the stars, per unit flux.
    fwhm : float
        px.

    Returns
    -------
    list of (positions (m, 2), flux (m,)), one a stamp
    """
    dy, dx = offsets(delta, rest.shape[1])
    core = np.hypot(dy, dx) <= OWN_CORE * fwhm
    slope = np.hypot(*np.gradient(light, axis=(1, 2)))
    error = variance + (flux[:, None, None] * spread) ** 2 + (OFF_CENTRE * slope) ** 2
    weight = np.where(good, 1 / error, 0.0)
    sigma = fwhm / 2.3548
    top = gaussian_filter(weight * np.where(good, rest, 0.0), (0, sigma, sigma), mode="constant")
    # The square of a Gaussian is a narrower one.
    narrow = (0, sigma / np.sqrt(2), sigma / np.sqrt(2))
    norm = gaussian_filter(weight, narrow, mode="constant") / (4 * np.pi * sigma**2)
    norm = np.maximum(norm, 1e-300)
    z = top / np.sqrt(norm)
    peak = (z > HIDDEN) & (z == maximum_filter(z, (1, 3, 3))) & good & ~core
    peak &= (good | ~core).all(axis=(1, 2))[:, None, None]
    return [(np.argwhere(p).astype(float), f[p]) for p, f in zip(peak, top / norm, strict=True)]
