"""Which bits or codes of a mask a caller calls bad."""

import dataclasses
import numbers
import re


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which bits or codes are bad, as a caller says; all empty: as the format says."""

    bits: tuple[int | str, ...] = ()  # bad bits, all others are good
    ignore: tuple[int | str, ...] = ()  # good bits, all others are bad
    codes: tuple[int | str, ...] = ()  # bad values, all others are good

    def __bool__(self):
        return bool(self.bits or self.ignore or self.codes)


def parse_choice(mask_bits=None, mask_ignore=None, mask_codes=None) -> Choice:
    """The arguments of `psflib.read` as a `Choice`.

    Each is a number, a name, a sequence of them, or a string with blanks between them.

    Raises
    ------
    ValueError
        If more than one is given, or a number is negative.
    """
    given = {"mask_bits": mask_bits, "mask_ignore": mask_ignore, "mask_codes": mask_codes}
    parsed = {name: _words(value, name) for name, value in given.items() if value is not None}
    if len(parsed) > 1:
        raise ValueError(f"give only one of {', '.join(parsed)}: each says what is bad")
    return Choice(**{name.removeprefix("mask_"): words for name, words in parsed.items()})


def _words(value, name):
    if isinstance(value, str):
        value = value.split()
    elif isinstance(value, numbers.Integral):
        value = [value]
    words: list[int | str] = []
    for word in value:
        text = str(word)
        if not re.fullmatch(r"\d+|0[xX][0-9a-fA-F]+|[A-Za-z][\w.-]*", text):
            raise ValueError(f"{name}: {text!r} is neither a number of zero or more nor a name")
        if text[:2].lower() == "0x" and name != "mask_codes":
            words += [bit for bit in range(64) if int(text, 16) >> bit & 1]
        else:
            words.append(int(text, 0) if text[0].isdigit() else text.upper())
    if not words:
        raise ValueError(f"{name} is empty")
    return tuple(words)
