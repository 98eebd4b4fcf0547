"""State of the joint solution of an ePSF and its stars, and what no star can tell: the gauges."""

import dataclasses
import itertools

import numpy as np
from scipy.ndimage import shift, spline_filter

from psflib.loops import joint
from psflib.loops.starfit import B_SPLINE, CATMULL_ROM, fit_stars, render_stars
from psflib.psf.core import phases
from psflib.psf.core.mesh import Mesh

TUKEY = 6.0  # sigma, where a pixel is given up
FIRST_ERROR = 0.1  # of the model, relative, before it is known
ERROR_CAP = 0.3
WEIGHT_CAP = 0.1  # of that error inside the weights: more would let bright cores float
BRIGHT = 20.0  # sigma of a pixel that tells of the model's error
CHI2_MEDIAN = 0.4549  # median of chi² with one degree of freedom
SAMPLE = 200  # stars that tell of noise and model error
MAX_CHI = 5.0  # sigma above the usual misfit: such a star is left out
MOST_LOST = 0.25  # of a star's light in pixels that were given up
CENTRE_RADIUS = 3.0  # FWHM, within which the model is centred
CENTRE_ROUNDS = 10
FINAL_STEPS = 10
MOST_PEDESTAL = 0.2  # of the volume: more is an accident of few stars
MAX_SHIFT = 0.2  # px, of a star in one step
MAX_WARP = 0.02  # px, of the phases in one step
WING_SLOPES = (2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)  # exponents of a plausible wing
FEWEST_FOR_SLOPE = 3  # stars, of their skies over their fluxes
FEWEST_EDGES = 4  # of rings, that tell a level beside a slope
WING_FROM = 0.5  # of the half size
WING_DOUBT = 0.3  # of the light at the border


