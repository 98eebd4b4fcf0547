"""Settings of the stage `simulate`."""

from pydantic import BaseModel, ConfigDict, Field


class SimulateSettings(BaseModel):
    """The embedded field. Densities are per 1e6 px, so that a smaller field looks the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(1, description="Seed of all random numbers; another seed is another sky.")
    size: int = Field(
        1024, ge=128, description="Side of the images (px); smaller for a quicker look."
    )
    star_density: float = Field(
        700, ge=0, description="Stars per 1e6 px, brighter than faintest_star."
    )
    star_slope: float = Field(1.6, gt=1, description="Stars are distributed as flux^-star_slope.")
    faintest_star: float = Field(400, gt=0, description="ADU in the template; 400 is about S/N 8.")
    brightest_star: float = Field(2e7, gt=0, description="ADU; lower it for no saturated stars.")
    galaxy_density: float = Field(100, ge=0, description="Galaxies per 1e6 px.")
    variable_density: float = Field(20, ge=0, description="Variable stars per 1e6 px.")
    transient_density: float = Field(
        60,
        ge=0,
        description="Transients per 1e6 px and epoch; a third fade, a third sit on galaxies.",
    )
    transient_snr: tuple[float, float] = Field(
        (4.0, 100.0), description="Range of their S/N, uniform in the logarithm."
    )
    psf_variation: float = Field(
        0.07,
        ge=0,
        le=0.2,
        description="Relative trend of the PSF over the field: FWHM changes by ± this, about.",
    )
    cosmic_rays: float = Field(40, ge=0, description="Cosmic rays per 1e6 px in each image.")
    nan_blocks: int = Field(3, ge=0, description="Blocks of NaN in each image.")
    bad_columns: int = Field(1, ge=0, description="Bad columns in each image.")
