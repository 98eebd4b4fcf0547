"""The table of candidates: its columns, their units and what they mean."""

import dataclasses

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.wcs.utils import proj_plane_pixel_area

from psflib.detection.fits import Fits
from psflib.detection.forced import ForcedFluxes
from psflib.image.difference import Difference
from psflib.image.sky_frames import to_icrs

#: Column -> what it says, in this order; fluxes in the unit of the image, called ADU.
COLUMNS = {
    "id": "from 1 on, strongest first",
    "x": "place, px, 0-based, the integer at the pixel's centre",
    "y": "place, px",
    "x_err": "standard error of the place, px",
    "y_err": "standard error of the place, px",
    "ra": "place, ICRS, deg; with a WCS only",
    "dec": "place, ICRS, deg; with a WCS only",
    "sky": "the same as SkyCoord; with a WCS only",
    "flux": "PSF flux of the difference, ADU, negative where the source faded; less what the best "
    "of all places is too high by",
    "flux_err": "standard error of the flux, ADU: noise, the PSF's error, what the matching leaves",
    "snr": "significance: the flux over its noise alone",
    "mag": "magnitude of the light that came or went; where a zero point is known",
    "mag_err": "standard error of the magnitude, from that of the flux",
    "fwhm": "of the PSF of the difference, px",
    "chi2": "chi-square of the PSF's core per degree of freedom",
    "elongation": "axis ratio of the light in units of the PSF's, 1 of a point source",
    "extent": "width of the light in units of the PSF's, 1 of a point source",
    "sharpness": "central pixel over that of the fitted PSF, 1 of a point source, more of a ray",
    "science_flux": "PSF flux of the science image at the place, ADU",
    "science_flux_err": "standard error of it, ADU",
    "template_flux": "PSF flux of the matched template at the place, ADU of the science image",
    "template_flux_err": "standard error of it, ADU",
    "kind": "new, variable, faded, gone, moved or unknown",
    "star_distance": "to the nearest source of the template that is no galaxy, px",
    "host_distance": "to the nearest extended source of the template, px",
    "opposite": "strongest score of the other sign within the PSF over its own",
    "masked": "share of the light of the PSF's core that falls on unusable pixels",
    "dipole_separation": "between the places of a pair of PSFs of both signs, px; NaN without one",
    "dipole_separation_err": "standard error of it, px",
    "dipole_angle": "from the negative to the positive place, degrees from +x to +y",
    "dipole_flux": "of the positive PSF, ADU, by the difference and both images",
    "dipole_flux_err": "standard error of it, ADU",
    "dipole_negative": "of the negative PSF, ADU, positive where there is light in the template",
    "dipole_negative_err": "standard error of it, ADU",
    "dipole_chi2": "chi-square of the pair on the difference per degree of freedom",
    "dipole_gain": "chi-square of the better single PSF over that of the pair",
    "real": "how likely it is real, 0 to 1: to rank by, no cut; NaN where nothing tells",
    "flag": "bits that speak against it, 0 if none (`CandidateFlag`)",
    "flags": "the same in words, clean if none",
    "clean": "whether there is no flag",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Surroundings:
    """What the images behind a difference say of its candidates, arrays (n,).

    fluxes : ForcedFluxes;  left : standard error of the flux by what the matching leaves of the
    template's light, ADU;  kind : words;  star, host : distances in px, NaN where not known;
    share : of the template's light that the matching leaves, rms, 0 if not known.
    """

    fluxes: ForcedFluxes
    left: np.ndarray
    kind: np.ndarray
    star: np.ndarray
    host: np.ndarray
    share: float = 0.0


def candidate_table(
    difference: Difference, fits: Fits, scale, around: Surroundings, fwhm: float
) -> QTable:
    """The columns of `COLUMNS` from what was measured; those of the sky and of magnitudes if known.

    scale : ndarray (n,), of the noise of a flux over what white noise makes of the variances.
    """
    x, y = fits.x + fits.dx, fits.y + fits.dy
    table = QTable()
    table["id"] = np.arange(1, len(x) + 1)
    _add_place(table, difference, fits, around, scale)
    error, height = noise_of(fits, scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        # of the best place, see `alarms.snr_of`
        true = np.maximum(1 - 1 / np.square(height), 0)
        flux, snr = fits.flux * true, height * true
        chi2 = fits.chi2 / np.maximum(fits.count - 3, 1)
        sharpness = 1 + fits.centre_off / (fits.flux * fits.peak)
    total = np.sqrt(error**2 + (flux * psf_error(difference, x, y)) ** 2 + around.left**2)
    unit = difference.meta.get("unit", 1.0) * u.adu  # of the image as it was given
    table["flux"], table["flux_err"], table["snr"] = flux * unit, total * unit, snr
    _add_magnitudes(table, difference)
    table["fwhm"] = np.full(len(x), fwhm) * u.pix
    table["chi2"] = np.where(fits.count > 3, chi2, np.nan)
    table["elongation"], table["extent"] = fits.elongation, fits.extent
    table["sharpness"] = np.where(fits.centre_weight > 0, sharpness, np.nan)
    for name in ("science", "template"):
        table[f"{name}_flux"] = getattr(around.fluxes, name) * unit
        table[f"{name}_flux_err"] = getattr(around.fluxes, f"{name}_err") * unit
    table["kind"] = around.kind
    table["star_distance"], table["host_distance"] = around.star * u.pix, around.host * u.pix
    return table


def describe(table: QTable) -> None:
    """Give every column its meaning, in place."""
    for name in table.colnames:
        table[name].info.description = COLUMNS[name]


def noise_of(fits: Fits, scale):
    """Error (n,) that noise alone puts on fluxes, ADU, and their significance."""
    with np.errstate(divide="ignore", invalid="ignore"):
        alone = scale / np.sqrt(fits.power)
        error = np.where(np.isfinite(fits.flux_err), scale * fits.flux_err, alone)
        return error, fits.flux / alone


def _add_place(table, difference, fits, around, scale):
    x, y = fits.x + fits.dx, fits.y + fits.dy
    error, _ = noise_of(fits, scale)
    # what the matching leaves moves a place as noise of the same size does
    with np.errstate(invalid="ignore"):
        grown = scale * np.hypot(error, around.left) / error
    table["x"], table["y"] = x * u.pix, y * u.pix
    table["x_err"], table["y_err"] = grown * fits.dx_err * u.pix, grown * fits.dy_err * u.pix
    wcs = difference.wcs
    if wcs is None:
        return
    ra, dec = to_icrs(wcs.all_pix2world(x, y, 0), wcs) if len(x) else (x, y)
    table["ra"], table["dec"] = ra * u.deg, dec * u.deg
    table["sky"] = SkyCoord(table["ra"], table["dec"], frame="icrs")


def _add_magnitudes(table, difference):
    zero_point = difference.meta.get("zero_point")
    if zero_point is None:
        return
    flux, error = np.abs(table["flux"].to_value(u.adu)), table["flux_err"].to_value(u.adu)
    magnitude, of_magnitude = magnitudes(flux, error, zero_point)
    table["mag"], table["mag_err"] = magnitude * u.mag, of_magnitude * u.mag


def magnitudes(flux, error, zero_point: float):
    """Magnitudes (n,) of fluxes and their errors; NaN of those not above 0, or of no zero point."""
    known = (flux > 0) & np.isfinite(zero_point)
    nothing = np.full(len(flux), np.nan)
    magnitude = -2.5 * np.log10(flux, out=nothing.copy(), where=known) + zero_point
    return magnitude, 2.5 / np.log(10) * np.divide(error, flux, out=nothing, where=known)


def psf_error(difference, x, y) -> np.ndarray:
    """Relative error that the PSF's own error puts on fluxes; 0 for a PSF that has none to tell."""
    known = getattr(difference.psf, "flux_error", None)
    return np.zeros(len(x)) if known is None else np.nan_to_num(known(x, y))


def pixel_area(difference: Difference) -> float | None:
    """Area of a pixel in arcsec², None without a WCS."""
    if difference.wcs is None:
        return None
    return float(proj_plane_pixel_area(difference.wcs.celestial)) * 3600**2
