"""Settings of the stage `extended_psf`."""

from pydantic import BaseModel, ConfigDict, Field


class ExtendedSettings(BaseModel):
    """Settings of the stage `extended_psf`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int | None = Field(
        None,
        ge=31,
        description="Largest side of the wing, px; null takes 601. Less in small images (a third) "
        "and where the brightest star is lost in the noise.",
    )
    most_stars: int = Field(50, ge=1, description="Bright stars that are stacked, of all ranges.")
    min_snr: float = Field(100.0, gt=0, description="S/N a star needs to be stacked.")
    match_radius: float | None = Field(
        None, gt=0, description="Where the wing joins the core, px; null takes 2.3 FWHM."
    )
    ee_radius: float | None = Field(
        None, gt=0, description="Aperture of unit sum, px; null takes 6 FWHM, at least 15."
    )
    combine_kappa: float = Field(3.0, gt=0, description="Clipping of the stack, sigma.")
    neighbor_radius: float = Field(
        1.5, ge=0, description="Least radius of the mask on a neighbour, FWHM; brighter ones more."
    )
    pedestal: str = Field(
        "sky",
        pattern="^(sky|power_law)$",
        description="What sets the zero of the wing: the sky outside the haloes, or a power law "
        "(which a break or a ghost in the wing fools).",
    )
