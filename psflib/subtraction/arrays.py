"""What STDPipe's calls take, plain arrays with masks and errors, as exposures."""

import logging
import sys
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from psflib.errors import BadImage
from psflib.image.exposure import Exposure
from psflib.image.noise import robust_std
from psflib.image.smooth import own_share
from psflib.preparation.sky import fit_sky

BRIGHT = 5.0  # sigma of the sky, above which a pixel's own light tells its photon noise

#: What the docstrings of all calls say alike, in the place of ``{planes}`` and ``{verbose}``.
PLANES = """image, template : ndarray (ny, nx)
        Science image and template on one grid, ADU; sky may be left in both.
    mask, template_mask : ndarray (ny, nx), optional
        True or nonzero is bad."""
VERBOSE = """verbose : bool or callable
        True: messages on standard output.  Callable: gets every message."""


def takes_planes(call: Callable) -> Callable:
    """Complete the docstring of a call that takes two images and their masks."""
    call.__doc__ = (call.__doc__ or "").replace("{planes}", PLANES).replace("{verbose}", VERBOSE)
    return call


def speaker(verbose: bool | Callable, log: logging.Logger) -> Callable:
    """Where messages go: to the caller's own function, to standard output if `verbose`, else to
    the log at level DEBUG."""
    if callable(verbose):
        return verbose
    return _show if verbose else log.debug


def _show(message: str) -> None:
    sys.stdout.write(f"{message}\n")


def check_shapes(image, template) -> None:
    """Refuse a pair that is not on one grid."""
    shapes = np.shape(image), np.shape(template)
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"image {shapes[0]} and template {shapes[1]} differ in shape; both must have the "
            "same shape"
        )


def exposure_of(name: str, image, mask=None, err=None, gain=None) -> Exposure:
    """An array, its mask and its errors as an exposure.

    Parameters
    ----------
    name : str
        How messages call the image.
    image : ndarray (ny, nx)
        ADU, sky included; not modified.
    mask : ndarray (ny, nx), optional
        True or nonzero is bad.
    err : ndarray (ny, nx) or True, optional
        Sigma of each pixel, ADU.  None and True measure it, see `measured_variance`.
    gain : float, optional
        e-/ADU.

    Returns
    -------
    Exposure
        Without its median, which is in ``sky`` (taken off in float64, so that a high sky costs
        no digits).  Pixels that are masked, not finite or without a positive error are unusable.

    Raises
    ------
    ValueError
        Shapes that differ, arrays that are not 2-D and real.
    BadImage
        No usable pixel, or all usable pixels hold one value.
    """
    plane, good = usable_pixels(name, image, mask)
    level = float(np.median(plane[good]))
    variance = read_variance(name, err, plane.shape)
    if variance is None:
        variance = measured_variance(plane, good, gain)
    return Exposure(np.where(good, plane - level, np.nan), variance, ~good, gain=gain, sky=level)


def usable_pixels(name, image, mask=None) -> tuple[np.ndarray, np.ndarray]:
    """The image in float64 and where it is finite and not masked; refuses what is no sky image."""
    plane = np.asarray(image)
    if plane.ndim != 2 or plane.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be a 2-D array of numbers; got {plane.shape}, {plane.dtype}")
    good = np.isfinite(plane)
    if mask is not None:
        if np.shape(mask) != plane.shape:
            raise ValueError(
                f"the {name}'s mask has shape {np.shape(mask)}, its image {plane.shape}"
            )
        good &= np.asarray(mask) == 0
    if not good.any():
        raise BadImage(f"{name}: no usable pixel of {plane.size}: all are masked or not finite")
    plane = plane.astype(float)
    low, high = plane[good].min(), plane[good].max()
    if low == high:
        raise BadImage(f"{name}: all usable pixels hold the value {low:g}: not a sky image")
    return plane, good


def read_variance(name, err, shape) -> np.ndarray | None:
    """err² (ny, nx) float64 of a given array; None where the errors are to be measured."""
    if err is None or isinstance(err, bool | np.bool_):
        return None
    err = np.asarray(err, float)
    if err.shape != shape:
        raise ValueError(f"err of the {name} has shape {err.shape}, the image {shape}")
    return np.square(err)


def valid_range(plane, good) -> tuple[float, float]:
    """STDPipe's range of valid counts: 10 MAD sigma below the median, 1 % above the brightest."""
    values = plane[good]
    low, high = values.min(), values.max()
    return float(np.median(values) - 10 * robust_std(values)), float(high + 0.01 * (high - low))


def noise_of_sky(plane, good) -> np.ndarray:
    """Sigma of the sky (ny, nx), ADU: of a mesh whose sources are masked and clipped."""
    return fit_sky(np.where(good, plane, 0).astype(np.float32), good, order=None).rms.astype(float)


def measured_variance(plane, good, gain) -> np.ndarray:
    """Variance of the sky's noise plus photon noise of what exceeds the sky (with a gain), ADU²."""
    flat = np.where(good, plane, 0).astype(np.float32)
    sky = fit_sky(flat, good, order=None)
    excess = np.where(good, flat - sky.level, 0)
    share = own_share(1.0)  # left out, or the variance would know the pixel's own noise
    weight = ndimage.gaussian_filter(good.astype(float), 1.0) - share * good
    smooth = ndimage.gaussian_filter(excess, 1.0) - share * excess
    smooth /= np.maximum(weight, 1e-3)
    # the peaks of bright stars are no average of what is around them; weights know of it
    smooth = np.where(excess > BRIGHT * sky.rms, excess, smooth)
    variance = np.square(sky.rms.astype(float))
    return variance + np.maximum(smooth, 0) / gain if gain else variance
