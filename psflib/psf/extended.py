"""Extended PSF: an oversampled core and a native wing, joined at a seam.

The PSF at radius r is f_core(r)·core + wing with the raised cosine f_core = 1 - f_wing; the
stored wing already holds f_wing and the scale that matches it to the core at the seam.
"""

import dataclasses
import functools

import numpy as np

from psflib.image.checks import is_positive, require_array, require_model, require_weight
from psflib.loops.sample import sample_grid
from psflib.psf.combine import require_combine, robust_combine
from psflib.psf.flux import solve_flux_background

N_ANGLES = 720  # samples around the seam


@dataclasses.dataclass(frozen=True, eq=False)
class ExtendedPsf:
    """A core and a wing on two grids.

    Parameters
    ----------
    core : ndarray (os·s, os·s) float64
        Oversampled core, not feathered.
    wing : ndarray (h, h) float64
        Native wing: matched to the core, feathered (about 0 in the core region).
    oversample : int
    match_radius, feather_width, ee_aperture_radius : float
        px; both planes are scaled so that the PSF sums to 1 inside the last of these.
    """

    core: np.ndarray
    wing: np.ndarray
    oversample: int
    match_radius: float
    feather_width: float
    ee_aperture_radius: float


@dataclasses.dataclass(frozen=True, eq=False)
class ExtendedPsfBuilt:
    """An extended PSF and the table of its bright stars, each array of shape (m,).

    Parameters
    ----------
    extended : ExtendedPsf
    star_flux, star_background : ndarray float64
        Scale and sky used; NaN where not ok.
    star_ok : ndarray bool
    star_scale_from_core : ndarray bool
        True: flux from a fit of the core; False: sum in an aperture.
    """

    extended: ExtendedPsf
    star_flux: np.ndarray
    star_background: np.ndarray
    star_ok: np.ndarray
    star_scale_from_core: np.ndarray


def stitch_psf(
    core,
    oversample,
    wing,
    *,
    wing_confidence=None,
    match_radius=8.0,
    feather_width=4.0,
    ee_aperture_radius=15.0,
):
    """Join an oversampled core and a native wing.

    The wing is scaled so that its mean on the circle of `match_radius` equals that of the core,
    and faded in by a raised cosine of full width `feather_width` about it.

    Parameters
    ----------
    core : ndarray (os·s, os·s) float64
    oversample : int
        os, odd.
    wing : ndarray (h, h) float64
        Centred, h odd; NaN where unknown.
    wing_confidence : ndarray (h, h) float64, optional
        Weights of the wing in the match; not stored.
    match_radius, feather_width, ee_aperture_radius : float
        px.

    Returns
    -------
    ExtendedPsf
        The core alone, normalised, if the wing holds nothing on the seam.

    Raises
    ------
    ValueError
        For wrong shapes or dtypes, or if the seam does not fit into core and wing.
    """
    core, oversample, size = require_model("core", core, oversample)
    wing = require_array("wing", wing, 2, (np.float64,))
    _require_wing_shape("wing", wing.shape)
    confidence = require_weight(wing_confidence, wing, against="wing", name="wing_confidence")
    if wing.shape[0] != wing.shape[1]:
        raise ValueError(f"wing must be square; got {wing.shape}")
    _require_seam(size, wing.shape, match_radius, feather_width, ee_aperture_radius)
    scale = _match_scale(core, oversample, wing, confidence, match_radius)
    radius = radii(wing.shape)
    f_wing = raised_cosine(radius, match_radius, feather_width)
    wing = f_wing * scale * wing if scale else np.zeros_like(wing)
    wing = np.where(np.isfinite(wing), wing, 0.0)
    whole = (1 - f_wing) * on_native(core, oversample, len(wing)) + wing
    energy = whole[radius <= ee_aperture_radius].sum()
    gain = 1 / energy if is_positive(energy) else 1.0
    return ExtendedPsf(
        core * gain, wing * gain, oversample, match_radius, feather_width, ee_aperture_radius
    )


