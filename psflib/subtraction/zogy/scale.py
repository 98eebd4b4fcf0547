"""What lists of objects tell before the fit: the flux scale, and where to look."""

import logging

import numpy as np
from scipy import spatial

from psflib.image.noise import robust_std

log = logging.getLogger(__name__)

LEAST_MATCHES = 6
NEAR = 0.5  # FWHM, within which two detections are one object
REGION = 2.0  # FWHM, radius of the good region around an object
BRIGHT = 0.01  # share of the pixels that count as bright


def columns_of(name, table) -> dict[str, np.ndarray]:
    """x, y and flux of the unflagged objects with positive flux.

    table : Table with columns x, y, one of flux and mag, and flags if there are any.
    """
    known = set(getattr(table, "colnames", table.keys()))
    if not {"x", "y"} <= known or not {"flux", "mag"} & known:
        raise ValueError(f"{name} needs columns x, y and flux or mag; got {sorted(known)}")
    x, y = (_plain(table[c]) for c in ("x", "y"))
    flux = _plain(table["flux"]) if "flux" in known else 10 ** (-0.4 * _plain(table["mag"]))
    good = np.isfinite(x) & np.isfinite(y) & np.isfinite(flux) & (flux > 0)
    if "flags" in known:
        good &= _plain(table["flags"]) == 0
    return {"x": x[good], "y": y[good], "flux": flux[good]}


def _plain(column):
    values = np.ma.asarray(getattr(column, "value", column)).astype(float)
    return np.ma.filled(values, np.nan)


def scale_of_objects(image_obj, template_obj, fwhm: float) -> float | None:
    """Template flux over science flux of the same objects; None if fewer than 6 are in both.

    Median of the ratio, without what is beyond 3 robust standard deviations in magnitudes.
    """
    one, two = columns_of("image_obj", image_obj), columns_of("template_obj", template_obj)
    if not len(one["x"]) or not len(two["x"]):
        return None
    tree = spatial.cKDTree(np.c_[two["x"], two["y"]])
    distance, which = tree.query(np.c_[one["x"], one["y"]], distance_upper_bound=NEAR * fwhm)
    near = np.isfinite(distance)
    if near.sum() < LEAST_MATCHES:
        return None
    offset = np.log(two["flux"][which[near]] / one["flux"][near])
    spread = max(robust_std(offset), 1e-6)
    return float(np.exp(np.mean(offset[np.abs(offset - np.median(offset)) <= 3 * spread])))


def scale_of_pixels(science, template) -> float | None:
    """Template counts over science counts of the pixels that are bright in both, or None.

    science, template : Exposure without sky
    """
    usable = science.usable & template.usable
    total = science.image / np.sqrt(_typical(science)) + template.image / np.sqrt(
        _typical(template)
    )
    if usable.sum() < 100:
        return None
    bright = usable & (total > np.quantile(total[usable][::3], 1 - BRIGHT)) & (total > 10)
    one, two = science.image[bright].sum(dtype=float), template.image[bright].sum(dtype=float)
    return float(two / one) if bright.sum() >= LEAST_MATCHES and min(one, two) > 0 else None


def _typical(exposure):
    return np.median(exposure.variance[exposure.usable][::7])


def regions_of_objects(objects, shape, fwhm: float) -> np.ndarray:
    """True within 2 FWHM of an unflagged object, (ny, nx)."""
    table, (ny, nx) = columns_of("image_obj", objects), shape
    good = np.zeros(shape, bool)
    radius = REGION * fwhm
    for x, y in zip(table["x"], table["y"], strict=True):
        rows = slice(max(int(y - radius), 0), max(int(y + radius) + 2, 0))
        cols = slice(max(int(x - radius), 0), max(int(x + radius) + 2, 0))
        j, i = np.ogrid[rows, cols]
        j, i = j[: max(ny - rows.start, 0)], i[:, : max(nx - cols.start, 0)]
        if j.size and i.size:
            good[rows, cols] |= np.hypot(j - y, i - x) <= radius
    return good
