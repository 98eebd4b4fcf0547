"""Dipoles: a positive and a negative PSF beside each other, fitted jointly with the images.

A difference alone tells flux times separation of a close pair, not each: brighter and closer is
the same.  What breaks this is the light that science image and matched template have in common.
Of these two, on one PSF, the difference D is one combination; the other is their mean Q, weighted
so that its noise is independent of D's.  Both are fitted at once, for two places and two fluxes:

    D = f P_D(r+) - g P_D(r-),    Q = a f P(r+) + (1 - a) g P(r-) + plane,

with P_D and P the PSFs of the decorrelated and of the matched images.  Light that changes nowhere
(a host galaxy, neighbours) is absent from D but not from Q: what Q scatters beyond its noise
counts as noise of Q, so that on bare sky both images tell all they know, and on a bright host the
difference alone does.  (LSST's DipoleFitTask gives the images a fixed weight instead.)
"""

import dataclasses

import numpy as np
from astropy import units as u
from scipy import spatial

from psflib.detection.pair_stamps import cut
from psflib.image.difference import Difference
from psflib.loops import dipoles as loops

FAR = 3.0  # FWHM, between two candidates that may be one object
STARTS = 0.1, 0.3, 0.6, 1.0  # of the distance of the lobes; close pairs have lobes a PSF apart
ROUNDS, SETTLED = 30, 3e-3  # of the fit, and px of its last step
HIDDEN = 25.0  # variance of a host's light over that of what a fit leaves of it
HOSTS = 3  # times that what Q scatters beyond its noise is looked at
TRUST = 0.5  # px, longest step
BATCH = 128  # pairs at a time: 20 MB
LEAST = 5.0  # sigma of both fluxes
ALIKE = 2.0  # factor between the fluxes of one and the same source
APART = 0.5  # FWHM between an object's two places; closer, and it is a star that is off
OFF = 5.0  # times the scatter of the registration is no misregistration
STATIC = 0.2  # of an object's flux that may be at its other place; more is a star below it
FITS = 3.0  # reduced chi-square up to which the fit tells what it is

