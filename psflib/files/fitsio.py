"""Opens FITS files of any origin, and says plainly what is wrong with those it cannot open."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy.io import fits

from psflib.errors import BadFile, PsflibError
from psflib.files.asdf_tree import open_asdf

#: First bytes of gzip, bzip2, xz, compress and zip: astropy looks inside these itself.
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x1f\x9d", b"PK")
_ASDF = b"#ASDF"
_COPY_AGAIN = "It is probably truncated or damaged: copy or download it again"


@contextlib.contextmanager
def open_fits(path: str | Path) -> Iterator[fits.HDUList]:
    """An open `HDUList`; warnings about odd headers are silenced within the block.

    ASDF files come as FITS images in memory.

    Raises
    ------
    BadFile
        If the file is missing, empty, unreadable or neither FITS nor ASDF.
    """
    path = Path(path)
    start = _check_start(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with blame(path):
            # mapped into memory where the pixels allow it
            hdus = open_asdf(path) if start.startswith(_ASDF) else fits.open(path)
        with hdus:
            try:
                yield hdus
            except fits.VerifyError as error:
                remedy = "Mend the card (astropy: hdu.verify('fix'))"
                raise BadFile(path, str(error).strip().rstrip("."), remedy) from error


def mend_cards(header: fits.Header) -> list[str]:
    """Give every card of a header a value that can be read, and tell which had none.

    What is no FITS number, string or word becomes the string that stands there; one broken card,
    of the observer's name say, must not cost the whole file.
    """
    mended = []
    for card in list(header.cards):
        try:
            _ = card.value
        except fits.VerifyError:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                card.verify("silentfix")
            mended.append(f"the card {card.keyword} is not written as FITS: read as {card.value!r}")
    return mended


@contextlib.contextmanager
def blame(path: str | Path) -> Iterator[None]:
    """Turn whatever a reader throws at a damaged file into a `BadFile`."""
    try:
        yield
    except (PsflibError, MemoryError):
        raise
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        raise BadFile(path, f"cannot be read ({text.rstrip('.')})", _COPY_AGAIN) from error


def select_hdu(hdus: fits.HDUList, path: str | Path, hdu: int | str | None = None):
    """The HDU with number or EXTNAME `hdu`; if None, the first with a 2-D image.

    Raises
    ------
    BadFile
        If it is not there, listing what is, or holds no 2-D image.
    """
    with blame(path):
        found = first_image(hdus) if hdu is None else _named(hdus, hdu)
    if found is None:
        wanted = "has no 2-D image" if hdu is None else f"has no HDU {hdu!r}"
        raise BadFile(path, wanted, f"{contents(hdus, path)}. Choose one by its number or name")
    if len(plane_shape(found)) != 2:
        what = f"HDU {hdu!r} holds {_describe(found)}, not a 2-D image"
        raise BadFile(path, what, f"{contents(hdus, path)}. {_plane_remedy(found)}")
    return found


def read_plane(hdu, path: str | Path) -> np.ndarray:
    """The pixels of an image HDU as a native 2-D array (ny, nx); axes of length 1 are dropped.

    Floats become float32 (one copy, straight from the mapped file); integers keep their type,
    unless BLANK marks missing values, which become NaN.
    """
    shape = plane_shape(hdu)
    check_complete(hdu, path)
    blank = _unsigned_blank(hdu)
    with blame(path), np.errstate(over="ignore", invalid="ignore"):
        data = np.asarray(hdu.data).reshape(shape)
        if data.dtype.kind == "f" or blank is not None:
            plane = data.astype(np.float32)
        else:
            plane = data.astype(data.dtype.newbyteorder("="))
    if blank is not None:
        plane[data == blank] = np.nan
    return plane


def dither_step(path: str | Path, number: int) -> float:
    """Largest step between the values of a compressed plane whose zeros were dithered; else 0.

    CFITSIO's first method of dithering moves zeros by up to half a step, its second keeps them
    (White, Greenfield, Pence et al. 2012, arXiv:1201.1336).
    """
    with blame(path), fits.open(path, disable_image_compression=True) as hdus:
        header = hdus[number].header
        if header.get("ZQUANTIZ") != "SUBTRACTIVE_DITHER_1":
            return 0.0
        if "ZSCALE" in header:
            return float(header["ZSCALE"])
        steps = np.asarray(hdus[number].data["ZSCALE"], float)
        return float(np.max(steps, initial=0.0, where=np.isfinite(steps)))


def read_array(hdu, path: str | Path) -> np.ndarray:
    """The array of an image HDU, any number of dimensions, native byte order, own type."""
    check_complete(hdu, path)
    with blame(path):
        if hdu.data is None:  # what astropy makes of an axis of length 0
            return np.zeros(hdu.shape, np.float32)
        return np.ascontiguousarray(hdu.data, dtype=hdu.data.dtype.newbyteorder("="))


def plane_shape(hdu) -> tuple[int, ...]:
    """Shape of an HDU's image without axes of length 1; () when it holds none."""
    shape = tuple(hdu.shape) if getattr(hdu, "is_image", False) and hdu.shape else ()
    if len(shape) > 2:
        shape = tuple(n for n in shape if n != 1)
    return shape


