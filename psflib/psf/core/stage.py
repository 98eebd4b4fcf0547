"""The stage `core_epsf`: from stamps to a `PsfField`."""

import dataclasses
import logging

import numpy as np
from astropy import units as u
from scipy.ndimage import spline_filter

from psflib.errors import NotEnoughStars, SingularFit
from psflib.psf.core.field import PsfField, area_fwhm
from psflib.psf.core.start import start
from psflib.psf.core.varying import Sample, judged, solve_field
from psflib.psf.epsf import build_epsf
from psflib.settings.core_epsf import MOST_ORDER, EpsfSettings
from psflib.stamps.build import Stamps, pixels
from psflib.words import NONE

log = logging.getLogger(__name__)

FEWEST_FITTED = 3  # with fewer, the reserved stars are used too
SAMPLES_PER_FWHM = 4.0  # what an interpolation of the model needs
COARSE = 3.0  # px of FWHM at one sample a pixel, below which it is measured on more
NARROW = 1.8  # px of FWHM: below, three samples a pixel leave 0.5 % (FWHM 1.5) to 1 % (1.2)
MODEL_ERROR = 0.005  # of a coarse grid: above, a finer one is tried
MANY_LOST = 0.2  # share of the fitted stars worth a note
MODEL_AT_FAULT = 0.05  # relative error worth a note: saturated stars, or a PSF that varies
UNDERSAMPLED = 2.5  # px of FWHM, below which sub-pixel phases matter
PHASES = 0.6  # share of them that stars must have


def core_epsf(stamps: Stamps, shape, settings: EpsfSettings | None = None) -> PsfField:
    """Build the core PSF from stamps; reserved stars are judged with it, never fitted.

    Parameters
    ----------
    stamps : Stamps
    shape : (ny, nx)
        Of the image.
    settings : EpsfSettings, optional

    Returns
    -------
    PsfField
        See `build_epsf_field`.

    Raises
    ------
    NotEnoughStars
        If no star could be fitted.
    SingularFit
        If their pixels do not determine a PSF.
    """
    settings = settings or EpsfSettings()
    if settings.solver == "landweber":
        return _landweber(stamps, shape, settings)
    try:
        return build_epsf_field(
            stamps, shape, oversample=settings.oversample, order=settings.order,
            most_order=settings.most_order, max_iter=settings.max_iter, tol=settings.tol,
        )  # fmt: skip
    except np.linalg.LinAlgError as failure:
        raise SingularFit(
            f"the pixels of {len(stamps.data)} stars do not determine a core PSF ({failure}): are "
            "they stars, and not saturated?"
        ) from failure


