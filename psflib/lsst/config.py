"""Settings of `ImagePsfMatchTask`."""

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from psflib.matching.cells.config import PsfMatchConfigAL, PsfMatchConfigDF
from psflib.matching.cells.spelling import EitherSpelling
from psflib.matching.cells.stand_ins import DETECTION, MEASUREMENT, StandIn


class KernelChoice(EitherSpelling):
    """The kernel models and the one in use."""

    theirs: ClassVar[dict[str, str]] = {"AL": "al", "DF": "df"}

    name: Literal["AL", "DF"] = Field("AL", description="kernel model of mode lsst")
    al: PsfMatchConfigAL = PsfMatchConfigAL()
    df: PsfMatchConfigDF = PsfMatchConfigDF()

    @property
    def active(self) -> PsfMatchConfigAL | PsfMatchConfigDF:
        """Settings of the kernel model in use."""
        return self[self.name]

    def __getitem__(self, name: str) -> PsfMatchConfigAL | PsfMatchConfigDF:
        if name not in KernelChoice.theirs:
            raise KeyError(f"no kernel model {name!r}; one of {', '.join(KernelChoice.theirs)}")
        return self.al if name == "AL" else self.df


class ImagePsfMatchConfig(EitherSpelling):
    """Settings of `ImagePsfMatchTask`.

    ``kernel="DF", df={...}`` is short for ``kernel={"name": "DF", "df": {...}}``.
    """

    mode: Literal["psflib", "lsst"] = Field(
        "psflib",
        description="psflib: all footprints fitted at once; lsst: candidates, cells and clippings",
    )
    kernel: KernelChoice = KernelChoice()
    do_auto_pad_psf: bool = Field(True, description="pad small PSF images before match_model_psf")
    auto_pad_psf_to: float = Field(
        1.4, ge=1, lt=2, description="least side of a PSF image, in sides of the kernel"
    )
    pad_psf_by: int = Field(0, ge=0, description="even number of px, if not padded automatically")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, values: Any):
        """`kernel` as a word, and `al` and `df` beside it, as parts of the choice."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        parts = {k.lower(): values.pop(k) for k in ("al", "df", "AL", "DF") if k in values}
        kernel = values.get("kernel", {})
        if isinstance(kernel, str):
            kernel = {"name": kernel}
        if parts and not isinstance(kernel, dict):
            raise ValueError("al and df are parts of kernel: give them there, or a word as kernel")
        return values | {"kernel": {**kernel, **parts} if isinstance(kernel, dict) else kernel}

    @field_validator("pad_psf_by")
    @classmethod
    def _even(cls, value):
        if value % 2:
            raise ValueError(f"pad_psf_by must be even, so that the PSF stays centred; got {value}")
        return value

    @property
    def al(self) -> PsfMatchConfigAL:
        """Settings of the Alard-Lupton kernel."""
        return self.kernel.al

    @property
    def df(self) -> PsfMatchConfigDF:
        """Settings of the kernel of delta functions."""
        return self.kernel.df

    @property
    def active(self) -> PsfMatchConfigAL | PsfMatchConfigDF:
        """Settings of the kernel model in use."""
        return self.kernel.active

    @property
    def select_detection(self) -> StandIn:
        """LSST's detection task: three of its settings are those of `detection_config`."""
        return StandIn("selectDetection", self.active.detection_config, **DETECTION)

    @property
    def select_measurement(self) -> StandIn:
        """LSST's measurement task, of which nothing is a setting here."""
        return StandIn("selectMeasurement", self, **MEASUREMENT)
