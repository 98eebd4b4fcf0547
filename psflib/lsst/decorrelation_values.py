"""Settings, values and PSF of `DecorrelateALKernelTask`, and what it makes of its arguments."""

import dataclasses
import warnings
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from scipy import ndimage

from psflib.image.exposure import MaskBit, as_exposure, has_bits

BLOCK = 32  # px, of the medians that fill pixels without a value
PSF_SIZE = 41  # px, of a PSF that can be had in any size


class DecorrelateALKernelConfig(BaseModel):
    """Settings of `DecorrelateALKernelTask`, by LSST's names or in snake_case."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    ignore_mask_planes: tuple[str, ...] = Field(
        ("INTERP", "EDGE", "DETECTED", "SAT", "CR", "BAD", "NO_DATA"),
        description="pixels with one of these bits do not count in the mean variance",
    )
    complete_var_plane_propagation: bool = Field(
        False, description="convolve the variance planes, instead of weighting them"
    )
    clip: float = Field(3.0, gt=0, description="sigmas kept in the mean variance")
    iterations: int = Field(3, ge=1, description="rounds of that clipping")

    @property
    def ignored(self) -> MaskBit:
        bits = MaskBit(0)
        for name in self.ignore_mask_planes:
            bits |= MaskBit["INTERP" if name == "INTRP" else name]
        return bits


class Correction(NamedTuple):
    """Spectra of a correction, each of the task's `freq_space_shape`.

    corrft : ndarray of float64; the filter for the difference or score image, 1 at frequency 0.
    cnft, crft : ndarray of complex128; all that the image that was not matched, and the one that
        was, went through in the end (pre-convolution, matching, correction).
    """

    corrft: np.ndarray
    cnft: np.ndarray
    crft: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class FixedPsf:
    """A PSF that is the same everywhere: image (ny, nx) float64 of unit sum."""

    image: np.ndarray

    def at(self, x: float, y: float, size: int | None = None) -> np.ndarray:
        """The image, cut or padded with zeros to (size, size) about its centre, of unit sum."""
        if size is None:
            return self.image.copy()
        out = np.zeros((size, size))
        rows, cols = (_overlap(n, size) for n in self.image.shape)
        out[rows[1], cols[1]] = self.image[rows[0], cols[0]]
        return out / out.sum()


@dataclasses.dataclass(frozen=True, eq=False)
class DecorrelationResult:
    """What `DecorrelateALKernelTask.run` returns.

    corrected_exposure : Exposure
        The decorrelated difference or score image, its variance, and its PSF as `meta["psf"]`
        (`FixedPsf`).  Of a plain array: an array of the same dtype, its NaN and inf kept.
    variance : ndarray (ny, nx) float32
        The new variance plane; None if nothing was done.
    psf : FixedPsf or None
        The corrected PSF; None if the difference came without one.
    metadata : dict
        `decorrelated`, `svar`, `tvar`, `kernel_sum`, `variance_mean`, `freq_space_shape`,
        `psf_clipped_energy` (share of the PSF's squares that its box cut off).
    """

    corrected_exposure: Any
    variance: np.ndarray | None = None
    psf: FixedPsf | None = None
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)


def pixels_of(image):
    """Pixel values with NaN where there are no data, and the exposure they are of, if any."""
    if isinstance(image, np.ndarray):
        return as_exposure(image) and image, None
    exposure = as_exposure(image)
    lost = has_bits(exposure.mask, MaskBit.NO_DATA)
    return np.where(lost, np.float32(np.nan), exposure.image), exposure


def variance_of(exposure, mean):
    """Variance plane with NaN where it is unknown; `mean` everywhere if there is no plane."""
    if exposure.variance is None:
        return np.full(exposure.shape, mean)
    known = ~has_bits(exposure.mask, MaskBit.NO_DATA) & (exposure.variance > 0)
    return np.where(known, exposure.variance, np.float32(np.nan))


def kernel_at(kernel, place) -> np.ndarray:
    """A kernel image, or what a varying kernel is at one place."""
    return np.asarray(kernel if isinstance(kernel, np.ndarray) else kernel.at(*place), float)


def psf_at(psf, place):
    """A PSF image, or what a PSF is at one place; None stays None."""
    if psf is None or isinstance(psf, np.ndarray):
        return psf
    return psf.at(*place, PSF_SIZE)


def local_median(image, bad):
    """Median of the good pixels of each block, at all pixels; of the nearest block if few are."""
    ny, nx = image.shape
    rows, cols = -(-ny // BLOCK), -(-nx // BLOCK)
    padded = np.full((rows * BLOCK, cols * BLOCK), np.nan)
    padded[:ny, :nx] = np.where(bad, np.nan, image)
    blocks = padded.reshape(rows, BLOCK, cols, BLOCK).swapaxes(1, 2).reshape(rows, cols, -1)
    share = np.isfinite(blocks).mean(-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # blocks without any
        medians = np.nanmedian(blocks, -1)
    few = share < min(0.25, share.max())
    nearest = ndimage.distance_transform_edt(few, return_distances=False, return_indices=True)
    return medians[tuple(nearest)].repeat(BLOCK, 0).repeat(BLOCK, 1)[:ny, :nx]


def _overlap(n, size):
    """Slices of an axis of n pixels and of one of `size` that share their centres."""
    shift = size // 2 - n // 2
    low, high = max(shift, 0), min(shift + n, size)
    return slice(low - shift, high - shift), slice(low, high)
