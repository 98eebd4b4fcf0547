"""Settings of the stage `build_stamps`."""

from pydantic import BaseModel, ConfigDict, Field, field_validator


class StampSettings(BaseModel):
    """Settings of the stage `build_stamps`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int | None = Field(
        None,
        ge=9,
        description="Side, px, odd; null takes 10 FWHM, 21 to 61. Larger for wide wings.",
    )
    neighbor_radius: float = Field(
        1.5, ge=0, description="Pixels this near to another detection are left out, in FWHM."
    )
    min_valid: float = Field(
        0.6, ge=0, le=1, description="Valid fraction a star needs within 1.5 FWHM of its centre."
    )

    @field_validator("size")
    @classmethod
    def _odd(cls, size):
        if size is not None and size % 2 == 0:
            raise ValueError(f"size must be odd; got {size}")
        return size
