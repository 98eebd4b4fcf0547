"""The table of survey formats: what `formats.yaml` says of each, checked.

Every key of an entry is a field of a model below, so a slip in the table is an error when it is
read, and the models document the table.
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

TABLE = Path(__file__).with_name("formats.yaml")

#: Values of the column `format` that name no entry of the table.
AUTO, NONE = "auto", "none"

Hdu = int | str


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Mark(_Entry):
    """One way in which a product may be recognised; everything in it must hold."""

    cards: dict[str, str] = Field({}, description="keyword -> pattern of its whole value")
    without: tuple[str, ...] = Field((), description="keywords that must be missing")
    hdus: tuple[str, ...] = Field((), description="EXTNAMEs (patterns) that must be there")
    file: str = Field("", description="pattern that is searched for in the file's name")


class Plane(_Entry):
    """Where a plane stands."""

    hdu: tuple[Hdu, ...] = Field(
        (),
        description="number or EXTNAME (* is a wildcard, {detector} what stands before the last "
        "dot of the image's); the first that is there is taken; none: the HDU that matches the "
        "image's",
    )
    file: tuple[str, str] | None = Field(
        None, description="pattern in the image's file name and what replaces it; none: same file"
    )

    @field_validator("hdu", mode="before")
    @classmethod
    def _several(cls, value):
        return value if isinstance(value, list | tuple) else (value,)


class MaskPlane(Plane):
    """A mask and the meaning of its bits; without names, any nonzero value is bad."""

    bits: dict[str, int] = Field({}, description="name -> number of the bit (0 has the value 1)")
    codes: dict[str, int] = Field({}, description="name -> value, where values are codes, no bits")
    named_by: str = Field("", description="prefix of the mask's cards that name its bits")
    named_as: Literal["bit", "value"] = Field("bit", description="what those cards hold")
    bad: tuple[str, ...] = Field((), description="names that are bad; all others are good")
    good: tuple[str, ...] = Field((), description="names that are good; all others are bad")
    zero_is_bad: bool = Field(False, description="0 is bad and anything else is good")


class NoisePlane(Plane):
    """A plane of noise."""

    kind: Literal["variance", "sigma", "inverse variance"]
    source_noise: bool | None = Field(
        None, description="whether the photon noise of the sources is in it; null: not established"
    )
    floor: float = Field(
        0.0, description="weights below this part of the median weight are no data (fpack makes "
        "such of zeros)"
    )  # fmt: skip


class Electrons(_Entry):
    """Electrons per unit of a pixel, as a product of what is listed."""

    times: tuple[str | float, ...] = Field((), description="keywords and numbers, multiplied")
    by: tuple[str, ...] = Field((), description="keywords whose values look up `table`")
    table: dict[str, float] = Field({}, description="values of `by`, a blank between -> factor")
    per: int | None = Field(None, description="HDU whose median divides the rest")


class Format(_Entry):
    """One product of a survey."""

    name: str
    title: str
    recognised: tuple[Mark, ...]
    requires: tuple[str, ...] = Field((), description="keywords without which it is another file")
    image: Plane = Plane()
    mask: tuple[MaskPlane, ...] = Field((), description="the first whose file is there is taken")
    noise: NoisePlane | None = None
    no_noise: dict[str, str] = Field(
        {}, description="EXTNAMEs that look like planes of noise and are not -> what they are"
    )
    electrons: Electrons | Literal["none"] | None = Field(
        None, description="none: no number of the header may serve as gain; null: as any file"
    )
    saturation: str | float | None = Field(
        None, description="keyword or number; none: the header's is not in units of the pixels"
    )
    stretch: Literal["asinh"] | None = Field(None, description="of image and noise plane")
    pedestal: str | None = Field(None, description="keyword of what was added to every pixel")
    sky: Literal["subtracted", "in the image"] | None = None
    correlated: bool = Field(False, description="whether neighbouring pixels share noise")
    unit: str
    remark: str = ""
    source: str
    version: str = ""

    @field_validator("mask", mode="before")
    @classmethod
    def _alternatives(cls, value):
        return [value] if isinstance(value, Mapping) else value

    @field_validator("version", mode="before")
    @classmethod
    def _text(cls, value):
        return str(value)


@functools.cache
def formats() -> dict[str, Format]:
    """All entries by name, in the order of the table."""
    entries = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {name: Format(name=name, **entry) for name, entry in entries.items()}


def names() -> tuple[str, ...]:
    """What the column `format` may hold."""
    return (AUTO, NONE, *formats())


def companion(path: Path, plane: Plane) -> Path | None:
    """The file of `plane` beside the image `path`, or None if it has no name there.

    Files are packed and unpacked apart from each other: if the name is not there, it is tried
    with and without .fz, .gz and .bz2.
    """
    if plane.file is None:
        return path
    pattern, replacement = plane.file
    name, found = re.subn(pattern, lambda _: replacement, path.name, count=1)
    if not found:
        return None
    first = path.with_name(name)
    bare = re.sub(r"\.(fz|gz|bz2)$", "", name)
    others = [path.with_name(bare + end) for end in ("", ".fz", ".gz", ".bz2")]
    return next((p for p in (first, *others) if p.exists()), first)


def companions(path: Path, name: str | None) -> list[Path]:
    """Files that belong to the image `path` by the rules of the format `name`."""
    entry = formats().get(name or AUTO)
    if entry is None:
        return []
    planes = [*entry.mask, *([entry.noise] if entry.noise else [])]
    found = [companion(path, plane) for plane in planes]
    return [p for p in dict.fromkeys(found) if p is not None and p != path]


def table_text() -> str:
    """The table of formats as Markdown, a row a product."""
    head = ("format", "product", "image", "mask: bad are", "noise plane", "e- per unit", "sky",
            "noise correlated", "unit of the pixels", "source")  # fmt: skip
    rows = [head, ("---",) * len(head), *(_row(entry) for entry in formats().values())]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _row(entry):
    remark = f"; {entry.remark}" if entry.remark else ""
    stretch = f", {entry.stretch} stretch undone" if entry.stretch else ""
    return (
        f"`{entry.name}`", entry.title, f"HDU {_place(entry.image)}{stretch}",
        " or ".join(f"{_place(m)}: {_bad(m)}" for m in entry.mask) or "–",
        _noise(entry.noise), _electrons(entry.electrons), entry.sky or "–",
        "yes" if entry.correlated else "no", entry.unit + remark,
        f"{entry.source} ({entry.version})" if entry.version else entry.source,
    )  # fmt: skip


def _place(plane):
    hdu = " or ".join(map(str, plane.hdu))
    if plane.file is None:
        return hdu or "first"
    pattern, replacement = (re.sub(r"\\(.)", r"\1", part) for part in plane.file)
    return f"file {pattern} → {replacement}" + (f" HDU {hdu}" if hdu else "")


def _bad(mask):
    if mask.zero_is_bad:
        return "0"
    if mask.bad:
        return ", ".join(mask.bad)
    return f"all but {', '.join(mask.good)}" if mask.good else "any nonzero"


def _noise(noise):
    if noise is None:
        return "–"
    inside = {True: "with", False: "without", None: "not established:"}[noise.source_noise]
    return f"{_place(noise)}: {noise.kind}, {inside} photon noise of sources"


def _electrons(electrons):
    if electrons is None:
        return "header"
    if electrons == NONE:
        return "not in the header"
    factors = [str(f) for f in electrons.times] + [" and ".join(electrons.by)] * bool(electrons.by)
    return " × ".join(factors) + (f" / HDU {electrons.per}" if electrons.per is not None else "")
