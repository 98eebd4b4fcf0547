"""What the header of somebody else's image says of brightness and time: zero point and epoch."""

import datetime
import math
import re
from collections.abc import Sequence

from astropy.io import fits

#: Cards that hold the magnitude of one unit of a pixel, of the exposure as it is.
OF_IMAGE = (
    "MAGZP", "MAGZERO", "MAGZEROP", "PHOTZP", "ZEROPT", "ZEROPNT", "ZEROPOIN", "ZP_AB", "ZP",
)  # fmt: skip
#: Those of one unit a second, whatever the exposure time: of counts, 2.5 lg EXPTIME is missing.
OF_SECOND = ("MAGZPT", "IMAGEZPT")
#: The flux of magnitude 0.
FLUX_OF_ZERO = ("FLUXMAG0",)
#: Zero points of units that are fluxes of AB magnitudes (3631 Jy; nanomaggies by definition).
OF_UNIT = {
    "nanomaggy": 22.5, "nmgy": 22.5, "njy": 31.4, "ujy": 23.9, "mujy": 23.9, "jy": 8.9,
}  # fmt: skip
SANE = 5.0, 45.0  # mag, between which a zero point is one
ALIKE = 0.2  # mag, by which cards may differ
MJD_OF_MIDDLE = ("MJD-AVG", "MJD-MID", "MJDMEAN", "EXPMID")
MJD_OF_START = ("MJD-OBS", "MJD-BEG", "MJD_OBS", "MJD")
TIMES = ("TIME-OBS", "UTC-OBS", "UT", "UTSTART", "UTC")  # beside a date without a time
MJD_0 = datetime.datetime(1858, 11, 17, tzinfo=datetime.UTC)
SANE_MJD = 15020.0, 100000.0  # 1900 to 2132
APART = 0.02  # d, that cards of one exposure may be apart, beside its length


def find_zero_point(
    headers: Sequence[fits.Header], exposure_time: float | None
) -> tuple[float | None, list[str]]:
    """Magnitude of a source of one pixel unit, as far as `headers` tell it.

    A card of the exposure as it is comes before one of a second; that is believed with an exposure
    time, and of pixels in a rate as it is.  Cards that contradict each other are not taken, nor
    those that are no magnitude.

    Parameters
    ----------
    headers : sequence of Header
        The image's own first, then the primary one.
    exposure_time : float or None
        s.

    Returns
    -------
    zero_point : float or None
        mag
    notes : list of str
        Which card was taken, or why none was.
    """
    notes: list[str] = []
    found = _cards(headers, OF_IMAGE, notes)
    for name, flux in _cards(headers, FLUX_OF_ZERO, notes, (1.0, math.inf)).items():
        found[name] = 2.5 * math.log10(flux)
    found |= _of_units(headers, exposure_time)
    rate = _is_rate(headers)
    for name, value in _cards(headers, OF_SECOND, notes).items():
        if rate:
            found[name] = value
        elif exposure_time and exposure_time > 0:
            found[f"{name} and EXPTIME"] = value + 2.5 * math.log10(exposure_time)
        elif not found:
            notes.append(
                f"zero point: {name} = {value:g} is of a second, and the header has no EXPTIME: "
                "not taken. Give `zero_point`"
            )
    if not found:
        return None, notes
    name, value = next(iter(found.items()))
    others = [f"{n} {v:.3f}" for n, v in found.items() if abs(v - value) > ALIKE]
    if others:
        notes.append(
            f"zero point: {name} {value:.3f} and {' and '.join(others)} mag contradict each other: "
            "none is taken. Give `zero_point`"
        )
        return None, notes
    return value, [*notes, f"zero point {value:.4f} mag from {name} in the header"]


def _cards(headers, keywords, notes, sane=SANE):
    """Sane numbers by keyword; of a keyword, the first header's.  0 is "not calibrated"."""
    found = {}
    for keyword in keywords:
        raw = next((h[keyword] for h in headers if keyword in h), None)
        if raw is None:
            continue
        value = _number(raw)
        if value is not None and sane[0] <= value <= sane[1]:
            found[keyword] = value
        elif value != 0:
            notes.append(f"zero point: {keyword} = {raw} in the header is none, not taken")
    return found