def build_extended_psf(
    wing_data,
    wing_delta,
    core,
    oversample,
    *,
    wing_weight=None,
    match_radius=8.0,
    feather_width=4.0,
    ee_aperture_radius=15.0,
    combine="clipped_mean",
    combine_kappa=3.0,
    combine_max_iter=5,
    scale_aperture_radius=6.0,
    scale_background_annulus=(18.0, 24.0),
):
    """Stack bright stars into a wing and join it to the core.

    Each star loses the median of its sky annulus and is divided by its flux: that of a fit of
    the core, or, where that fails, the sum within `scale_aperture_radius`.  Only the integer
    part of `wing_delta` is used to align the stack.

    Parameters
    ----------
    wing_data : ndarray (m, h, h) float32 or float64
        h odd.
    wing_delta : ndarray (m, 2) float64
        Offset (row, col) of each star from the centre pixel, px.
    core : ndarray (os·s, os·s) float64
    oversample : int
        os, odd.
    wing_weight : ndarray (m, h, h) of the dtype of `wing_data`, optional
        Weights in the stack; 0 leaves a pixel out everywhere.
    match_radius, feather_width, ee_aperture_radius : float
        As in `stitch_psf`, px.
    combine, combine_kappa, combine_max_iter
        As in `robust_combine`.
    scale_aperture_radius : float
        px.
    scale_background_annulus : tuple of float
        Inner and outer radius of the sky ring, px.

    Returns
    -------
    ExtendedPsfBuilt

    Raises
    ------
    ValueError
        For wrong shapes, dtypes or parameters.
    """
    core, oversample, size = require_model("core", core, oversample)
    data = require_array("wing_data", wing_data, 3)
    _require_wing_shape("wing_data", data.shape[1:])
    delta = require_array("wing_delta", wing_delta, 2, (np.float64,))
    if delta.shape != (len(data), 2):
        raise ValueError(
            f"batch dimensions disagree: wing_data {data.shape}, wing_delta {delta.shape}"
        )
    weight = require_weight(wing_weight, wing_data, against="wing_data", name="wing_weight")
    if data.shape[1] != data.shape[2]:
        raise ValueError(f"wing must be square; got {data.shape[1:]}")
    require_combine(combine, combine_kappa, combine_max_iter)
    _require_seam(size, data.shape[1:], match_radius, feather_width, ee_aperture_radius)
    _require_scale(data.shape[1:], scale_aperture_radius, scale_background_annulus)

    valid = np.isfinite(data) & np.isfinite(weight) & (weight > 0)
    sky = _skies(data, valid, scale_background_annulus)
    flux, from_core = _core_fluxes(data, weight, delta, core, oversample)
    apertures = _aperture_sums(data - sky[:, None, None], valid, scale_aperture_radius)
    flux = np.where(from_core, flux, apertures)
    ok = np.isfinite(flux) & (flux > 0)
    flux, sky = np.where(ok, flux, np.nan), np.where(ok, sky, np.nan)

    normalised = (data - sky[:, None, None]) / flux[:, None, None]
    shifted = [_shift(n, d, np.nan) for n, d in zip(normalised, delta, strict=True)]
    moved = [_shift(w, d, 0.0) for w, d in zip(weight, delta, strict=True)]
    stack = robust_combine(
        np.reshape(shifted, data.shape),
        weight=np.reshape(moved, data.shape),
        method=combine,
        combine_kappa=combine_kappa,
        combine_max_iter=combine_max_iter,
    )
    extended = stitch_psf(
        core,
        oversample,
        stack.combined,
        wing_confidence=stack.weight,
        match_radius=match_radius,
        feather_width=feather_width,
        ee_aperture_radius=ee_aperture_radius,
    )
    return ExtendedPsfBuilt(extended, flux, sky, ok, from_core)


