"""Reads an image that somebody else made."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from psflib.errors import BadFile, BadImage
from psflib.files.calibration import find_time, find_zero_point
from psflib.files.choice import parse_choice
from psflib.files.fitsio import open_fits, plane_shape, read_plane, select_hdu
from psflib.files.formats import AUTO, NONE, Electrons, Format, names
from psflib.files.header import find_constants, gain_in_unit, number
from psflib.files.places import Column, Image, find_mask, find_variance, found_in
from psflib.files.planes import undo_stretch
from psflib.files.recognise import find_format, find_hdu
from psflib.files.wcs import celestial_wcs
from psflib.image.exposure import OWN_BITS, Exposure

#: Header keywords that travel along in `Exposure.meta`, where they are present.
KEPT = ("OBJECT", "DATE-OBS", "MJD-OBS", "FILTER", "EXPTIME", "AIRMASS", "TELESCOP", "INSTRUME")


def read(
    path: str | Path,
    *,
    format: str = AUTO,
    hdu: int | str | None = None,
    mask: str | Path | None = None,
    mask_hdu: int | str | None = None,
    mask_bits=None,
    mask_ignore=None,
    mask_codes=None,
    variance: str | Path | None = None,
    variance_hdu: int | str | None = None,
    sigma: str | Path | None = None,
    sigma_hdu: int | str | None = None,
    weight: str | Path | None = None,
    weight_hdu: int | str | None = None,
    gain: float | None = None,
    read_noise: float | None = None,
    saturation: float | None = None,
    zero_point: float | None = None,
    unreadable_wcs: str = "error",
) -> Exposure:
    """Read an image with what belongs to it.

    Plain, gzipped and tile-compressed (.fz) FITS of any number type are read, and ASDF with the
    extra `asdf`.  What is not given is taken as the survey's format says (docs/formats.md), else
    from the header (of the image's HDU, then the primary one), else left None for
    `psflib.prepare` to measure.

    Parameters
    ----------
    path : path
        File of the image.  Pixels may have any linear unit; it is called ADU everywhere.
    format : str, optional
        The survey's product, such as "ztf" (`python -m psflib formats` lists them): says where
        mask and noise stand and what they mean.  "auto" recognises a product and notes which;
        what else is given here comes first.  "none" reads any file as an unknown one.
    hdu : int or str, optional
        Number (0 is the primary) or EXTNAME of the image; default the format's, else the first
        2-D image.
    mask, variance, sigma, weight : path, optional
        Files with planes of the same shape: mask, variance (ADU²), sigma (standard deviation,
        ADU) or weight (1/variance; not positive or not finite: no data); of the last three at
        most one.  If only the HDU is given, it is one of the image's own file.
    mask_hdu, variance_hdu, sigma_hdu, weight_hdu : int or str, optional
        As `hdu`.
    mask_bits, mask_ignore, mask_codes : int, str or sequence of them, optional
        What is bad in the mask, at most one of them: the bits that are bad, the bits that are no
        defects while all others are bad, or (where values are codes, no bits) the codes that are
        bad.  Bits are numbered from 0 (0x22 means bits 1 and 5) or named as the mask's header
        (MP_*, MSKNAM*, MSK_FLAG_*) or the format names them.  Default: the format's; else any
        nonzero value is bad.
    gain : float, optional
        Electrons per unit of a pixel, the exposure time included: e-/ADU for counts, that times
        EXPTIME for counts/s, 1 for electrons, EXPTIME for electrons/s.
    read_noise : float, optional
        e-.
    saturation : float, optional
        ADU.
    zero_point : float, optional
        Magnitude of a source of one unit of a pixel, of the exposure as it is; goes to `meta`.
    unreadable_wcs : "error" or "note", optional
        What a WCS is that cannot be read: an error, or a note and `meta["wcs_problem"]` of an
        exposure without one, which `psflib.subtract` refuses unless the stars are to find the
        place (`register: {method: stars}`).

    Returns
    -------
    Exposure
        `meta["name"]` is the file's name without suffix, `meta["format"]` the format or None,
        `meta["planes"]` says which planes were read from where and as what,
        `meta["mask_names"]` which share of the pixels has each bit or code of the mask,
        `meta["source_noise"]` whether the photon noise of sources is in the variance (None: not
        known), `meta["zero_point"]`, `meta["mjd"]` and `meta["date_obs"]` are there if the header
        tells them (`psflib.files.calibration`), and `meta["notes"]` is a list of sentences that
        say what was taken from where.

    Raises
    ------
    BadFile
        If a file is missing, damaged, neither FITS nor ASDF, or not what the format says, an HDU
        is missing or not a 2-D image, a bit is not known, or a plane is named as what it is not.
    BadImage
        If no pixel is usable, or the WCS cannot be read and is not only to be noted.
    ValueError
        If gain or saturation are not positive, two planes serve one purpose, or `format` is not
        known.
    """
    path = Path(path)
    given = {"gain": gain, "read_noise": read_noise, "saturation": saturation}
    noise = {
        "variance": _column(variance, variance_hdu),
        "sigma": _column(sigma, sigma_hdu),
        "weight": _column(weight, weight_hdu),
    }
    _check_call(format, given | {"zero_point": zero_point}, noise, unreadable_wcs)
    choice = parse_choice(mask_bits, mask_ignore, mask_codes)
    with open_fits(path) as hdus:
        entry, notes = find_format(format, hdus, path)
        pixels, image, found = _read_image(path, hdus, hdu, entry, format, notes)
        constants, meta = _read_headers(image, hdus, found, zero_point)
        wcs, wcs_notes, problem = _wcs(found.hdu.header, hdus, path, unreadable_wcs)
        bad = find_mask(image, _column(mask, mask_hdu), choice)
        noise_plane, source_noise = find_variance(image, noise)
        if bad is not None:
            notes += bad.notes
        notes += [*wcs_notes, *_unused(image, hdus, found)]
    constants |= {name: value for name, value in given.items() if value is not None}
    meta |= {
        "format": entry.name if entry else None,
        "planes": image.planes,
        "mask_names": bad.shares if bad else {},
        "source_noise": source_noise,
        "notes": notes,
    }
    if problem:
        meta["wcs_problem"] = problem
    plane = None if bad is None else bad.plane
    exposure = Exposure(
        pixels, noise_plane, plane, wcs=wcs, **constants, meta=meta, mask_bits=OWN_BITS
    )
    _check_usable(exposure, path, image.planes)
    return exposure


def _column(file, hdu):
    return Column(None if file is None else Path(file), hdu)


def _check_call(format, given, noise, unreadable_wcs):
    if unreadable_wcs not in ("error", "note"):
        raise ValueError(f"unreadable_wcs must be error or note; got {unreadable_wcs!r}")
    if format not in names():
        raise ValueError(f"format {format!r} is not known. Known are {', '.join(names())}")
    for name, value in given.items():
        lowest = 0 if name == "read_noise" else math.ulp(0.0)
        if value is not None and not lowest <= value < math.inf:
            raise ValueError(f"{name} must be a positive number; got {value}")
    named = [name for name, column in noise.items() if column]
    if len(named) > 1:
        raise ValueError(f"give either a {' or a '.join(named)}: one plane of noise is enough")


def _read_image(path, hdus, hdu, entry: Format | None, format, notes):
    """Pixels, what is known of the image, and where it stands."""
    named = format not in (AUTO, NONE)
    if hdu is None and entry is not None and entry.image.hdu:
        what = f"image of a {entry.name} file ({entry.title})"
        try:
            chosen = find_hdu(hdus, entry.image.hdu, path, what)
        except BadFile:
            if named:
                raise
            chosen = select_hdu(hdus, path)
    else:
        chosen = select_hdu(hdus, path, hdu)
    found = found_in(hdus, chosen, path)
    pixels = read_plane(chosen, path)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).any():
        raise BadImage(f"{path}: no pixel of the image is finite. Check the file or choose an HDU")
    if entry is not None:
        pixels = _linear(pixels, entry, chosen.header, path, notes)
        notes += _of_format(entry)
    planes = {"image": found.label}
    place = (found.number, chosen.name)
    return pixels, Image(path, hdus, *place, pixels, entry, named, notes, planes), found


def _linear(pixels, entry, header, path, notes):
    """Pixels without the survey's stretch and pedestal."""
    pixels = undo_stretch(pixels, entry.stretch, header, path)
    if entry.stretch and not np.isfinite(pixels).any():
        raise BadImage(
            f"{path}: no pixel is finite once its {entry.stretch} stretch is undone. If somebody "
            "has done that before, say `format: none`"
        )
    if entry.pedestal:
        level = number([header], entry.pedestal) or 0.0
        pixels = pixels.astype(np.float32) - np.float32(level)
        notes.append(f"{entry.pedestal} = {level:g} is subtracted from all pixels")
    return pixels


def _of_format(entry):
    """What a reader of the log has to know of a format."""
    notes = []
    if entry.stretch:
        notes.append(f"the {entry.stretch} stretch of the pixels is undone")
    if entry.sky == "subtracted":
        notes.append("the survey has subtracted the sky")
    if entry.correlated:
        notes.append("the survey has resampled the pixels: the noise of neighbours is correlated")
    return notes + ([entry.remark] if entry.remark else [])


def _kept(headers):
    kept: dict[str, Any] = {}
    for header in reversed(headers):
        for key in KEPT:
            value = header.get(key)
            if isinstance(value, str | int | float) and str(value).strip():
                kept[key] = value
    if isinstance(kept.get("EXPTIME"), str):  # SDSS writes the number as a string
        try:
            kept["EXPTIME"] = float(kept["EXPTIME"])
        except ValueError:
            del kept["EXPTIME"]
    return kept


def _read_headers(image, hdus, found, zero_point):
    """Constants of the detector in the pixels' unit, and `meta`."""
    own = found.hdu.header
    headers = [own] if found.number == 0 else [own, hdus[0].header]
    meta = {"name": _stem(image.path), **_kept(headers)}
    constants, notes = find_constants(headers)
    entry = image.format
    if entry is None or entry.electrons is None:
        constants, more = gain_in_unit(constants, headers, meta.get("EXPTIME"))
        notes += more
    else:
        constants.pop("gain", None)
        notes = [note for note in notes if not note.startswith("gain")]
        notes += _electrons(constants, entry.electrons, headers, image)
    if entry is not None and entry.saturation is not None:
        notes = [note for note in notes if not note.startswith("saturation")]
        notes += _saturation(constants, entry.saturation, headers)
    if entry is not None and entry.pedestal and "saturation" in constants:
        constants["saturation"] -= number(headers, entry.pedestal) or 0.0
    image.notes.extend([*notes, *_overscan(own, image.shape)])
    told, notes = _brightness_and_time(headers, meta.get("EXPTIME"), zero_point)
    image.notes.extend(notes)
    return constants, meta | told


def _brightness_and_time(headers, exposure_time, zero_point):
    """Zero point (mag), middle and beginning of the exposure as far as they are known; notes."""
    if isinstance(exposure_time, bool | str):
        exposure_time = None
    told, notes = find_time(headers, exposure_time)
    if zero_point is None:
        zero_point, more = find_zero_point(headers, exposure_time)
        notes += more
    return told if zero_point is None else {**told, "zero_point": zero_point}, notes


def _electrons(constants, electrons: Electrons | str, headers, image):
    """Gain as the format says, set in `constants`; returns notes."""
    if not isinstance(electrons, Electrons):
        return ["gain: no number of the header is electrons per unit of these pixels"]
    factors = {str(word): word if isinstance(word, float) else number(headers, word)
               for word in electrons.times}  # fmt: skip
    if electrons.by:
        key = " ".join(str(_first(headers, keyword)).strip() for keyword in electrons.by)
        factors[" and ".join(electrons.by)] = electrons.table.get(key)
    if electrons.per is not None:
        factors[f"1 / median of HDU {electrons.per}"] = _inverse_median(electrons.per, image)
    lost = [name for name, value in factors.items() if value is None]
    if lost:
        return [f"gain: not known, the header has no usable {' and no '.join(lost)}"]
    constants["gain"] = math.prod(value for value in factors.values() if value is not None)
    return [f"gain {constants['gain']:g} electrons per pixel unit ({' x '.join(factors)})"]


def _first(headers, keyword):
    return next((header[keyword] for header in headers if keyword in header), None)


def _inverse_median(hdu, image):
    """1/median of the array of an HDU, or None if it is not there or not positive."""
    if hdu >= len(image.hdus) or getattr(image.hdus[hdu], "data", None) is None:
        return None
    median = float(np.median(np.asarray(image.hdus[hdu].data, float)))
    return 1 / median if math.isfinite(median) and median > 0 else None


def _saturation(constants, rule, headers):
    """Saturation as the format says, set in `constants`; returns notes."""
    constants.pop("saturation", None)
    if rule == NONE:
        return ["saturation: the header's level is not in the unit of these pixels"]
    value = number(headers, rule) if isinstance(rule, str) else rule
    if value is None:
        return [f"saturation: not known, the header has no usable {rule}"]
    constants["saturation"] = value
    return [f"saturation {value:g} from {rule if isinstance(rule, str) else 'the format'}"]


def _overscan(header, shape):
    """A note if the header says that part of the image is no sky."""
    for keyword in ("TRIMSEC", "DATASEC"):
        section = re.fullmatch(r"\[(\d+):(\d+),\s*(\d+):(\d+)\]", str(header.get(keyword)).strip())
        if section is None:
            continue
        x0, x1, y0, y1 = map(int, section.groups())
        size = (abs(y1 - y0) + 1, abs(x1 - x0) + 1)
        if size[0] < shape[0] or size[1] < shape[1]:
            return [
                f"{keyword} = {section[0]} is smaller than the image ({shape[1]}x{shape[0]}): "
                "overscan stands in it, and counts as sky. Cut it off"
            ]
    return []


def _wcs(header, hdus, path, unreadable):
    """The WCS or None, notes, and what is wrong with it or None."""
    try:
        return *celestial_wcs(header, hdus), None
    except BadImage as error:
        problem = f"{path}: {error}"
        if unreadable == "error":
            raise BadImage(problem) from error
        return None, [problem], problem


_PLANE_NAMES = re.compile(
    r"(?i).*(err|unc|rms|sig|var|wht|wgt|weight|iv|dq|mask|msk|bpm|flag|flg).*"
)


def _unused(image, hdus, found):
    """Images of the file that were not read, said aloud."""
    used = {label.split("[")[-1].split("]")[0] for label in image.planes.values()
            if label.startswith(f"{image.path.name}[")}  # fmt: skip
    left = []
    for index, hdu in enumerate(hdus):
        label = hdu.name or str(index)
        if index != found.number and len(plane_shape(hdu)) == 2 and label not in used:
            left.append((index, label, plane_shape(hdu)))
    if not left:
        return []
    listed = ", ".join(f"{index} {label}" if label != str(index) else label
                       for index, label, _ in left[:8])  # fmt: skip
    more = f" and {len(left) - 8} more" if len(left) > 8 else ""
    note = f"the image is HDU {found.number} {found.hdu.name}".rstrip() + (
        f"; not read of the same file: HDU {listed}{more}"
    )
    if any(_PLANE_NAMES.fullmatch(label) and shape == image.shape for _, label, shape in left):
        note += ". If a mask or noise is among them, name it in mask_hdu, variance_hdu, sigma_hdu "
        note += "or weight_hdu"
    elif any(shape == image.shape for *_, shape in left):
        note += ". Choose another by hdu"
    return [note]


def _check_usable(exposure, path, planes):
    if exposure.usable.any():
        return
    named = [label for name, label in planes.items() if name != "image"]
    remedy = f"Check the {' and '.join(k for k in planes if k != 'image')}" if named else ""
    if "mask" in planes:
        remedy += " (in a mask, nonzero means bad, unless its format or mask_bits say otherwise)"
    raise BadImage(f"{path}: no pixel is usable. {remedy}".strip())


def _stem(path):
    return re.sub(r"(?i)(\.(fits?|fts|gz|fz|bz2|xz|z|asdf))+$", "", path.name) or path.name
