"""Decorrelation: a difference whose noise is white again, and its PSF.

Convolving the template correlates the noise of the difference.  A filter psi makes it white
(Reiss & Lupton 2016, DMTN-021, eq. 6):

    psi(k)² = [s² + t² K²] / [s² + t² |kappa(k)|²],      K = kappa(0),

here with the noise power of both images in place of the plain variances, so that noise that was
correlated before (by warping or stacking) is whitened too.  psi(0) = 1 keeps fluxes.
"""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import fft, signal

from psflib import noise
from psflib.convolve import VaryingKernel, blend_nodes, node_grid
from psflib.difference import Difference
from psflib.exposure import MaskBit
from psflib.scoring import score


class DecorrelateSettings(BaseModel):
    """Settings of the stage `decorrelate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: int = Field(
        1, ge=1, le=17,
        description="nodes an axis at which the filter is computed; 1 is one filter for the image",
    )  # fmt: skip
    max_lag: int = Field(
        3, ge=1, le=8, description="noise correlation of the inputs is measured to this lag, px"
    )


def decorrelate(difference: Difference, settings: DecorrelateSettings | None = None) -> Difference:
    """Whiten the noise of a difference.

    Parameters
    ----------
    difference : Difference
        From `subtract`, with its science and template.

    Returns
    -------
    Difference
        New planes; `whitening` is the filter applied, `psf_at` the corrected PSF, `score` the
        matched-filter significance.

    Raises
    ------
    ValueError
        If the difference does not carry its images, or was decorrelated before.
    """
    settings = settings or DecorrelateSettings()
    if difference.science is None or difference.template is None:
        raise ValueError("this difference does not carry its science and template images")
    if difference.whitening is not None:
        raise ValueError("this difference is decorrelated already")
    kernel = difference.kernel
    still, moved = difference.science, difference.template
    if kernel.convolved == "science":
        still, moved = moved, still
    rho = [_correlation(e, settings.max_lag) for e in (still, moved)]
    sky = [_sky_variance(e) for e in (still, moved)]
    x, y = node_grid(difference.shape, settings.nodes)
    filters = np.array([[whitening_filter(kernel.at(i, j), *sky, *rho) for i in x] for j in y])
    whitening = blend_nodes(filters, x, y)
    image, variance, mask = _apply(difference, whitening, still, moved, rho)
    clean = difference.replace(image=image, variance=variance, mask=mask, whitening=whitening)
    return clean.replace(score=score(clean), meta={**difference.meta, **_figures(rho)})


def whitening_filter(kappa, svar, tvar, rho_s=None, rho_t=None, crop=None):
    """The filter psi for one kernel, (k, k) float64 with unit sum.

    Parameters
    ----------
    kappa : ndarray (k, k)
        Matching kernel.
    svar, tvar : float
        Variance of the image that was not convolved, and of the one that was.
    rho_s, rho_t : ndarray (odd, odd), optional
        Noise correlation of each image; None means white.
    crop : int, optional
        Half width of the result; default the kernel's width.
    """
    half = kappa.shape[0] // 2
    crop = 2 * half if crop is None else crop
    side = fft.next_fast_len(max(4 * crop, 64), real=True)
    power = (
        svar * _power(rho_s, side)
        + tvar * _power(rho_t, side) * np.abs(_spectrum(kappa, side)) ** 2
    )
    psi = fft.fftshift(fft.irfft2(np.sqrt(power.flat[0] / power), (side, side)))
    middle = side // 2
    psi = psi[middle - crop : middle + crop + 1, middle - crop : middle + crop + 1]
    return psi / psi.sum()


def _power(rho, side):
    return 1.0 if rho is None else noise.power_spectrum(rho, (side, side))


def _spectrum(kappa, side):
    half = kappa.shape[0] // 2
    plane = np.zeros((side, side))
    plane[: kappa.shape[0], : kappa.shape[1]] = kappa
    return fft.rfft2(np.roll(plane, (-half, -half), (0, 1)))


def _correlation(exposure, max_lag):
    """Noise correlation of an input image; None where it is white within its error."""
    sky = noise.empty_sky(exposure.image, exposure.variance, exposure.usable, exposure.meta["fwhm"])
    if sky.sum() < 5000:
        return None
    rho = noise.noise_correlation(exposure.image, exposure.variance, sky, max_lag)
    error = 1 / np.sqrt(sky.sum())
    near = rho[max_lag - 1 : max_lag + 2, max_lag - 1 : max_lag + 2].copy()
    near[1, 1] = 0
    if np.abs(near).max() < max(0.02, 5 * error):
        return None
    rho[np.abs(rho) < 3 * error] = 0
    return rho


def _sky_variance(exposure):
    """Typical variance of empty sky in ADU²."""
    return float(np.median(exposure.variance[exposure.usable]))


def _apply(difference, whitening: VaryingKernel, still, moved, rho):
    image = whitening.convolve(np.where(difference.usable, difference.image, 0))
    variance = _variance(difference.kernel, whitening, still, moved, rho)
    if difference.kernel.convolved == "science":
        variance /= np.float32(difference.kernel.kernel_sum(*_centre(difference.shape)) ** 2)
    mask = difference.mask.copy()
    half = max(1, whitening.images.shape[-1] // 8)  # nearly all of psi lies in its inner quarter
    for edge in (np.s_[:half], np.s_[-half:], np.s_[:, :half], np.s_[:, -half:]):
        mask[edge] |= np.uint16(MaskBit.EDGE)
    no_data = (mask & np.uint16(MaskBit.NO_DATA)) != 0
    image[no_data] = 0
    variance[no_data] = 0
    return image, np.maximum(variance, 0), mask


def _variance(kernel, whitening, still, moved, rho):
    """Variance by the squares of the filters that both inputs went through."""
    varies = kernel.order > 0 or kernel.flux_order > 0 or len(whitening.images) > 1
    x, y = node_grid(still.shape, 5 if varies else 1)
    parts = []
    for which, exposure in enumerate((still, moved)):
        squares = []
        for j in y:
            for i in x:
                c = whitening.at(i, j)
                if which:
                    c = signal.fftconvolve(c, kernel.at(i, j))
                factor = 1.0 if rho[which] is None else noise.variance_factor(rho[which], c)
                squares.append(np.square(c) * factor)
        squares = np.array(squares).reshape(len(y), len(x), *squares[0].shape)
        parts.append(blend_nodes(squares, x, y).convolve(_filled_variance(exposure)))
    return parts[0] + parts[1]


def _filled_variance(exposure):
    """Variance with the typical value where there are no data."""
    known = exposure.variance > 0
    return np.where(known, exposure.variance, np.float32(_sky_variance(exposure)))


def _centre(shape):
    return (shape[1] - 1) / 2, (shape[0] - 1) / 2


def _figures(rho):
    return {"input_noise_white": all(r is None for r in rho)}
