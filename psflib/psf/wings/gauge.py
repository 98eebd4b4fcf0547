"""The zero of the wing.

With a free sky per star, the wing P + c with the skies b - a·c fits exactly as well: stamps alone
know nothing of c.  Something outside must tell: the sky far from all haloes (the default), or a
power law, which a break or a ghost in the wing fools.
"""

import dataclasses

import numpy as np

POWER_LAW_INNER = (0.35, 0.5)  # of the radius: two windows, whose difference is a systematic
FEWEST_RINGS = 8


@dataclasses.dataclass(frozen=True)
class Pedestal:
    """What the zero of the wing was set by: shift and its standard error, per px²."""

    shift: float
    error: float
    source: str  # "sky" or "power law"


def from_sky(stars) -> Pedestal | None:
    """Shift c that makes the stars' own skies those of the surroundings; None without any.

    c = Σ a (b - sky)/s² / Σ a²/s², s the error of both skies as far as it differs from star to
    star.  A shift changes the light of all stars at the place of one, not only its own: a stands
    for the sum of these, or turns of haloes and zero would overshoot where haloes overlap.  If the
    differences scatter by more than s, the error grows with them; an error that all skies have in
    common is carried along.
    """
    used = [s for s in stars if s.ok and np.isfinite(s.sky_error) and s.sky_error > 0]
    if not used:
        return None
    flux = np.array([s.flux * s.crowding for s in used])
    excess = np.array([s.background[0] - s.sky for s in used])
    weight = 1 / np.array([s.sky_error**2 + s.background_error**2 for s in used])
    common = np.array([s.sky_common for s in used])
    norm = np.sum(flux**2 * weight)
    shift = np.sum(flux * excess * weight) / norm
    chi2 = np.sum(weight * (excess - flux * shift) ** 2) / max(len(used) - 1, 1)
    shared = np.sum(flux * common * weight) / norm
    return Pedestal(float(shift), float(np.hypot(np.sqrt(max(chi2, 1.0) / norm), shared)), "sky")


def from_power_law(r, value, error, radius) -> Pedestal | None:
    """Shift that makes the rings r (px) of the outer part a power law; None if there are too few.

    The error holds the change between two windows of the fit; a break inside the window is
    under-stated by it all the same.
    """
    fits = [_power_law_and_constant(r, value, error, share * radius) for share in POWER_LAW_INNER]
    if fits[0] is None:
        return None
    shift, formal = fits[0]
    change = abs(fits[1][0] - shift) if fits[1] is not None else abs(shift)
    return Pedestal(float(shift), float(np.hypot(formal, change)), "power law")


def _power_law_and_constant(r, value, error, inner):
    """(c, its error) of value + c = A·r^-n over the rings beyond `inner`."""
    use = (r >= inner) & np.isfinite(value) & np.isfinite(error) & (error > 0)
    if use.sum() < FEWEST_RINGS:
        return None
    r, value, weight = r[use], value[use], 1 / error[use] ** 2
    best = None
    for slope in np.arange(1.0, 5.01, 0.05):
        design = np.stack([(r / inner) ** -slope, -np.ones(len(r))])
        matrix = (design * weight) @ design.T
        solved = np.linalg.solve(matrix, design @ (weight * value))
        chi2 = np.sum(weight * (value - solved @ design) ** 2)
        if solved[0] > 0 and (best is None or chi2 < best[0]):
            best = chi2, solved[1], np.linalg.inv(matrix)[1, 1], slope
    if best is None:
        return None
    chi2, shift, variance, slope = best
    # the slope is free, too: its part of the error from the neighbouring one
    design = np.stack([(r / inner) ** -(slope + 0.05), -np.ones(len(r))])
    matrix = (design * weight) @ design.T
    other = np.linalg.solve(matrix, design @ (weight * value))
    rise = np.sum(weight * (value - other @ design) ** 2) - chi2
    slope_part = abs(other[1] - shift) / np.sqrt(max(rise, 1e-3)) if rise > 0 else abs(shift)
    grow = max(1.0, chi2 / max(len(r) - 3, 1))
    return shift, np.sqrt(grow * (variance + slope_part**2))


def level_dipole(stars) -> np.ndarray:
    """Slopes (row, col), per px, that the wing would have to lose for the skies' slopes to be
    independent of the flux (regression through the stars' own mean).
    """
    used = [s for s in stars if s.ok]
    if len(used) < 5:
        return np.zeros(2)
    flux = np.array([s.flux for s in used])
    slopes = np.array([s.background[1:] / s.half for s in used])
    weight = np.array([(s.half / s.background_error) ** 2 for s in used])
    mean = np.sum(weight * flux) / weight.sum()
    centred = flux - mean
    return (weight * centred) @ slopes / max(np.sum(weight * centred**2), 1e-300)
