"""Settings of `ImagePsfMatchTask`."""

from typing import Literal

from pydantic import Field, field_validator

from psflib.matching.cells.config import EitherSpelling, PsfMatchConfigAL, PsfMatchConfigDF


class ImagePsfMatchConfig(EitherSpelling):
    """Settings of `ImagePsfMatchTask`."""

    mode: Literal["psflib", "lsst"] = Field(
        "psflib",
        description="psflib: all footprints fitted at once; lsst: candidates, cells and clippings",
    )
    kernel: Literal["AL", "DF"] = Field("AL", description="kernel model of mode lsst")
    al: PsfMatchConfigAL = PsfMatchConfigAL()
    df: PsfMatchConfigDF = PsfMatchConfigDF()
    do_auto_pad_psf: bool = Field(True, description="pad small PSF images before match_model_psf")
    auto_pad_psf_to: float = Field(
        1.4, ge=1, lt=2, description="least side of a PSF image, in sides of the kernel"
    )
    pad_psf_by: int = Field(0, ge=0, description="even number of px, if not padded automatically")

    @field_validator("pad_psf_by")
    @classmethod
    def _even(cls, value):
        if value % 2:
            raise ValueError(f"pad_psf_by must be even, so that the PSF stays centred; got {value}")
        return value

    @property
    def active(self) -> PsfMatchConfigAL | PsfMatchConfigDF:
        """Settings of the kernel model in use."""
        return self.al if self.kernel == "AL" else self.df
