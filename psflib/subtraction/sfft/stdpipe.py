"""The functions of STDPipe's module `sfft`, on `run_sfft`.

STDPipe: Karpov 2021, ascl:2112.006.  Coefficients and coordinates are theirs, so that results can
be handed to functions written for them.
"""

import numpy as np

from psflib.image.polynomial import unit
from psflib.subtraction.arrays import check_shapes
from psflib.subtraction.sfft.result import SFFTResult
from psflib.subtraction.sfft.run import run_sfft


def solve(
    image, template, mask=None, template_mask=None, err=None, template_err=None,
    kernel_shape=(7, 7), kernel_poly_order=2, bg_poly_order=2, flux_poly_order=1,
    flux_penalty=1e3, ridge=1e-6, sigma_clip=3.0, max_iter=5, verbose=False,
) -> SFFTResult:  # fmt: skip
    """`run_sfft` for its `SFFTResult` alone; arguments as there, but for the errors.

    err, template_err : ndarray (ny, nx), optional
        Sigma of each pixel, ADU; True is no weights, as None is.
    """
    check_shapes(image, template)
    return run_sfft(
        image, template, mask, template_mask, None if err is True else err, template_err,
        kernel_shape=kernel_shape, kernel_poly_order=kernel_poly_order,
        bg_poly_order=bg_poly_order, flux_poly_order=flux_poly_order, flux_penalty=flux_penalty,
        ridge=ridge, sigma_clip=sigma_clip, max_iter=max_iter, get_kernel=True, verbose=verbose,
    )[1]  # fmt: skip


def evaluate_kernel_at(result: SFFTResult, x: float, y: float, image_shape):
    """Kernel at (x, y), (ky, kx) float64; true convolution, origin at the central pixel.

    image_shape : (ny, nx) of the images, for which the kernel was fitted.

    Raises
    ------
    ValueError
        For the shape of other images, here and in the two functions below.
    """
    _check(result, image_shape)
    return result.kernel_at(x, y)


def evaluate_flux_scale(result: SFFTResult, x, y, image_shape):
    """Sum of the kernel at x, y, which broadcast, by its terms up to `flux_poly_order`."""
    _check(result, image_shape)
    return _value(result.flux_poly_coeffs, result.flux_poly_order, x, y, image_shape)


def evaluate_background(result: SFFTResult, x, y, image_shape):
    """Differential background at x, y, which broadcast, of the images as they were given, ADU."""
    _check(result, image_shape)
    return _value(result.bg_coeffs, result.bg_poly_order, x, y, image_shape)


def _check(result, image_shape):
    if tuple(image_shape[:2]) != result.form.shape:
        raise ValueError(
            f"image_shape {tuple(image_shape[:2])} is not that of the fit, {result.form.shape}"
        )


def _value(coefficients, order, x, y, image_shape):
    u, v = unit(x, image_shape[1]), unit(y, image_shape[0])
    powers = [u**i * v ** (degree - i) for degree in range(order + 1) for i in range(degree + 1)]
    return np.tensordot(coefficients, np.array(powers), 1)
