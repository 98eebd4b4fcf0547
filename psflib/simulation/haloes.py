"""Fields of bright stars with haloes, and pairs of them whose haloes differ."""

import dataclasses

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy import ndimage

from psflib.image.exposure import Exposure, MaskBit
from psflib.simulation.halo_psf import HaloPsf

REACH = 25  # px, of faint stars
FOLLOWED = 700  # px, of bright ones


@dataclasses.dataclass(frozen=True, eq=False)
class HaloField:
    """An image full of haloes and the truth.

    Parameters
    ----------
    exposure : Exposure
        Sky-free, with true variance; saturated pixels masked, 2 px beyond them too.
    stars : QTable
        The bright ones: id, x, y (px), flux (ADU).
    light : ndarray (ny, nx) float64
        Of the bright ones, ADU.
    """

    exposure: Exposure
    stars: QTable
    light: np.ndarray


def halo_field(
    shape=(512, 512), seed=0, *, n_bright=30, n_faint=400, psf=None, faintest=1e6, brightest=3e7,
    sky=100.0, gradient=10.0, full=3e4,
) -> HaloField:  # fmt: skip
    """Overlapping haloes, faint stars (100 to 1e4 ADU) and a residual slope of the sky.

    Parameters
    ----------
    shape : (ny, nx)
    seed : int
    n_bright, n_faint : int
    psf : HaloPsf, optional
    faintest, brightest : float
        ADU, of the bright stars; even in the logarithm.
    sky, gradient : float
        ADU; the level makes noise (gain 1, 5 e- of reading) and is removed, the slope is not.
    full : float
        ADU, saturation.
    """
    psf = psf or HaloPsf()
    rng = np.random.default_rng([seed, 7])
    x, y, flux = _draw(rng, n_bright, shape, np.log10(faintest), np.log10(brightest))
    light = add_stars(np.zeros(shape), psf, x, y, flux, FOLLOWED)
    faint_x, faint_y, faint = _draw(rng, n_faint, shape, 2, 4)
    both = add_stars(light.copy(), psf, faint_x, faint_y, faint, REACH)
    variance = both + sky + 25
    image = both + rng.normal(0, 1, shape) * np.sqrt(variance)
    image += gradient * np.linspace(-1, 1, shape[1])
    mask = np.where(ndimage.binary_dilation(both > full, iterations=2), MaskBit.SAT, 0)
    exposure = Exposure(
        image, variance, mask.astype(np.uint16), gain=1.0, saturation=full, sky=0.0,
        meta={"fwhm": psf.fwhm, "sky_rms": float(np.sqrt(sky + 25))},
    )  # fmt: skip
    stars = {"id": np.arange(n_bright), "x": x * u.pix, "y": y * u.pix, "flux": flux * u.adu}
    return HaloField(exposure, QTable(stars), light)


def halo_pair(
    shape=(768, 768), seed=0, *, bright=True, n_bright=5, n_stars=250, psfs=None,
    skies=(500.0, 300.0), full=5e4,
):  # fmt: skip
    """Raw pair of one sky whose haloes differ, with its saturated stars or without them.

    The two versions have the same stars otherwise and the same draws of noise.

    Parameters
    ----------
    shape : (ny, nx)
    seed : int
    bright : bool
        False leaves the saturated stars (3e6 to 3e7 ADU) out.
    n_bright, n_stars : int
        Saturated stars; others, of 500 to 2e5 ADU as f^-1.6.
    psfs : (HaloPsf, HaloPsf), optional
        Of science and template; by default their wings differ in strength, slope and spikes.
    skies : (float, float)
        ADU.
    full : float
        ADU, saturation.

    Returns
    -------
    science, template : Exposure
        As read: with sky, without variance and mask.
    stars : QTable
        The saturated stars: x, y (px), flux (ADU).
    """
    psfs = psfs or (
        HaloPsf(fwhm=3.6, wing=0.06, slope=2.4, angle=30.0),
        HaloPsf(fwhm=3.0, wing=0.04, slope=2.7, angle=65.0),
    )
    rng = np.random.default_rng([seed, 8])
    ny, nx = shape
    at = np.array([rng.uniform(80, nx - 80, n_bright), rng.uniform(80, ny - 80, n_bright)])
    strong = 10 ** rng.uniform(6.5, 7.5, n_bright)
    x, y = rng.uniform(-5, nx + 4, n_stars), rng.uniform(-5, ny + 4, n_stars)
    low, high = 500.0**-0.6, 2e5**-0.6
    flux = (low + rng.uniform(size=n_stars) * (high - low)) ** (-1 / 0.6)
    images = []
    for psf, sky in zip(psfs, skies, strict=True):
        light = add_stars(np.zeros(shape), psf, x, y, flux, 4 * REACH)
        if bright:
            light = add_stars(light, psf, at[0], at[1], strong, FOLLOWED)
        variance = (light + sky) / 2 + 9
        image = light + sky + rng.normal(0, 1, shape) * np.sqrt(variance)
        images.append(Exposure(np.minimum(image, full), gain=2.0, read_noise=6.0, saturation=full))
    stars = QTable({"x": at[0] * u.pix, "y": at[1] * u.pix, "flux": strong * u.adu})
    return *images, stars


def add_stars(image, psf, x, y, flux, reach):
    """`image` (ny, nx) with stars followed to `reach` px added in place."""
    ny, nx = image.shape
    for x_, y_, flux_ in zip(x, y, flux, strict=True):
        col, row = round(float(x_)), round(float(y_))
        stamp = flux_ * psf.render(float(x_), float(y_), 2 * reach + 1)
        top, left = max(row - reach, 0), max(col - reach, 0)
        bottom, right = min(row + reach + 1, ny), min(col + reach + 1, nx)
        if top < bottom and left < right:
            window = np.s_[top - row + reach : bottom - row + reach,
                           left - col + reach : right - col + reach]  # fmt: skip
            image[top:bottom, left:right] += stamp[window]
    return image


def _draw(rng, n, shape, low, high):
    """Positions over the image and fluxes even in the logarithm between 10^low and 10^high."""
    ny, nx = shape
    return rng.uniform(0, nx - 1, n), rng.uniform(0, ny - 1, n), 10 ** rng.uniform(low, high, n)
