"""Candidates as regions: circles for DS9, and for CARTA in CASA's format.

On the sky (ICRS) where there is a WCS, else in px: DS9 counts from 1, CASA from 0.
"""

import numpy as np

RADIUS = 5.0  # px
ARCSEC = 3.0  # on the sky, where the scale of a pixel is not known
#: (clean, brighter) -> colour
COLOURS = {(True, True): "green", (True, False): "magenta", (False, True): "yellow",
           (False, False): "red"}  # fmt: skip
HEAD = "# Region file format: DS9 version 4.1\nglobal width=2\n{frame}\n"


def ds9_regions(candidates) -> str:
    """Text of a DS9 region file: a circle a candidate, its id and significance as text.

    Green: brighter and clean; magenta: fainter and clean; yellow and red: the same with flags.

    Parameters
    ----------
    candidates : QTable
        As `psflib.detect` finds them.
    """
    on_sky = "ra" in candidates.colnames
    lines = [HEAD.format(frame="icrs" if on_sky else "image")]
    for row in candidates:
        x, y, size = _circle(row, on_sky, 1)
        unit = '"' if on_sky else ""
        lines.append(f"circle({x},{y},{size}{unit}) # color={_colour(row)} text={{{_text(row)}}}\n")
    return "".join(lines)


def crtf_regions(candidates) -> str:
    """Text of a CASA region file (CRTF, version 0), which CARTA reads; see `ds9_regions`."""
    on_sky = "ra" in candidates.colnames
    lines = ["#CRTFv0\n"]
    place, unit, frame = ("deg", "arcsec", ", coord=ICRS") if on_sky else ("pix", "pix", "")
    for row in candidates:
        x, y, size = _circle(row, on_sky, 0)
        circle = f"circle[[{x}{place}, {y}{place}], {size}{unit}]{frame}"
        lines.append(f'{circle}, color={_colour(row)}, label="{_text(row)}"\n')
    return "".join(lines)


def _circle(row, on_sky, first):
    """Centre and radius as text."""
    if on_sky:
        return f"{row['ra'].value:.7f}", f"{row['dec'].value:.7f}", f"{ARCSEC:g}"
    return f"{row['x'].value + first:.3f}", f"{row['y'].value + first:.3f}", f"{RADIUS:g}"


def _colour(row):
    return COLOURS[bool(row["clean"]), bool(row["snr"] > 0)]


def _text(row):
    flags = "" if row["clean"] else f" {row['flags']}"
    return f"{row['id']}: {float(np.round(row['snr'], 1)):+.1f}{flags}"
