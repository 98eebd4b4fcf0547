"""The method `sfft` of the stage `subtract`: a delta-function kernel, fitted with weights."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from psflib.image.difference import Difference
from psflib.image.exposure import Exposure
from psflib.matching.bounds import MOST, FluxRange
from psflib.subtraction.al import subtract_fitted
from psflib.subtraction.doubts import BackgroundOrder, MostDoubt
from psflib.subtraction.sfft.footprints import Wanted, fit_kernel


class SfftSettings(BaseModel):
    """Settings of the method `sfft`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    convolve: str = Field(
        "auto",
        pattern="^(auto|template|science)$",
        description="image to convolve: template, science, or auto (the sharper one)",
    )
    kernel_size: int = Field(
        0, ge=0, description="side of the kernel in px, odd; 0: 6 FWHM of the broader image"
    )
    free_radius: float = Field(
        4.0, ge=0,
        description="radius in px within which every pixel of the kernel is free; beyond it is "
        "made of smooth bumps. 0: all pixels are free",
    )  # fmt: skip
    kernel_order: int = Field(
        2, ge=0, le=3,
        description="degree of the kernel's variation over the field, lowered if stars are few",
    )  # fmt: skip
    flux_order: int = Field(
        2, ge=0, le=3, description="degree of the flux scale's variation, at most kernel_order"
    )
    flux_range: FluxRange = MOST
    background_order: BackgroundOrder = 3
    smoothness: float | None = Field(
        None, ge=0,
        description="strength of the penalty on the kernel's Laplacian; none: generalised "
        "cross-validation chooses it",
    )  # fmt: skip
    doubt: MostDoubt = 1.0
    bad_fraction: float = Field(
        0.3, gt=0, lt=1,
        description="masked share of the kernel's weight above which the result is masked",
    )  # fmt: skip

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, size):
        if size and size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, or 0; got {size}")
        return size


def subtract(science: Exposure, template: Exposure, settings: SfftSettings, psf_of) -> Difference:
    """Science minus template, matched by a delta-function kernel; arguments as of `al.subtract`."""
    smooth = "gcv" if settings.smoothness is None else settings.smoothness
    wanted = Wanted(
        settings.kernel_order, settings.flux_order, settings.background_order,
        settings.kernel_size, settings.free_radius, smooth, settings.flux_range,
    )  # fmt: skip

    def fit(target, convolved, fwhms, name):
        return fit_kernel(target, convolved, fwhms, wanted, name)

    return subtract_fitted(fit, science, template, settings, psf_of)
