"""The page of cut-outs: every candidate in four pictures of one stretch, sortable."""

import base64
import html
import io

import numpy as np
from PIL import Image

from psflib.figures import canvas
from psflib.image.cutout import cutout
from psflib.report.page import fill
from psflib.report.sortable import sortable

GALLERY = "candidates.html"
SIDE, GAP = 31, 2  # px
HEADS = "science, template as matched, difference, decorrelated"
TABLE = "../../../{}/{}/candidates.ecsv"  # from the page, by field and epoch
HIDDEN = ("sky", "flag", "fwhm")  # columns that tell a reader nothing new
#: Columns that are looked at first; the others follow.
FIRST = ("id", "snr", "flux", "flux_err", "mag", "kind", "real", "flags", "x", "y", "ra", "dec")
LINKS = {"candidates.reg": "DS9 regions", "candidates.crtf": "CARTA regions"}


def gallery_page(place: tuple[str, str], table, found, planes, most: int) -> str:
    """HTML of the cut-outs of the strongest candidates.

    Parameters
    ----------
    place : tuple of str
        Field and epoch.
    table : path
        The table of images.
    found : QTable
        Candidates.
    planes : tuple of (Exposure, Difference, Difference)
        Science image, difference and decorrelated difference.
    most : int
        Rows.
    """
    shown = found[:most]
    body = ['<nav><a href="index.html">the image</a> · <a href="../index.html">the field</a></nav>']
    body.append(_facts(place, found, len(shown)))
    cuts = [f'<img class="cut" loading="lazy" alt="{HEADS} of candidate {row["id"]}" '
            f'src="data:image/webp;base64,{data}">' for row, data in zip(
                shown, _cuts(shown, *planes), strict=True)]  # fmt: skip
    names = [name for name in FIRST if name in found.colnames]
    names += [name for name in found.colnames if name not in (*HIDDEN, *names)]
    body.append(sortable(shown, names, (HEADS, cuts)))
    return fill("{}, epoch {}, candidates".format(*place), table, body)


def _facts(place, found, shown):
    links = " · ".join(f'<a href="{file}">{name}</a>' for file, name in LINKS.items())
    whole = f'<a href="{html.escape(TABLE.format(*place))}">candidates.ecsv</a>'
    clean = int(np.sum(found["clean"]))
    told = "" if shown == len(found) else f", the strongest {shown} of them here"
    meta = found.meta
    verdict = f"verdict of the difference: {html.escape(str(meta.get('verdict', 'unknown')))}"
    return (
        f"<p>{len(found)} candidates above {meta.get('threshold', np.nan):g} sigma{told}, {clean} "
        f"clean; {verdict}. Each row: {HEADS}, all with one stretch; grey has no data. A click on "
        f"a heading sorts. The whole table: {whole}; {links}.</p>"
    )


def _cuts(shown, science, difference, clean):
    """Four tiles beside each other of each candidate, as WebP in base64."""
    images = [canvas.masked_image(plane) for plane in (science, difference, clean)]
    # what was subtracted, whichever image was convolved
    images.insert(1, np.where(canvas.good(difference), science.image - difference.image, np.nan))
    x, y = (canvas.plain(shown[name]) for name in ("x", "y"))
    noise = np.sqrt(np.median(clean.variance[clean.usable])) if clean.usable.any() else 1.0
    for at_x, at_y in zip(x, y, strict=True):
        tiles = np.array([cutout(image, at_x, at_y, SIDE) for image in images])
        yield base64.b64encode(_webp(tiles, float(noise))).decode()


def _webp(tiles, noise):
    """One stretch for all four: linear over the noise, logarithmic above, of either sign."""
    top = max(float(np.nanmax(np.abs(tiles), initial=0)), 10 * noise)
    stretched = np.arcsinh(tiles / (3 * noise)) / np.arcsinh(top / (3 * noise))
    low = np.arcsinh(-min(top, 20 * noise) / (3 * noise)) / np.arcsinh(top / (3 * noise))
    grey = np.clip((stretched - low) / (1 - low), 0, 1)
    rgb = np.repeat((255 * np.nan_to_num(grey)).astype(np.uint8)[..., None], 3, -1)
    rgb[~np.isfinite(tiles)] = 138, 138, 138
    sheet = np.full((SIDE, 4 * (SIDE + GAP) - GAP, 3), 255, np.uint8)
    for number, tile in enumerate(rgb):
        sheet[:, number * (SIDE + GAP) :][:, :SIDE] = tile[::-1]
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="webp", quality=85, method=2)
    return buffer.getvalue()
