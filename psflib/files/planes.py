"""Planes of noise in whatever kind they come, and pixels that were stretched, become plain ones."""

import numpy as np
from astropy.io import fits
from scipy import ndimage

from psflib.errors import BadFile

FLOOR = 1e-4  # of the median weight: whatever made it, it is no measurement
SPIKE = 30.0  # no flat field, vignetting or coverage changes so much from one pixel to the next

#: Columns that name a plane of noise -> what it holds.
KINDS = {"variance": "variance", "sigma": "sigma", "weight": "inverse variance"}
COLUMN = {kind: column for column, kind in KINDS.items()}


def to_variance(
    plane: np.ndarray, kind: str, floor: float = 0.0, image: np.ndarray | None = None
) -> tuple[np.ndarray, list[str]]:
    """A plane of noise as variance, in the square of the pixels' unit.

    Pixels without a positive, finite value get 0, which an `Exposure` takes for no data.  So do
    weights below `floor` of the median weight, except in bright pixels of `image`, whose own
    photons lower them; and single pixels whose weight is absurd beside their neighbours': a
    weight 1e5 times too large would make one pixel rule a whole fit.

    Returns
    -------
    variance : ndarray (ny, nx) float32
    notes : list of str
    """
    with np.errstate(invalid="ignore", over="ignore", under="ignore", divide="ignore"):
        good = (plane > 0) & np.isfinite(plane)
        if not good.any():
            return np.zeros(plane.shape, np.float32), []
        values = np.where(good, plane, 1).astype(np.float64)
        power = {"variance": -1, "sigma": -2, "inverse variance": 1}[kind]
        weight = np.where(good, values**power, 0)
        median = np.median(weight[good])
        low = good & (weight < max(floor, FLOOR) * median)
        if floor > FLOOR and image is not None:
            bright = image - np.median(image[good]) > 5 / np.sqrt(median)
            low &= ~bright | (weight < FLOOR * median)
        absurd = _spikes(weight, good, median)
        good &= ~low & ~absurd
        variance = np.where(good, 1 / np.where(good, weight, 1), 0).astype(np.float32)
    notes = [
        f"noise plane: {int(wrong.sum())} pixels count as no data, their weight is {why}"
        for wrong, why in (
            (low, f"below {max(floor, FLOOR):g} of the median"),
            (absurd, f"more than {SPIKE:g} times that of their neighbours"),
        )
        if wrong.any()
    ]
    return variance, notes


def _spikes(weight, good, median):
    """One or two pixels of absurd weight; deep parts of a mosaic are areas, and stay."""
    spikes = np.zeros(good.shape, bool)
    y, x = np.nonzero(good & (weight > SPIKE * median))
    if len(y) > 0.01 * good.size:  # a deep area: the loop below would take longer than this
        third = ndimage.rank_filter(weight, -3, 3, mode="nearest")
        return good & (weight > SPIKE * third)
    for row, column in zip(y, x, strict=True):
        box = np.s_[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        third = np.sort(weight[box], axis=None)[-3]
        spikes[row, column] = weight[row, column] > SPIKE * third
    return spikes


def _asinh(plane, header, path):
    """Pan-STARRS: value = BOFFSET + 2 BSOFTEN sinh(v / (2.5 log10 e)).

    Source: Waters et al. 2020, ApJS 251, 4, section on compression; the header's own comments.
    """
    missing = [key for key in ("BSOFTEN", "BOFFSET") if key not in header]
    if missing:
        raise BadFile(
            path, f"has no {' and no '.join(missing)}, so its stretch cannot be undone",
            "Take the file as the survey gives it, or name another `format`",
        )  # fmt: skip
    softening, offset = float(header["BSOFTEN"]), float(header["BOFFSET"])
    with np.errstate(over="ignore", invalid="ignore"):  # beyond any number: no data
        plain = np.sinh(plane.astype(np.float64) / (2.5 * np.log10(np.e)))
        return (offset + 2 * softening * plain).astype(np.float32)


_STRETCHES = {"asinh": _asinh}


def undo_stretch(plane: np.ndarray, stretch: str | None, header: fits.Header, path) -> np.ndarray:
    """Linear pixels of a stretched plane; unchanged if `stretch` is None.

    Raises
    ------
    BadFile
        If the header lacks the numbers of the stretch.
    """
    return plane if stretch is None else _STRETCHES[stretch](plane, header, path)
