"""Alard-Lupton subtraction: science minus matched template, variance and mask with it."""

import dataclasses

import numpy as np
from threadpoolctl import threadpool_limits

from psflib.image import polynomial
from psflib.image.convolve import convolve_by_tiles, convolve_sparse
from psflib.image.difference import Difference
from psflib.image.exposure import OWN_BITS, Exposure, MaskBit, has_bits
from psflib.image.fill import fill_masked
from psflib.image.noise import input_correlation, variance_factor
from psflib.image.weights import weight_variance
from psflib.matching import MatchingKernel, fit_kernel, pixels
from psflib.matching.background import LEAST_DARK, dark_pixels
from psflib.matching.equations import fit_background
from psflib.settings.subtract import AlSettings
from psflib.subtraction import doubts

PATCH = 160  # px, side of the patches on which the noise correlation of a large image is measured
TILE = 64  # px, tiles with one squared kernel each


@threadpool_limits.wrap(limits=1, user_api="blas")
def subtract(science: Exposure, template: Exposure, settings: AlSettings, psf_of) -> Difference:
    """Science minus kernel-matched template.

    Parameters
    ----------
    science, template : Exposure
        Prepared, on one grid.
    psf_of : callable (Exposure) -> PSF with ``at(x, y, size)``
        Called once, with the image that is not convolved.
    """

    def fit(target, convolved, fwhms, name):
        orders = settings.kernel_order, settings.flux_order, settings.background_order
        return fit_kernel(
            target, convolved, fwhms, orders=orders, convolved_name=name,
            flux_range=settings.flux_range,
        )  # fmt: skip

    return subtract_fitted(fit, science, template, settings, psf_of)


def subtract_fitted(fit, science, template, settings, psf_of) -> Difference:
    """Science minus template, matched by any fit of a kernel.

    Parameters
    ----------
    fit : callable (target, convolved, fwhms, name) -> MatchingKernel
        As `fit_kernel`.
    science, template, settings, psf_of
        As in `subtract`; of the settings, `convolve`, `doubt` and `bad_fraction` count.
    """
    direction = _direction(science, template, settings.convolve)
    target, convolved = (science, template) if direction == "template" else (template, science)
    bad = ~convolved.usable
    fwhms = target.meta["fwhm"], convolved.meta["fwhm"]
    image, variance = fill_masked(convolved)
    usable = target.usable
    weights = (
        weight_variance(target.image, target.variance, usable),
        weight_variance(image, variance, ~bad),
    )
    kernel = fit((target.image, weights[0], usable), (image, weights[1], ~bad), fwhms, direction)
    rho = correlation(target), correlation(convolved)
    usable &= ~bad
    doubt = doubts.doubt_of_fill(kernel, image, bad, np.median(pixels.sample(variance, ~bad)))
    kernel, difference, noise, added = _apply(
        kernel, target, image, variance, weights, usable, rho[1], doubt
    )
    del image, variance, weights, usable  # the peak of the memory comes now
    mask = _mask(kernel, science, template, bad, doubt, noise, added, settings)
    del doubt
    _to_science_units(kernel, difference, noise)
    no_data = has_bits(mask, MaskBit.NO_DATA)
    difference[no_data] = 0
    noise[no_data] = 0
    known = target.variance > 0
    sharp = target.replace(variance=np.where(known, target.variance + added, 0))
    images = (sharp, template) if direction == "template" else (science, sharp)
    return Difference(
        difference, noise, mask, kernel, psf_of(target), science.wcs, *images,
        meta={**kernel.meta, "convolved": direction, "noise_correlation": rho},
    )  # fmt: skip


def _direction(science, template, choice):
    """Convolve the sharper image; on a tie the template."""
    if choice != "auto":
        return choice
    return "template" if template.meta["fwhm"] <= science.meta["fwhm"] else "science"


def correlation(exposure):
    """Noise correlation of an input as nested lists, so that it can be written; None if white.

    Measured on four patches of a large image: their 1e5 pixels tell 1 % from nothing.
    """
    rho = input_correlation(_patches(exposure))
    return None if rho is None else rho.tolist()


