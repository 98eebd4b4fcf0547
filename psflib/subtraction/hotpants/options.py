"""Options of HOTPANTS 5.1.11 by their own names, with its defaults.

Every option of the program is accepted, told to be without effect, or refused by name.
"""

import difflib
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from psflib.errors import BadFile
from psflib.matching.cells.candidates import positions

#: They ask for what is always there: all planes, and the kernel.
ALWAYS = frozenset("allm cim hki ndm nim".split())
#: Number types of files, verbosity, two ways to compute the same less exactly (kcs, convvar).
NO_EFFECT = frozenset("convvar kcs nbs nbz nsht obs obz sht v".split())
#: What is done without, and what to use instead.
REFUSED = {
    "inim": "the argument image", "tmplim": "the argument template",
    "outim": "the returned array, or _workdir", "ki": "psflib.products.read_kernel",
    "rkw": "rf, or nx and ny", "pca": "ng", "ef": "psflib.simulation", "sum": "image + convolved",
}  # fmt: skip


class HotpantsOptions(BaseModel):
    """The options that act, HOTPANTS's defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    tu: float = Field(25000.0, description="template: upper valid count, ADU")
    tuk: float | None = Field(None, description="the same for the kernel's stamps; default tu")
    tl: float = Field(0.0, description="template: lower valid count, ADU")
    tg: float = Field(1.0, gt=0, description="template: gain, e-/ADU")
    tr: float = Field(0.0, ge=0, description="template: read noise, e-")
    tp: float = Field(0.0, description="template: pedestal that carries no noise, ADU")
    iu: float = Field(25000.0, description="image: upper valid count, ADU")
    iuk: float | None = Field(None, description="the same for the kernel's stamps; default iu")
    il: float = Field(0.0, description="image: lower valid count, ADU")
    ig: float = Field(1.0, gt=0, description="image: gain, e-/ADU")
    ir: float = Field(0.0, ge=0, description="image: read noise, e-")
    ip: float = Field(0.0, description="image: pedestal that carries no noise, ADU")
    r: int = Field(10, ge=1, description="half width of the kernel, px")
    rss: int = Field(15, ge=1, description="half width of a substamp, px")
    nsx: int = Field(10, ge=1, description="stamps of a region along x")
    nsy: int = Field(10, ge=1, description="stamps of a region along y")
    nss: int = Field(3, ge=1, description="substamps of a stamp")
    ssf: Any = Field(
        None,
        description="substamp centres, 1-based px as HOTPANTS counts: (n, 2), or a file of x and y",
    )
    cmp: Any = Field(None, description="the same, a file whose first line is left out")
    afssc: bool = Field(
        False, description="fill up the given substamps with sources found (HOTPANTS: True)"
    )
    nrx: int = Field(1, ge=1, description="regions along x")
    nry: int = Field(1, ge=1, description="regions along y")
    rf: Any = Field(
        None,
        description="regions in place of nrx and nry: (n, 4) of xmin, xmax, ymin, ymax, or a file "
        "of lines xmin:xmax,ymin:ymax; 0-based px, both ends inside",
    )
    gd: tuple[float, float, float, float] | None = Field(
        None,
        description="good part of the image: xmin, xmax, ymin, ymax; 0-based px, the upper ends "
        "outside",
    )
    ft: float = Field(20.0, gt=0, description="threshold of substamps, sigma")
    sft: float = Field(0.5, gt=0, lt=1, description="factor on ft when stamps are too few")
    nft: float = Field(0.1, ge=0, le=1, description="share of stamps that is too few")
    mins: float = Field(1.0, ge=0, description="growth of the input mask, in half widths r")
    mous: float = Field(1.0, description="negative: no pixel is masked for what it was made of")
    c: Literal["t", "i", "b"] = Field("b", description="convolve template, image, or the better")
    n: Literal["t", "i", "u"] = Field(
        "t", description="flux scale of template, of image, or of the unconvolved one"
    )
    fom: Literal["v", "s", "h"] = Field("v", description="merit: variance, sigma, histogram")
    ko: int = Field(2, ge=0, le=6, description="degree of the kernel's variation")
    bgo: int = Field(1, ge=0, le=6, description="degree of the background")
    ssig: float = Field(3.0, gt=0, description="sigma of clipped statistics")
    ks: float = Field(2.0, gt=0, description="sigma beyond which a stamp is rejected")
    kfm: float = Field(0.99, ge=0, le=1, description="good share of the kernel's weight")
    fi: float = Field(1e-30, description="value of masked pixels")
    fin: float = Field(0.0, description="the same for the noise")
    sconv: bool = Field(False, description="all regions convolve what the first does")
    okn: bool = Field(
        False, description="scale the noise where the kernel saw bad pixels by what is found there"
    )
    ng: tuple[float, ...] = Field(
        (3, 6, 0.7, 4, 1.5, 2, 3.0),
        description="number of Gaussians, then degree and sigma of each",
    )
    nc: bool = Field(False, description="no file is written over")
    omi: str | None = Field(None, description="file for the mask")
    oci: str | None = Field(None, description="file for the convolved image")
    oni: str | None = Field(None, description="file for the noise")
    ond: str | None = Field(None, description="file for the difference in sigma")
    oki: str | None = Field(None, description="file for the kernel's table")
    savexy: str | None = Field(
        None, description="file for the substamps used, as regions; with .all and .skipped"
    )

    @field_validator("omi", "oci", "oni", "ond", "oki", "savexy", mode="before")
    @classmethod
    def _name(cls, value):
        return None if value is None else os.fspath(value)

    @field_validator("ssf", "cmp", mode="before")
    @classmethod
    def _places(cls, value, info):
        if value is None:
            return None
        if isinstance(value, str | os.PathLike):
            rows = _numbers(value, ",", 2, skip=info.field_name == "cmp")
            if not len(rows):
                raise ValueError(f"{value} has no line that begins with x and y")
            return rows
        return positions(value)

    @field_validator("rf", mode="before")
    @classmethod
    def _regions(cls, value):
        if value is None:
            return None
        if isinstance(value, str | os.PathLike):
            value = _numbers(value, ":,", 4)
        rows = np.atleast_2d(np.asarray(value, float))
        if rows.ndim != 2 or rows.shape[1] != 4 or not len(rows):
            raise ValueError(f"regions are rows of xmin, xmax, ymin, ymax; got {rows.shape}")
        return rows

    @field_validator("ng")
    @classmethod
    def _pairs(cls, value):
        if not value or len(value) != 1 + 2 * int(value[0]):
            raise ValueError(
                f"ng is the number of Gaussians and a degree and a sigma for each; got {value}"
            )
        if min(value[2::2]) <= 0 or min(value[1::2]) < 0:
            raise ValueError(f"sigmas of ng must be positive and degrees not negative; got {value}")
        return value

    @property
    def degrees(self) -> list[int]:
        return [int(d) for d in self.ng[1::2]]

    @property
    def sigmas(self) -> list[float]:
        return [float(s) for s in self.ng[2::2]]

    @property
    def places(self) -> np.ndarray | None:
        """Substamp centres (n, 2), 1-based px, of `ssf` or `cmp`."""
        return self.cmp if self.ssf is None else self.ssf


def _numbers(path, separators, count, skip=False) -> np.ndarray:
    """The first numbers of each line of a file that begins with so many, (n, count)."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()[int(skip) :]
    except OSError as failure:
        raise BadFile(path, f"cannot be read ({failure.strerror})", "Check the name") from failure
    rows = []
    for line in lines:
        for separator in separators:
            line = line.replace(separator, " ")
        try:
            rows.append([float(word) for word in line.split()[:count]])
        except ValueError:
            continue
    return np.array([row for row in rows if len(row) == count]).reshape(-1, count)


