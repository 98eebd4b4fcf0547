"""Settings of the stage `subtract` and of its methods."""

import warnings
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from psflib.settings.register import RegisterSettings
from psflib.settings.subtract_stars import HaloSettings

METHODS = ("al", "sfft", "zogy")
MOST_FLUX_RANGE = 2.0  # factor between the flux scale and its median over the field

#: The setting `flux_range` of every method.
FluxRange = Annotated[
    float,
    Field(
        gt=1,
        description="most that the flux scale may differ from its median over the field, as a "
        "factor; if it does more the degrees are lowered, and at degree 0 the epoch stops",
    ),
]
#: The setting `doubt` of every method.
MostDoubt = Annotated[
    float,
    Field(
        gt=0, description="doubt about filled-in values, in sigma, above which the result is masked"
    ),
]
#: The setting `background_order` of every method.
BackgroundOrder = Annotated[
    int, Field(ge=0, le=4, description="degree of the differential background")
]


class AlSettings(BaseModel):
    """Settings of the method `al`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    convolve: str = Field(
        "auto",
        pattern="^(auto|template|science)$",
        description="image to convolve: template, science, or auto (the sharper one)",
    )
    kernel_order: int = Field(
        3, ge=0, le=3,
        description="highest degree of the kernel's variation over the field; cells of the image "
        "that are held out choose it, and it is lowered if stars are few",
    )  # fmt: skip
    flux_order: int = Field(
        2, ge=0, le=3,
        description="highest degree of the flux scale's variation (transparency, flat field), "
        "chosen likewise",
    )  # fmt: skip
    flux_range: FluxRange = MOST_FLUX_RANGE
    background_order: BackgroundOrder = 3
    doubt: MostDoubt = 1.0
    bad_fraction: float = Field(
        0.3, gt=0, lt=1,
        description="masked share of the kernel's weight above which the result is masked",
    )  # fmt: skip


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
    flux_range: FluxRange = MOST_FLUX_RANGE
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


class ZogySettings(BaseModel):
    """Settings of the method `zogy`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: int = Field(
        0, ge=0, le=17,
        description="places an axis at which the PSFs are taken, with linear blends between; "
        "0: as many as their variation asks for",
    )  # fmt: skip
    accuracy: float = Field(
        0.02, gt=0, lt=1,
        description="error of a PSF between these places, relative in the L1 norm, above which "
        "there are more of them",
    )  # fmt: skip
    scale_order: int = Field(
        2, ge=0, le=3, description="highest degree of the flux scale's variation over the field"
    )
    flux_range: FluxRange = MOST_FLUX_RANGE
    background_order: BackgroundOrder = 3
    astrometric_error: float = Field(
        0.0, ge=0, description="standard deviation of the registration, px; lowers the score of "
        "residuals on bright stars, and of sources on bright galaxies too",
    )  # fmt: skip
    psf_error: float = Field(
        0.02, ge=0, description="relative error of the PSFs; lowers the score of residuals on "
        "bright sources likewise",
    )  # fmt: skip
    psf_clean: float = Field(
        0.0, ge=0, lt=1, description="PSF values below this fraction of the peak count as 0"
    )
    doubt: MostDoubt = 1.0
    bad_fraction: float = Field(
        0.3, gt=0, lt=1,
        description="masked share of a filter's weight above which the result is masked",
    )  # fmt: skip


with warnings.catch_warnings():
    # ABCMeta has a method `register`, for virtual subclasses; settings have none
    warnings.filterwarnings("ignore", 'Field name "register"', UserWarning)

    class SubtractSettings(BaseModel):
        """Settings of the stage `subtract`."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        method: str = Field(
            "al", pattern=f"^({'|'.join(METHODS)})$",
            description="al (Alard-Lupton, varying kernel), sfft (delta-function kernel), zogy "
            "(proper subtraction, by the PSFs of both images)",
        )  # fmt: skip
        al: AlSettings = Field(AlSettings(), description="settings of the method al")
        sfft: SfftSettings = Field(SfftSettings(), description="settings of the method sfft")
        zogy: ZogySettings = Field(ZogySettings(), description="settings of the method zogy")
        register: RegisterSettings = Field(
            RegisterSettings(), description="how science and template are brought together"
        )
        use_extended_psf: bool = Field(
            False,
            description="remove haloes of bright and saturated stars from both images before they "
            "are matched, each by its own extended PSF",
        )
        haloes: HaloSettings = Field(HaloSettings(), description="how they are fitted")
