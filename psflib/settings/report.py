"""Settings of the stage `report`."""

from pydantic import BaseModel, ConfigDict, Field


class ReportSettings(BaseModel):
    """Settings of the stage `report`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: int = Field(12, ge=0, description="candidates shown, strongest first")
    gallery: int = Field(
        200, ge=0, description="candidates on the page of cut-outs, strongest first"
    )
    stamps: int = Field(40, ge=1, description="stamps shown, evenly picked")
    max_lag: int = Field(3, ge=1, le=8, description="noise correlation is shown to this lag, px")
    blocks: int = Field(
        4, ge=1, le=16, description="blocks on each axis of the maps of the noise over the field"
    )
    dpi: int = Field(80, ge=30, le=300, description="of the pictures; raise for print")
