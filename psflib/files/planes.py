"""Planes of noise in whatever kind they come, and pixels that were stretched, become plain ones."""

import numpy as np
from astropy.io import fits

from psflib.errors import BadFile
from psflib.image.exposure import HELD

FLOOR = 1e-5  # of the median weight: a full well above a dark sky is brighter by less

#: Columns that name a plane of noise -> what it holds.
KINDS = {"variance": "variance", "sigma": "sigma", "weight": "inverse variance"}
COLUMN = {kind: column for column, kind in KINDS.items()}


def to_variance(
    plane: np.ndarray, kind: str, floor: float = 0.0, image: np.ndarray | None = None
) -> tuple[np.ndarray, list[str]]:
    """A plane of noise as variance, in the square of the pixels' unit.

    Pixels without a positive, finite value get 0, which an `Exposure` takes for no data.  So do
    weights below `floor` of the median weight, except in bright pixels of `image`, whose own
    photons lower them.

    Returns
    -------
    variance : ndarray (ny, nx) float32, or float64 of pixels as small as 1e-20
    notes : list of str
    """
    with np.errstate(invalid="ignore", over="ignore", under="ignore", divide="ignore"):
        good = (plane > 0) & np.isfinite(plane)
        if not good.any():
            return np.zeros(plane.shape, np.float32), []
        values = np.where(good, plane, 1).astype(np.float64)
        power = {"variance": -1, "sigma": -2, "inverse variance": 1}[kind]
        weight = np.where(good, values**power, 0)
        median = _median(weight[good])
        low = good & (weight < max(floor, FLOOR) * median)
        if floor > FLOOR and image is not None:
            bright = image - _median(image[good]) > 5 / np.sqrt(median)
            low &= ~bright | (weight < FLOOR * median)
        good &= ~low
        variance = np.where(good, 1 / np.where(good, weight, 1), 0)
        if HELD[0] ** 2 < 1 / median < HELD[1] ** 2:  # an `Exposure` rescales what is beyond
            variance = variance.astype(np.float32)
    if not low.any():
        return variance, []
    return variance, [
        f"noise plane: {int(low.sum())} pixels count as no data, their weight is below "
        f"{max(floor, FLOOR):g} of the median"
    ]


def _median(values):
    """Of some 100,000 of them: a floor needs no more."""
    return float(np.median(values[:: max(1, len(values) // 100_000)]))


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
