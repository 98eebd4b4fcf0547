"""Settings of the stage `prepare`."""

from pydantic import BaseModel, ConfigDict, Field


class PrepareSettings(BaseModel):
    """Settings of the stage `prepare`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sky_box: int = Field(
        64, ge=8, description="side of a sky-mesh cell, px; larger than the largest galaxy to keep"
    )
    sky_order: int | None = Field(
        2, ge=0, le=3, description="degree of the sky polynomial; null uses the mesh itself"
    )
    cosmic_rays: bool = Field(True, description="find cosmic rays; off for coadds already cleaned")
    cosmic_ray_sigma: float = Field(
        6.0, gt=0, description="threshold of the cosmic-ray search for a lone pixel, sigma"
    )
    bad_lines: bool = Field(True, description="find bad columns and rows")
    saturation_margin: float = Field(
        0.95,
        gt=0,
        le=1,
        description="pixels above this fraction of the saturation level are masked",
    )
    saturation_grow: int = Field(2, ge=0, description="growth of saturated regions, px")
    fwhm: float | None = Field(
        None, gt=0,
        description="FWHM of the stars, px, for all stages; null measures it",
    )  # fmt: skip