def _number(raw):
    try:
        value = math.nan if isinstance(raw, bool) else float(raw)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _of_units(headers, exposure_time):
    """Zero points (AB) that follow from the unit of the pixels.

    MJy/sr with the pixel's solid angle PIXAR_SR (JWST); PHOTFLAM and PHOTPLAM of one electron a
    second (HST: ACS Data Handbook, -2.5 lg PHOTFLAM - 5 lg PHOTPLAM - 2.408).
    """
    unit = re.sub(r"[\s.]", "", _unit(headers)).lower()
    word = re.sub(r"(ies|s|/pix(el)?)$", lambda m: "y" if m[0] == "ies" else "", unit)
    if OF_UNIT.get(word):
        return {f"BUNIT {unit}": OF_UNIT[word]}
    one = {
        name: _number(next((h[name] for h in headers if name in h), None))
        for name in ("PIXAR_SR", "PHOTFLAM", "PHOTPLAM")
    }
    if unit == "mjy/sr" and (one["PIXAR_SR"] or 0) > 0:
        return {"PIXAR_SR": 8.9 - 2.5 * math.log10(1e6 * one["PIXAR_SR"])}
    flam, plam = one["PHOTFLAM"] or 0, one["PHOTPLAM"] or 0
    seconds = 1.0 if _is_rate(headers) else exposure_time or 0
    if unit.startswith("e") and flam > 0 and plam > 0 and seconds > 0:
        value = -2.5 * math.log10(flam) - 5 * math.log10(plam) - 2.408
        return {"PHOTFLAM and PHOTPLAM": value + 2.5 * math.log10(seconds)}
    return {}


def _unit(headers):
    return next((str(h["BUNIT"]) for h in headers if str(h.get("BUNIT", "")).strip()), "")


def _is_rate(headers):
    return bool(re.search(r"(?i)/\s*s\b|/\s*sec|s\s*(-1|\*\*-1|\^-1)|per sec|cps", _unit(headers)))


def find_time(
    headers: Sequence[fits.Header], exposure_time: float | None
) -> tuple[dict[str, float | str], list[str]]:
    """Middle and beginning of an exposure.

    Parameters
    ----------
    headers, exposure_time
        As of `find_zero_point`.

    Returns
    -------
    known : dict
        `mjd` (of the middle, or of the beginning where the exposure time is not known) and
        `date_obs` (ISO, of the beginning), as far as they are known, in the header's time scale.
    notes : list of str
    """
    length = exposure_time / 86400 if exposure_time and exposure_time > 0 else 0.0
    middle = _first_mjd(headers, MJD_OF_MIDDLE)
    starts = {
        name: value
        for name, value in (("MJD-OBS", _first_mjd(headers, MJD_OF_START)), _date(headers))
        if value is not None
    }
    known = [*starts.values(), *([] if middle is None else [middle])]
    if not known:
        dates = [str(h["DATE-OBS"]).strip() for h in headers if str(h.get("DATE-OBS", "")).strip()]
        said = (
            f"time: DATE-OBS {dates[0]!r} tells no moment, and no other card does" if dates else ""
        )
        return {}, [said] if said else []
    if max(known) - min(known) > APART + length:
        listed = ", ".join(f"{name} {value:.5f}" for name, value in starts.items())
        return {}, [f"time: the header's cards contradict each other (MJD {listed}): none is taken"]
    # a date tells milliseconds where some MJD-OBS have four digits
    start = starts.get("DATE-OBS", starts.get("MJD-OBS", (middle or 0.0) - length / 2))
    begin = MJD_0 + datetime.timedelta(days=start)
    return {
        "mjd": start + length / 2 if middle is None else middle,
        "date_obs": begin.replace(tzinfo=None).isoformat(timespec="milliseconds"),
    }, []


def _first_mjd(headers, keywords):
    for keyword in keywords:
        for header in headers:
            value = _number(header.get(keyword))
            if value is not None and SANE_MJD[0] < value < SANE_MJD[1]:
                return value
    return None


def _date(headers):
    """("DATE-OBS", its MJD or None); the time stands in it or in a card of its own."""
    for header in headers:
        text = str(header.get("DATE-OBS", "")).strip().rstrip("Z")
        if not text:
            continue
        if "T" not in text and ":" not in text:
            clock = next((str(header[k]).strip() for k in TIMES if ":" in str(header.get(k))), None)
            text = text if clock is None else f"{text}T{clock}"
        if ":" not in text:
            continue  # a day is no time
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            continue
        moment = moment.replace(tzinfo=datetime.UTC)
        return "DATE-OBS", (moment - MJD_0) / datetime.timedelta(days=1)
    return "DATE-OBS", None
