"""Planes of noise in whatever kind they come, and pixels that were stretched, become plain ones."""

import numpy as np
from astropy.io import fits

from psflib.errors import BadFile

#: Columns that name a plane of noise -> what it holds.
KINDS = {"variance": "variance", "sigma": "sigma", "weight": "inverse variance"}
COLUMN = {kind: column for column, kind in KINDS.items()}


def to_variance(plane: np.ndarray, kind: str, floor: float = 0.0) -> np.ndarray:
    """A plane of noise as variance, (ny, nx) float32, in the square of the pixels' unit.

    Pixels without a positive, finite value get 0, which an `Exposure` takes for no data; so do
    weights below `floor` of the median weight.
    """
    with np.errstate(invalid="ignore", over="ignore", under="ignore", divide="ignore"):
        good = (plane > 0) & np.isfinite(plane)
        if floor and good.any():
            good &= plane >= floor * np.median(plane[good])
        values = np.where(good, plane, 1).astype(np.float64)
        if kind == "sigma":
            values = np.square(values)
        elif kind == "inverse variance":
            values = 1 / values
        return np.where(good, values, 0).astype(np.float32)


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