def _patches(exposure):
    """Four patches of the image, one above the other."""
    (ny, nx), side = exposure.shape, PATCH
    if ny * nx <= 4 * side**2 or min(ny, nx) < 2 * side:
        return exposure
    corners = [(j, i) for j in (ny // 4, 3 * ny // 4) for i in (nx // 4, 3 * nx // 4)]
    half = side // 2
    boxes = [(slice(j - half, j + half), slice(i - half, i + half)) for j, i in corners]
    image, variance, mask = (
        np.concatenate([plane[box] for box in boxes])
        for plane in (exposure.image, exposure.variance, exposure.mask)
    )
    meta = {"fwhm": exposure.meta["fwhm"]}
    return Exposure(image, variance, mask, meta=meta, mask_bits=OWN_BITS)


def _apply(kernel: MatchingKernel, target, image, variance, weights, usable, rho, doubt):
    """Kernel, target minus matched image, its variance, and what the latter has beyond the inputs'.

    weights : `weight_variance` of target and image
    A doubt is the same all over the width of a PSF, so that as independent noise of each pixel it
    has to be as many times larger as there are pixels in the PSF.
    """
    matched = kernel.varying().convolve(image)
    noise = propagated(kernel, variance, rho)
    noise += target.variance
    sky = np.abs(matched) < np.float32(np.sqrt(np.median(pixels.sample(target.variance, usable))))
    sky &= usable
    dark = dark_pixels(matched, usable, target.meta["fwhm"])
    difference = np.subtract(target.image, matched, out=matched)
    difference -= kernel.background_map()
    dark &= usable
    crowded = dark.sum() < LEAST_DARK * usable.sum()
    if any(w is not v for w, v in zip(weights, (target.variance, variance), strict=True)):
        spread = propagated(kernel, weights[1], rho)
        spread += weights[0]
    else:
        spread = noise
    kernel = _refit_background(kernel, difference, spread, sky if crowded else dark)
    del dark, spread
    area = 4 * np.pi * (target.meta["fwhm"] / 2.355) ** 2
    added = np.float32(area) * np.square(doubt)
    limit = np.float32(doubts.BRIGHT * np.sqrt(np.median(pixels.sample(variance, usable))))
    unsure = doubts.kernel_error(kernel, image, limit)
    if unsure is not None:
        added += unsure
    # more would drown the variance of the sky in transforms of float32 planes
    np.minimum(
        added, np.float32(doubts.MOST_DOUBT * np.median(pixels.sample(noise, usable))), out=added
    )
    if doubts.is_crowded(sky, usable):
        added += doubts.sky_offset(difference, noise, sky)
    np.maximum(added, -doubts.MOST_TAKEN * target.variance, out=added)
    noise += added
    return kernel, difference, noise, added


def _to_science_units(kernel, difference, noise):
    """With the scale and the sign of the science image, if that was convolved."""
    if kernel.convolved == "template":
        return
    x = np.arange(difference.shape[1])[None, :]
    for y0 in range(0, len(difference), 128):
        rows = slice(y0, y0 + 128)
        total = kernel.kernel_sum(x, np.arange(y0, min(y0 + 128, len(difference)))[:, None])
        difference[rows] /= -total
        noise[rows] /= np.square(total)


def _refit_background(kernel, difference, noise, sky):
    """Kernel with the background that all of the sky asks for; subtracted from `difference` too.

    The fit knew the sky pixels minus a first guess of the wings of faint sources there, which is
    1 % of their light off; in crowded fields that is some 0.03 sigma everywhere.
    """
    correction = fit_background(difference, noise, sky, kernel.bg_order)
    if correction is None:
        return kernel
    difference -= polynomial.product_map(correction, kernel.bg_order, difference.shape)
    return dataclasses.replace(kernel, background=kernel.background + correction)


def propagated(kernel: MatchingKernel, variance, rho=None):
    """Variance (ny, nx) float32 of the convolved image; `rho` is the correlation of its noise."""
    ny, nx = variance.shape
    y = np.minimum(np.arange(0, ny, TILE) + TILE // 2, ny - 1)
    x = np.minimum(np.arange(0, nx, TILE) + TILE // 2, nx - 1)
    kernels = np.square(kernel.on_grid(x, y))
    noise = convolve_by_tiles(variance, kernels, TILE)
    if rho is not None:  # correlated noise survives the convolution better than white noise
        centre = kernel.at((nx - 1) / 2, (ny - 1) / 2)
        noise *= np.float32(variance_factor(np.array(rho), centre))
    return np.maximum(noise, 0, out=noise)


def _mask(kernel, science, template, bad, doubt, noise, added, settings):
    """Bits of the science image; TEMPLATE and EDGE where the other image had nothing to say.

    A filled pixel spoils what it contributes to: by weight, or because the doubt about its value
    is more than the noise, as around saturated stars.
    """
    ny, nx = science.shape
    centre = np.abs(kernel.at((nx - 1) / 2, (ny - 1) / 2)).astype(np.float32)
    share = convolve_sparse(bad.astype(np.float32), bad, centre / centre.sum())
    spoiled = share > settings.bad_fraction
    _near_border(spoiled, centre / centre.sum(), settings.bad_fraction)
    spoiled |= np.square(doubt) > np.float32(settings.doubt**2) * (noise - added)
    mask = science.mask.copy()
    if kernel.convolved == "template":
        mask[spoiled] |= np.uint16(MaskBit.TEMPLATE)
    else:
        mask[spoiled & science.usable] |= np.uint16(MaskBit.EDGE)
        mask[~template.usable] |= np.uint16(MaskBit.TEMPLATE)
    no_data = has_bits(template.mask, MaskBit.NO_DATA)
    mask[no_data] |= np.uint16(MaskBit.NO_DATA | MaskBit.TEMPLATE)
    return mask


def _near_border(spoiled, weight, limit):
    """Mark rows and columns with more than `limit` of the kernel's weight outside the image."""
    for axis in (0, 1):
        outside = weight.sum(1 - axis).cumsum()
        first, last = (
            int((side > limit).sum()) - len(outside) // 2 - 1 for side in (outside[::-1], outside)
        )
        plane = spoiled if axis == 0 else spoiled.T
        plane[: max(first, 0)] = True
        plane[len(plane) - max(last, 0) :] = True
