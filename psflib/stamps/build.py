"""Cut-outs of single stars, never resampled: an integer window and the recorded offset."""

import dataclasses
import logging
import math
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy.ndimage import uniform_filter
from scipy.spatial import cKDTree

from psflib.errors import NotEnoughStars
from psflib.image.checks import is_positive, require_array, require_count
from psflib.image.exposure import Exposure
from psflib.image.noise import crowded_variance
from psflib.image.weights import weight_variance
from psflib.settings.build_stamps import StampSettings
from psflib.stamps.noise import refine_weight, weigh
from psflib.stars.neighbors import distances, near_others

log = logging.getLogger(__name__)

FWHM_TO_SIGMA = 1 / (2 * math.sqrt(2 * math.log(2)))
MIN_PIXELS = 4  # valid pixels, below which there is no centroid


@dataclasses.dataclass(frozen=True, eq=False)
class StampResult:
    """One star, cut out.

    Parameters
    ----------
    stamp : ndarray (s, s) float64
        Original values; masked pixels keep theirs.
    valid : ndarray (s, s) bool
        Finite, not masked, with a finite positive error if errors were given.
    error : ndarray (s, s) float64 or None
    delta : tuple of float
        Offset (row, col) of the centroid from the centre pixel, in [-0.5, 0.5] px.
    centroid : ndarray (2,) float64
        (row, col) in pixels of the cut-out.
    origin : tuple of int
        (row, col) of the first pixel of the stamp in the cut-out.
    """

    stamp: np.ndarray
    valid: np.ndarray
    error: np.ndarray | None
    delta: tuple[float, float]
    centroid: np.ndarray
    origin: tuple[int, int]


