"""Settings of the stage `core_epsf`."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

MOST_ORDER = 3  # of the polynomials over the field


class EpsfSettings(BaseModel):
    """Settings of the stage `core_epsf`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    oversample: int | None = Field(
        None, ge=1, description="Samples per pixel; odd. null takes the least with 4 in a FWHM."
    )
    order: int | None = Field(
        None,
        ge=0,
        le=MOST_ORDER,
        description="Degree over the field; null lets held-out stars choose.",
    )
    most_order: int = Field(
        MOST_ORDER, ge=0, le=MOST_ORDER, description="Highest degree that is tried."
    )
    solver: str = Field(
        "normal",
        description="normal; or landweber: the reference's iteration, constant over the field.",
    )
    max_iter: int = Field(50, ge=1, description="Most rounds; normal needs 3 to 10.")
    tol: float = Field(1e-4, gt=0, description="Relative change of the ePSF that ends them.")

    @field_validator("oversample")
    @classmethod
    def _odd(cls, oversample):
        if oversample is not None and oversample % 2 == 0:
            raise ValueError(f"oversample must be odd; got {oversample}")
        return oversample

    @field_validator("solver")
    @classmethod
    def _known(cls, solver):
        if solver not in ("normal", "landweber"):
            raise ValueError(f"solver must be normal or landweber; got {solver}")
        return solver
