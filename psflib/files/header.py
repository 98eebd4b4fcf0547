"""What the header of somebody else's image says: detector constants and coordinates."""

import dataclasses
import math
import re
import warnings
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS


@dataclasses.dataclass(frozen=True)
class Constant:
    """A detector constant and the keywords under which observatories keep it."""

    name: str
    unit: str
    keywords: tuple[str, ...]  # the first with a sane value is taken
    per_amplifier: re.Pattern  # else all that match, reduced to one number by `reduce`
    reduce: Callable


#: `ESO DET OUT1 GAIN` is missing on purpose: it is ADU/e-, and CONAD its inverse.
CONSTANTS = (
    Constant(
        "gain",
        "e-/ADU",
        ("GAIN", "EGAIN", "CCDGAIN", "GAINEFF", "ESO DET OUT1 CONAD"),
        re.compile(r"(CCD|ATOD)?(GAIN|GN)_?([1-9]|[A-D])"),
        fmean,
    ),
    Constant(
        "saturation",
        "ADU",
        ("SATURATE", "SATUR_LEVEL", "SATLEVEL", "SATURATION", "SATURLEV", "SATUR", "MAXLIN"),
        re.compile(r"(SATURAT|SATURATE|SATLEVEL|SATUR|SATLEV)_?([1-9]|[A-D])"),
        min,
    ),
    Constant(
        "read_noise",
        "e-",
        ("RDNOISE", "READNOISE", "READNOIS", "RON", "ENOISE", "CCDRON", "ESO DET OUT1 RON"),
        re.compile(r"(CCD)?(RDNOISE|RDNOIS|READNOIS|READNSE|RON|ENOISE)_?([1-9]|[A-D])"),
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
    matching = sorted({k for k in header if constant.per_amplifier.fullmatch(k)})
    several = {k: _sane(header, k, label, notes) for k in matching}
    several = {k: v for k, v in several.items() if v is not None}
    if not several:
        return None
    value = float(constant.reduce(several.values()))
    keywords = " and ".join(several)
    notes.append(f"{label} {value:g} {constant.unit} from {keywords} in the header")
    return value


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


def celestial_wcs(header: fits.Header, hdus: fits.HDUList | None = None):
    """The header's celestial WCS, or None and the reason why it is not usable.

    Returns
    -------
    wcs : WCS or None
    notes : list of str
    """
    header, notes = _settle_distortion(header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old keywords are brought up to date by astropy
        try:
            wcs = WCS(header, fobj=hdus).celestial
            if wcs.naxis != 2:
                return None, notes
            _check_round_trip(wcs, header)
        except Exception as error:  # wcslib and astropy raise a dozen kinds
            reason = str(error).strip().splitlines() or [type(error).__name__]
            return None, [*notes, f"the WCS of the header is not usable ({reason[0]}): ignored"]
    return wcs, notes


def _settle_distortion(header):
    """Make headers agree that say two things about distortion.

    SIP coefficients without `-SIP` in CTYPE are meant to be used; beside TPV, which holds the
    whole distortion in its PV keywords, SIP ones are a second copy that must not be added.
    """
    types = [str(header.get(f"CTYPE{axis}", "")) for axis in (1, 2)]
    if "A_ORDER" not in header or "B_ORDER" not in header or any("-SIP" in t for t in types):
        return header, []
    header = header.copy()
    if all(t.endswith("-TAN") for t in types):
        for axis, name in enumerate(types, start=1):
            header[f"CTYPE{axis}"] = f"{name}-SIP"
        return header, ["SIP distortion is used, though CTYPE does not name it"]
    for keyword in [k for k in header if re.fullmatch(r"[AB]P?_(ORDER|DMAX|\d+_\d+)", k)]:
        del header[keyword]
    return header, [f"SIP keywords beside a {types[0][-3:]} projection are ignored"]


def _check_round_trip(wcs, header):
    """Centre of the image to the sky and back within 0.1 px, else the keywords are nonsense."""
    for axis in (1, 2):  # astropy would put a pixel of one degree in place of a zero row
        row = [header.get(f"CD{axis}_{column}") for column in (1, 2)]
        if row != [None, None] and not any(row):
            raise ValueError(f"CD{axis}_1 and CD{axis}_2 are zero")
    centre = np.array([[header.get("NAXIS1", 2), header.get("NAXIS2", 2)]]) / 2.0
    sky = wcs.all_pix2world(centre, 0)
    if not np.isfinite(sky).all() or abs(sky[0, 1]) > 90:
        raise ValueError("the centre of the image has no sky position")
    if not np.abs(wcs.wcs_world2pix(wcs.wcs_pix2world(centre, 0), 0) - centre).max() < 0.1:
        raise ValueError("positions do not survive the way to the sky and back")
