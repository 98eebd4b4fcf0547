"""Settings of the stage `detect`."""

from pydantic import BaseModel, ConfigDict, Field


class DetectSettings(BaseModel):
    """Settings of the stage `detect`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(
        5.0, gt=0, description="significance of a candidate, sigma; raise for fewer false alarms"
    )
    false_alarms: float | None = Field(
        None, gt=0,
        description="peaks of noise, of both signs, that are allowed in a square degree; if it is "
        "given, the threshold follows from it and from the noise as measured, and the images need "
        "a WCS",
    )  # fmt: skip
    max_chi2: float = Field(
        3.0, gt=1,
        description="reduced chi-square of the PSF fit above which a candidate is flagged 'shape'",
    )  # fmt: skip
    psf_error: float = Field(
        0.03, ge=0,
        description="relative error of the PSF model, by which the chi-square of a bright "
        "candidate may exceed the limit",
    )  # fmt: skip
    masked_fraction: float = Field(
        0.25, gt=0, lt=1,
        description="masked share of the inner PSF above which a candidate is flagged 'masked'",
    )  # fmt: skip
    on_bad: str = Field(
        "flag",
        pattern="^(keep|flag|fail)$",
        description="what becomes of a difference whose verdict is bad: keep (the verdict says "
        "it), flag (all its candidates are flagged 'bad_epoch', none is clean), fail (the stage "
        "stops with the reasons)",
    )