def _check_start(path):
    remedy = "Check the path (in a table, paths are relative to the table's folder)"
    if not path.exists():
        raise BadFile(path, "no such file", remedy)
    if not path.is_file():
        raise BadFile(path, "is not a file", remedy)
    try:
        with open(path, "rb") as file:
            start = file.read(80)
    except OSError as error:
        raise BadFile(path, f"cannot be opened ({error.strerror})", "Check permissions") from error
    if not start:
        raise BadFile(path, "is empty", "Copy or download it again")
    if not start.startswith((b"SIMPLE", _ASDF, *_COMPRESSED)):
        text = start[:30].decode("ascii", "replace").strip()
        page = "A web page was saved in place of the image" if b"<" in start else _COPY_AGAIN
        raise BadFile(path, f"is not a FITS file (it begins with {text!r})", page)
    return start


def check_complete(hdu, path):
    """Compare the length that the header promises with the file's.

    Our own check, not astropy's, because that one also complains about a missing last padding,
    which costs no pixel.
    """
    table = getattr(hdu, "_bintable", None) or hdu
    info = table.fileinfo()
    if info is None or info["file"].compression:
        return
    end, there = info["datLoc"] + table.size, os.path.getsize(path)
    if there < end:
        raise BadFile(
            path, f"is truncated: {there} bytes of at least {end}", "Copy or download it again"
        )


def _unsigned_blank(hdu):
    """The physical value that means "missing" where astropy forgets it: unsigned integers."""
    header = hdu.header
    signed_bits = {8: None, 16: 2**15, 32: 2**31, 64: 2**63}.get(header.get("BITPIX"))
    if signed_bits is None or header.get("BZERO") != signed_bits or header.get("BSCALE", 1) != 1:
        return None
    blank = header.get("BLANK")
    return blank + signed_bits if isinstance(blank, int) else None


def first_image(hdus: fits.HDUList):
    """The first HDU with a 2-D image, or None."""
    return next((h for h in hdus if len(plane_shape(h)) == 2 and 0 not in plane_shape(h)), None)


def _named(hdus, hdu):
    for number, candidate in enumerate(hdus):
        if isinstance(hdu, str):
            if candidate.name == hdu.strip().upper():
                return candidate
        elif number == hdu:
            return candidate
    return None


def contents(hdus: fits.HDUList, path: str | Path) -> str:
    """What a file holds, in a sentence."""
    with blame(path):
        listed = [f"{i} {h.name or '(no name)'}: {_describe(h)}" for i, h in enumerate(hdus)]
    more = f"; {len(listed) - 20} more" if len(listed) > 20 else ""
    return f"Its HDUs are {'; '.join(listed[:20])}{more}"


def _describe(hdu):
    shape = plane_shape(hdu)
    if shape:
        kind = {2: "image", 3: "cube"}.get(len(shape), f"{len(shape)}-D array")
        return f"a {'x'.join(str(n) for n in reversed(shape))} {kind}"
    return "a table" if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) else "no data"


def _plane_remedy(hdu):
    if len(plane_shape(hdu)) > 2:
        return "Save the wanted plane of the cube as an image of its own"
    return "Choose an HDU with a 2-D image"
