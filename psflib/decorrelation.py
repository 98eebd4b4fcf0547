"""Decorrelation: a difference whose noise is white again, and its PSF.

Convolving the template correlates the noise of the difference.  A filter psi makes it white
(Reiss & Lupton 2016, DMTN-021, eq. 6):

    psi(k)² = [s² + t² K²] / [s² + t² |kappa(k)|²],      K = kappa(0),

here with the noise power of both images in place of the plain variances, so that noise that was
correlated before (by warping or stacking) is whitened too.  psi(0) = 1 keeps fluxes.
"""

import importlib
import logging

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import fft, signal

from psflib import noise
from psflib.convolve import VaryingKernel, blend_nodes, constant_kernel, node_grid
from psflib.difference import Difference
from psflib.exposure import UNUSABLE, MaskBit, has_bits
from psflib.scoring import score

log = logging.getLogger(__name__)


def __getattr__(name: str):
    if name == "DecorrelateALKernelTask":  # it stands above this module
        return importlib.import_module("psflib.decorrelation_task").DecorrelateALKernelTask
    raise AttributeError(f"module 'psflib.decorrelation' has no attribute {name!r}")


class DecorrelateSettings(BaseModel):
    """Settings of the stage `decorrelate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: int = Field(
        1, ge=1, le=17,
        description="nodes an axis at which the filter is computed; 1 is one filter for the image",
    )  # fmt: skip
    distrust_beyond: float = Field(
        0.1, ge=0,
        description="measured and predicted noise of empty sky may differ by this fraction before "
        "the filter is taken from the measured noise instead (images that share exposures, wrong "
        "gains); a large value: never",
    )  # fmt: skip
    max_lag: int = Field(5, ge=1, le=16, description="largest lag of that measurement, px")


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
    result = _by_inputs(difference, settings)
    factor = _noise_factor(result[0], result[1], result[2], difference.science)
    if abs(factor - 1) > settings.distrust_beyond:
        log.warning(
            "noise of empty sky is %.3f times the predicted (do science and template share "
            "exposures, or is a gain or variance plane wrong?): whitened as measured", factor,
        )  # fmt: skip
        result = _as_measured(difference, settings)
    image, variance, mask, whitening = result
    clean = difference.replace(
        image=image, variance=variance, mask=mask, whitening=whitening,
        meta={**difference.meta, "noise_factor": factor},
    )  # fmt: skip
    return _with_score(clean, settings)


def _with_score(clean, settings):
    """The difference with its score, and what the score's noise says of its scale.

    Structure that is wider than the filter (banding, residual sky) makes a point source less
    significant than the pixels' noise claims: `score_scale` in `meta` is the measured standard
    deviation of the score in empty sky, 1 where it is within the tolerance.
    """
    values = score(clean)
    sky = _empty_sky(clean.variance, clean.mask, clean.science) & (values != 0)
    scale = 1.4826 * float(np.median(np.abs(values[sky]))) if sky.sum() > 1000 else 1.0
    if abs(scale - 1) > settings.distrust_beyond:
        log.warning("score of empty sky scatters by %.3f, not 1: divided by it", scale)
        values /= np.float32(scale)
    else:
        scale = 1.0
    return clean.replace(score=values, meta={**clean.meta, "score_scale": scale})


def _by_inputs(difference, settings):
    """Whitening computed from the kernel and the noise of the two images."""
    kernel = difference.kernel
    still, moved = difference.science, difference.template
    if kernel.convolved == "science":
        still, moved = moved, still
    rho = [None if r is None else np.array(r) for r in difference.meta["noise_correlation"]]
    sky = [_sky_variance(e) for e in (still, moved)]
    x, y = node_grid(difference.shape, settings.nodes)
    filters = [[whitening_filter(kernel.at(i, j), *sky, *rho) for i in x] for j in y]
    whitening = blend_nodes(np.array(filters), x, y)
    variance = _variance(kernel, whitening, still, moved, rho)
    if kernel.convolved == "science":
        variance /= np.float32(kernel.kernel_sum(*_centre(difference.shape)) ** 2)
    return *_apply(difference, whitening, variance), whitening


def _as_measured(difference, settings):
    """Whitening computed from the noise of the difference itself, in empty sky."""
    sky = _empty_sky(difference.variance, difference.mask, difference.science)
    rho = noise.noise_correlation(difference.image, difference.variance, sky, settings.max_lag)
    rho[np.abs(rho) < 3 / np.sqrt(sky.sum())] = 0
    crop = difference.kernel.basis.shape[1]
    psi = filter_from_power(noise.power_spectrum(rho, (4 * crop, 4 * crop)), crop)
    scale = _noise_factor(
        difference.image, difference.variance, difference.mask, difference.science
    )
    variance = constant_kernel(np.square(psi)).convolve(difference.variance)
    variance *= np.float32(noise.variance_factor(rho, psi) * scale**2)
    whitening = constant_kernel(psi)
    return *_apply(difference, whitening, variance), whitening


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
    crop = kappa.shape[0] - 1 if crop is None else crop
    side = fft.next_fast_len(max(4 * crop, 64), real=True)
    kernel_power = np.abs(_spectrum(kappa, side)) ** 2
    return filter_from_power(
        svar * _power(rho_s, side) + tvar * _power(rho_t, side) * kernel_power, crop
    )


def filter_from_power(power: np.ndarray, crop: int) -> np.ndarray:
    """Filter that whitens noise of this power, cropped to 2 * crop + 1 px, of unit sum.

    power : ndarray on an rfft2 grid of a square image.
    """
    side = power.shape[0]
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


def _sky_variance(exposure):
    """Typical variance of empty sky in ADU²."""
    return float(np.median(exposure.variance[exposure.usable]))


def _apply(difference, whitening: VaryingKernel, variance):
    """Whitened image, its variance and mask, blank where there are no data."""
    image = whitening.convolve(np.where(difference.usable, difference.image, 0))
    mask = difference.mask.copy()
    half = max(1, whitening.images.shape[-1] // 8)  # nearly all of psi lies in its inner quarter
    for edge in (np.s_[:half], np.s_[-half:], np.s_[:, :half], np.s_[:, -half:]):
        mask[edge] |= np.uint16(MaskBit.EDGE)
    no_data = has_bits(mask, MaskBit.NO_DATA)
    image[no_data] = 0
    variance[no_data] = 0
    return image, np.maximum(variance, 0, out=variance), mask


def _variance(kernel, whitening, still, moved, rho):
    """Variance by the squares of the filters that both inputs went through."""
    varies = kernel.order > 0 or kernel.flux_order > 0 or len(whitening.images) > 1
    x, y = node_grid(still.shape, 5 if varies else 1)
    parts = []
    for which, exposure in enumerate((still, moved)):
        nodes = [[whitening.at(i, j) for i in x] for j in y]
        if which:
            nodes = [
                [signal.fftconvolve(psi, kernel.at(i, j)) for i, psi in zip(x, row, strict=True)]
                for j, row in zip(y, nodes, strict=True)
            ]
        squares = np.array([[_squared(c, rho[which]) for c in row] for row in nodes])
        parts.append(blend_nodes(squares, x, y).convolve(_filled_variance(exposure)))
    return parts[0] + parts[1]


def _squared(c, rho):
    """The filter that carries the variance of noise of correlation `rho` through filter `c`."""
    return np.square(c) * (1.0 if rho is None else noise.variance_factor(rho, c))


def _filled_variance(exposure):
    """Variance with the typical value where there are no data."""
    known = exposure.variance > 0
    return np.where(known, exposure.variance, np.float32(_sky_variance(exposure)))


def _centre(shape):
    return (shape[1] - 1) / 2, (shape[0] - 1) / 2


def _empty_sky(variance, mask, science):
    usable = ~has_bits(mask, UNUSABLE) & (variance > 0)
    return noise.empty_sky(science.image, science.variance, usable, science.meta["fwhm"])


def _noise_factor(image, variance, mask, science):
    """Measured over predicted noise in empty sky, by the median absolute deviation."""
    sky = _empty_sky(variance, mask, science)
    if sky.sum() < 1000:
        return 1.0
    z = image[sky] / np.sqrt(variance[sky])
    return noise.robust_std(z)
