"""From a solved wing to an `ExtendedPsfField`: unit energy, profile with errors, power law."""

import dataclasses

import numpy as np
from astropy import units as u
from astropy.table import QTable

from psflib.psf.extended import radii
from psflib.psf.wings.disc import disc, enclosed_energy
from psflib.psf.wings.field import PowerLaw, WingShape, stamp_of
from psflib.psf.wings.solve import rings_of

KNOWN = 3.0  # S/N of a stretch of the profile that is still called known
STRETCH = 0.1  # its half length, of the radius
MODEL_ERROR = 0.003  # relative, of every ring
TAIL_WINDOWS = (0.5, 0.67)  # of the radius: the power law is fitted beyond; twice, for its error
REACH = 4.0  # the power law ends at this many times the radius known
STEEPEST, FLATTEST = 6.0, 1.5  # slopes; flatter would hold infinite light far out
FEWEST_RINGS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Assembled:
    """A wing on the scale of unit energy within `aperture` (px).

    `profile` as in `ExtendedPsfField`, and `known` (within the data); `radius` (px) is the
    largest known; `gain` is the factor that was put on core and wing.
    """

    shape: WingShape
    profile: QTable
    radius: int
    tail: PowerLaw | None
    aperture: float
    gain: float


def assemble(solution, aperture, core_error) -> Assembled:
    """What `solve_wing` found, scaled, with errors at all radii, and continued.

    Parameters
    ----------
    solution : WingSolution
    aperture : float
        px.
    core_error : ndarray (n,)
        Standard error of the core's ring means at 0, 1, ... px, up to the half side of the wing.
    """
    side = len(solution.shape.wing)
    aperture = float(min(aperture, side // 2))
    shape, gain = unit_energy(solution.shape, aperture)
    profile = radial_profile(stamp_of(shape, (0.0, 0.0), side))
    value = np.asarray(profile["value"])
    error = gain * ring_errors(solution, value / gain, core_error)
    radius = known_radius(value, error)
    pedestal = gain * solution.pedestal.error
    tail = fit_tail(value, error, radius, pedestal) if np.isfinite(pedestal) else None
    if tail is not None:
        shape = dataclasses.replace(shape, wing=continue_wing(shape.wing, tail))
        whole = radial_profile(stamp_of(shape, (0.0, 0.0), side))
        profile["value"], profile["enclosed"] = whole["value"], whole["enclosed"]
        r = np.arange(len(value))
        error = np.where(r <= radius, error, tail.relative_error(r) * tail.at(r))
    profile["error"], profile["known"] = error, np.arange(len(value)) <= radius
    return Assembled(shape, profile, radius, tail, aperture, gain)


def radial_profile(plane) -> QTable:
    """Rings of 1 px: r (px), value (mean), error (of the mean, from the scatter), enclosed.

    `enclosed` is the sum within r, pixels on the circle with the share that is inside.
    """
    ring, count, mean = ring_means(plane)
    n = len(mean)
    square = np.bincount(ring, plane.ravel() ** 2)[:n] / count
    scatter = np.sqrt(np.maximum(square - mean**2, 0) / count)
    enclosed = enclosed_energy(plane, np.arange(n))
    return QTable({"r": np.arange(n) * u.pix, "value": mean, "error": scatter,
                   "enclosed": enclosed})  # fmt: skip


def ring_means(plane):
    """Ring of each pixel (h·h,), number of pixels and mean of the rings 0, 1, ... h // 2."""
    ring = np.round(radii(plane.shape)).astype(int).ravel()
    n = plane.shape[0] // 2 + 1
    count = np.bincount(ring)[:n]
    return ring, count, np.bincount(ring, plane.ravel())[:n] / count


def ring_errors(solution, value, core_error):
    """Standard error of each ring mean (n,).

    Noise of the stack, the pedestal, the scale against the core (which the core's own error on
    the seam enters), and 0.3 % for the model; inside the seam, the core's own.
    """
    n = len(value)
    _, _, variance = rings_of(solution.plane)
    noise = np.sqrt(variance[:n])
    wing = np.hypot(noise, solution.pedestal.error)
    at = round(solution.shape.match_radius)
    scale = np.hypot(solution.scale_error, core_error[at] / max(value[at], 1e-300))
    wing = np.hypot(wing, scale * np.abs(value))
    inside = np.arange(n) < solution.shape.match_radius
    return np.hypot(np.where(inside, core_error[:n], wing), MODEL_ERROR * np.abs(value))


def known_radius(value, error) -> int:
    """Largest radius (px) to which the profile is known at S/N 3, over stretches of r(1 ± 0.1)."""
    n = len(value)
    for r in range(2, n):
        near = slice(int(r * (1 - STRETCH)), min(n, int(np.ceil(r * (1 + STRETCH))) + 1))
        if not np.mean(value[near]) > KNOWN * np.mean(error[near]):
            return r - 1
    return n - 1


def fit_tail(value, error, radius, pedestal_error=0.0, reach=None) -> PowerLaw | None:
    """Power law that continues the profile beyond `radius`; None if it cannot be fitted.

    The slope's error holds its change between two windows and with the pedestal; the law is
    joined to the mean level of the outermost rings.
    """
    fits = [_slope(value, error, share * radius, radius) for share in TAIL_WINDOWS]
    if fits[0] is None:
        return None
    level, slope, formal = fits[0]
    change = abs(fits[1][1] - slope) if fits[1] is not None else 0.0
    for sign in (-1, 1):
        moved = _slope(value + sign * pedestal_error, error, TAIL_WINDOWS[0] * radius, radius)
        change = max(change, abs(moved[1] - slope) if moved is not None else abs(slope) / 2)
    slope = float(np.clip(slope, FLATTEST, STEEPEST))
    near = slice(max(int(0.9 * radius), 1), radius + 1)
    r = np.arange(len(value), dtype=float)
    scaled = value[near] * (np.maximum(r[near], 1) / radius) ** slope
    level = float(np.mean(scaled)) if np.mean(scaled) > 0 else level
    level_error = float(np.mean(error[near]))
    return PowerLaw(float(radius), level, slope, level_error, float(np.hypot(formal, change)),
                    float(reach or REACH * radius))  # fmt: skip


def _slope(value, error, first, last):
    """(level at `last`, slope, its error) of log value against log r between two radii."""
    r = np.arange(len(value), dtype=float)
    use = (r >= max(first, 2)) & (r <= last) & (value > error) & (error > 0)
    if use.sum() < FEWEST_RINGS:
        return None
    weight = (value[use] / error[use]) ** 2
    x, y = np.log(r[use] / last), np.log(value[use])
    middle = np.sum(weight * x) / weight.sum()
    norm = np.sum(weight * (x - middle) ** 2)
    slope = np.sum(weight * (x - middle) * y) / norm
    level = np.exp(np.sum(weight * y) / weight.sum() - slope * middle)
    return float(level), float(-slope), float(1 / np.sqrt(norm))


def unit_energy(shape: WingShape, ee_radius) -> tuple[WingShape, float]:
    """The shape scaled to a sum of 1 within `ee_radius`, and the factor."""
    size = 2 * int(np.ceil(ee_radius)) + 3
    plane = stamp_of(shape, (0.0, 0.0), size)
    energy = np.sum(plane * disc(plane.shape, ee_radius))
    gain = 1 / energy if np.isfinite(energy) and energy > 0 else 1.0
    return WingShape(shape.core * gain, shape.oversample, shape.wing * gain, shape.match_radius,
                     shape.feather_width), gain  # fmt: skip


def continue_wing(wing, tail: PowerLaw | None):
    """The wing with the power law where it is not known from data."""
    if tail is None:
        return wing
    radius = radii(wing.shape)
    return np.where(radius > tail.radius, tail.at(radius), wing)


def profile_of(shape: WingShape):
    """Ring means of a PSF as a function of radius (px), in log-log beyond the data."""
    whole = stamp_of(shape, (0.0, 0.0), len(shape.wing))
    _, _, value = ring_means(whole)
    r = np.maximum(np.arange(len(value)), 0.5)
    floor = np.maximum(value, 1e-300)
    slope = np.log(floor[-1] / floor[len(r) // 2]) / np.log(r[-1] / r[len(r) // 2])

    def profile(radius):
        radius = np.maximum(np.asarray(radius, float), 0.5)
        inside = np.exp(np.interp(np.log(radius), np.log(r), np.log(floor)))
        return np.where(radius > r[-1], floor[-1] * (radius / r[-1]) ** min(slope, -1.5), inside)

    return profile
