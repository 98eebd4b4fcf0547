"""Where the mask and the noise of an image stand, as its row or its format says, and the reading.

What a row names comes first.  What a format names must be there if the format was named, and is
done without, aloud, if it was only recognised.
"""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits

from psflib.errors import BadFile
from psflib.files.fitsio import dither_step, mend_cards, open_fits, read_plane, select_hdu
from psflib.files.formats import Format, MaskPlane, NoisePlane, Plane, companion
from psflib.files.masks import Choice, ReadMask, header_bits, read_mask
from psflib.files.planes import COLUMN, KINDS, to_variance, undo_stretch
from psflib.files.recognise import find_hdu


@dataclasses.dataclass(frozen=True)
class Image:
    """The image whose planes are sought."""

    path: Path
    hdus: fits.HDUList  # open
    number: int  # its HDU
    name: str  # its EXTNAME, or ""
    pixels: np.ndarray  # (ny, nx)
    format: Format | None
    named: bool  # the format was named, not recognised
    notes: list[str]
    planes: dict[str, str]  # what was read from where, for `meta["planes"]`

    @property
    def shape(self) -> tuple[int, ...]:
        """(ny, nx)"""
        return self.pixels.shape


@dataclasses.dataclass(frozen=True)
class Column:
    """File and HDU of a plane as a row names them."""

    file: Path | None = None
    hdu: int | str | None = None

    def __bool__(self):
        return self.file is not None or self.hdu is not None


class Found(NamedTuple):
    """A plane that was found; its file is open."""

    path: Path
    hdu: Any
    number: int

    @property
    def label(self) -> str:
        """ "file[HDU]" """
        return f"{self.path.name}[{self.hdu.name or self.number}]"


def found_in(hdus: fits.HDUList, hdu, path: Path) -> Found:
    """`hdu` with its number in the open file; its header can be read."""
    mend_cards(hdu.header)
    return Found(path, hdu, next(i for i, other in enumerate(hdus) if other is hdu))


def find_mask(image: Image, column: Column, choice: Choice) -> ReadMask | None:
    """The mask, or None if there is none.

    Raises
    ------
    BadFile
        As `psflib.read`.
    """
    meanings = image.format.mask if image.format else ()
    if column:
        with _opened(image, column.file or image.path, "mask", column) as found:
            meaning = next((m for m in meanings if _is_place(image, m, found)), None)
            if meaning is None and image.named and meanings:
                meaning = meanings[0]
            if meaning is None:
                meaning = next((m for m in meanings if header_bits(found.hdu.header, m)), None)
            return _read_mask(image, found, meaning, choice)
    for meaning in meanings:
        with _by_format(image, meaning, "mask", last=meaning is meanings[-1]) as found:
            if found:
                return _read_mask(image, found, meaning, choice)
    if choice:
        raise BadFile(
            image.path, "has no mask whose bits could be chosen",
            "Name one in mask or mask_hdu, or leave mask_bits, mask_ignore and mask_codes empty",
        )  # fmt: skip
    return None


def _read_mask(image, found, meaning: MaskPlane | None, choice):
    plane = _plane(image, found, "mask")
    image.planes["mask"] = found.label
    return read_mask(plane, found.hdu.header, found.path, meaning, choice)


def find_variance(image: Image, columns: dict[str, Column]) -> tuple[np.ndarray | None, Any]:
    """Variance (ny, nx) float32 and whether it holds the sources' own noise (None: not known).

    Parameters
    ----------
    columns : dict
        "variance", "sigma" or "weight" -> where; at most one of them names something.

    Raises
    ------
    BadFile
        As `psflib.read`.
    """
    entry = image.format.noise if image.format else None
    for name, column in columns.items():
        if column:
            with _opened(image, column.file or image.path, name, column) as found:
                _check_is_noise(image, name, found)
                if entry is None or not _is_place(image, entry, found):
                    return _read_noise(image, found, NoisePlane(kind=KINDS[name]))
                _check_kind(image, entry, name, column, found)
                return _read_noise(image, found, entry)
    if entry is not None:
        with _by_format(image, entry, f"noise plane ({entry.kind})", last=True) as found:
            if found:
                return _read_noise(image, found, entry)
    return None, None


def _check_is_noise(image, name, found):
    """The map of exposure times of HST is no weight, nor CFHT's plane of 0 and 1."""
    if image.format is None:
        return
    what = image.format.no_noise.get(found.hdu.name) if found.path == image.path else None
    if what is None and any(_is_place(image, m, found) for m in image.format.mask):
        what = "a mask"
    if what is not None:
        raise BadFile(
            found.path, f"is named as {name}, but in files of the format {image.format.name} "
            f"{found.label} is {what}",
            f"Leave {name} empty, or say `format: none` if it is a {name} nevertheless",
        )  # fmt: skip


