"""What a kernel makes of an exposure: the matched image and the difference, masks with them."""

import dataclasses

import numpy as np
from scipy import ndimage

from psflib.image.convolve import constant_kernel
from psflib.image.exposure import OWN_BITS, Exposure, MaskBit, has_bits
from psflib.image.fill import fill_masked
from psflib.image.polynomial import evaluate, product_map
from psflib.matching.kernel import MatchingKernel

OF_THE_PSF = ("psf", "fwhm")  # in meta; a convolution changes them
GOOD_SHARE = 0.99  # of the kernel's absolute weight must fall on good pixels


@dataclasses.dataclass(frozen=True, eq=False)
class BackgroundModel:
    """Polynomial difference of the backgrounds, in ADU of the image that is not convolved.

    sky : ndarray (ny, nx) float32 or None
        What `prepare` took off that image before, which counts as background as well.
    """

    coefficients: np.ndarray
    order: int
    shape: tuple[int, int]
    sky: np.ndarray | None = None

    def at(self, x, y):
        """ADU at (x, y); x and y broadcast."""
        fitted = np.tensordot(self.coefficients, evaluate(self.order, x, y, self.shape), 1)
        if self.sky is None:
            return fitted
        y, x = np.broadcast_arrays(np.asarray(y, float), np.asarray(x, float))
        places = y.ravel(), x.ravel()
        sky = ndimage.map_coordinates(self.sky, places, float, order=1, mode="nearest")
        return fitted + sky.reshape(x.shape)

    def __call__(self, x, y):
        """As `at`."""
        return self.at(x, y)

    def image(self) -> np.ndarray:
        """(ny, nx) float32."""
        fitted = product_map(self.coefficients, self.order, self.shape)
        return fitted if self.sky is None else fitted + self.sky


def background_of(kernel: MatchingKernel, sky=None) -> BackgroundModel:
    """The differential background that was fitted with the kernel, and the sky removed before."""
    return BackgroundModel(kernel.background, kernel.bg_order, kernel.shape, sky)


def convolved_exposure(
    kernel: MatchingKernel, exposure: Exposure, good_share: float = GOOD_SHARE
) -> Exposure:
    """`exposure` convolved with the kernel; not normalised, so it has the target's flux scale.

    Masked pixels are filled from their surroundings first.  A pixel that got less than
    `good_share` of the kernel's absolute weight from good pixels is flagged TEMPLATE, from inside
    the image EDGE; one without data of its own NO_DATA.
    """
    image, variance = fill_masked(exposure)
    matched = kernel.varying().convolve(image)
    noise = np.maximum(kernel.squared().convolve(variance), 0)
    mask = _mask(kernel, exposure, good_share)
    meta = {k: v for k, v in exposure.meta.items() if k not in OF_THE_PSF}
    return exposure.replace(
        image=matched, variance=_positive(noise), mask=mask, mask_bits=OWN_BITS, meta=meta
    )


def _positive(noise):
    """Rounding of the transforms can leave a variance of 0 where there was none; never below."""
    tiny = np.float32(1e-6) * np.median(noise)
    return np.maximum(noise, tiny if tiny > 0 else np.float32(1e-30))


def _mask(kernel, exposure, good_share):
    ny, nx = exposure.shape
    weight = np.abs(kernel.at((nx - 1) / 2, (ny - 1) / 2))
    share = constant_kernel(weight / weight.sum())
    good = share.convolve(exposure.usable.astype(np.float32))
    inside = share.convolve(np.ones(exposure.shape, np.float32))
    mask = exposure.mask.copy()
    mask[good < good_share * np.minimum(inside, 1)] |= np.uint16(MaskBit.TEMPLATE)
    mask[inside < good_share] |= np.uint16(MaskBit.EDGE)
    return mask


def subtract_matched(kernel: MatchingKernel, science, template, matched) -> Exposure:
    """The difference in science flux units and with the science image's sign.

    Its PSF is that of the image that was not convolved.

    science - matched - background; or, if the science image was convolved,
    -(template - matched - background) / kernel sum.
    """
    target = science if kernel.convolved == "template" else template
    image = target.image - matched.image - kernel.background_map()
    variance = target.variance + matched.variance
    if kernel.convolved == "science":
        for y0 in range(0, image.shape[0], 128):
            rows = slice(y0, y0 + 128)
            y = np.arange(y0, min(y0 + 128, image.shape[0]))[:, None]
            total = kernel.kernel_sum(np.arange(image.shape[1])[None, :], y).astype(np.float32)
            image[rows] /= -total
            variance[rows] /= np.square(total)
    mask = science.mask | matched.mask
    mask[~template.usable] |= np.uint16(MaskBit.TEMPLATE)
    mask[has_bits(template.mask, MaskBit.NO_DATA)] |= np.uint16(MaskBit.NO_DATA)
    no_data = has_bits(mask, MaskBit.NO_DATA)
    image[no_data], variance[no_data] = 0, 0
    planes = {"image": image, "variance": variance, "mask": mask, "mask_bits": OWN_BITS}
    return with_psf_of(target, science.replace(**planes))


def with_psf_of(target: Exposure, exposure: Exposure) -> Exposure:
    """`exposure` with what `target` says of its PSF, in place of its own."""
    meta = {k: v for k, v in exposure.meta.items() if k not in OF_THE_PSF}
    meta |= {k: target.meta[k] for k in OF_THE_PSF if k in target.meta}
    return exposure.replace(meta=meta)
