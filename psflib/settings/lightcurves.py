"""Settings of the stage `lightcurves`."""

from pydantic import BaseModel, ConfigDict, Field


class LightcurveSettings(BaseModel):
    """Settings of the stage `lightcurves`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    radius: float = Field(
        1.0, gt=0, le=5,
        description="candidates of different epochs within so many FWHM are one object",
    )  # fmt: skip
    most: int = Field(
        2000, ge=1,
        description="objects whose light is measured, those found clean most often first; every "
        "object has a row an epoch",
    )  # fmt: skip
    only_clean: bool = Field(
        False, description="leave out objects that no epoch has found without a flag"
    )
    limit: float = Field(
        5.0, gt=0, description="upper limits where nothing was found, sigma of the forced flux"
    )
    pictures: int = Field(12, ge=0, description="objects drawn, the first of the table")