def without_effect(values: dict) -> list[str]:
    """Names of options among these that change nothing here."""
    return sorted(name for name in values if name in NO_EFFECT)


def read_options(values: dict) -> HotpantsOptions:
    """Options from a dict of HOTPANTS's names; None takes HOTPANTS's own default.

    Raises
    ------
    ValueError
        An unknown name, with the nearest known one; an option that is refused; a value out of
        range.
    BadFile
        A file of substamps or regions that cannot be read.
    """
    known = {*HotpantsOptions.model_fields, *NO_EFFECT, *ALWAYS}
    kept = {}
    for name, value in values.items():
        if name in REFUSED:
            raise ValueError(f"HOTPANTS option {name!r} has no place here; use {REFUSED[name]}")
        if name not in known:
            near = difflib.get_close_matches(str(name), sorted(known), 1, 0.0)[0]
            raise ValueError(f"HOTPANTS has no option {name!r}; did you mean {near!r}?")
        if value is not None and name in HotpantsOptions.model_fields:
            kept[name] = tuple(value) if isinstance(value, np.ndarray) and name == "ng" else value
    try:
        return HotpantsOptions(**kept)
    except ValidationError as failure:
        first = failure.errors()[0]
        name = first["loc"][0] if first["loc"] else "?"
        raise ValueError(f"HOTPANTS option {name!r}: {first['msg']}") from failure
