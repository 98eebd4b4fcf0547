"""Alard-Lupton subtraction: science minus matched template, variance and mask with it."""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from psflib.convolve import constant_kernel
from psflib.difference import Difference
from psflib.exposure import Exposure, MaskBit, has_bits
from psflib.fill import fill_masked
from psflib.matching import MatchingKernel, fit_kernel
from psflib.noise import input_correlation, variance_factor


class AlSettings(BaseModel):
    """Settings of the method `al`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    convolve: str = Field(
        "auto",
        pattern="^(auto|template|science)$",
        description="image to convolve: template, science, or auto (the sharper one)",
    )
    kernel_order: int = Field(
        2,
        ge=0,
        le=3,
        description="degree of the kernel's variation over the field; lowered if stars are few",
    )
    flux_order: int = Field(
        2, ge=0, le=3, description="degree of the flux scale's variation (transparency, flat field)"
    )
    background_order: int = Field(
        3, ge=0, le=4, description="degree of the differential background"
    )
    doubt: float = Field(
        0.5, gt=0,
        description="doubt about filled-in values, in sigma, above which the result is masked",
    )  # fmt: skip
    bad_fraction: float = Field(
        0.05, gt=0, lt=1,
        description="masked share of the kernel's weight above which the result is masked",
    )  # fmt: skip


def subtract(science: Exposure, template: Exposure, settings: AlSettings, psf_of) -> Difference:
    """Science minus kernel-matched template.

    Parameters
    ----------
    science, template : Exposure
        Prepared, on one grid.
    psf_of : callable (Exposure) -> PSF with ``at(x, y, size)``
        Called once, with the image that is not convolved.
    """
    direction = _direction(science, template, settings.convolve)
    target, convolved = (science, template) if direction == "template" else (template, science)
    bad = ~convolved.usable
    fwhms = target.meta["fwhm"], convolved.meta["fwhm"]
    image, variance = fill_masked(convolved)
    kernel = fit_kernel(
        (target.image, target.variance, target.usable),
        (image, variance, ~bad),
        fwhms,
        orders=(settings.kernel_order, settings.flux_order, settings.background_order),
        convolved_name=direction,
    )
    rho = correlation(target), correlation(convolved)
    difference, noise = _apply(kernel, target, image, variance, rho[1])
    doubt = np.where(bad, 0.5 * np.abs(image), 0)
    mask = _mask(kernel, science, template, bad, doubt, noise, settings)
    _blank(difference, noise, mask)
    return Difference(
        difference, noise, mask, kernel, psf_of(target), science.wcs, science, template,
        meta={**kernel.meta, "convolved": direction, "noise_correlation": rho},
    )  # fmt: skip


def _direction(science, template, choice):
    """Convolve the sharper image; on a tie the template."""
    if choice != "auto":
        return choice
    return "template" if template.meta["fwhm"] <= science.meta["fwhm"] else "science"


def correlation(exposure):
    """Noise correlation of an input as nested lists, so that it can be written; None if white."""
    rho = input_correlation(exposure)
    return None if rho is None else rho.tolist()


def _apply(kernel: MatchingKernel, target, image, variance, rho):
    """Difference and its variance, in science flux units and with the science image's sign."""
    difference = kernel.varying().convolve(image)
    np.subtract(target.image, difference, out=difference)
    difference -= kernel.background_map()
    noise = kernel.squared().convolve(variance)
    np.maximum(noise, 0, out=noise)
    if rho is not None:  # correlated noise survives the convolution better than white noise
        centre = kernel.at((noise.shape[1] - 1) / 2, (noise.shape[0] - 1) / 2)
        noise *= np.float32(variance_factor(np.array(rho), centre))
    noise += target.variance
    if kernel.convolved == "science":
        for y0 in range(0, len(difference), 128):
            rows = slice(y0, y0 + 128)
            y = np.arange(y0, min(y0 + 128, len(difference)))[:, None]
            total = kernel.kernel_sum(np.arange(difference.shape[1])[None, :], y)
            difference[rows] /= -total
            noise[rows] /= np.square(total)
    return difference, noise


def _mask(kernel, science, template, bad, doubt, noise, settings):
    """Bits of the science image; TEMPLATE and EDGE where the other image had nothing to say.

    A filled pixel spoils what it contributes to: by weight, or because the doubt about its value
    (half of it) reaches the noise, as around saturated stars.
    """
    ny, nx = science.shape
    centre = np.abs(kernel.at((nx - 1) / 2, (ny - 1) / 2))
    share = constant_kernel(centre / centre.sum()).convolve((~bad).astype(np.float32))
    spoiled = share < 1 - settings.bad_fraction
    limit = np.square(settings.doubt) * np.maximum(noise, 0)
    spoiled |= np.square(constant_kernel(centre).convolve(doubt)) > limit
    mask = science.mask.copy()
    if kernel.convolved == "template":
        mask[spoiled] |= np.uint16(MaskBit.TEMPLATE)
    else:
        mask[spoiled & science.usable] |= np.uint16(MaskBit.EDGE)
        mask[~template.usable] |= np.uint16(MaskBit.TEMPLATE)
    no_data = has_bits(template.mask, MaskBit.NO_DATA)
    mask[no_data] |= np.uint16(MaskBit.NO_DATA | MaskBit.TEMPLATE)
    return mask


def _blank(difference, noise, mask):
    no_data = has_bits(mask, MaskBit.NO_DATA)
    difference[no_data] = 0
    noise[no_data] = 0