def _check_kind(image, entry, name, column, found):
    if KINDS[name] == entry.kind:
        return
    right, end = COLUMN[entry.kind], "_hdu" if column.hdu is not None else ""
    raise BadFile(
        found.path, f"is named as {name}, but in files of the format {image.format.name} "
        f"{found.label} is a plane of {entry.kind}",
        f"Name it in {right}{end} or leave it to the format; if it is a {name}, say "
        "`format: none`",
    )  # fmt: skip


def _read_noise(image, found, entry: NoisePlane):
    plane = _plane(image, found, COLUMN[entry.kind])
    if image.format and entry is image.format.noise:
        plane = undo_stretch(plane, image.format.stretch, found.hdu.header, found.path)
    if entry.kind == "inverse variance" and isinstance(found.hdu, fits.CompImageHDU):
        lost = (plane != 0) & (np.abs(plane) <= dither_step(found.path, found.number) / 2)
        if lost.any():
            plane[lost] = 0
            image.notes.append(
                f"noise plane: {int(lost.sum())} weights are zeros to within half a step of their "
                "compression, which moves zeros: no data"
            )
    image.planes["variance"] = f"{found.label} as {entry.kind}"
    image_too = None if entry.source_noise is False else image.pixels
    variance, notes = to_variance(plane, entry.kind, entry.floor, image_too)
    image.notes.extend(notes)
    return variance, entry.source_noise


def _plane(image, found, what):
    path = found.path
    plane = read_plane(found.hdu, path)
    if plane.shape != image.shape:
        sizes = ["x".join(map(str, reversed(s))) for s in (plane.shape, image.shape)]
        problem = f"the {what} is {sizes[0]} pixels, the image {sizes[1]}"
        raise BadFile(path, problem, f"Give the {what} that belongs to {image.path.name}")
    return plane


@contextlib.contextmanager
def _opened(image, file: Path, what, column):
    """What a row names."""
    own = file.resolve() == image.path.resolve()
    if column.hdu is None and own:
        raise BadFile(
            file, f"is named as image and as {what}", f"Say in {what}_hdu which HDU is the {what}"
        )
    with contextlib.nullcontext(image.hdus) if own else open_fits(file) as hdus:
        if column.hdu is None and len(hdus) > 2:
            hdu = find_hdu(hdus, (), file, what, (image.number, image.name))
        else:
            hdu = select_hdu(hdus, file, column.hdu)
        yield found_in(hdus, hdu, file)


@contextlib.contextmanager
def _by_format(image, plane: Plane, what, last):
    """What the format names, or None if it is not there but need not be."""
    with contextlib.ExitStack() as stack:
        try:
            found = _enter(stack, image, plane, what)
        except BadFile as error:
            if image.named and last:
                raise
            found = None
            if last:
                image.notes.append(f"read without its {what}: {error.path}: {error.problem}")
        yield found


def _enter(stack, image, plane, what):
    file = companion(image.path, plane)
    whole = f"{what} of a {image.format.name} image"
    column = "mask" if what == "mask" else COLUMN[plane.kind]
    if file is None:
        pattern, replacement = plane.file
        raise BadFile(
            image.path, f"is not named as the format {image.format.name} names its images, so its "
            f"{what} cannot be found (expected: {pattern!r} in the name, for the {what} "
            f"{replacement!r})", f"Name the file in the column {column}",
        )  # fmt: skip
    if file is image.path:
        hdus = image.hdus
    elif not file.exists():
        raise BadFile(
            file, f"no such file: it would be the {whole}",
            f"Put it beside the image, or name it in the column {column}; with `format: auto` the "
            "image is read without it",
        )  # fmt: skip
    else:
        hdus = stack.enter_context(open_fits(file))
    hdu = find_hdu(hdus, plane.hdu, file, whole, (image.number, image.name))
    return found_in(hdus, hdu, file)


def _is_place(image, plane: Plane, found):
    """Whether a row names the very plane that the format names."""
    file = companion(image.path, plane)
    if file is None or file.resolve() != found.path.resolve():
        return False
    if not plane.hdu:
        return True
    try:
        with contextlib.nullcontext(image.hdus) if file is image.path else open_fits(file) as hdus:
            there = find_hdu(hdus, plane.hdu, file, "plane", (image.number, image.name))
            return found_in(hdus, there, file).number == found.number
    except BadFile:
        return False
