"""`ExtendedPsfField`: the PSF from its core to where a power law continues it."""

import dataclasses
from typing import Any

import numpy as np
from astropy.table import QTable

from psflib.loops.render import sample_model
from psflib.psf.extended import on_native, radii, raised_cosine
from psflib.psf.wings.variation import WingVariation

#: A relative error above this says no more than "unknown".
UNKNOWN = 10.0


@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """The wing beyond the data: value·(r/radius)^-slope from `radius` to `reach`, 0 further out.

    Parameters
    ----------
    radius, reach : float
        px; where the data end, and where the extrapolation ends.
    value, value_error : float
        PSF at `radius`, per px².
    slope, slope_error : float
        The error holds the change between two windows of the fit.
    """

    radius: float
    value: float
    slope: float
    value_error: float = 0.0
    slope_error: float = 0.0
    reach: float = np.inf

    def at(self, r):
        """PSF per px² at radius `r` (px, array); meant for r >= `radius`."""
        r = np.asarray(r, float)
        ratio = np.maximum(r, 0.5 * self.radius) / self.radius
        return np.where(r <= self.reach, self.value * ratio**-self.slope, 0.0)

    def relative_error(self, r):
        """Standard error over value at radius `r` (px, array)."""
        ratio = np.maximum(np.asarray(r, float) / self.radius, 1.0)
        start = self.value_error / self.value if self.value > 0 else UNKNOWN
        return np.hypot(start, self.slope_error * np.log(ratio))


@dataclasses.dataclass(frozen=True, eq=False)
class WingShape:
    """What a PSF with a wing is rendered from; the fields are those of `ExtendedPsfField`."""

    core: np.ndarray
    oversample: int
    wing: np.ndarray
    match_radius: float
    feather_width: float