def build_epsf_field(
    stamps: Stamps,
    shape,
    *,
    oversample=None,
    order=None,
    most_order=MOST_ORDER,
    max_iter=50,
    tol=1e-4,
) -> PsfField:
    """Core PSF as a polynomial over the field, solved jointly for all stars.

    Parameters
    ----------
    stamps : Stamps
        Reserved stars are never fitted: they choose the order.
    shape : (ny, nx)
        Of the image.
    oversample : int, optional
        os, odd; by default 1, 3 or 5, the least that samples the FWHM four times, and 3 where 1
        leaves errors.
    order : int, optional
        Degree, at most 3; lowered if there are fewer than three stars a term.  By default the
        highest that lowers χ² of the reserved stars by more than the error of that change.
    most_order : int
        Highest degree that is tried.
    max_iter, tol : int, float
        As in `build_epsf`.

    Returns
    -------
    PsfField
        meta: fwhm (px), n_fitted, n_rejected, n_reserved, iterations, converged, used_reserved
        (there were too few others), noise (scale found for the standard deviations), model_error
        (relative to the light), phases (share of the sub-pixel phases with a star), strength (of
        the prior), shape_error, zero_error (relative errors of all fluxes by the PSF's own, see
        `PsfField.flux_error`), scores (mean χ² of the reserved stars by order), reserve_chi2,
        notes.

    Raises
    ------
    ValueError
        For an even `oversample` or an order beyond 0 to 3.
    NotEnoughStars, SingularFit
        If no star could be fitted, or their pixels do not determine a PSF.
    """
    if oversample is not None and (oversample < 1 or oversample % 2 == 0):
        raise ValueError(f"oversample must be odd and positive; got {oversample}")
    if order is not None and not 0 <= order <= MOST_ORDER:
        raise ValueError(f"order must be 0 to {MOST_ORDER}; got {order}")
    fitted, reserved, notes = _split(stamps)
    sample, held_out = _sample(stamps, fitted), _sample(stamps, reserved)
    options = {"order": order, "most": most_order, "max_iter": max_iter, "tol": tol}
    os = oversample or _least_oversample(sample)
    found = solve_field(sample, held_out, shape, os, **options)
    if oversample is None and os == 1 and found.state.error > MODEL_ERROR:
        # A hollow or ragged PSF has detail far below its FWHM.
        os = 3
        found = solve_field(sample, held_out, shape, os, **options)
    notes += found.notes
    error, (shape_error, zero_error) = found.constant.uncertainty()
    terms = np.tensordot(found.mix, found.state.finish(), axes=1)
    own: dict = {
        "reserve_chi2": None,
        "shape_error": shape_error,
        "zero_error": zero_error,
        "mix": found.mix.tolist(),
    }
    psf = PsfField(terms, os, found.order, tuple(shape), None, own, error)
    groups = [(fitted, found.state)]
    own["reserve_chi2"] = None
    if reserved.any():
        held = judged(found.state, held_out, shape, found.order, found.mix)
        # All of them judge the order and `reserve_chi2`; but a blend that was reserved is no
        # better a star than one that was fitted and left out.
        known = held.chi2[held.ok & np.isfinite(held.chi2)]
        own["reserve_chi2"] = float(known.mean()) if known.size else None
        held.drop_outliers()
        groups.append((reserved, held))
    table = _star_table(stamps, groups, reserved)
    flux, error = table["flux"].value, table["flux_err"].value
    relative = psf.flux_error(table["x"].value, table["y"].value)
    table["flux_err"] = np.hypot(error, flux * relative) * u.adu
    meta = own | _meta(psf, found.state, table, notes, found.iterations, found.converged)
    meta["strength"] = float(found.constant.choice.strength)
    meta["scores"] = {str(degree): score for degree, score in found.scores.items()}
    log.info("core ePSF: %s", {name: told for name, told in meta.items() if name != "mix"})
    return dataclasses.replace(psf, stars=table, meta=meta)


def _split(stamps):
    """Fitted and reserved stars (n,) bool, and what is to be said of it."""
    reserved = np.asarray(stamps.table["reserved"], bool)
    if np.count_nonzero(~reserved) >= FEWEST_FITTED or not reserved.any():
        return ~reserved, reserved, []
    note = f"reserved stars fitted too: there are {len(reserved)} stars in all"
    return np.ones(len(reserved), bool), np.zeros(len(reserved), bool), [note]


def _sample(stamps, use):
    x, y = (pixels(stamps.table[name])[use] for name in ("x", "y"))
    some = Stamps(stamps.data[use], stamps.weight[use], stamps.table[use], stamps.meta)
    return Sample(some.data, some.weight, some.delta, x, y, some.weight_under)


def _least_oversample(sample):
    """Odd number of samples that puts 4 into the FWHM of the median star; 5 where it is narrow."""
    state = start(sample.data, sample.weight, sample.delta, 1)
    if not state.ok.any():
        raise NotEnoughStars("core ePSF", 0, 1)
    fwhm = area_fwhm(state.psi, 1)
    if fwhm < COARSE:
        # one sample a pixel cannot tell how narrow it is
        fwhm = area_fwhm(start(sample.data, sample.weight, sample.delta, 3).psi, 3)
    wanted = 5 if fwhm < NARROW else SAMPLES_PER_FWHM / fwhm
    return min((os for os in (1, 3, 5) if os >= wanted), default=5)


