"""Which product of which survey a file is, by its headers, HDUs and name."""

import contextlib
import fnmatch
import re
from pathlib import Path

from astropy.io import fits

from psflib.errors import BadFile
from psflib.files.fitsio import contents, mend_cards, plane_shape
from psflib.files.formats import AUTO, NONE, Format, Mark, formats

_FIRST = 12  # HDUs whose headers are looked at: a mosaic of 60 CCDs has 60 like the first


def find_format(name: str, hdus: fits.HDUList, path: Path) -> tuple[Format | None, list[str]]:
    """The entry of the table for an open file, and what has to be said of it.

    Parameters
    ----------
    name : str
        A format, "auto" (the first that fits, if any) or "none".

    Raises
    ------
    BadFile
        If the file does not fit the named format.
    """
    headers, mended = _headers(hdus)
    if name == NONE:
        return None, mended
    guess = _recognised(headers, hdus, path)
    if name != AUTO:
        return _checked(formats()[name], guess, headers, hdus, path), mended
    if guess is None:
        return None, mended
    entry, evidence = guess
    note = (
        f"taken for {entry.name} ({entry.title}) by {evidence}; `format: none` reads it as any file"
    )
    return entry, [note, *mended]


def _headers(hdus):
    """The first headers, and what was mended in them.

    One that cannot be read ends the list, as whatever needs it will say.
    """
    found: list[fits.Header] = []
    mended: list[str] = []
    with contextlib.suppress(Exception):
        for number in range(_FIRST):
            found.append(hdus[number].header)
            mended += mend_cards(found[-1])
    return found, list(dict.fromkeys(mended))


def _recognised(headers, hdus, path):
    for entry in formats().values():
        for mark in entry.recognised:
            if _fits(mark, headers, hdus, path):
                return entry, _evidence(mark)
    return None


def _fits(mark: Mark, headers, hdus, path):
    found = all(_has_card(headers, *card) for card in mark.cards.items())
    found = found and not any(key in header for key in mark.without for header in headers)
    found = found and all(_matching(hdus, name) for name in mark.hdus)
    return found and (not mark.file or re.search(mark.file, path.name) is not None)


def _has_card(headers, keyword, pattern):
    for header in headers:
        try:
            value = header.get(keyword)
        except fits.VerifyError:
            continue
        if value is not None and re.fullmatch(pattern, str(value).strip()):
            return True
    return False


def _matching(hdus, pattern):
    return [h for h in hdus if fnmatch.fnmatchcase(h.name, pattern.upper())]


def _evidence(mark):
    parts = [*mark.cards, *(f"the HDU {name}" for name in mark.hdus)]
    return ", ".join(parts + ["its name"] * bool(mark.file))


def _checked(entry, guess, headers, hdus, path):
    missing = [k for k in entry.requires if not any(k in header for header in headers)]
    if missing:
        raise BadFile(
            path, f"is no {entry.name} file ({entry.title}): it has no {' and no '.join(missing)}",
            f"{_looks(guess)}{contents(hdus, path)}. {_REMEDY}",
        )  # fmt: skip
    if guess and guess[0] is not entry and not _alike(guess[0], entry):
        raise BadFile(
            path, f"is named as format {entry.name} ({entry.title}), but is a {guess[0].name} file "
            f"({guess[0].title}) by {guess[1]}", _REMEDY,
        )  # fmt: skip
    return entry


_REMEDY = "Name the format that it has, or none"


def _looks(guess):
    return f"It looks like {guess[0].name} ({guess[0].title}). " if guess else ""


def _alike(one, other):
    """Whether two products are read in the same way (HSC and LSST)."""
    told = ("name", "title", "recognised", "unit", "remark", "source", "version", "sky")
    return one.model_dump(exclude=told) == other.model_dump(exclude=told)


def find_hdu(hdus: fits.HDUList, wanted, path: Path, what: str, like=None):
    """The first of the HDUs `wanted` that is there and holds a 2-D image.

    Parameters
    ----------
    wanted : sequence of int or str
        Numbers and EXTNAMEs; * is a wildcard, {detector} the image's name to its last dot.
        Empty: the HDU named or numbered as `like`, else the first with a 2-D image.
    what : str
        For the error: which plane of which format.
    like : tuple (number, name), optional
        Of the image.

    Raises
    ------
    BadFile
        If none is there.
    """
    candidates = list(wanted) or _counterparts(like)
    for one in candidates:
        for hdu in _at(hdus, _filled(one, like)):
            if len(plane_shape(hdu)) == 2:
                return hdu
    if not wanted:
        first = next((hdu for hdu in hdus if len(plane_shape(hdu)) == 2), None)
        if first is not None:
            return first
    listed = " or ".join(str(_filled(one, like)) for one in wanted) or "2-D image"
    raise BadFile(path, f"has no {what} (expected: HDU {listed})", f"{contents(hdus, path)}")


def _counterparts(like):
    if like is None:
        return []
    number, name = like
    return [name, number] if name else [number]


def _filled(one, like):
    detector = (like[1] if like else "").rpartition(".")[0]
    return one.replace("{detector}", detector) if isinstance(one, str) else one


def _at(hdus, one):
    if isinstance(one, str):
        return _matching(hdus, one)
    return [hdus[one]] if 0 <= one < len(hdus) else []