def build_stamp(
    cutout, stamp_size, *, error=None, mask=None, weight_fwhm=3.0, max_iter=10, tol=1e-3
):
    """Centre a star by Gaussian-windowed first moments and cut an integer window about it.

    The median of the outer one-pixel ring is taken as sky for the centroid only; the stamp
    keeps the original values.

    Parameters
    ----------
    cutout : ndarray (h, w) float32 or float64
        Holds the star near its middle, with a margin.
    stamp_size : int
        s, odd, px.
    error : ndarray (h, w) of the dtype of `cutout`, optional
        Standard deviations.
    mask : ndarray (h, w) bool, optional
        True is bad.
    weight_fwhm : float
        FWHM of the window, px.
    max_iter, tol : int, float
        Cap on the passes (at least one is made), and the shift in px that ends them.

    Returns
    -------
    StampResult or None
        None if there is no light to centre on or the window leaves the cut-out.

    Raises
    ------
    ValueError
        For wrong shapes, dtypes, an even or too large `stamp_size`.
    """
    image = require_array("cutout", cutout, 2)
    size = require_count(stamp_size)
    if size % 2 == 0:
        raise ValueError(f"stamp_size must be odd; got {size}")
    if size > min(image.shape):
        raise ValueError(f"stamp_size {size} exceeds the cutout {image.shape}")
    if not is_positive(weight_fwhm):
        raise ValueError(f"weight_fwhm must be finite and > 0; got {weight_fwhm}")
    valid, sigma = _validity(cutout, image, error, mask)
    centroid = _windowed_centroid(image, valid, weight_fwhm, require_count(max_iter), tol)
    if centroid is None:
        return None
    centre = np.copysign(np.floor(np.abs(centroid) + 0.5), centroid).astype(int)
    row, col = (int(c) - size // 2 for c in centre)
    if row < 0 or col < 0 or row + size > image.shape[0] or col + size > image.shape[1]:
        return None
    window = (slice(row, row + size), slice(col, col + size))
    return StampResult(
        image[window].copy(),
        valid[window].copy(),
        None if sigma is None else sigma[window].copy(),
        tuple((centroid - centre).tolist()),
        centroid,
        (row, col),
    )


def _validity(cutout, image, error, mask):
    """Boolean plane of usable pixels, and the errors as float64 (or None)."""
    valid, sigma = np.isfinite(image), None
    if error is not None:
        sigma = require_array("error", error, 2, (cutout.dtype,))
        if sigma.shape != image.shape:
            raise ValueError(f"error shape {sigma.shape} must equal cutout shape {image.shape}")
        valid &= np.isfinite(sigma) & (sigma > 0)
    if mask is not None:
        if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.ndim != 2:
            raise ValueError("mask must be a 2-D numpy array of dtype bool")
        if mask.shape != image.shape:
            raise ValueError(f"mask shape {mask.shape} must equal cutout shape {image.shape}")
        valid &= ~mask
    return valid, sigma


def _windowed_centroid(image, valid, fwhm, max_iter, tol):
    """First moment (row, col) under a Gaussian window that follows it; None if there is none."""
    if valid.sum() < MIN_PIXELS:
        return None
    signal = np.where(valid, np.maximum(image - border_median(image, valid), 0.0), 0.0)
    y, x = np.arange(image.shape[0]), np.arange(image.shape[1])
    centre = np.array([(image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2])
    scale = -0.5 / (fwhm * FWHM_TO_SIGMA) ** 2
    for _ in range(max(max_iter, 1)):
        window = np.outer(
            np.exp(scale * (y - centre[0]) ** 2), np.exp(scale * (x - centre[1]) ** 2)
        )
        weight = signal * window
        total = weight.sum()
        if not total > 0:
            return None
        moved = np.array([weight.sum(axis=1) @ y, weight.sum(axis=0) @ x]) / total
        shift = np.hypot(*(moved - centre))
        centre = moved
        if shift < tol:
            break
    return centre


def border_median(image, valid):
    """Median of the valid pixels of the outer one-pixel ring; 0 if there are none."""
    border = valid.copy()
    border[1:-1, 1:-1] = False
    return float(np.median(image[border])) if border.any() else 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Stamps:
    """Cut-outs of the selected stars.

    Parameters
    ----------
    data : ndarray (n, s, s) float32
        ADU, free of sky, never resampled.
    weight : ndarray (n, s, s) float32
        Inverse variance in ADU⁻², free of the pixels' own noise; 0 at unusable pixels and at
        those with light of other sources.
    table : QTable
        id, x, y (px, centroid), delta_row, delta_col (px, from the centre pixel), row0, col0
        (first pixel of the stamp in the image), reserved (never fitted), snr (of the flux under
        these weights), masked (fraction of pixels of weight 0), sky_variance (ADU², around the
        star), background_err (ADU, standard error of the local sky: the sum over m pixels has an
        error of m·background_err more than its pixels' noise; a fit with a free background holds
        the white part of it already).
    meta : dict
        photon_slope: ADU² of variance per ADU of light, the inverse of the gain.

    Raises
    ------
    ValueError
        If shapes disagree or the stamps are not odd squares.
    """

    data: np.ndarray
    weight: np.ndarray
    table: QTable
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        shape = np.shape(self.data)
        if len(shape) != 3 or shape[1] != shape[2] or shape[1] % 2 == 0:
            raise ValueError(f"data must be (n, s, s) with s odd; got {shape}")
        if np.shape(self.weight) != shape or len(self.table) != shape[0]:
            raise ValueError(
                f"data {shape}, weight {np.shape(self.weight)} and table ({len(self.table)} rows) "
                "disagree"
            )

    @property
    def delta(self) -> np.ndarray:
        """(n, 2) float64: offset (row, col) from the centre pixel, px."""
        return np.column_stack([pixels(self.table[c]) for c in ("delta_row", "delta_col")])

    def weight_under(self, model) -> np.ndarray:
        """Weights (n, s, s) with the photon noise of a better model of the stars' light, ADU.

        The weights as they are hold that of a mean profile.  Stamps that do not know their noise
        (no `photon_slope`) keep theirs.
        """
        if "photon_slope" not in self.meta or "sky_variance" not in self.table.colnames:
            return self.weight
        sky_variance = pixels(self.table["sky_variance"])
        return refine_weight(self.weight, sky_variance, self.meta["photon_slope"], model)


def build_stamps(exposure: Exposure, stars: QTable, settings: StampSettings | None = None):
    """Cut out every selected star, reserved ones included.

    Weights come from a smooth variance, see `psflib.stamps.noise`; pixels are left out where a
    neighbour, in the table or found in the residuals, outshines half the noise.

    Parameters
    ----------
    exposure : Exposure
        Prepared: free of sky, with variance.
    stars : QTable
        From `select_stars`; all its rows are the neighbours to be masked.
    settings : StampSettings, optional

    Returns
    -------
    Stamps

    Raises
    ------
    NotEnoughStars
        If no stamp could be cut.
    """
    settings = settings or StampSettings()
    exposure = exposure.replace(variance=crowded_variance(exposure))
    fwhm = float(stars.meta["fwhm"])
    size = settings.size or stamp_size(fwhm)
    usable = exposure.weight() > 0
    positions = np.column_stack([pixels(stars["y"]), pixels(stars["x"])])
    flux = np.nan_to_num(pixels(stars["flux"]))
    tree = cKDTree(positions)
    cut, rows, others = [], [], []
    for i in np.flatnonzero(stars["selected"]):
        near = np.setdiff1d(tree.query_ball_point(positions[i], size + 2 * fwhm), [i])
        found = cut_star(exposure, usable, positions[i], positions[near], size, fwhm, settings)
        if isinstance(found, str):
            log.info("star %s dropped: %s", stars["id"][i], found)
            continue
        cut.append(found[:3])
        rows.append((stars["id"][i], *found[3:], bool(stars["reserved"][i])))
        ratio = np.maximum(flux[near], 0) / flux[i] if flux[i] > 0 else np.zeros(len(near))
        others.append((positions[near] - found[-2:], ratio))
    if not cut:
        raise NotEnoughStars("stamps", 0, 1)
    data, variance, good = (np.array(planes) for planes in zip(*cut, strict=True))
    table = _table(rows, fwhm)
    return _weighed(data, variance, good, table, others, fwhm, settings)


def _weighed(data, variance, good, table, others, fwhm, settings):
    """The stamps that are left when neighbours are masked, with weights."""
    delta = np.column_stack([pixels(table[c]) for c in ("delta_row", "delta_col")])
    noise = weigh(data, variance, good, delta, others, fwhm)
    size, usable = data.shape[1], noise.weight > 0
    core = [distances((size, size), size // 2 + d) <= 1.5 * fwhm for d in delta]
    share = np.array([v[c].mean() for v, c in zip(usable, core, strict=True)])
    keep = share >= settings.min_valid
    for name in table["id"][~keep]:
        log.info("star %s dropped: too many pixels with other sources' light", name)
    if not keep.any():
        raise NotEnoughStars("stamps", 0, 1)
    table["snr"] = noise.snr
    table["masked"] = 1 - usable.mean(axis=(1, 2))
    table["sky_variance"] = noise.sky_variance * u.adu**2
    table["background_err"] = noise.background_err * u.adu
    data, weight = data[keep].astype(np.float32), noise.weight[keep].astype(np.float32)
    return Stamps(data, weight, table[keep], {"photon_slope": noise.slope})


def stamp_size(fwhm: float) -> int:
    """Odd side of about 10 FWHM, 21 to 61 px."""
    return int(2 * np.clip(round(5 * fwhm), 10, 30) + 1)


def smooth_weight(exposure: Exposure) -> np.ndarray:
    """1 / (`weight_variance` averaged over the usable pixels of 3 × 3) (ny, nx), 0 if unusable."""
    usable = exposure.weight() > 0
    variance = weight_variance(exposure.image, exposure.variance, usable)
    count = uniform_filter(usable.astype(np.float32), 3, mode="nearest")
    total = uniform_filter(np.where(usable, variance, 0), 3, mode="nearest")
    weight = np.zeros(exposure.shape, np.float32)
    np.divide(count, total, out=weight, where=usable & (total > 0))
    return weight


def cut_star(exposure, usable, position, others, size, fwhm, settings):
    """One star: (data, variance, good, y, x, delta_row, delta_col, row0, col0), or why not."""
    middle = np.round(position).astype(int)
    room = min(*middle, *(np.array(exposure.shape) - 1 - middle))
    margin = min(size // 2 + 3, room)  # the star stays in the middle, where the centroid starts
    if margin < size // 2:
        return "stamp off the image"
    top, left = middle - margin
    box = (slice(top, top + 2 * margin + 1), slice(left, left + 2 * margin + 1))
    image, good, centre = exposure.image[box], usable[box].copy(), position - (top, left)
    radius = settings.neighbor_radius * fwhm
    good &= ~near_others(image.shape, centre, others - (top, left), radius)
    if good[distances(image.shape, centre) <= 1.5 * fwhm].mean() < settings.min_valid:
        return "too many unusable pixels"
    whole, seen = mirrored(image, good, centre)
    found = build_stamp(whole, size, mask=~seen, weight_fwhm=max(fwhm, 2.0))
    if found is None:
        return "stamp off the image, or no light to centre on"
    if np.hypot(*(found.centroid - centre)) > fwhm:
        return "centroid away from the detection"
    row, col = top + found.origin[0], left + found.origin[1]
    y, x = found.centroid + np.array([top, left])
    window = exposure.variance[row : row + size, col : col + size].astype(float)
    top, left = found.origin
    valid = good[top : top + size, left : left + size] & found.valid
    return found.stamp, window, valid, y, x, *found.delta, row, col


def mirrored(image, good, centre):
    """The image with bad pixels replaced by what stands opposite the centre, and what is known.

    For centroids: a star without the pixel on one side of its core seems to be on the other.
    """
    y, x = np.nonzero(~good)
    opposite = np.round(2 * np.asarray(centre) - np.column_stack([y, x])).astype(int)
    inside = ((opposite >= 0) & (opposite < image.shape)).all(axis=1)
    y, x, (rows, cols) = y[inside], x[inside], opposite[inside].T
    known = good[rows, cols]
    whole, seen = image.copy(), good.copy()
    whole[y[known], x[known]] = image[rows[known], cols[known]]
    seen[y[known], x[known]] = True
    return whole, seen


def pixels(column) -> np.ndarray:
    """A column with or without unit as plain float64 px."""
    return np.asarray(getattr(column, "value", column), float)


def _table(rows, fwhm):
    names = ("id", "y", "x", "delta_row", "delta_col", "row0", "col0", "reserved")
    table = QTable(rows=rows, names=names)
    for name in ("y", "x", "delta_row", "delta_col"):
        table[name] = table[name] * u.pix
    table.meta["fwhm"] = fwhm
    return table["id", "x", "y", "delta_row", "delta_col", "row0", "col0", "reserved"]
