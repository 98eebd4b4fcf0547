"""Other people's masks: bits and codes, by number or by name, become `MaskBit` planes."""

import dataclasses
import re

import numpy as np
from astropy.io import fits

from psflib.errors import BadFile
from psflib.files.choice import Choice
from psflib.files.formats import MaskPlane, formats
from psflib.image.exposure import MaskBit

#: What the name of a bit says of the defect; anything else is `MaskBit.BAD`.
ROLES = (
    (re.compile(r"SAT|SATUR.*|(EDGE)?BLEED.*"), MaskBit.SAT),
    (re.compile(r"CR|COSMIC.*|CRHIT|RADIATION_HIT|JUMP_DET"), MaskBit.CR),
    (re.compile(r"NO_?DATA|BLANK|NON_SCIENCE|OUTSIDE"), MaskBit.NO_DATA),
)


@dataclasses.dataclass(frozen=True)
class ReadMask:
    """A mask as `MaskBit` plane (ny, nx) uint16, and what was made of it."""

    plane: np.ndarray
    shares: dict[str, float]  # name of each bit or code that is set -> share of the pixels
    notes: list[str]


def read_mask(
    plane: np.ndarray, header: fits.Header, path, entry: MaskPlane | None, choice: Choice
) -> ReadMask:
    """What is bad in a mask.

    Parameters
    ----------
    plane : ndarray (ny, nx)
        The mask's values; NaN is no data.
    header : Header
        The mask's own: it may name the bits.
    path : path
        For errors.
    entry : MaskPlane or None
        What the format says; None: any nonzero value is bad, unless the header names bits in the
        way of a format of the table.
    choice : Choice
        What the caller says; it comes before the format.

    Raises
    ------
    BadFile
        If a named bit is not known, or a bit does not exist in the mask's type.
    """
    notes: list[str] = []
    if entry is None:
        entry = _by_header(header, [] if choice else notes) or MaskPlane()
    values = _integers(plane)
    blank = ~np.isfinite(plane) if plane.dtype.kind == "f" else None
    if choice.codes or (entry.codes and not choice):
        masked, shares = _codes(values, entry, choice, path, notes)
    elif entry.zero_is_bad and not choice:
        masked, shares = np.where(values == 0, _u16(MaskBit.NO_DATA), _u16(0)), {}
    else:
        masked, shares = _bits(values, plane.dtype, header, entry, choice, path, notes)
    if blank is not None and blank.any():
        masked[blank] |= _u16(MaskBit.NO_DATA)
    return ReadMask(masked, shares, notes)


def _u16(bits):
    return np.uint16(bits)


def _integers(plane):
    """Values as int64; the sign bit of a narrow type stays the bit that it is."""
    if plane.dtype.kind == "f":
        return np.nan_to_num(np.rint(plane), nan=0, posinf=0, neginf=0).astype(np.int64)
    if plane.dtype.kind == "i" and plane.dtype.itemsize < 8:
        return plane.view(f"u{plane.dtype.itemsize}").astype(np.int64)
    return plane.astype(np.int64)


def _by_header(header, notes):
    """The entry of the first format that names bits as this header does."""
    own = all(f"MP_{bit.name}" in header for bit in MaskBit)
    for known in formats().values():
        for entry in known.mask:
            if entry.named_by and (known.name == "psflib") == own and header_bits(header, entry):
                notes.append(
                    f"mask: its header names its bits ({entry.named_by}...) as in the format "
                    f"{known.name}, so its defects count as bad there and here"
                )
                return entry
    return None


def header_bits(header: fits.Header, entry: MaskPlane) -> dict[str, int]:
    """Name -> number of each bit that the header names in the entry's way."""
    if not entry.named_by:
        return {}
    if entry.named_by == "MSKNAM":  # a card for the name, another for the value
        pairs = [(str(header[k]), header.get(k.replace("NAM", "VAL", 1))) for k in header
                 if re.fullmatch(r"MSKNAM\d+", k)]  # fmt: skip
    else:
        cards = [k for k in header if k.startswith(entry.named_by)]
        pairs = [(k.removeprefix(entry.named_by), header[k]) for k in cards]
    by_value = entry.named_as == "value" or entry.named_by == "MSKNAM"
    bits = {}
    for name, number in pairs:
        if isinstance(number, int) and not isinstance(number, bool) and number >= int(by_value):
            bits[name.strip().upper()] = number.bit_length() - 1 if by_value else number
    return bits