@functools.lru_cache(maxsize=4)
def radii(shape):
    """Distance of every pixel from the centre pixel of an odd array, px; not to be written to."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    distance = np.hypot(y - shape[0] // 2, x - shape[1] // 2)
    distance.setflags(write=False)
    return distance


def raised_cosine(radius, centre, width):
    """0 inside, 1 outside, half a cosine of full `width` about `centre` between."""
    if width <= 0:
        return (radius >= centre).astype(float)
    t = np.clip((radius - centre) / width + 0.5, 0, 1)
    return 0.5 * (1 - np.cos(np.pi * t))


def on_native(core, oversample, side):
    """The core at the centres of a `side` × `side` native grid, 0 beyond the core."""
    native = core[oversample // 2 :: oversample, oversample // 2 :: oversample]
    margin = (side - len(native)) // 2
    if margin < 0:
        return native[-margin : len(native) + margin, -margin : len(native) + margin]
    return np.pad(native, margin)


def _match_scale(core, oversample, wing, confidence, radius):
    """Mean of the core over mean of the wing at `radius`; 0 if that is not finite."""
    angle = 2 * np.pi * np.arange(N_ANGLES) / N_ANGLES
    dy, dx = radius * np.sin(angle), radius * np.cos(angle)
    centre = (len(core) - 1) / 2
    inner = _sample(core, centre + oversample * dy, centre + oversample * dx)
    row, col = (wing.shape[0] - 1) / 2 + dy, (wing.shape[1] - 1) / 2 + dx
    outer, trust = _sample(wing, row, col), _sample(confidence, row, col)
    use = np.isfinite(outer) & np.isfinite(trust) & (trust > 0)
    if not use.any():
        return 0.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scale = inner.mean() / (np.sum(outer[use] * trust[use]) / np.sum(trust[use]))
    return scale if np.isfinite(scale) else 0.0


def _sample(grid, row, col):
    out = np.empty(row.size)
    sample_grid(grid, row, col, out)
    return out


def _skies(data, valid, annulus):
    """Median of the valid pixels of each star in the sky ring; 0 if there are none."""
    radius = radii(data.shape[1:])
    ring = (radius >= annulus[0]) & (radius <= annulus[1])
    sky = np.zeros(len(data))
    for i, use in enumerate(valid & ring):
        if use.any():
            sky[i] = np.median(data[i][use])
    return sky


def _core_fluxes(data, weight, delta, core, oversample):
    """Flux of the core in the middle of each stamp, and where it is positive."""
    size, side = len(core) // oversample, data.shape[1]
    if side < size:
        return np.full(len(data), np.nan), np.zeros(len(data), bool)
    middle = slice((side - size) // 2, (side - size) // 2 + size)
    fit = solve_flux_background(
        core, oversample, data[:, middle, middle], delta, weight=weight[:, middle, middle]
    )
    return fit.flux, fit.ok & (np.nan_to_num(fit.flux) > 0)


def _aperture_sums(data, valid, radius):
    """Sum of the valid pixels within `radius`; masked ones are simply missing."""
    use = valid & (radii(data.shape[1:]) <= radius)
    total = np.where(use, data, 0.0).sum(axis=(1, 2))
    return np.where(use.any(axis=(1, 2)), total, np.nan)


def _shift(plane, delta, fill):
    """`plane` read at index + round(delta), half away from zero; `fill` from outside."""
    out = np.full_like(plane, fill)
    if not np.isfinite(delta).all():
        return out
    shift = [int(np.copysign(np.floor(abs(d) + 0.5), d)) for d in delta]
    if any(abs(d) >= n for d, n in zip(shift, plane.shape, strict=True)):
        return out
    to = tuple(slice(max(-d, 0), n - max(d, 0)) for d, n in zip(shift, plane.shape, strict=True))
    src = tuple(slice(max(d, 0), n + min(d, 0)) for d, n in zip(shift, plane.shape, strict=True))
    out[to] = plane[src]
    return out


def _require_wing_shape(name, shape):
    if shape[0] % 2 == 0 or shape[1] % 2 == 0:
        raise ValueError(f"{name} must have odd dimensions; got {tuple(shape)}")


def _require_seam(size, wing_shape, match, width, aperture):
    """The seam must lie inside the core and the wing, the aperture inside the wing."""
    half = wing_shape[0] // 2
    positive = is_positive(match) and is_positive(width) and is_positive(aperture)
    inner, outer = match - width / 2, match + width / 2
    if not positive or inner < 0 or outer > min((size - 1) / 2, half) or aperture > half:
        raise ValueError(
            "stitch params must be finite and > 0 with match_radius - feather_width/2 >= 0, "
            "match_radius + feather_width/2 within the core and the wing, and "
            f"ee_aperture_radius within the wing; got match_radius = {match}, feather_width = "
            f"{width}, ee_aperture_radius = {aperture}, core half {(size - 1) / 2}, "
            f"wing half {half}"
        )


def _require_scale(wing_shape, aperture, annulus):
    if not isinstance(annulus, tuple):
        raise TypeError(f"scale_background_annulus must be a tuple; got {type(annulus).__name__}")
    half = wing_shape[0] // 2
    inner, outer = annulus
    ring = np.isfinite([inner, outer]).all() and 0 <= inner < outer <= half
    if not ring or not is_positive(aperture) or aperture > half:
        raise ValueError(
            "params invalid: 0 < scale_aperture_radius <= wing half and 0 <= r_in < r_out <= wing "
            f"half are needed; got {aperture}, ({inner}, {outer}), wing half {half}"
        )
