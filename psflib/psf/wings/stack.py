"""One plane from the halos of many stars: robust combination and the scale of the core."""

import dataclasses

import numpy as np

from psflib.loops.wings import combine_halos
from psflib.psf.extended import on_native, radii
from psflib.psf.wings.field import stamp_of

FLOOR = 0.003  # relative error of the model in the weight of a sample
ROUNDS = 4
BAND = 16  # rows at a time, to bound the memory
CORE_FLOOR = 0.01  # relative error of core and wing where one is scaled to the other


@dataclasses.dataclass(eq=False)
class WingPlane:
    """The stack: value (h, h), its weight (inverse variance), number of stars, spread in sigma."""

    value: np.ndarray
    weight: np.ndarray
    count: np.ndarray
    spread: np.ndarray

    def variance(self):
        """Variance of each pixel, inf where nothing is known; by the scatter if that is larger."""
        out = np.full(self.value.shape, np.inf)
        known = self.weight > 0
        out[known] = self.spread[known] ** 2 / self.weight[known]
        return out


def combine(stars, psf, side, kappa) -> WingPlane:
    """Stack (side, side) of all stars.

    A sample is (data - sky - a·P(x - δ))/a + P(x): the shift acts on the model alone, data and
    noise are never resampled.  Its weight is a²/variance with a model floor.
    """
    middle = stamp_of(psf, (0.0, 0.0), side)
    planes = [np.full((side, side), np.nan), *(np.zeros((side, side)) for _ in range(3))]
    stars = [star for star in stars if star.ok and star.rest is not None]
    for top in range(0, side, BAND):
        rows = range(top, min(top + BAND, side))
        stack, weight = _samples(stars, middle, rows, side)
        if len(stack):
            flat = [plane[rows.start : rows.stop].reshape(-1) for plane in planes]
            combine_halos(stack, weight, kappa, ROUNDS, *flat)
    return WingPlane(*planes)


def _samples(stars, middle, rows, side):
    """Samples and weights (star, pixel) of some rows of the plane."""
    half = side // 2
    stack, weights = [], []
    for star in stars:
        reach = min(star.half, half)
        first, last = max(rows.start, half - reach), min(rows.stop, half + reach + 1)
        if first >= last:
            continue
        value = np.zeros((len(rows), side))
        weight = np.zeros((len(rows), side))
        own = slice(first - half + star.half, last - half + star.half)
        columns = slice(star.half - reach, star.half + reach + 1)
        put = (slice(first - rows.start, last - rows.start), slice(half - reach, half + reach + 1))
        inside = (slice(first, last), slice(half - reach, half + reach + 1))
        value[put] = star.rest[own, columns] / star.flux + middle[inside]
        w = star.clean[own, columns].astype(float)
        weight[put] = star.flux**2 * w / (1 + w * (FLOOR * star.flux * middle[inside]) ** 2)
        stack.append(value.ravel())
        weights.append(weight.ravel())
    return np.array(stack), np.array(weights)


def scale_to_core(plane: WingPlane, psf) -> tuple[float, float]:
    """Factor that makes the stack equal the core on the seam, and its relative error.

    Least squares over the pixels of the seam, with a floor of 1 %.
    """
    core = on_native(psf.core, psf.oversample, len(plane.value))
    radius = radii(plane.value.shape)
    ring = np.abs(radius - psf.match_radius) <= 0.5 * psf.feather_width
    ring &= plane.weight > 0
    if not ring.any():
        return 1.0, np.inf
    value, target = plane.value[ring], core[ring]
    weight = 1 / (plane.variance()[ring] + (CORE_FLOOR * target) ** 2)
    norm = np.sum(weight * value * target)
    if not norm > 0:
        return 1.0, np.inf
    factor = norm / np.sum(weight * value**2)
    misfit = np.sum(weight * (factor * value - target) ** 2) / max(ring.sum() - 1, 1)
    return float(factor), float(np.sqrt(max(misfit, 1.0) / np.sum(weight * target**2)))