def _role(name):
    return next((role for words, role in ROLES if words.fullmatch(name)), MaskBit.BAD)


def _codes(values, entry, choice, path, notes):
    known = entry.codes
    bad = [_number(word, known, path, "code") for word in choice.codes or entry.bad]
    named = {number: name for name, number in known.items()}
    masked = np.zeros(values.shape, np.uint16)
    shares = {}
    for code, count in _counted(values[values != 0]):
        name = named.get(code, f"code {code}")
        shares[name] = count / values.size
        unknown = bool(known) and not choice and code not in named
        if unknown:
            notes.append(f"mask: code {code} is not known to the format: {count} pixels count bad")
        if code in bad or unknown:
            masked[values == code] |= _u16(_role(name))
    _tell(notes, [named.get(code, f"code {code}") for code in bad], shares)
    return masked, shares


def _counted(values):
    """(value, number of pixels) of each; without sorting where values are as small as codes are."""
    if values.size and 0 <= values.min() and values.max() < 4096:
        counts = np.bincount(values)
        return [(int(code), int(counts[code])) for code in np.flatnonzero(counts)]
    return [(int(v), int(n)) for v, n in zip(*np.unique(values, return_counts=True), strict=True)]


def _bits(values, dtype, header, entry, choice, path, notes):
    known = header_bits(header, entry) or entry.bits
    size = 64 if dtype.kind == "f" else 8 * dtype.itemsize
    bad, is_good = _chosen(known, size, entry, choice, path)
    named = {number: name for name, number in known.items()}
    masked = np.zeros(values.shape, np.uint16)
    shares = {}
    any_set = int(np.bitwise_or.reduce(values, axis=None)) if values.size else 0
    for bit in range(64):
        if not any_set >> bit & 1:
            continue
        here = (values >> bit & 1) != 0
        name = named.get(bit, f"bit {bit}")
        shares[name] = float(here.mean())
        unknown = bool(entry.bad) and not choice and bit not in named
        if unknown:
            notes.append(
                f"mask: bit {bit} is known neither to the format nor to the header: "
                f"{int(here.sum())} pixels count as bad"
            )
        if unknown or (bit not in bad if is_good else bit in bad):
            masked[here] |= _u16(_role(name))
    if known or choice:
        words = [named.get(bit, f"bit {bit}") for bit in sorted(bad)]
        _tell(notes, words, shares, is_good)
    return masked, shares


def _chosen(known, size, entry, choice, path):
    """Numbers of bits, and whether these are the good ones."""
    if choice.bits or choice.ignore:
        words = choice.bits or choice.ignore
        bits = {_number(word, known, path, "bit") for word in words}
        too_high = sorted(bit for bit in bits if bit >= size)
        if too_high:
            inside = " ".join(str(b) for b in range(64) if too_high[0] >> b & 1)
            raise BadFile(
                path, f"holds a mask of {size} bits, so there is no bit {too_high[0]}",
                f"Bits are numbered from 0; if {too_high[0]} is meant as a value, these are the "
                f"bits {inside} (or write {too_high[0]:#x})",
            )  # fmt: skip
        return bits, bool(choice.ignore)
    if entry.bad:
        bits = {known[name] for name in entry.bad if name in known}
        if not bits:
            raise BadFile(
                path, f"names none of the bits that are bad: {', '.join(entry.bad)}",
                f"It names {', '.join(known) or 'none at all'}. Say in mask_bits which are bad",
            )  # fmt: skip
        return bits, False
    return {known[name] for name in entry.good if name in known}, True


def _number(word, known, path, what):
    if isinstance(word, int):
        return word
    if word not in known:
        there = f"It knows {', '.join(known)}" if known else f"It names no {what}s: give numbers"
        raise BadFile(path, f"has a mask that does not know the {what} {word!r}", there)
    return known[word]


def _tell(notes, words, shares, are_good=False):
    rest = [f"{name} ({share:.2%})" for name, share in shares.items() if name not in words]
    used = [f"{name} ({shares[name]:.2%})" for name in words if name in shares]
    bad, good = (rest, used) if are_good else (used, rest)
    notes.append(
        f"mask: bad are {', '.join(bad) or 'no pixels'}; "
        f"no defects are {', '.join(good) or 'no others'}"
    )
