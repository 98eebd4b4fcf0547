"""Settings of the stage `subtract_stars`."""

from pydantic import BaseModel, ConfigDict, Field


class HaloSettings(BaseModel):
    """How bright stars are chosen and fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_halo: float = Field(
        0.5, gt=0,
        description="light of a star 3 FWHM from it, in sigma of the sky, from which it is removed",
    )  # fmt: skip
    core: float = Field(
        3.0, ge=0,
        description="radius about each star that its fit leaves out, FWHM: cores are never exact",
    )  # fmt: skip
    fit_radius: float = Field(100.0, gt=0, description="outer radius of the fit of a star, px")
    sky_order: int = Field(1, ge=0, le=2, description="degree of the local sky about each star")
    centre: bool = Field(True, description="fit positions too: saturated stars' are poor")
    max_radius: int = Field(400, ge=15, description="to which haloes are followed, px")
    faintest: float = Field(
        0.05, gt=0, description="light in sigma of the sky to which a halo is followed"
    )
    flag_above: float = Field(
        0.1, gt=0, description="removed light in sigma above which a pixel is flagged HALO"
    )


class SubtractStarsSettings(HaloSettings):
    """Settings of the stage `subtract_stars`."""

    enabled: bool = Field(
        False, description="make starless.fits of every image; nothing else needs it"
    )
    refit_background: bool = Field(True, description="estimate the background anew afterwards")
