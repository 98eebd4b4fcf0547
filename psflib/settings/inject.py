"""Settings of the stage `inject`."""

from pydantic import BaseModel, ConfigDict, Field, model_validator


class InjectSettings(BaseModel):
    """Settings of the stage `inject`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(
        True,
        description="put sources into the science image, subtract and detect once more, and tell "
        "what was missed: injection.ecsv, completeness and limits of every difference",
    )
    density: float = Field(
        250.0, gt=0, le=1000,
        description="sources per 1e6 px; many make the sky brighter than it is: at 500 they cost "
        "1 % of the depth",
    )  # fmt: skip
    least: int = Field(100, ge=0, description="sources in a small image, as far as there is room")
    most: int = Field(1000, ge=1, description="sources in a large image")
    min_snr: float = Field(3.0, gt=0, description="signal-to-noise ratio of the faintest")
    max_snr: float = Field(30.0, gt=0, le=1e6, description="signal-to-noise ratio of the brightest")
    near_limit: float = Field(
        0.6, ge=0, le=1,
        description="share within 3 sigma of the threshold, where they tell the limits; the "
        "others are spread evenly in the logarithm",
    )  # fmt: skip
    on_galaxies: float = Field(0.15, ge=0, le=1, description="share placed on galaxies")
    near_stars: float = Field(0.1, ge=0, le=1, description="share placed near bright stars")
    seed: int = Field(1, ge=0, description="of places, fluxes and photons")

    @model_validator(mode="after")
    def _sane(self):
        if self.max_snr <= self.min_snr:
            raise ValueError(f"max_snr {self.max_snr:g} must exceed min_snr {self.min_snr:g}")
        if self.on_galaxies + self.near_stars > 1:
            raise ValueError("on_galaxies and near_stars are shares: their sum is at most 1")
        return self
