"""What the header of somebody else's image says: detector constants and units."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from statistics import fmean

from astropy.io import fits


@dataclasses.dataclass(frozen=True)
class Constant:
    """A detector constant and the keywords under which observatories keep it."""

    name: str
    unit: str
    keywords: tuple[str, ...]  # the first with a sane value is taken
    per_amplifier: re.Pattern  # else all that match, reduced to one number by `reduce`
    reduce: Callable
    spread: float = math.inf  # amplifiers that differ from their mean by more have no one number


#: `ESO DET OUT1 GAIN` is missing on purpose: it is ADU/e-, and CONAD its inverse.  EGAIN comes
#: first because GAIN beside it is the setting of a camera (N.I.N.A., ASI, QHY), not e-/ADU.
CONSTANTS = (
    Constant(
        "gain",
        "e-/ADU",
        ("EGAIN", "GAIN", "CCDGAIN", "GAINEFF", "CELL.GAIN", "ESO DET OUT1 CONAD"),
        re.compile(r"(CCD|ATOD|T_)?(GAIN|GN)_?(0?[1-9]|[1-9]\d|[A-P])"),
        fmean,
        0.1,
    ),
    Constant(
        "saturation",
        "ADU",
        ("SATURATE", "SATUR_LEVEL", "SATLEVEL", "SATURATION", "SATURLEV", "SATUR", "MAXLIN"),
        re.compile(r"(SATURAT|SATURATE|SATLEVEL|SATUR|SATLEV)_?(0?[1-9]|[1-9]\d|[A-P])"),
        min,
    ),
    Constant(
        "read_noise",
        "e-",
        ("RDNOISE", "READNOISE", "READNOIS", "RON", "ENOISE", "CCDRON", "ESO DET OUT1 RON"),
        re.compile(r"(CCD)?(RDNOISE|RDNOIS|READNOIS|READNSE|RON|ENOISE)_?(0?[1-9]|[1-9]\d|[A-P])"),
        max,
    ),
)


def find_constants(headers: Sequence[fits.Header]) -> tuple[dict[str, float], list[str]]:
    """Gain (e-/ADU), saturation (ADU) and read noise (e-) as far as `headers` tell them.

    Parameters
    ----------
    headers : sequence of Header
        The image's own first, then the primary one.

    Returns
    -------
    values : dict
        Name to value; a name of which nothing sane was found is missing.
    notes : list of str
        A sentence for each value taken and each one refused.
    """
    values: dict[str, float] = {}
    notes: list[str] = []
    for constant in CONSTANTS:
        for header in headers:
            found = _find(constant, header, notes)
            if found is not None:
                values[constant.name] = found
                break
    return values, notes


def _find(constant, header, notes):
    label = constant.name.replace("_", " ")
    for keyword in constant.keywords:
        value = _sane(header, keyword, label, notes)
        if value is not None:
            notes.append(f"{label} {value:g} {constant.unit} from {keyword} in the header")
            return value
    matching = [
        k for k in header if constant.per_amplifier.fullmatch(k) and k not in constant.keywords
    ]
    several = {k: _sane(header, k, label, notes) for k in matching}
    several = {k: v for k, v in several.items() if v is not None}
    if not several:
        return None
    value = float(constant.reduce(several.values()))
    keywords = " and ".join(several)
    off = max(abs(v / value - 1) for v in several.values())
    if off > constant.spread:
        listed = ", ".join(f"{k} {v:g}" for k, v in several.items())
        notes.append(
            f"{label}: the amplifiers differ by up to {off:.0%} from their mean ({listed}), so "
            "none is taken"
        )
        return None
    notes.append(f"{label} {value:g} {constant.unit} from {keywords} in the header")
    return value


def number(headers: Sequence[fits.Header], keyword: str) -> float | None:
    """A positive number from the first header that has the keyword, or None."""
    header = next((h for h in headers if keyword in h), None)
    return None if header is None else _sane(header, keyword, keyword, [])


def _sane(header, keyword, label, notes):
    """A positive, finite number or None; a refused value is noted."""
    if keyword not in header:
        return None
    try:
        raw = header[keyword]
        value = math.nan if isinstance(raw, bool) else float(raw)
    except (TypeError, ValueError, fits.VerifyError):
        value = math.nan
    if math.isfinite(value) and value > 0:
        return value
    text = str(header.cards[keyword].rawvalue) if keyword in header else ""
    notes.append(f"{label}: {keyword} = {text} in the header is ignored, it is no positive number")
    return None


#: Unit of brightness: a header's gain and saturation are not in these.
_BRIGHTNESS = re.compile(r"(?i).*(jy|magg|mgy|/\s*sr|erg|flam|fnu|mag\b|w/|w m).*")
_ELECTRONS = re.compile(r"(?i)\s*(photo-?)?e(l|lectrons?|lec|-|\b).*")
_RATE = re.compile(r"(?i).*(/\s*s(ec|econd)?s?\b|\bs\s*(-1|\*\*-1|\^-1)|per sec|cps).*")


def gain_in_unit(constants: dict[str, float], headers: Sequence[fits.Header], exposure_time):
    """Constants of a header as far as they hold in the unit of the pixels, and why.

    The gain of a header is e-/ADU; what the noise needs is electrons per unit of a pixel: in a
    rate (counts/s) that is GAIN x EXPTIME, in electrons 1, in electrons/s EXPTIME, and in a
    brightness no number of the header.

    Parameters
    ----------
    constants : dict
        As `find_constants` gives them.
    headers : sequence of Header
        The image's own first, then the primary one.
    exposure_time : float or None
        EXPTIME, s.

    Returns
    -------
    constants : dict
    notes : list of str
    """
    units = [str(h["BUNIT"]).strip() for h in headers if str(h.get("BUNIT", "")).strip()]
    odd = [u for u in units if _is_odd(u)]
    if not odd:
        return constants, []
    unit, notes = odd[0], []
    if len(set(map(str.lower, units))) > 1:
        notes.append(f"BUNIT is {units[0]!r} beside the image, but {units[1]!r} in the primary "
                     f"header: taken as {unit!r}")  # fmt: skip
    constants = dict(constants)
    if any(str(h.get("SOFTNAME", "")).strip().lower() == "swarp" for h in headers):
        notes.append(f"BUNIT is {unit!r}, but SWarp's GAIN refers to the pixels as they are")
        return constants, notes
    detector = constants.pop("gain", None)
    if _BRIGHTNESS.fullmatch(unit):
        constants.pop("saturation", None)
        notes.append(
            f"BUNIT is {unit!r}: gain and saturation of the header are in ADU and not used. Give "
            "as `gain` the electrons per pixel unit, or a plane of noise"
        )
        return constants, notes
    return constants, notes + _counted(constants, unit, detector, exposure_time)


def _is_odd(unit):
    return bool(_BRIGHTNESS.fullmatch(unit) or _ELECTRONS.fullmatch(unit) or _RATE.fullmatch(unit))


def _counted(constants, unit, detector, exposure_time):
    """Gain of pixels in electrons or in a rate, set in `constants`; returns notes."""
    electrons, rate = _ELECTRONS.fullmatch(unit), _RATE.fullmatch(unit)
    factors = {} if electrons else {"GAIN": detector}
    if rate:
        factors["EXPTIME"] = exposure_time
        constants.pop("saturation", None)
    what = " x ".join(factors) or "1"
    lost = [name for name, value in factors.items() if value is None]
    rest = "; the saturation level of the header is in ADU and not used" if rate else ""
    if lost:
        return [
            f"BUNIT is {unit!r}: the electrons per pixel unit are {what}, but the header has no "
            f"{' and no '.join(lost)}, so give their product as `gain`{rest}"
        ]
    constants["gain"] = math.prod(factors.values())
    refused = f", not the header's {detector:g} e-/ADU" if electrons and detector else ""
    return [
        f"BUNIT is {unit!r}: gain {constants['gain']:g} electrons per pixel unit ({what})"
        f"{refused}{rest}"
    ]
