"""`Difference`: science minus matched template, and what it takes to believe it."""

import dataclasses
from typing import Any

import numpy as np
from astropy.wcs import WCS

from psflib.image.covariance import CovarianceMaps
from psflib.image.exposure import UNUSABLE, Exposure, has_bits
from psflib.image.filtered_psf import DecorrelatedPsf


@dataclasses.dataclass(frozen=True, eq=False)
class Difference:
    """A difference image in science flux units.

    Parameters
    ----------
    image, variance : ndarray (ny, nx) float32
        ADU and ADU².
    mask : ndarray (ny, nx) uint16
        `MaskBit` plane.
    kernel : MatchingKernel
        What the template (or the science image) was convolved with.
    psf : object with ``at(x, y, size)``
        PSF of the image that was not convolved; it is the PSF of the raw difference.
    wcs : astropy.wcs.WCS, optional
    science, template : Exposure, optional
        The two images, on one grid; needed by `decorrelate`, dropped when written to disk.
    whitening : VaryingKernel, optional
        The decorrelation kernel that was applied.
    covariance : CovarianceMaps, optional
        What the noise of neighbouring pixels shares after it.
    score : ndarray (ny, nx) float32, optional
        Matched-filter significance.
    meta : dict
        Counts and figures of the fit.
    """

    image: np.ndarray
    variance: np.ndarray
    mask: np.ndarray
    kernel: Any
    psf: Any
    wcs: WCS | None = None
    science: Exposure | None = None
    template: Exposure | None = None
    whitening: Any = None
    covariance: CovarianceMaps | None = None
    score: np.ndarray | None = None
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.shape

    @property
    def usable(self) -> np.ndarray:
        """Boolean (ny, nx): True where the difference means something."""
        return ~has_bits(self.mask, UNUSABLE)

    def replace(self, **changes) -> "Difference":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def psf_at(self, x: float, y: float, size: int = 41) -> np.ndarray:
        """PSF of this difference at (x, y): (size, size) float64, unit sum, centred.

        After decorrelation it is the PSF of the unconvolved image, convolved with the whitening
        kernel that was applied there (DMTN-021, eq. 7).
        """
        if size % 2 == 0:
            raise ValueError(f"size must be odd, so that the PSF has a central pixel; got {size}")
        if self.whitening is None:
            return self.psf.at(x, y, size)
        return DecorrelatedPsf(self.psf, self.whitening).at(x, y, size)