def stamp_of(psf, delta, size) -> np.ndarray:
    """PSF (size, size) of a star at `delta` (row, col) px off the centre pixel.

    The core is sampled from its fine grid, the wing shifted by Catmull-Rom; off both it is 0.

    Parameters
    ----------
    psf : WingShape or ExtendedPsfField
    """
    wing = on_native(psf.wing, 1, size + 4)
    out = (_sampled(wing, 1, *delta) if delta[0] or delta[1] else wing)[2:-2, 2:-2]
    inner = _sampled(psf.core, psf.oversample, *delta)
    box = min(len(inner), size)
    axis = np.arange(box) - box // 2
    radius = np.hypot(axis[:, None] - delta[0], axis - delta[1])
    fade = raised_cosine(radius, psf.match_radius, psf.feather_width)
    middle = slice((size - box) // 2, (size - box) // 2 + box)
    out = np.array(out)
    out[middle, middle] += (1 - fade) * on_native(inner, 1, box)
    return out


@dataclasses.dataclass(frozen=True, eq=False)
class ExtendedPsfField:
    """Core and wing: PSF(r) = f_core(r)·core + wing, f_core the raised cosine at the seam.

    Parameters
    ----------
    core : ndarray (os·s, os·s) float64
        Oversampled core.
    oversample : int
    wing : ndarray (h, h) float64
        Native wing, 0 inside the seam; beyond `radius` (in its corners) the power law.
    match_radius, feather_width : float
        Middle and full width of the seam, px.
    ee_radius : float
        px; the PSF sums to 1 inside, pixels on the circle with their share.
    profile : QTable
        r (px), value (mean of the ring, per px²), error (its standard error, that of the pedestal
        and of the amplitude included), enclosed (sum within r).
    stars : QTable
        id (-1 without a detection), x, y (px), flux, flux_err, background (ADU), centre_err, reach
        (px, half side of its stamp), ok, from_core (its core is not saturated), range ("core",
        "middle" or "outer"), reason (why a bright star is not used, "none" if it is).
    meta : dict
        n_stars; fallback: what the wing lacks and why ('' if nothing); wing: "full" (a picture
        with spikes), "radial" (a smooth profile) or "none" (the core alone); pedestal: where the
        zero of the wing comes from; notes.
    tail : PowerLaw, optional
        What continues the wing beyond the data.
    variation : WingVariation, optional
        How the wing changes over the field, where the stars tell; else it is the same everywhere.
    """

    core: np.ndarray
    oversample: int
    wing: np.ndarray
    match_radius: float
    feather_width: float
    ee_radius: float
    profile: QTable
    stars: QTable
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)
    tail: PowerLaw | None = None
    variation: WingVariation | None = None

    @property
    def radius(self) -> float:
        """Largest radius known from data, px; beyond it the power law is an extrapolation."""
        if self.tail is not None:
            return float(self.tail.radius)
        known = self.wing if self.wing.any() else self.core[:: self.oversample]
        return float(len(known) // 2)

    def at(self, size: int | None = None) -> np.ndarray:
        """PSF (size, size) float64 at the middle of the field, centred; sum 1 within `ee_radius`.

        Raises
        ------
        ValueError
            If `size` is even.
        """
        size = len(self.wing) if size is None else size
        return stamp_of(self._shape(_odd(size), self.core), (0.0, 0.0), size)

    def render(self, x: float, y: float, size: int, core: np.ndarray | None = None) -> np.ndarray:
        """Stamp (size, size) float64 of a star of unit flux at (x, y) px of an image.

        Its centre pixel is (round(y), round(x)); the star lies off it by what was rounded away.

        Parameters
        ----------
        x, y : float
        size : int
            px, odd; may be larger than the wing.
        core : ndarray (os·s, os·s), optional
            Oversampled core at this place (`PsfField.epsf`); scaled to the sum of the stored one.

        Raises
        ------
        ValueError
            If `size` is even.
        """
        core = self.core if core is None else core * (self.core.sum() / core.sum())
        shape, total = self._shape(_odd(size), core), 1.0
        if self.variation is not None:
            factor = self.variation.factor(x, y, radii(shape.wing.shape))
            shape = dataclasses.replace(shape, wing=shape.wing * factor)
            total = self.variation.total(x, y)
        return stamp_of(shape, (y - round(float(y)), x - round(float(x))), size) / total

    def relative_error(self, r) -> np.ndarray:
        """Standard error of the PSF at radius `r` (px, array) over the PSF; at most 10."""
        r = np.asarray(r, float)
        value, error = (np.asarray(self.profile[name], float) for name in ("value", "error"))
        known = np.asarray(getattr(self.profile["r"], "value", self.profile["r"]), float)
        ratio = np.divide(error, value, out=np.full(len(value), UNKNOWN), where=value > 0)
        inside = np.interp(r, known, np.nan_to_num(ratio, nan=UNKNOWN), right=UNKNOWN)
        if self.tail is not None:
            inside = np.where(r > self.tail.radius, self.tail.relative_error(r), inside)
        return np.minimum(inside, UNKNOWN)

    def variance_at(self, size: int | None = None) -> np.ndarray:
        """Variance (size, size) of `at(size)`, per unit flux²: errors of one ring are one error."""
        plane = self.at(size)
        return np.square(self.relative_error(radii(plane.shape)) * plane)

    def _shape(self, size, core):
        return WingShape(
            core, self.oversample, self._wing(size + 4), self.match_radius, self.feather_width
        )

    def _wing(self, size):
        """The wing on (size, size) native pixels, continued by the power law."""
        plane = on_native(self.wing, 1, size)
        if self.tail is None or size <= len(self.wing):
            return plane
        margin = (size - len(self.wing)) // 2
        outside = np.ones(plane.shape, bool)
        outside[margin:-margin, margin:-margin] = False
        return np.where(outside, self.tail.at(radii(plane.shape)), plane)


def _odd(size):
    if size % 2 == 0:
        raise ValueError(f"size must be odd; got {size}")
    return size


def _sampled(model, oversample, d_row, d_col):
    """Native stamp of an oversampled model whose star lies off the centre pixel."""
    size = len(model) // oversample
    out = np.empty((size, size))
    model = np.ascontiguousarray(model, dtype=float)
    sample_model(model, oversample, d_row, d_col, np.empty((size, len(model))), out)
    return out
