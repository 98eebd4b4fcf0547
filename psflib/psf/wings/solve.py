"""Amplitudes, skies, centres and wing of bright stars, solved in turns."""

import dataclasses
import logging

import numpy as np
from scipy import ndimage

from psflib.psf.extended import on_native, radii, raised_cosine
from psflib.psf.wings import gauge, stack
from psflib.psf.wings.field import WingShape
from psflib.psf.wings.smooth import plain_means, radial_shape, smooth_wing
from psflib.psf.wings.stars import fit_halo, mask_neighbours

log = logging.getLogger(__name__)

ROUNDS = 4
FIT_FLOOR = 0.01  # relative error of the model in the fit of a star
FIRST_FLOOR, FIRST_PASSES = 0.05, 6  # of the first fit: its flux may be wrong by a factor
START_SLOPES = (2.0, 3.0)  # of the wing beyond the core, before anything is known of it
FEWEST_FULL = 3  # stars; with fewer the wing is a smooth profile without azimuthal structure


@dataclasses.dataclass(eq=False)
class WingSolution:
    """What `solve_wing` found.

    Parameters
    ----------
    shape : WingShape
        Core and wing on the scale of the core.
    plane : WingPlane
        The stack before it was smoothed, on the same scale.
    pedestal : Pedestal
        The last one set; its shift is what was left to do.
    scale_error : float
        Relative error of the wing's scale against the core.
    radial : bool
        True if the wing has no azimuthal structure.
    """

    shape: WingShape
    plane: stack.WingPlane
    pedestal: gauge.Pedestal
    scale_error: float
    radial: bool


def solve_wing(
    stars, core, oversample, side, *, match_radius, feather_width, fwhm, kappa=3.0,
    pedestal="sky", centre=True, refresh=None, rounds=ROUNDS,
):  # fmt: skip
    """Wing of a list of bright stars.

    Parameters
    ----------
    stars : list of WingStar
        Fitted in place; those that cannot be used get a `reason`.
    core : ndarray (os·s, os·s) float64
        Sum os² within its box.
    oversample : int
    side : int
        Of the wing, px, odd.
    match_radius, feather_width : float
        px.
    fwhm : float
        px.
    kappa : float
        Clipping of the stack, sigma.
    pedestal : {"sky", "power_law"}
    centre : bool
        Fit the centres, too.
    refresh : callable, optional
        refresh(stars, shape) between rounds: takes other stars' light out of `data`, may better
        `sky`.

    Returns
    -------
    WingSolution or None
        None if no star could be used.
    """
    shape = start_shape(core, oversample, side, match_radius, feather_width)
    solution = None
    if refresh is not None:
        refresh(stars, shape)
    for star in stars:
        star.background = np.array([star.sky, 0.0, 0.0])
    for number in range(rounds):
        taking_part = [s for s in stars if s.reason == "" and (number > 0 or s.trusted)]
        if not taking_part:
            taking_part = [s for s in stars if s.reason == ""]
        for star in taking_part:
            _one_star(star, shape, number, centre, fwhm)
        found = _one_wing(stars, shape, side, kappa, pedestal)
        if found is None:
            return solution
        solution, shape = found, found.shape
        if number:
            reject_unlike(stars)
        if refresh is not None and number < rounds - 1:
            refresh(stars, shape)
    return solution


