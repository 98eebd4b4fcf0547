"""Settings of the stage `decorrelate`."""

from pydantic import BaseModel, ConfigDict, Field


class DecorrelateSettings(BaseModel):
    """Settings of the stage `decorrelate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(
        "varying",
        pattern="^(varying|constant)$",
        description="varying: the filter follows kernel and noise over the field; constant: the "
        "filter of the image's centre and of its mean variances, for all of it",
    )
    accuracy: float = Field(
        0.02, gt=0, lt=1,
        description="error of a varying filter, relative in the L1 norm, above which it is "
        "computed at more places",
    )  # fmt: skip
    distrust_beyond: float = Field(
        0.1, ge=0,
        description="measured and predicted noise of empty sky may differ by this fraction before "
        "the filter is taken from the measured noise instead (images that share exposures, wrong "
        "gains); a large value: never",
    )  # fmt: skip
    max_lag: int = Field(5, ge=1, le=16, description="largest lag of that measurement, px")
    mask_streaks: bool = Field(
        True,
        description="look for the trails of satellites and aeroplanes and mask their light; false "
        "where long straight sources are what is looked for",
    )
