"""Options of HOTPANTS 5.1.11 by their own names, with its defaults.

Options that only choose files or print something have no meaning in memory and change nothing;
those that bring data from a file are refused.
"""

import difflib
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

#: Outputs, verbosity, and two ways to compute the same thing less exactly (kcs, convvar).
NO_EFFECT = frozenset(
    "allm cim convvar hki kcs nbs nbz nc ndm nim nsht obs obz oci okn oki omi ond oni savexy sconv"
    " sht v".split()
)
#: Data from files: what to use instead.
FROM_FILES = {
    "inim": "image", "tmplim": "template", "outim": "the returned array", "imi": "mask",
    "tmi": "template_mask", "ini": "err", "tni": "template_err",
    "ki": "psflib.products.read_kernel",
    "rf": "nx and ny", "rkw": "nx and ny", "cmp": "obj", "afssc": "obj", "pca": "ng",
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
    ssf: Any = Field(None, description="substamp centres (n, 2), 1-based px as HOTPANTS counts")
    nrx: int = Field(1, ge=1, description="regions along x")
    nry: int = Field(1, ge=1, description="regions along y")
    gd: tuple[float, float, float, float] | None = Field(
        None, description="good part of the image: xmin, xmax, ymin, ymax, 1-based px"
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
    fin: float | None = Field(None, description="the same for the noise; default fi")
    ng: tuple[float, ...] = Field(
        (3, 6, 0.7, 4, 1.5, 2, 3.0),
        description="number of Gaussians, then degree and sigma of each",
    )

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


def read_options(values: dict) -> HotpantsOptions:
    """Options from a dict of HOTPANTS's names; None takes HOTPANTS's own default.

    Raises
    ------
    ValueError
        An unknown name, with the nearest known one; an option of a file; a value out of range.
    """
    known = {*HotpantsOptions.model_fields, *NO_EFFECT}
    kept = {}
    for name, value in values.items():
        if name in FROM_FILES:
            raise ValueError(f"HOTPANTS option {name!r} names a file; use {FROM_FILES[name]}")
        if name not in known:
            near = difflib.get_close_matches(str(name), sorted(known), 1, 0.0)[0]
            raise ValueError(f"HOTPANTS has no option {name!r}; did you mean {near!r}?")
        if value is not None and name not in NO_EFFECT:
            kept[name] = tuple(value) if isinstance(value, np.ndarray) and name == "ng" else value
    try:
        return HotpantsOptions(**kept)
    except ValidationError as failure:
        first = failure.errors()[0]
        name = first["loc"][0] if first["loc"] else "?"
        raise ValueError(f"HOTPANTS option {name!r}: {first['msg']}") from failure
