"""World coordinates as headers from the wild hold them."""

import contextlib
import re
import warnings

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from psflib.errors import BadImage

#: Every card that a celestial WCS can depend on.  Others are not shown to astropy: one that
#: cannot be read would cost the whole WCS.
_CARDS = re.compile(
    r"NAXIS\d?|WCSAXES|WCSNAME|CTYPE\d|CRPIX\d|CRVAL\d|CUNIT\d|CDELT\d|CROTA\d|CD\d_\d|PC\d_\d"
    r"|PC00\d00\d|PV\d_\d+|PS\d_\d+|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH|MJD-OBS"
    r"|DATE-OBS|[AB]P?_(ORDER|DMAX|\d+_\d+)|(CPDIS|CQDIS|D2IMDIS|DPERR?|CPERR|CQERR|D2IMERR)\d*"
    r"|(DP|DQ|D2IM)\d.*|D2IM(ARR|EXT)|AXISCORR"
)
_SIP = re.compile(r"[AB]P?_(ORDER|DMAX|\d+_\d+)")
_PV = re.compile(r"PV[12]_\d+")
_NUMBERS = re.compile(
    r"(CRVAL|CRPIX|CDELT|CROTA|CD|PC|PV|NAXIS)\d.*|LONPOLE|LATPOLE|[AB]P?_(ORDER|\d+_\d+)"
)
_FRAMES = ("ICRS", "FK5", "FK4", "FK4-NO-E", "")
_TIMES = ("MJD-OBS", "DATE-OBS")
#: Projections of IRAF that FITS does not know: their polynomials stand in WAT cards.
_IRAF = ("TNX", "ZPX")


class _BadWcs(ValueError):
    """Says which card is to blame."""


def celestial_wcs(header: fits.Header, hdus: fits.HDUList | None = None):
    """The header's celestial WCS, or None if the header has none.

    Parameters
    ----------
    header : Header
    hdus : HDUList, optional
        The file, for distortions that stand in lookup tables.

    Returns
    -------
    wcs : WCS or None
    notes : list of str
        What had to be decided.

    Raises
    ------
    BadImage
        If there is one, but it cannot be read; the message names the card.
    """
    if not any(re.match(r"(RA--|DEC-|[GES]L(ON|AT)|[A-Z]LON|[A-Z]LAT)", t) for t in _types(header)):
        return None, []
    try:
        cards = _wcs_cards(header)
        _check_cards(cards)
        cards, notes = _settle_distortion(cards)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old keywords are brought up to date by astropy
            wcs = WCS(cards, fobj=hdus).celestial
            if wcs.naxis != 2:
                raise _BadWcs(f"CTYPE = {' and '.join(_types(header))} are no two sky axes")
            _check_round_trip(wcs, cards)
    except Exception as error:  # wcslib and astropy raise a dozen kinds
        reason = _blamed(error, header)
        raise BadImage(
            f"the WCS of the header cannot be used: {reason}. Mend the card, or delete CTYPE1 and "
            "CTYPE2 if the images are on one grid"
        ) from error
    return wcs, notes


def _types(header):
    """CTYPE1, CTYPE2; a card that cannot be parsed is as good as none here."""
    found = []
    for axis in (1, 2):
        try:
            found.append(str(header.get(f"CTYPE{axis}", "")).strip().upper())
        except fits.VerifyError:
            found.append("RA---?")  # there is one, so `_wcs_cards` has to say what is wrong
    return found


def _wcs_cards(header):
    kept = fits.Header()
    for card in header.cards:
        if not _CARDS.fullmatch(card.keyword):
            continue
        try:
            value = card.value
        except fits.VerifyError:
            if card.keyword in _TIMES:
                continue  # needed by FK4 alone
            raise _BadWcs(f"the card {card.keyword} has no value that can be read") from None
        if _NUMBERS.fullmatch(card.keyword) and isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = float(value)  # wcslib would leave a number in quotes out, and take 0
        if not isinstance(value, fits.card.Undefined):
            kept.append((card.keyword, value), end=True)
    return kept


