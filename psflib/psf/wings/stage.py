"""Stage `extended_psf`: the core PSF continued into its wings by bright stars."""

import dataclasses
import logging

import numpy as np
from astropy.table import QTable

from psflib.image.exposure import Exposure
from psflib.psf.core.field import PsfField
from psflib.psf.extended import on_native
from psflib.psf.wings import bright_stars
from psflib.psf.wings.field import ExtendedPsfField
from psflib.psf.wings.follow import wing_variation
from psflib.psf.wings.image import HaloFreeImage
from psflib.psf.wings.result import assemble, profile_of, radial_profile
from psflib.psf.wings.solve import rings_of, solve_wing, start_shape
from psflib.psf.wings.stack import combine
from psflib.settings.extended_psf import ExtendedSettings
from psflib.stamps.build import smooth_weight

__all__ = ["ExtendedPsfField", "ExtendedSettings", "extended_psf", "radial_profile"]

log = logging.getLogger(__name__)

LARGEST = 601  # px, side of the wing unless the settings say more
RANGES = ("core", "middle", "outer")
RANGE_KAPPA = 3.0  # clipping of the stacks of single ranges, which are for the eye
LISTED = 30  # rejected stars that the product tells of, the brightest


def extended_psf(
    exposure: Exposure, stars: QTable, psf: PsfField, settings: ExtendedSettings | None = None
) -> ExtendedPsfField:
    """Wing of the PSF from bright stars, saturated ones included, joined to the core.

    Amplitudes, sky planes and centres of the stars and the profile are solved in turns; every
    star's stamp is free of the others' haloes; the zero is set by the sky outside all haloes.

    Parameters
    ----------
    exposure : Exposure
        Prepared: free of sky, with variance.
    stars : QTable
        From `select_stars`.
    psf : PsfField
        Gives the core, at the middle of the image.
    settings : ExtendedSettings, optional

    Returns
    -------
    ExtendedPsfField
        With one or two bright stars a smooth radial wing, without any the core alone: see
        meta['wing'] and meta['fallback'].

    Raises
    ------
    ValueError
        If `match_radius` or `ee_radius` do not fit into core and wing.
    """
    settings = settings or ExtendedSettings()
    core, fwhm = psf.epsf(*psf.centre), psf.fwhm()
    most = largest_side(exposure.shape, psf.size, settings)
    match, feather, aperture = seam(psf.size, most, fwhm, settings)
    start = start_shape(core, psf.oversample, most, match, feather)
    profile = profile_of(start)
    found = bright_stars.candidates(exposure, stars, profile, fwhm, settings.min_snr, psf.size // 2)
    chosen = bright_stars.choose(found, exposure.shape, profile, fwhm, match, settings.most_stars)
    rejected = [star for star in found if star.reason][:LISTED]
    halves = _halves(exposure, chosen, profile, psf.size, aperture, most)
    image = HaloFreeImage(exposure, smooth_weight(exposure), fwhm)
    used = bright_stars.cut_stars(
        exposure,
        image.weight,
        stars,
        chosen,
        profile,
        fwhm,
        match,
        halves,
        settings.neighbor_radius,
    )
    for star in used:
        star.trusted = _core_reaches(star, psf.size)
    solution, failure = None, ""
    if any(star.reason == "" for star in used):
        side = 2 * max(halves) + 1
        solution, failure = _solved(
            used, core, psf.oversample, side, match_radius=match, feather_width=feather,
            fwhm=fwhm, kappa=settings.combine_kappa, refresh=image.refresh,
            pedestal=settings.pedestal,
        )  # fmt: skip
    if solution is None:
        reason = failure or _why_none(used, rejected)
        table = bright_stars.star_table(stars, used, rejected, 1.0)
        return core_only(core, psf.oversample, most, aperture, table, reason)
    return _field(solution, used, rejected, stars, psf, aperture, exposure.shape)


def _solved(used, *arguments, **options):
    """The solution, or None and why its equations have none: then the core stands alone."""
    try:
        solution = solve_wing(used, *arguments, **options)
    except np.linalg.LinAlgError as error:
        return None, f"the equations of the wing have no solution ({error}), {_tally(used)}"
    if solution is not None and not np.isfinite(solution.shape.wing).all():
        return None, f"the wing is not finite, {_tally(used)}"
    return solution, ""


def _tally(used):
    return f"{sum(star.ok for star in used)} of {len(used)} bright stars fitted"


def largest_side(shape, core_size, settings) -> int:
    """Largest side of the wing: a third of the image, not less than the core."""
    size = min(settings.size or LARGEST, max(min(shape) // 3, core_size))
    return int(size - 1 + size % 2)


def seam(core_size, size, fwhm, settings):
    """Match radius, feather width and aperture, px.

    Raises
    ------
    ValueError
        If radii of the settings do not fit.
    """
    half = min(core_size, size) // 2
    match = settings.match_radius or min(2.3 * fwhm, 0.75 * (half - 1))
    feather = 0.4 * match
    aperture = settings.ee_radius or min(max(6 * fwhm, 15.0), size // 2)
    if match + feather / 2 > half or aperture > size // 2:
        raise ValueError(
            f"the radii do not fit: match_radius {match:g} px with a seam to "
            f"{match + feather / 2:g} px in a core of half side {half} px, ee_radius "
            f"{aperture:g} px in a wing of half side {size // 2} px"
        )
    return float(match), float(feather), float(aperture)


def _halves(exposure, chosen, profile, core_size, aperture, most):
    """Half side of each stamp: to the noise, and all together not too many pixels."""
    good = exposure.usable
    sigma = float(np.sqrt(np.median(exposure.variance[good]))) if good.any() else 1.0
    least = min(max(core_size // 2 + 5, int(np.ceil(1.3 * aperture))), most // 2)
    halves = [bright_stars.reach_of(star.flux, profile, sigma, least, most // 2) for star in chosen]
    while sum((2 * half + 1) ** 2 for half in halves) > bright_stars.PIXELS:
        # the fainter of those that reach far lose least
        halves = [max(least, int(0.9 * h)) if k >= 3 else h for k, h in enumerate(halves)]
        if all(half == least for half in halves[3:]):
            break
    return halves


def _core_reaches(star, core_size):
    """True if the star has enough usable pixels within the core's box."""
    reach = core_size // 2 - 1
    middle = slice(star.half - reach, star.half + reach + 1)
    return np.mean(star.weight[middle, middle] > 0) > 0.25


def _field(solution, used, rejected, stars, psf, aperture, image_shape):
    """The product: unit energy, errors, power law beyond the data, change over the field."""
    middle, variation = wing_variation(used, solution.shape, psf, image_shape, aperture)
    solution = dataclasses.replace(solution, shape=middle)
    n = len(solution.shape.wing) // 2 + 1
    made = assemble(solution, aperture, core_errors(psf, n))
    for name in RANGES:
        made.profile[f"value_{name}"] = made.gain * range_profile(used, name, solution.shape, n)
    number = sum(star.ok for star in used)
    log.info("wing from %d stars, known to %d px of %d", number, made.radius, n - 1)
    shape = made.shape
    return ExtendedPsfField(
        shape.core, shape.oversample, shape.wing, shape.match_radius, shape.feather_width,
        made.aperture, made.profile, bright_stars.star_table(stars, used, rejected, made.gain),
        _meta(solution, used, made, psf.fwhm(), variation), made.tail, variation,
    )  # fmt: skip


def range_profile(stars, name, shape, n):
    """Ring means (n,) of the stack of one range alone; nan where it has no pixels."""
    own = [star for star in stars if star.ok and star.range == name]
    if not own:
        return np.full(n, np.nan)
    side = 2 * max(star.half for star in own) + 1
    side = min(side, len(shape.wing))
    _, mean, _ = rings_of(combine(own, shape, side, RANGE_KAPPA))
    out = np.full(n, np.nan)
    out[: side // 2 + 1] = mean[: side // 2 + 1]
    return out


def core_errors(psf, n):
    """Standard error of the core's ring means (n,), pixels taken as one: the upper limit."""
    if psf.error is None:
        return np.zeros(n)
    native = on_native(psf.error, psf.oversample, 2 * n - 1)
    return np.asarray(radial_profile(native)["value"])


def _meta(solution, used, made, fwhm, variation):
    number = sum(star.ok for star in used)
    source, tail = solution.pedestal.source, made.tail
    notes = [f"wing from {number} bright stars, known to {made.radius} px"]
    if tail is not None:
        notes.append(
            f"beyond {made.radius} px a power law of slope -{tail.slope:.2f} +- "
            f"{tail.slope_error:.2f} (extrapolated)"
        )
    if source != "sky":
        notes.append(f"zero of the wing from a {source}: no sky outside the haloes was used")
    if variation is not None:
        notes.append(
            "over half the field the wing changes by "
            + ", ".join(
                f"{100 * np.hypot(*slope):.0f} +- {100 * np.max(error):.0f} % at {r:.0f} px"
                for r, slope, error in zip(
                    variation.radii, variation.slopes, variation.errors, strict=True
                )
                if slope.any()
            )
        )
    fallback = f"smooth radial wing: only {number} bright stars" if solution.radial else ""
    if fallback:
        notes.append(fallback)
        log.warning(fallback)
    ranges = {name: sum(s.ok and s.range == name for s in used)
              for name in RANGES}  # fmt: skip
    return {
        "n_stars": number, "fallback": fallback, "wing": "radial" if solution.radial else "full",
        "fwhm": fwhm, "pedestal": source,
        "pedestal_error": float(made.gain * solution.pedestal.error),
        "scale_error": float(solution.scale_error), "ranges": ranges, "notes": notes,
        "known_radius": int(made.radius),
    }  # fmt: skip


def _why_none(used, rejected):
    """Why there is no wing, with the commonest reasons."""
    reasons = [star.reason for star in (*used, *rejected) if star.reason]
    counts = {text: reasons.count(text) for text in dict.fromkeys(reasons)}
    told = ", ".join(f"{n} {text}" for text, n in sorted(counts.items(), key=lambda c: -c[1])[:3])
    return "0 bright stars" + (f" ({told})" if told else "")


def core_only(core, oversample, size, aperture, table, reason) -> ExtendedPsfField:
    """The core as an extended PSF without wing, unit sum."""
    log.warning("no wing: %s", reason)
    wing = np.zeros((size, size))
    radius = float(size)  # no seam: f_core is 1 everywhere
    native = on_native(core, oversample, size)
    core = core / native.sum()
    profile = radial_profile(native / native.sum())
    meta = {"n_stars": 0, "fallback": reason, "wing": "none", "notes": [f"no wing: {reason}"]}
    return ExtendedPsfField(
        core, oversample, wing, radius, 0.5, size // 2 * 1.0, profile, table, meta
    )
