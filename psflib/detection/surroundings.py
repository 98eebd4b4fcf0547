"""What the two images behind a difference say of its candidates."""

import numpy as np

from psflib.detection.columns import Surroundings
from psflib.detection.fits import Fits, Splines, psf_fluxes
from psflib.detection.forced import forced, matching_error
from psflib.detection.kinds import kinds, mark_moved
from psflib.detection.neighbours import TemplateSources, nearest, template_sources
from psflib.image.difference import Difference

SAMPLE = 400  # sources of the template that tell what the matching leaves
BRIGHT = 20.0  # S/N of them in the template, at least


def surroundings(
    difference: Difference, planes, splines: Splines, fits: Fits, scale, fwhm: float
) -> Surroundings:
    """Forced fluxes, kinds, and distances to the sources of the template.

    Parameters
    ----------
    difference : Difference
        Without its images nothing is known.
    planes, splines
        As of `fit_candidates`.
    fits : Fits
        Of n candidates.
    scale : ndarray (n,)
        Of the noise of a flux over what white noise makes of the variances.
    fwhm : float
        px.
    """
    place = fits.y, fits.x, fits.dy, fits.dx
    fluxes = forced(difference, planes, *place, fwhm)
    unknown = np.full(len(fits.x), np.nan)
    if difference.template is None or difference.science is None:
        nothing = np.zeros(len(fits.x))
        return Surroundings(fluxes, nothing, np.full(len(nothing), "unknown"), unknown, unknown)
    seeing = difference.meta.get("fwhm_template") or difference.template.meta.get("fwhm") or fwhm
    sources = template_sources(difference.template, seeing)
    x, y = fits.x + fits.dx, fits.y + fits.dy
    star, host = (
        nearest(x, y, sources.x[rows], sources.y[rows])
        for rows in (~sources.extended, sources.extended)
    )
    share = _share_left(difference, planes, splines, sources, fwhm)
    left = share * np.maximum(np.nan_to_num(fluxes.template), 0)
    flux_err = np.hypot(scale * fits.flux_err, left)
    place_err = scale * np.hypot(fits.dx_err, fits.dy_err)
    kind = kinds(fits.flux, fluxes, np.fmin(star, host), place_err, fwhm)
    mark_moved(kind, x, y, fits.flux, flux_err, fwhm)
    return Surroundings(fluxes, left, kind, star, host)


def _share_left(difference, planes, splines, sources: TemplateSources, fwhm):
    """`matching_error` of sources all over the template, brightest first up to a number."""
    rows = np.flatnonzero(sources.snr > BRIGHT)
    rows = rows[:: max(1, len(rows) // SAMPLE)]
    y, x = (np.rint(axis[rows]).astype(int) for axis in (sources.y, sources.x))
    dy, dx = sources.y[rows] - y, sources.x[rows] - x
    flux, power = psf_fluxes(planes, splines, y, x, dy, dx)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = 1 / np.sqrt(power)
    template = forced(difference, planes, y, x, dy, dx, fwhm).template
    return matching_error(flux, error, template)