def _settle_distortion(header):
    """Make headers agree that say two things about distortion.

    SIP coefficients without `-SIP` in CTYPE are meant to be used; beside TPV, which holds the
    whole distortion in its PV keywords, SIP ones are a second copy that must not be added.
    SCAMP writes TPV's polynomial under the name TAN.  wcslib takes PV1_1 to PV1_4 of a TAN for
    the native pole instead, which puts the image elsewhere on the sky by up to 90 degrees.
    """
    types = _types(header)
    header, notes = _known_frame(header)
    pvs = [k for k in header if _PV.fullmatch(k)]
    sip = "A_ORDER" in header and "B_ORDER" in header
    if all(t.endswith("-SIP") for t in types) and pvs:
        header = _without(header, pvs)
        notes.append("PV keywords beside SIP are ignored")
    elif sip and all(t.endswith("-TAN") for t in types):
        if _is_scamp(header, pvs):
            header = _without(header, pvs)
            notes.append("PV keywords beside SIP are ignored")
        header = _renamed(header, [f"{t}-SIP" for t in types])
        notes.append("SIP distortion is used, though CTYPE does not name it")
    elif sip and not any("-SIP" in t for t in types):
        header = _without(header, [k for k in header if _SIP.fullmatch(k)])
        notes.append(f"SIP keywords beside a {types[0][-3:]} projection are ignored")
    elif all(t.endswith("-TAN") for t in types) and _is_scamp(header, pvs):
        header = _renamed(header, [t.replace("-TAN", "-TPV") for t in types])
        notes.append("CTYPE says TAN, but the PV keywords are SCAMP's: read as TPV")
    return _with_linear_terms(header), notes


def _known_frame(header):
    """Without a RADESYS that names no frame."""
    keyword = "RADESYS" if "RADESYS" in header else "RADECSYS"
    frame = str(header.get(keyword, "ICRS")).strip().upper()
    if frame in _FRAMES:
        return header, []
    return _without(header, [keyword]), [f"{keyword} = {frame} names no frame: ignored"]


def _with_linear_terms(header):
    """TPV's PVi_1 is 1 where it is not given; wcslib takes 0 for it."""
    if all(t.endswith("-TPV") for t in _types(header)):
        header = header.copy()
        for keyword in ("PV1_1", "PV2_1"):
            header.setdefault(keyword, 1.0)
    return header


def _is_scamp(header, pvs):
    """Whether PV keywords hold a distortion, not the native pole.

    A pole is PV1_1 (longitude, usually 0), PV1_2 (latitude, 90), PV1_3 and PV1_4; the terms of
    SCAMP stand on both axes, and the linear one is near 1.
    """
    numbers = [(int(k[2]), int(k[4:])) for k in pvs]
    if any(axis == 2 or term >= 5 for axis, term in numbers):
        return True
    return (1, 1) in numbers and abs(float(header["PV1_1"]) - 1) < 0.5


def _without(header, keywords):
    header = header.copy()
    for keyword in keywords:
        del header[keyword]
    return header


def _renamed(header, types):
    header = header.copy()
    header["CTYPE1"], header["CTYPE2"] = types
    return header


def _check_cards(header):
    for axis, kind in enumerate(_types(header), start=1):
        if kind[-3:] in _IRAF:
            raise _BadWcs(
                f"CTYPE{axis} = {kind}: the distortion of IRAF's {kind[-3:]} is not part of FITS. "
                "Fit the image anew as TPV or SIP (SCAMP, astrometry.net)"
            )
        row = [header.get(f"CD{axis}_{column}") for column in (1, 2)]
        if row != [None, None] and not any(row):
            # astropy would put a pixel of one degree in place of a zero row
            raise _BadWcs(f"CD{axis}_1 and CD{axis}_2 are zero")
    for keyword, value in header.items():
        if _NUMBERS.fullmatch(keyword) and not isinstance(value, int | float):
            raise _BadWcs(f"{keyword} = {value!r} is no number")


def _check_round_trip(wcs, header):
    """Centre of the image to the sky and back within 0.1 px, else the keywords are nonsense."""
    centre = np.array([[header.get("NAXIS1", 2), header.get("NAXIS2", 2)]]) / 2.0
    sky = wcs.all_pix2world(centre, 0)
    if not np.isfinite(sky).all() or abs(sky[0, 1]) > 90:
        raise _BadWcs(f"the centre of the image has no sky position ({_scale_cards(header)})")
    if not np.abs(wcs.wcs_world2pix(wcs.wcs_pix2world(centre, 0), 0) - centre).max() < 0.1:
        raise _BadWcs(
            f"positions do not survive the way to the sky and back ({_scale_cards(header)})"
        )


def _scale_cards(header):
    keys = [k for k in header if re.fullmatch(r"(CTYPE|CRVAL|CRPIX|CDELT|CD|PC)\d(_\d)?", k)]
    return ", ".join(f"{k} = {header[k]}" for k in keys)


def _blamed(error, header):
    """The reason in a line, with the cards it may stand in if it does not name one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, _BadWcs):
        return lines[0]
    reason = lines[-1].rstrip(".") if lines else type(error).__name__
    if re.search(r"[A-Z]{2,}\d", reason):
        return reason
    return f"{reason} (CTYPE1 = {_types(header)[0]}, CTYPE2 = {_types(header)[1]})"