UNITS = {
    "dipole_separation": u.pix, "dipole_separation_err": u.pix, "dipole_angle": u.deg,
    "dipole_flux": u.adu, "dipole_flux_err": u.adu, "dipole_negative": u.adu,
    "dipole_negative_err": u.adu, "dipole_chi2": None, "dipole_gain": None,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Dipoles:
    """What was found; arrays (n,), an entry a candidate.

    Parameters
    ----------
    columns : dict of str to ndarray
        `dipole_separation`, `dipole_separation_err` (px), `dipole_angle` (degrees from +x to +y,
        from the negative to the positive place), `dipole_flux`, `dipole_negative` and their errors
        (ADU, both positive), `dipole_chi2` (reduced, of the difference), `dipole_gain` (by what
        factor it is below that of the single PSF); NaN where there is none.
    misplaced : ndarray of bool
        A source that is in both images, nearly at one place: misregistration.
    moved : ndarray of bool
        One that is in both images at two places, with nothing else at either.
    """

    columns: dict[str, np.ndarray]
    misplaced: np.ndarray
    moved: np.ndarray

    def add_to(self, table, difference) -> None:
        """Write the columns, fluxes on the scale of the image as it was given, and the word
        "moved" of the column `kind`."""
        scale = {u.adu: difference.meta.get("unit", 1.0)}
        for name, unit in UNITS.items():
            values = self.columns[name]
            table[name] = values if unit is None else values * scale.get(unit, 1.0) * unit
        if "kind" in table.colnames:
            kind = np.where(self.moved, "moved", table["kind"])
            table["kind"] = np.where(self.misplaced & (kind == "moved"), "unknown", kind)


def dipoles(difference: Difference, weights, psf, score, y, x, fwhm, suspect) -> Dipoles:
    """Fit a pair of PSFs to all candidates that have something of the other sign beside them.

    Parameters
    ----------
    difference : Difference
        Decorrelated; without its science and template nothing is fitted.
    weights : ndarray (ny, nx) float32
        Variance that weighs its pixels, ADU².
    psf : VaryingKernel
        Its PSF turned by 180 degrees (`reversed_psf`).
    score : ndarray (ny, nx) float32
    y, x : ndarray (n,)
        Places of the candidates, px.
    fwhm : float
        px.
    suspect : ndarray (n,) of bool
        Candidates to be fitted besides those with a candidate of the other sign within 3 FWHM.
    """
    n = len(x)
    columns = {name: np.full(n, np.nan) for name in UNITS}
    found = Dipoles(columns, np.zeros(n, bool), np.zeros(n, bool))
    if not n or not _has_images(difference):
        return found
    size = psf.images.shape[-1]
    rows, pair, places = _pairs(score, y, x, fwhm, np.asarray(suspect, bool), max(2, size // 4))
    for first in range(0, len(places), BATCH):
        part = slice(first, first + BATCH)
        fitted = _fit(difference, weights, psf, places[part])
        mine = (pair >= first) & (pair < first + BATCH)
        _fill(found, rows[mine], pair[mine] - first, fitted, difference, fwhm)
    return found


def _has_images(difference):
    images = difference.science, difference.template
    known = all(i is not None and i.variance is not None for i in images)
    return known and not difference.meta.get("white") and hasattr(difference.kernel, "convolved")


def _pairs(score, y, x, fwhm, suspect, half):
    """Candidates to fit, the pair of each, and the places (p, 2, 2: y, x), the positive one first.

    The partner is the nearest candidate of the other sign, or else the strongest pixel of it.
    """
    rows, columns = (
        np.clip(np.rint(a).astype(int), 0, m - 1) for a, m in zip((y, x), score.shape, strict=True)
    )
    sign = np.where(score[rows, columns] > 0, 1, -1)
    partner = np.full(len(x), -1)
    at = np.c_[y, x]
    for own in (1, -1):
        here, there = np.flatnonzero(sign == own), np.flatnonzero(sign == -own)
        if here.size and there.size:
            distance, nearest = spatial.cKDTree(at[there]).query(at[here])
            near = distance < FAR * fwhm
            partner[here[near]] = there[nearest[near]]
    chosen = np.flatnonzero(suspect | (partner >= 0))
    places, names = np.empty((len(chosen), 2, 2)), np.empty((len(chosen), 2), int)
    for k, row in enumerate(chosen):
        other = at[partner[row]] if partner[row] >= 0 else None
        if suspect[row] and (other is None or np.abs(other - at[row]).max() > half):
            top, left = max(rows[row] - half, 0), max(columns[row] - half, 0)
            box = -sign[row] * score[top : rows[row] + half + 1, left : columns[row] + half + 1]
            other = np.add(np.unravel_index(box.argmax(), box.shape), (top, left))
            names[k] = row, row
        else:
            names[k] = sorted((row, partner[row]))
        pair = np.array([at[row], other])
        places[k] = pair if sign[row] > 0 else pair[::-1]
    _, first, pair = np.unique(names, axis=0, return_index=True, return_inverse=True)
    return chosen, pair.ravel(), places[first]


def _fit(difference, weights, psf, places):
    """Cut-outs, first places in them (p, 2, 2), parameters (p, 9), their covariance, and the
    chi-square of the difference (p)."""
    stamps = cut(difference, weights, psf, places)
    offsets = places - stamps.origin[:, None]
    middle = offsets.mean(1, keepdims=True)
    bare = np.zeros(len(places))
    starts = [(middle, share) for share in STARTS]
    # the lobe of the other sign may be noise, and the source stand at one of the places
    starts += [(offsets[:, lobe, None], STARTS[0]) for lobe in range(2)]
    tried = [_linear(stamps, at + share * (offsets - middle)) for at, share in starts]
    best = np.argmin([chi2 for _, chi2 in tried], axis=0)
    state = np.array([start for start, _ in tried])[best, np.arange(len(places))]
    state, _ = _settle(stamps, state, bare)
    for _ in range(HOSTS):  # again with what Q scatters beyond its noise
        state, covariance = _settle(stamps, state, _excess(stamps, state))
    chi2 = _sums(stamps, state, _weight(stamps, bare))[2]
    return stamps, offsets, state, covariance, chi2[:, 0]


def _weight(stamps, extra):
    variance = stamps.variance.copy()
    variance[:, 1] += extra[:, None, None]
    return np.where(stamps.usable[:, None], 1 / variance, 0)


def _sums(stamps, state, weight, rows=slice(None)):
    """Matrix (p, 9, 9), vector (p, 9) and chi-square (p, 2) of these pairs."""
    n = len(state)
    matrix, vector, chi2 = np.empty((n, 9, 9)), np.empty((n, 9)), np.empty((n, 2))
    planes = stamps.splines[rows], stamps.seen[rows], weight[rows], stamps.share[rows]
    loops.dipole_sums(*planes, state, matrix, vector, chi2)
    return matrix, vector, chi2


def _linear(stamps, offsets):
    """Parameters (p, 9) with both places given, and their chi-square (p)."""
    state = np.zeros((len(offsets), 9))
    state[:, 1:3], state[:, 4:6] = offsets[:, 0], offsets[:, 1]
    weight = _weight(stamps, np.zeros(len(state)))
    matrix, vector, chi2 = _sums(stamps, state, weight)
    free = np.array([0, 3, 6, 7, 8])
    vector = vector[:, free]
    solution = _solved(matrix[:, free[:, None], free], vector, 1e-9)
    state[:, free] = solution
    return state, chi2.sum(1) - (vector * solution).sum(1)


def _damped(matrix, by):
    """With its diagonal larger by a share (p or number) of itself, so that it can be solved."""
    diagonal = np.einsum("pii->pi", matrix)
    out = matrix.copy()
    np.einsum("pii->pi", out)[:] += np.broadcast_to(by, len(matrix))[:, None] * diagonal
    np.einsum("pii->pi", out)[:] += 1e-12 * diagonal.max(1, keepdims=True) + 1e-300
    return out


def _solved(matrix, vector, by):
    return np.linalg.solve(_damped(matrix, by), vector[..., None])[..., 0]


def _settle(stamps, state, extra):
    """Levenberg-Marquardt: parameters (p, 9) and their covariance (p, 9, 9)."""
    weight, state = _weight(stamps, extra), state.copy()
    damping = np.full(len(state), 1e-3)
    matrix, vector, chi2 = _sums(stamps, state, weight)
    active = np.arange(len(state))
    for _ in range(ROUNDS):
        if not active.size:
            break
        step = _solved(matrix[active], vector[active], damping[active])
        longest = np.abs(step[:, [1, 2, 4, 5]]).max(1)
        step *= np.minimum(1, TRUST / np.maximum(longest, 1e-12))[:, None]
        trial = state[active] + step
        sums = _sums(stamps, trial, weight, active)
        better = sums[2].sum(1) <= chi2[active].sum(1)
        rows = active[better]
        state[rows] = trial[better]
        for plane, new in zip((matrix, vector, chi2), sums, strict=True):
            plane[rows] = new[better]
        damping[active] *= np.where(better, 0.1, 10)
        active = active[longest > SETTLED]
    return state, np.linalg.inv(_damped(matrix, 1e-9))


def _excess(stamps, state):
    """Variance (p) that Q has beyond its noise: light that is no point source.

    It is the same over the width of a PSF; as independent noise of each pixel it has to be as many
    times larger as there are pixels in it.  Most of a host passes for a point source besides:
    without `HIDDEN` fluxes on one of 8 times the flux were 4 of their errors off.
    """
    weight = _weight(stamps, np.zeros(len(state)))
    count = np.maximum(stamps.usable.sum((1, 2)) - 9, 1)
    scatter = _sums(stamps, state, weight)[2][:, 1] / count
    known = (stamps.variance[:, 1] * stamps.usable).sum((1, 2)) / count
    # white noise scatters by √(2 / count): what is within twice that is none
    excess = np.maximum(scatter - 1 - 2 * np.sqrt(2 / count), 0)
    return HIDDEN * stamps.area * known * excess


def _fill(found, rows, pair, fitted, difference, fwhm):
    """The columns of these candidates (r,), each of the fit `pair` (r,), and what they are."""
    stamps, offsets, state, covariance, chi2 = fitted
    count = np.maximum(stamps.usable.sum((1, 2)) - 6, 1)
    chi2, alone = chi2 / count, _single(stamps, offsets) / count
    stretch = np.sqrt(np.maximum(chi2, 1))  # where the PSF does not fit, errors are larger too
    apart = state[:, 1:3] - state[:, 4:6]
    separation = np.hypot(*apart.T)
    slope = np.zeros((len(state), 9))
    slope[:, 1:3] = apart / np.maximum(separation, 1e-9)[:, None]
    slope[:, 4:6] = -slope[:, 1:3]
    error = np.sqrt(np.maximum(np.einsum("pi,pij,pj->p", slope, covariance, slope), 0)) * stretch
    flux, negative = state[:, 0], state[:, 3]
    errors = [np.sqrt(np.maximum(covariance[:, k, k], 0)) * stretch for k in (0, 3)]
    inside = (np.abs(state[:, [1, 2, 4, 5]]) < stamps.seen.shape[-1] / 2).all(1)
    known = inside & (flux > 0) & (negative > 0) & np.isfinite(error)
    columns = {
        "dipole_separation": separation, "dipole_separation_err": error,
        "dipole_angle": np.rad2deg(np.arctan2(apart[:, 0], apart[:, 1])), "dipole_flux": flux,
        "dipole_flux_err": errors[0], "dipole_negative": negative, "dipole_negative_err": errors[1],
        "dipole_chi2": chi2, "dipole_gain": alone / np.maximum(chi2, 1e-9),
    }  # fmt: skip
    for name, values in columns.items():
        found.columns[name][rows] = np.where(known, values, np.nan)[pair]
    ratio = np.divide(flux, negative, out=np.zeros(len(state)), where=known)
    sure = known & (flux > LEAST * errors[0]) & (negative > LEAST * errors[1])
    sure &= (ratio < ALIKE) & (ratio > 1 / ALIKE) & (chi2 < FITS)
    off = float(difference.meta.get("registration_after") or 0.0)
    far = separation > np.maximum(max(APART * fwhm, np.nan_to_num(OFF * off)), 3 * error)
    found.moved[rows] = (sure & far & _nothing_else(stamps, state))[pair]
    found.misplaced[rows] = (sure & ~far & (alone > chi2) & (separation > 3 * error))[pair]


def _moved(stamps, plane, places):
    """PSFs (p, k, k) of D (0) or of the images (1), moved to these places (p, 2)."""
    out = np.empty(stamps.usable.shape)
    splines = np.ascontiguousarray(stamps.splines[:, plane])
    loops.moved_all(splines, np.ascontiguousarray(places), out)
    return out


def _single(stamps, offsets):
    """Chi-square (p) of D with one PSF at the better of both places."""
    weight = stamps.usable / stamps.variance[:, 0]
    data = stamps.seen[:, 0]
    total = (weight * data**2).sum((1, 2))
    explained = np.zeros(len(total))
    for lobe in range(2):
        shape = _moved(stamps, 0, offsets[:, lobe])
        power = (weight * shape**2).sum((1, 2))
        signal = (weight * shape * data).sum((1, 2))
        explained = np.maximum(explained, signal**2 / np.maximum(power, 1e-300))
    return total - explained


def _nothing_else(stamps, state):
    """Whether the science image has nothing at the negative place, the template at the positive.

    Each image is fitted by PSFs at both places and a plane.
    """
    n, k = len(state), stamps.seen.shape[-1]
    line = np.arange(k) - k // 2
    plane = [np.broadcast_to(v, (n, k, k)) for v in (1.0, line[:, None] / k, line / k)]
    terms = [_moved(stamps, 1, state[:, lobe + 1 : lobe + 3]) for lobe in (0, 3)] + plane
    design = np.stack(terms, -1).reshape(n, k * k, 5)
    weight = stamps.usable.reshape(n, -1)
    weighted = design * weight[..., None]
    inverse = np.linalg.inv(_damped(np.swapaxes(weighted, 1, 2) @ design, 1e-9))
    nothing = np.ones(n, bool)
    for image in range(2):
        data = stamps.images[:, image].reshape(n, -1, 1)
        fluxes = (inverse @ (np.swapaxes(weighted, 1, 2) @ data))[..., 0]
        other = 1 - image
        error = np.sqrt(inverse[:, other, other] * stamps.noise[:, image])
        allowed = np.maximum(3 * error, STATIC * np.abs(fluxes[:, image]))
        nothing &= np.abs(fluxes[:, other]) < allowed
    return nothing