@dataclasses.dataclass(eq=False)
class State:
    """Model, stars and weights; arrays of the stars are updated in place.

    Parameters
    ----------
    data, given : ndarray (n, s, s)
        Pixels and their inverse variances, 0 at unusable ones.
    oversample : int
    coef : ndarray (k, os·s, os·s)
        B-spline coefficients of each term.
    design : ndarray (n, k)
        Terms at the place of each star.
    delta, flux, background, ok
        Of the stars.
    weight : ndarray (n, s, s)
        Weights of the present round.
    mesh : Mesh
        Of the splines that the model is solved on; `coef` are theirs, spread over the nodes.
    may_fix : bool
        Whether `phases_free` may be true at all.
    """

    data: np.ndarray
    given: np.ndarray
    oversample: int
    coef: np.ndarray
    design: np.ndarray
    delta: np.ndarray
    flux: np.ndarray
    background: np.ndarray
    ok: np.ndarray
    weight: np.ndarray
    mesh: Mesh
    error: float = FIRST_ERROR
    noise: float = 1.0
    may_fix: bool = True

    def __post_init__(self):
        n = len(self.data)
        self.covariance = np.empty((n, 4, 4))
        self.tally = np.zeros((n, 4))
        self.reason = np.full(n, "", dtype="U24")

    def fit(self, steps):
        """Fit every star to the present model, under the present weights."""
        misfit = np.empty(len(self.data))
        fit_stars(
            self.coef, self.design, B_SPLINE, self.oversample, self.data, self.weight, self.delta,
            self.flux, self.background, self.covariance, misfit, self.ok,
            steps, 1e-5, MAX_SHIFT,
        )  # fmt: skip
        self.ok &= (np.nan_to_num(self.flux) > 0) & (self.reason == "")

    @property
    def light(self):
        """Flux of the stars that take part, 0 of the others."""
        return np.where(self.ok, self.flux, 0.0)

    @property
    def sky(self):
        return np.where(self.ok, self.background, 0.0)

    @property
    def psi(self):
        """Values (os·s, os·s) of the constant term at its nodes."""
        return nodes(self.coef[0])

    def reweigh(self, noise=None, error=None):
        """Weigh every pixel anew, by noise and model error as given or as estimated."""
        self.noise, self.error = misfit(self) if noise is None else (noise, error)
        joint.tukey_weights(
            self.mesh.restrict(self.coef), self.design, self.oversample, self.mesh.first,
            self.mesh.blocks, self.data, self.given, self.light, self.sky,
            self.delta, self.noise, self.error, WEIGHT_CAP, TUKEY,
            self.weight, self.tally,
        )  # fmt: skip
        # A star that was lost may fit again when the model is better.
        lost = ~self.ok & (self.reason == "")
        self.weight[lost] = self.given[lost] / self.noise**2

    def drop_outliers(self):
        """Give a reason to stars that the model does not fit; returns their number."""
        n, _, excess, lost = self.tally.T
        chi2 = np.where(self.ok & (n > 4), excess / np.maximum(n - 4, 1), np.nan)
        root = np.sqrt(chi2)
        middle = np.nanmedian(root)
        sigma = 1.4826 * np.nanmedian(np.abs(root - middle))
        # chi² of n pixels scatters by itself; fewer good stars than that have a smaller spread.
        limit = middle + MAX_CHI * np.hypot(sigma, 1 / np.sqrt(2 * np.maximum(n, 1)))
        before = np.count_nonzero(self.reason == "")
        # Where the usual star loses its core, the model is to blame.
        usual = np.median(lost[self.ok]) if self.ok.any() else 0.0
        self.reason[self.ok & (lost > usual + MOST_LOST)] = "core does not fit"
        self.reason[self.ok & (self.reason == "") & (root > limit)] = "chi2"
        self.ok &= self.reason == ""
        return before - np.count_nonzero(self.reason == "")

    def fix_gauges(self):
        """Pedestal of the terms, then unit volume; the stars take up both."""
        ok, os = self.ok, self.oversample
        self.scale_to_unit()
        if np.count_nonzero(ok) >= FEWEST_FOR_SLOPE:
            k = pedestal(self)
            most = MOST_PEDESTAL * os**2 / self.coef[0].size
            k = np.clip(k, -most, most)
            self.coef[0] += k
            self.background -= k * self.flux
        for term in self.coef[1:]:
            level = border_mean(term)
            term -= level
        self.scale_to_unit()
        self.fix_phases()

    def fix_phases(self):
        """The same volume at every sub-pixel phase, and no warp of them; see `phases`."""
        os = self.oversample
        if not self.phases_free:
            return
        volumes = phases.volumes(self.coef[0], os)
        if volumes.min() > 0:
            self.coef /= phases.spread(volumes, len(self.coef[0]) // os)
            self.flux[self.ok] *= phases.at_stars(volumes, self.delta[self.ok])
        amplitudes = np.clip(phases.least_warp(self.psi, os), -MAX_WARP, MAX_WARP)
        self.coef[0] += np.tensordot(amplitudes, phases.warps(self.coef[0], os), axes=1)
        self.delta[self.ok] = phases.warped_offsets(self.delta[self.ok], amplitudes)

    def centre(self):
        """Bring the first moments within a few FWHM to 0 in every term; the stars follow.

        Offsets of all stars and a shift of the model are one and the same to the data.  To be
        called before the last steps, which undo the smoothing of the new grid and keep the centre.
        """
        os, radius = self.oversample, CENTRE_RADIUS * self.fwhm
        row, col = centroid(self.psi, os, radius)
        self.coef = np.stack([moved(term, -row * os, -col * os) for term in self.coef])
        self.delta += [row, col]
        slopes = [gradient * os for gradient in np.gradient(self.coef[0])]
        for term in self.coef[1:]:
            volume = nodes(term).sum() / os**2
            term -= volume * self.coef[0]
            row, col = first_moments(nodes(term), os, radius, 0.0, 0.0)
            term += row * slopes[0] + col * slopes[1]

    def expected(self):
        """Light (n, s, s) of every star under the model, without sky."""
        model = np.empty(self.data.shape)
        render_stars(
            self.coef, self.design, B_SPLINE, self.oversample, self.light, np.zeros(len(model)),
            self.delta, model,
        )  # fmt: skip
        return model

    def finish(self):
        """Values of the terms at their nodes, and all stars, left out or not, fitted to them.

        Fitted as they will be used, by Catmull-Rom interpolation.
        """
        terms = np.stack([nodes(term) for term in self.coef])
        terms *= self.oversample**2 / terms[0].sum()
        misfit, ok, entered = np.empty(len(self.data)), np.empty(len(self.data), bool), self.ok
        fit_stars(
            terms, self.design, CATMULL_ROM, self.oversample, self.data,
            self.weight_of_all(), self.delta, self.flux, self.background, self.covariance, misfit,
            ok, FINAL_STEPS, 1e-5, MAX_SHIFT,
        )  # fmt: skip
        self.reason[~(ok & entered) & (self.reason == "")] = "no fit"
        self.ok = ok & (self.reason == "")
        return terms

    def weight_of_all(self):
        """The present weights; stars that were left out get their given ones."""
        weight = self.weight.copy()
        weight[~self.ok] = self.given[~self.ok]
        return weight

    @property
    def chi2(self):
        """Per degree of freedom, by the noise alone, of the pixels that were not given up."""
        number, square = self.tally[:, 0], self.tally[:, 1]
        return np.where(self.ok & (number > 4), square / np.maximum(number - 4, 1), np.nan)

    @property
    def fwhm(self):
        """px: diameter of the disc with the area above half the peak."""
        psi = self.psi
        area = np.count_nonzero(psi > 0.5 * psi.max()) / self.oversample**2
        return 2 * np.sqrt(area / np.pi)

    @property
    def phases(self):
        """Share of the os × os sub-pixel phases that have a star."""
        cells = np.floor((self.delta[self.ok] % 1) * self.oversample).astype(int)
        return len(np.unique(cells, axis=0)) / self.oversample**2

    @property
    def phases_free(self):
        """Whether the light of each sub-pixel phase is to be fixed: stars are narrow, and many."""
        os = self.oversample
        many = np.count_nonzero(self.ok) >= os * os
        return self.may_fix and os > 1 and many and self.fwhm < phases.UNDERSAMPLED

    def scale_to_unit(self):
        volume = self.coef[0].sum() / self.oversample**2
        self.coef /= volume
        self.flux *= volume


def nodes(coef):
    """Values (n, n) of a spline at its nodes."""
    padded = np.pad(coef, 1, mode="edge")
    rows = (padded[:-2] + 4 * padded[1:-1] + padded[2:]) / 6
    return (rows[:, :-2] + 4 * rows[:, 1:-1] + rows[:, 2:]) / 6


def moved(coef, rows, cols):
    """Coefficients of a spline moved by that many cells; slightly smoothed by the new grid."""
    values = shift(coef, (rows, cols), prefilter=False, mode="nearest")
    return spline_filter(values, order=3, mode="nearest")


def offsets(side, oversample):
    """(row, col) offsets of the nodes from the centre, px, to broadcast."""
    axis = (np.arange(side) - (side - 1) / 2) / oversample
    return axis[:, None], axis[None, :]


def centroid(psi, oversample, radius):
    """(row, col), px, about which the first moments within a circle vanish."""
    row = col = 0.0
    for _ in range(CENTRE_ROUNDS):
        more = first_moments(psi, oversample, radius, row, col)
        row, col = row + more[0], col + more[1]
    return row, col


def first_moments(psi, oversample, radius, row, col):
    """(row, col) first moments, px, of a model of unit volume in a circle about (row, col)."""
    rows, cols = offsets(len(psi), oversample)
    rows, cols = rows - row, cols - col
    inside = np.where(np.hypot(rows, cols) <= radius, psi, 0) / oversample**2
    return np.sum(rows * inside), np.sum(cols * inside)


def border_mean(image):
    """Mean of the outermost nodes."""
    return np.mean([image[0], image[-1], image[:, 0], image[:, -1]])


def misfit(state):
    """Scale of the noise from faint pixels, and relative error of the model from bright ones."""
    some = np.flatnonzero(state.ok)
    some = some[:: max(len(some) // SAMPLE, 1)]
    model = np.empty((len(some), *state.data.shape[1:]))
    render_stars(
        state.coef, state.design[some], B_SPLINE, state.oversample, state.flux[some],
        np.zeros(len(some)), state.delta[some], model,
    )  # fmt: skip
    given = state.given[some]
    use = given > 0  # also pixels that were given up: the medians stand some, the model must see
    square = (state.data[some] - model - state.background[some, None, None])[use] ** 2
    variance, light = state.noise**2 / given[use].astype(float), model[use]
    noise = state.noise
    faint = light**2 < variance
    if faint.sum() > 100:
        again = np.sqrt(np.median(square[faint] / variance[faint]) / CHI2_MEDIAN)
        noise, variance = noise * again, variance * again**2
    bright = light > BRIGHT * np.sqrt(variance)
    if bright.sum() < 20:
        return noise, state.error
    return noise, model_error(square[bright], variance[bright], light[bright])


def model_error(square, variance, light):
    """The e that makes median(R²/(var + e²M²)) that of chi²; 0 if it is below already."""
    if np.median(square / variance) <= CHI2_MEDIAN:
        return 0.0
    low, high = 0.0, ERROR_CAP
    for _ in range(12):
        middle = 0.5 * (low + high)
        above = np.median(square / (variance + (middle * light) ** 2)) > CHI2_MEDIAN
        low, high = (middle, high) if above else (low, middle)
    return 0.5 * (low + high)


def pedestal(state):
    """Constant to add to the model, per unit flux, from two witnesses weighed by their errors."""
    constants, errors = witnesses(state)
    weights = errors**-2.0
    if not 0 < weights.sum() < np.inf:
        return 0.0  # neither witness has anything to say
    return np.average(constants, weights=weights)


def witnesses(state):
    """What tells the constant that a model lacks, per unit flux: values (2,) and errors (2,).

    Background against flux over the stars is a line whose slope is the constant, if fluxes differ
    and the sky does not follow them; and a wing that falls as a power law leaves the constant as
    what is left at the border.
    """
    ok = state.ok
    slope, slope_error = 0.0, np.inf
    if np.count_nonzero(ok) >= FEWEST_FOR_SLOPE:
        slope, slope_error = background_slope(
            state.flux[ok], state.background[ok], state.covariance[ok, 1, 1]
        )
    level, level_error = wing_level(state.psi, state.oversample)
    return np.array([slope, -level]), np.array([slope_error, level_error])


def background_slope(flux, background, variance):
    """Robust slope of background over flux (Cauchy weights), and its error."""
    weight = 1 / variance
    for _ in range(10):
        df, db = (v - np.average(v, weights=weight) for v in (flux, background))
        power = np.sum(weight * df**2)
        slope = np.sum(weight * df * db) / max(power, 1e-300)
        left = (db - slope * df) / np.sqrt(variance)
        scale = max(1.4826 * np.median(np.abs(left)), 1.0)
        weight = 1 / variance / (1 + (left / (2 * scale)) ** 2)
    if power <= 1e-9 * np.sum(weight * flux**2):
        return 0.0, np.inf  # all stars are equally bright
    return slope, scale / np.sqrt(power)


def wing_level(psi, oversample):
    """What is left of the outer profile beside a power law, and its error.

    Rings from 0.5 of the half size to the border; each exponent that a wing may have is fitted
    and counts by how well it does (model averaging by likelihood).
    """
    radius = np.hypot(*offsets(len(psi), oversample))
    half = len(psi) / oversample / 2
    edges = np.arange(WING_FROM * half, 0.98 * half, max(1.0, 1 / oversample))
    if len(edges) < FEWEST_EDGES:
        return 0.0, np.inf  # a box of few pixels has no outer profile
    r, value, error = np.array(
        [ring_mean(psi, radius, *pair) for pair in itertools.pairwise(edges)]
    ).T
    error = np.hypot(error, 1e-9 * psi.max())
    levels, variances, likelihoods = [], [], []
    for slope in WING_SLOPES:
        design = np.stack([np.ones_like(r), (r / half) ** -slope], axis=1) / error[:, None]
        covariance = np.linalg.inv(design.T @ design)
        solution = covariance @ design.T @ (value / error)
        levels.append(solution[0])
        variances.append(covariance[0, 0])
        likelihoods.append(-0.5 * np.sum((value / error - design @ solution) ** 2))
    weights = np.exp(np.array(likelihoods) - max(likelihoods))
    level = np.average(levels, weights=weights)
    spread = np.average((np.array(levels) - level) ** 2, weights=weights)
    variance = spread + np.average(variances, weights=weights)
    # No wing is exactly a power law.
    return level, np.sqrt(variance + (WING_DOUBT * (value[-1] - level)) ** 2)


def ring_mean(psi, radius, inner, outer):
    """Radius, mean and standard error of a ring; spikes count as error."""
    inside = (radius >= inner) & (radius < outer)
    values = psi[inside]
    return radius[inside].mean(), values.mean(), values.std() / np.sqrt(max(len(values) / 4, 1))