def _landweber(stamps, shape, settings):
    """Constant PSF by the reference's iteration, from the median star."""
    fitted, reserved, notes = _split(stamps)
    sample = _sample(stamps, fitted)
    os = settings.oversample or _least_oversample(sample)
    state = start(sample.data, sample.weight, sample.delta, os)
    built = build_epsf(
        sample.data, sample.delta, os, weight=sample.weight, psi_init=state.psi,
        max_iter=settings.max_iter, tol=settings.tol, residual_reweight="huber",
    )  # fmt: skip
    if not built.ok.any():
        raise NotEnoughStars("core ePSF", 0, 1)
    state.coef = spline_filter(built.epsf, mode="nearest")[None]
    everyone = np.ones(len(reserved), bool)
    state.reweigh(1.0, 0.0)
    groups = [(everyone, judged(state, _sample(stamps, everyone), shape, 0, np.eye(1)))]
    table = _star_table(stamps, groups, reserved)
    psf = PsfField(built.epsf[None], os, 0, tuple(shape), table)
    meta = _meta(psf, state, table, notes, built.iterations, built.converged)
    return dataclasses.replace(psf, meta=meta)


def _star_table(stamps, groups, reserved):
    """Fits of all stars with the finished model, from (stars, state) groups; see `PsfField`."""
    n, half = len(stamps.data), stamps.data.shape[1] // 2
    table = stamps.table["id",].copy()
    columns = {name: np.full(n, np.nan) for name in ("flux", "flux_err", "background", "chi2")}
    delta, ok = stamps.delta, np.zeros(n, bool)
    reason = np.full(n, "no fit", dtype="U24")
    for rows, state in groups:
        columns["flux"][rows], columns["background"][rows] = state.flux, state.background
        columns["flux_err"][rows] = np.sqrt(state.covariance[:, 0, 0])
        columns["chi2"][rows], ok[rows] = state.chi2, state.ok
        delta[rows] = state.delta
        why = np.where(state.reason == "", "no fit", state.reason)
        reason[rows] = np.where(state.ok, NONE, why)
    table["x"] = (np.asarray(stamps.table["col0"]) + half + delta[:, 1]) * u.pix
    table["y"] = (np.asarray(stamps.table["row0"]) + half + delta[:, 0]) * u.pix
    for name in ("flux", "flux_err", "background"):
        table[name] = columns[name] * u.adu
    table["delta_row"], table["delta_col"] = delta[:, 0] * u.pix, delta[:, 1] * u.pix
    table["ok"], table["chi2"] = ok, columns["chi2"]
    table["reserved"], table["reason"] = reserved, reason
    return table


def _meta(psf, state, table, notes, iterations, converged):
    """Numbers on the solution; see `build_epsf_field`."""
    fwhm, phases = area_fwhm(psf.terms[0], psf.oversample), state.phases
    fitted, ok = ~np.asarray(table["reserved"]), np.asarray(table["ok"])
    if fwhm < UNDERSAMPLED and phases < PHASES:
        notes.append(
            f"stars cover {phases:.0%} of the sub-pixel phases: the PSF between them is a guess"
        )
    if state.error > MODEL_AT_FAULT:
        notes.append(f"the PSF misses its stars by {state.error:.0%} of their light")
        log.warning("%s: a trailed or moving PSF, blends, or too few stars?", notes[-1])
    if not converged:
        notes.append(f"not converged in {iterations} rounds")
    lost = np.count_nonzero(fitted & ~ok)
    if lost > MANY_LOST * np.count_nonzero(fitted):
        notes.append(f"{lost} of {np.count_nonzero(fitted)} stars do not fit this PSF")
    return {
        "fwhm": fwhm,
        "n_fitted": int(np.count_nonzero(fitted & ok)),
        "n_rejected": int(np.count_nonzero(fitted & ~ok)),
        "n_reserved": int(np.count_nonzero(~fitted & ok)),
        "iterations": iterations,
        "converged": converged,
        "used_reserved": any("reserved" in note for note in notes),
        "noise": float(state.noise),
        "model_error": float(state.error),
        "phases": float(phases),
        "notes": notes,
    }
