"""How bright injected sources are, and how their light comes into the image."""

import numpy as np

from psflib.decorrelation.score import reversed_psf
from psflib.detection.detect import scatter_at
from psflib.image.exposure import OWN_BITS
from psflib.image.weights import weight_variance

ABOUT = 3.0  # sigma about the threshold, where the limits lie


def local_noise(difference, noise, x, y) -> np.ndarray:
    """Standard deviation (n,) of the PSF flux of a faint point source at each place, ADU.

    1 / sqrt(sum psf² / V) over usable pixels, times what the score of empty sky scatters there;
    NaN where no pixel is usable.  The PSF is taken in the middle of a pixel.

    Parameters
    ----------
    difference : Difference
        Decorrelated.
    noise : ScoreNoise
    x, y : ndarray (n,)
        px.
    """
    psf = reversed_psf(difference)
    half = psf.images.shape[-1] // 2
    usable = difference.usable & (difference.variance > 0)
    inverse = np.zeros(difference.shape, np.float32)
    variance = weight_variance(difference.image, difference.variance, usable)
    np.divide(1, variance, out=inverse, where=usable)
    inverse = np.pad(inverse, half)
    power = np.empty(len(x))
    for k, (i, j) in enumerate(zip(np.rint(x).astype(int), np.rint(y).astype(int), strict=True)):
        shape = psf.at(i, j)[::-1, ::-1]
        size = 2 * half + 1
        power[k] = np.sum(np.square(shape) * inverse[j : j + size, i : i + size])
    scale = scatter_at(difference, noise, x, y)
    return np.divide(scale, np.sqrt(power), out=np.full(len(x), np.nan), where=power > 0)


def draw_snr(rng, count, threshold, settings) -> np.ndarray:
    """S/N (n,): some evenly about the threshold, the others evenly in the logarithm."""
    low, high = np.log(settings.min_snr), np.log(settings.max_snr)
    snr = np.exp(rng.uniform(low, high, count))
    about = rng.uniform(size=count) < settings.near_limit
    near = rng.uniform(max(threshold - ABOUT, 0.5), threshold + ABOUT, count)
    return np.where(about, near, snr)


def flux_of_snr(snr, sigma, photons) -> np.ndarray:
    """Flux (n,), ADU, whose S/N is this with its own photons: f² = snr² (sigma² + photons f).

    Parameters
    ----------
    snr, sigma : ndarray (n,)
        sigma: ADU, of a faint source's flux.
    photons : float
        ADU, see `photon_noise`.
    """
    own = np.square(snr) * photons
    return (own + np.sqrt(np.square(own) + 4 * np.square(snr * sigma))) / 2


def photon_noise(psf, gain) -> float:
    """Variance that a source's own photons add to its PSF flux, over the flux, ADU.

    sum psf³ / (sum psf²)² / gain, of weights that do not know of the source; 0 without a gain.
    """
    return 0.0 if gain is None else float(np.sum(psf**3) / np.sum(psf**2) ** 2 / gain)


def with_sources(rng, exposure, psf, x, y, flux):
    """The exposure with the light of sources, its photon noise included where the gain is known.

    Parameters
    ----------
    rng : numpy Generator
    exposure : Exposure
        Prepared.
    psf : PsfField
        Its own, pixel response included.
    x, y, flux : ndarray (n,)
        px, and ADU.
    """
    light = psf.render(x, y, flux, exposure.shape)
    image, variance = exposure.image.copy(), exposure.variance.copy()
    rows = np.flatnonzero(light.ravel() != 0)
    expected = light.ravel()[rows]
    known = variance.ravel()[rows] > 0
    seen, noise = expected, np.zeros(len(rows))
    if exposure.gain:
        counts = np.maximum(expected, 0) * exposure.gain
        seen = expected + (rng.poisson(counts) - counts) / exposure.gain
        noise = counts / exposure.gain**2
    image.ravel()[rows[known]] += seen[known].astype(np.float32)
    variance.ravel()[rows[known]] += noise[known].astype(np.float32)
    return exposure.replace(image=image, variance=variance, mask=exposure.mask, mask_bits=OWN_BITS)
