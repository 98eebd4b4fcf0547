"""Settings of the stage `register`."""

from pydantic import BaseModel, ConfigDict, Field


class RegisterSettings(BaseModel):
    """How science and template are brought together, part of the stage `subtract`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(
        "auto",
        pattern="^(auto|wcs|stars|none)$",
        description="auto (the WCS where there is one, corrected by the stars if these disagree, "
        "and found by them alone if it is wrong), wcs (stop if the stars disagree), stars (the "
        "WCS is not looked at), none (the WCS, whatever the stars say)",
    )
    limit: float = Field(
        0.1, gt=0,
        description="variation of the shift over the field, px rms, above which it is corrected",
    )  # fmt: skip
    constant_limit: float = Field(
        0.6, gt=0,
        description="shift of the whole field, px, above which it is corrected; the matching "
        "kernel takes up what is less, at no cost in noise",
    )  # fmt: skip
