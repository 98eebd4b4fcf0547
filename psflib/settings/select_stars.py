"""Settings of the stage `select_stars`."""

from pydantic import BaseModel, ConfigDict, Field


class StarSettings(BaseModel):
    """Settings of the stage `select_stars`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(5.0, gt=0, description="Detection threshold, sigma.")
    fwhm: float | None = Field(
        None, gt=0, description="FWHM of the stars, px; null measures it. Give it for odd images."
    )
    min_snr: float = Field(30.0, gt=0, description="S/N a star needs; lowered if stars are few.")
    saturation_fraction: float = Field(
        0.8, gt=0, le=1, description="Peaks above this fraction of saturation are rejected."
    )
    edge: float = Field(3.0, ge=0, description="Distance from the border, in FWHM.")
    mask_radius: float = Field(3.0, gt=0, description="Where masked pixels are counted, in FWHM.")
    min_fwhm: float = Field(0.8, gt=0, description="px; below is a hot pixel or cosmic ray.")
    max_fwhm: float = Field(20.0, gt=0, description="px; above cannot be a star.")
    max_ellipticity: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Largest difference in (a-b)/(a+b), as a vector, from the stars around.",
    )
    locus_width: float = Field(
        0.10, gt=0, lt=1, description="Widest accepted half-width of the stellar locus, relative."
    )
    contamination: float = Field(
        0.02, gt=0, description="Neighbours' light over the star's own; raised if stars are few."
    )
    enough: int = Field(20, ge=1, description="With fewer stars the cuts are loosened by steps.")
    cell: int = Field(256, ge=16, description="Side (px) of the cells that share the stars out.")
    per_cell: int = Field(
        10, ge=1, description="Most stars from one cell, best S/N first; more in a small image."
    )
    most: int = Field(300, ge=1, description="Most stars of the image.")
    match_radius: float = Field(
        0.5, gt=0, description="Of a catalogue, if one is given: arcsec (px without a WCS)."
    )
    reserve: float = Field(
        0.2, ge=0, lt=1, description="Fraction kept out of every fit, to judge the PSF."
    )
    seed: int = Field(1, description="Of the choice of reserved stars.")
