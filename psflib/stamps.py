"""Cut-outs of single stars, never resampled: an integer window and the recorded offset."""

import dataclasses
import math

import numpy as np

from psflib.checks import require_array, require_count

FWHM_TO_SIGMA = 1 / (2 * math.sqrt(2 * math.log(2)))
MIN_PIXELS = 4  # valid pixels, below which there is no centroid


@dataclasses.dataclass(frozen=True, eq=False)
class StampResult:
    """One star, cut out.

    Parameters
    ----------
    stamp : ndarray (s, s) float64
        Original values; masked pixels keep theirs.
    valid : ndarray (s, s) bool
        Finite, not masked, with a finite positive error if errors were given.
    error : ndarray (s, s) float64 or None
    delta : ndarray (2,) float64
        Offset (row, col) of the centroid from the centre pixel, in [-0.5, 0.5] px.
    centroid : ndarray (2,) float64
        (row, col) in pixels of the cut-out.
    origin : tuple of int
        (row, col) of the first pixel of the stamp in the cut-out.
    """

    stamp: np.ndarray
    valid: np.ndarray
    error: np.ndarray | None
    delta: np.ndarray
    centroid: np.ndarray
    origin: tuple[int, int]


def build_stamp(
    cutout, stamp_size, *, error=None, mask=None, weight_fwhm=3.0, max_iter=10, tol=1e-3
):
    """Centre a star by Gaussian-windowed first moments and cut an integer window about it.

    The median of the outer one-pixel ring is taken as sky for the centroid only; the stamp
    keeps the original values.

    Parameters
    ----------
    cutout : ndarray (h, w) float32 or float64
        Holds the star near its middle, with a margin.
    stamp_size : int
        s, odd, px.
    error : ndarray (h, w) of the dtype of `cutout`, optional
        Standard deviations.
    mask : ndarray (h, w) bool, optional
        True is bad.
    weight_fwhm : float
        FWHM of the window, px.
    max_iter, tol : int, float
        Cap on the passes (at least one is made), and the shift in px that ends them.

    Returns
    -------
    StampResult or None
        None if there is no light to centre on or the window leaves the cut-out.

    Raises
    ------
    ValueError
        For wrong shapes, dtypes, an even or too large `stamp_size`.
    """
    image = require_array("cutout", cutout, 2)
    size = require_count(stamp_size)
    if size % 2 == 0:
        raise ValueError(f"stamp_size must be odd; got {size}")
    if size > min(image.shape):
        raise ValueError(f"stamp_size {size} exceeds the cutout {image.shape}")
    valid, sigma = _validity(cutout, image, error, mask)
    centroid = _windowed_centroid(image, valid, weight_fwhm, require_count(max_iter), tol)
    if centroid is None:
        return None
    centre = np.copysign(np.floor(np.abs(centroid) + 0.5), centroid).astype(int)
    row, col = (int(c) - size // 2 for c in centre)
    if row < 0 or col < 0 or row + size > image.shape[0] or col + size > image.shape[1]:
        return None
    window = (slice(row, row + size), slice(col, col + size))
    return StampResult(
        image[window].copy(),
        valid[window].copy(),
        None if sigma is None else sigma[window].copy(),
        centroid - centre,
        centroid,
        (row, col),
    )


def _validity(cutout, image, error, mask):
    """Boolean plane of usable pixels, and the errors as float64 (or None)."""
    valid, sigma = np.isfinite(image), None
    if error is not None:
        sigma = require_array("error", error, 2, (cutout.dtype,))
        if sigma.shape != image.shape:
            raise ValueError(f"error shape {sigma.shape} must equal cutout shape {image.shape}")
        valid &= np.isfinite(sigma) & (sigma > 0)
    if mask is not None:
        if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.ndim != 2:
            raise ValueError("mask must be a 2-D numpy array of dtype bool")
        if mask.shape != image.shape:
            raise ValueError(f"mask shape {mask.shape} must equal cutout shape {image.shape}")
        valid &= ~mask
    return valid, sigma


def _windowed_centroid(image, valid, fwhm, max_iter, tol):
    """First moment (row, col) under a Gaussian window that follows it; None if there is none."""
    if valid.sum() < MIN_PIXELS:
        return None
    signal = np.where(valid, np.maximum(image - border_median(image, valid), 0.0), 0.0)
    y, x = np.arange(image.shape[0]), np.arange(image.shape[1])
    centre = np.array([(image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2])
    scale = -0.5 / (fwhm * FWHM_TO_SIGMA) ** 2
    for _ in range(max(max_iter, 1)):
        window = np.outer(
            np.exp(scale * (y - centre[0]) ** 2), np.exp(scale * (x - centre[1]) ** 2)
        )
        weight = signal * window
        total = weight.sum()
        if not total > 0:
            return None
        moved = np.array([weight.sum(axis=1) @ y, weight.sum(axis=0) @ x]) / total
        shift = np.hypot(*(moved - centre))
        centre = moved
        if shift < tol:
            break
    return centre


def border_median(image, valid):
    """Median of the valid pixels of the outer one-pixel ring; 0 if there are none."""
    border = valid.copy()
    border[1:-1, 1:-1] = False
    return float(np.median(image[border])) if border.any() else 0.0