def start_shape(core, oversample, side, match_radius, feather_width) -> WingShape:
    """The core, continued by a power law of its own slope: enough to start from."""
    native = on_native(core, oversample, side)
    radius = radii(native.shape)
    edge = max(min(len(core) // oversample, side) // 2 - 1, 1)
    rings = np.round(radius).astype(int)
    mean, _ = plain_means(native, np.ones(native.shape), rings, rings.max() + 1)
    mean = np.maximum(np.nan_to_num(mean), 1e-12)
    inner = max(int(0.6 * edge), 1)
    slope = START_SLOPES[1]
    if edge > inner:  # else the core, of a star of a pixel's width, has no slope of its own
        slope = -np.log(mean[edge] / mean[inner]) / np.log(edge / inner)
    beyond = mean[edge] * (np.maximum(radius, edge) / edge) ** -np.clip(slope, *START_SLOPES)
    plane = np.where(radius <= edge, native, beyond)
    return bake(plane, core, oversample, match_radius, feather_width)


def bake(plane, core, oversample, match_radius, feather_width) -> WingShape:
    """Core and wing with the seam between them."""
    fade = raised_cosine(radii(plane.shape), match_radius, feather_width)
    return WingShape(core, oversample, plane * fade, match_radius, feather_width)


def _one_star(star, shape, number, centre, fwhm):
    """Fit and mask a star against the present wing."""
    if number == 0:
        star.clean = star.weight
        first_fit(star, shape, centre)
        return
    fit_halo(star, shape, FIT_FLOOR, centre=centre, weight=star.clean)
    if star.reason == "":
        mask_neighbours(star, fwhm, max(4.0, 1.5 * fwhm))


def first_fit(star, shape, centre):
    """Amplitude and centre by the core alone, where the star has pixels in its box; sky held."""
    weight = star.weight
    if star.trusted:
        axis = np.abs(np.arange(len(star.data)) - star.half)
        reach = len(shape.core) // shape.oversample // 2 - 1
        inside = np.maximum(axis[:, None], axis) <= reach
        weight = np.where(inside, weight, 0)
    fit_halo(star, shape, FIRST_FLOOR, centre=centre, sky=False, weight=weight, passes=FIRST_PASSES)


def _one_wing(stars, shape, side, kappa, pedestal):
    """A better wing from the residuals of all stars."""
    used = [s for s in stars if s.ok and s.rest is not None]
    if not used:
        return None
    plane = stack.combine(used, shape, side, kappa)
    factor, scale_error = stack.scale_to_core(plane, shape)
    _rescale(plane, used, factor)
    zero = _set_zero(plane, used, pedestal)
    radial = len(used) < FEWEST_FULL
    smooth = _smoothed(plane, radial)
    if smooth is None:
        return None
    new = bake(smooth, shape.core, shape.oversample, shape.match_radius, shape.feather_width)
    return WingSolution(new, plane, zero, scale_error, radial)


def _rescale(plane, stars, factor):
    """The exact move along the degeneracy of amplitude and wing."""
    plane.value *= factor
    plane.weight /= factor**2
    for star in stars:
        star.flux /= factor
        star.flux_error /= factor


def _set_zero(plane, stars, source):
    """Shift wing and skies so that the wing's zero is right; exact moves, too."""
    zero = gauge.from_sky(stars) if source == "sky" else None
    if zero is None:
        r, mean, variance = rings_of(plane)
        known = plane.weight > 0
        radius = min(len(plane.value) // 2, radii(plane.value.shape)[known].max())
        inside = r <= radius
        zero = gauge.from_power_law(
            r[inside], mean[inside], np.sqrt(variance[inside]), radius
        ) or gauge.Pedestal(0.0, np.inf, "none")
    slope = gauge.level_dipole(stars)
    axis = np.arange(len(plane.value)) - len(plane.value) // 2
    plane.value += zero.shift + slope[0] * axis[:, None] + slope[1] * axis
    for star in stars:
        moved = np.array([zero.shift, *(slope * star.half)])
        star.background = star.background - star.flux * moved
    return zero


def rings_of(plane):
    """Radii 0, 1, ... px, mean of each ring of a `WingPlane` and the variance of the mean."""
    rings = np.round(radii(plane.value.shape)).astype(int)
    n = rings.max() + 1
    variance = plane.variance()
    weight = np.where(np.isfinite(variance), 1 / variance, 0.0)
    mean, error2 = plain_means(plane.value, weight, rings, n)
    return np.arange(n, dtype=float), mean, error2


def _smoothed(plane, radial):
    """The stack without most of its noise; None if it has no light."""
    _, mean, variance = rings_of(plane)
    profile = radial_shape(mean, variance, len(plane.value) // 2)
    if profile is None:
        return None
    return smooth_wing(plane.value, plane.variance(), profile, radial)


MISFIT = 0.3  # of the model's light in a ring, in the median over rings
MISFIT_SIGMA = 10.0
FEWEST_PIXELS = 10  # usable ones, of a ring


def reject_unlike(stars):
    """A galaxy, or a blend, does not have the profile of the others: it gets a reason."""
    for star in stars:
        if not star.ok or star.rest is None:
            continue
        misfit, error = _misfit(star)
        if misfit > MISFIT and misfit > MISFIT_SIGMA * error:
            star.reason = f"profile {100 * misfit:.0f} % off that of the others"


def _misfit(star):
    """Median over rings of |residual|/light, and the error of a ring's; medians of the pixels.

    Of all pixels: what a galaxy has too much might have been masked as neighbours.
    """
    axis = np.arange(len(star.data)) - star.half
    radius = np.hypot(axis[:, None] - star.delta[0], axis - star.delta[1])
    rings = np.round(3 * np.log2(np.maximum(radius, 1.0))).astype(int)
    use = star.weight > 0
    which, light, rest = rings[use], star.light[use], star.rest[use]
    n = which.max(initial=0) + 1
    count = np.bincount(which, minlength=n)
    noise = np.sqrt(np.bincount(which, 1 / star.weight[use], minlength=n)) / np.maximum(count, 1)
    total = np.bincount(which, light, minlength=n) / np.maximum(count, 1)
    bright = np.flatnonzero((count >= FEWEST_PIXELS) & (total > 20 * noise))
    if len(bright) < 3:
        return 0.0, np.inf
    ratio = np.abs(ndimage.median(rest, which, bright) / ndimage.median(light, which, bright))
    return float(np.median(ratio)), float(np.median(noise[bright] / total[bright]))
