"""Robust joint fit of bright stars: fluxes, local skies and positions, round by round."""

import dataclasses

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy import ndimage

from psflib.haloes import equations
from psflib.haloes.choice import choose_stars
from psflib.haloes.model import Halo, distance, profiles, reach_of, unit_halo
from psflib.image.exposure import MaskBit, has_bits
from psflib.image.weights import weights
from psflib.psf.wings.stars import DOUBTED, within_rings
from psflib.settings.subtract_stars import HaloSettings
from psflib.stamps.build import pixels
from psflib.stars.sources import FWHM_OF_SIGMA
from psflib.words import spoken

ROUGH_ROUNDS, ROUNDS = 6, 4  # with Huber's weights, then with Tukey's and positions
HUBER, TUKEY = 1.5, 4.0  # sigma
# Mean of z² under Tukey's weights, Gaussian z: (1 - 6/c² + 15/c⁴)/(1 - 2/c² + 3/c⁴).
TUKEY_MEAN = (1 - 6 / TUKEY**2 + 15 / TUKEY**4) / (1 - 2 / TUKEY**2 + 3 / TUKEY**4)
MODEL_ERROR = 0.01  # of the light of all stars, in the weights
CORE_ERROR = 0.03  # the same in cores
FAINT_HALO = 0.03  # error of a flux from the halo alone, beyond which the core is fitted too
SOURCE = 5.0  # sigma of the matched filter at which a source is masked
SOURCE_ERROR = 0.1  # of the light, in that significance: else a star's misfit masks itself
DENIED = 1.25  # factor between the fluxes of core and halo, beyond which the core is believed
ALONE = 5.0  # FWHM, outer radius of the fit of such a star
GROW = 2  # px, about sources
FEWEST_PIXELS = 20
MOST_SHIFT = 0.5  # FWHM a round
PRIOR = 0.5  # FWHM, of positions


@dataclasses.dataclass(frozen=True, eq=False)
class HaloFit:
    """Fitted stars.

    Parameters
    ----------
    table : QTable
        As `Starless.removed`.
    haloes : list of Halo
        Of the rows that are ok, in their order, of unit flux.
    covariance : ndarray (m, m)
        Of their fluxes, ADU².
    fwhm : float
        px.
    """

    table: QTable
    haloes: list[Halo]
    covariance: np.ndarray
    fwhm: float

    @property
    def flux(self) -> np.ndarray:
        """Fluxes (m,) of the rows that are ok, ADU."""
        return pixels(self.table["flux"])[np.asarray(self.table["ok"])]

    @property
    def sky(self) -> np.ndarray:
        """Local skies (m,) of the rows that are ok, ADU."""
        return pixels(self.table["sky"])[np.asarray(self.table["ok"])]


def fit_haloes(exposure, stars, psf, settings: HaloSettings | None = None, core=None) -> HaloFit:
    """Fit all stars that have a halo to the image, together.

    Parameters
    ----------
    exposure : Exposure
        Prepared.
    stars : QTable
        id, x, y; with `reason` and `flux`, as `select_stars` gives them, the stars among them
        that have a halo are chosen.
    psf : ExtendedPsfField
        Or any object with ``at(size)``, ``render(x, y, size)`` and ``relative_error(r)``.
    settings : HaloSettings, optional
    core : PsfField, optional
        Core that varies over the field; default is that of `psf` everywhere.

    Raises
    ------
    ValueError
        If the exposure has no variance, the table lacks a column, or radii do not fit.
    """
    settings = settings or HaloSettings()
    fwhm = _check(exposure, stars, settings)
    mean, top = profiles(psf, settings.max_radius)
    rows, double = choose_stars(exposure, stars, mean, fwhm, settings)
    # One order whatever the table's, so that not even the rounding depends on it.
    order = np.lexsort((pixels(stars["x"])[rows], pixels(stars["y"])[rows]))
    rows, double = rows[order], double[order]
    state = _State(exposure, psf, core, top, fwhm, settings)
    state.place(pixels(stars["x"])[rows], pixels(stars["y"])[rows], double)
    for _ in range(ROUGH_ROUNDS):
        state.solve(huber)
    state.take_cores()
    state.follow()
    for turn in range(ROUNDS):
        state.mask_sources()
        state.solve(tukey)
        if settings.centre and turn < ROUNDS - 1:
            state.shift()
    state.follow()
    ids = np.asarray(stars["id"])[rows] if "id" in stars.colnames else rows
    return _result(state, ids, np.argsort(order))


def _check(exposure, stars, settings):
    if exposure.variance is None:
        raise ValueError("the exposure has no variance: call psflib.prepare first")
    missing = {"x", "y"} - set(stars.colnames)
    if missing:
        raise ValueError(f"the table of stars has no column {', '.join(sorted(missing))}")
    fwhm = exposure.meta.get("fwhm")
    if fwhm is None or not np.isfinite(fwhm) or fwhm <= 0:
        raise ValueError(f"meta['fwhm'] of the exposure must be positive, px; got {fwhm}")
    inner = settings.core * fwhm
    if not inner < settings.fit_radius <= settings.max_radius:
        raise ValueError(
            "core * fwhm < fit_radius <= max_radius is needed; got "
            f"core = {settings.core}, fwhm = {fwhm:.4g} px (core radius {inner:.4g} px), "
            f"fit_radius = {settings.fit_radius} px, max_radius = {settings.max_radius} px"
        )
    return float(fwhm)


def huber(z):
    """Weights 1, and HUBER/|z| beyond: robust from any start."""
    return np.minimum(1, HUBER / np.maximum(np.abs(z), HUBER))


def tukey(z):
    """Tukey's biweight: (1 - (z/c)²)², 0 beyond c."""
    return np.square(np.maximum(1 - np.square(z / TUKEY), 0))


class _State:
    """What changes from round to round; every step treats all stars alike and at once."""

    def __init__(self, exposure, psf, core, profile, fwhm, settings):
        self.exposure, self.psf, self.core, self.settings = exposure, psf, core, settings
        self.profile, self.fwhm = profile, fwhm
        self.weight = weights(exposure)
        usable = exposure.usable
        self.noise = float(np.sqrt(np.median(exposure.variance[usable]))) if usable.any() else 1.0

    def place(self, x, y, double):
        """Start at these positions; detections in the core of another star are given up."""
        self.x, self.y = np.array(x, float), np.array(y, float)
        n = len(self.x)
        self.flux, self.covariance = np.zeros(n), np.zeros((n, n))
        self.reach = np.full(n, float(self.settings.max_radius))
        self.reason = np.where(double, "in the core of a brighter star", "").astype("U32")
        self.chi2 = np.full(n, np.nan)
        self.inner = np.full(n, self.settings.core * self.fwhm)
        self.outer = np.full(n, self.settings.fit_radius)
        self.patches = [self._patch(i) for i in range(n)]
        self.weights = [patch.weight for patch in self.patches]
        self.open = [patch.weight > 0 for patch in self.patches]  # not masked as a source
        self.skies = np.zeros((n, self.patches[0].terms.shape[0] if n else 1))
        few = np.array([np.count_nonzero(w) < FEWEST_PIXELS for w in self.weights], bool)
        self.reason[few & ~double] = f"fewer than {FEWEST_PIXELS} pixels"
        self._rough_fluxes()
        self._render()

    def _patch(self, i):
        return equations.cut_patch(
            self.exposure, self.weight, self.x[i], self.y[i], self.inner[i],
            self.outer[i], self.settings.sky_order,
        )  # fmt: skip

    def take_cores(self):
        """Fit the cores, too, of stars whose halo says little or what their core denies.

        A star on a galaxy has no halo of its own; its core and what is next to it then decide.
        """
        error = np.sqrt(np.maximum(np.diag(self.covariance), 0))
        fluxes = {i: self._core_flux(i) for i in np.flatnonzero(self.reason == "")}
        for i, core in fluxes.items():
            denied = core is not None and not 1 / DENIED < self.flux[i] / core < DENIED
            if denied:
                self.outer[i] = ALONE * self.fwhm
            if denied or error[i] > FAINT_HALO * self.flux[i]:
                self.inner[i] = 0.0
                self.patches[i] = self._patch(i)
                self.weights[i] = self.patches[i].weight
                self.open[i] = self.weights[i] > 0
                self.flux[i] = core or self.flux[i]
        self._meet()
        for i in np.flatnonzero((self.reason == "") & (self.inner == 0)):
            self._weigh(i, huber)

    def _core_flux(self, i):
        """Flux of the inner FWHM over what surrounds it, ADU; None if it is not all usable."""
        patch = self.patches[i]
        r = distance(self.x[i], self.y[i], patch.box)
        core = r <= self.fwhm
        around = (r > 2 * self.fwhm) & (r <= 3 * self.fwhm) & self.exposure.usable[patch.box]
        if core.sum() < 5 or not self.exposure.usable[patch.box][core].all() or not around.any():
            return None
        light = equations.light_on(patch, self.haloes, np.eye(len(self.x))[i], self.near[i])
        rest = patch.data - np.median(patch.data[around])
        light = light - np.median(light[around])
        flux = np.sum(rest[core] * light[core]) / np.sum(light[core] ** 2)
        return float(flux) if flux > 0 else None

    def _rough_fluxes(self):
        """From the middle half of the patch's light over the PSF's, to know how far haloes go."""
        for i, patch in enumerate(self.patches):
            halo = self._unit(i, self.settings.fit_radius)
            r, use = halo.radii(), patch.weight > 0
            if self.reason[i] or use.sum() < FEWEST_PIXELS:
                continue
            near = use & (r <= max(2 * self.settings.core * self.fwhm, 10))
            near = near if near.sum() >= FEWEST_PIXELS else use
            light = halo.light[near]
            use = light > 0
            if use.any():
                self.flux[i] = np.median(patch.data[near][use] / light[use])
        self.reach = self._reach()

    def _reach(self):
        level = self.settings.faintest * self.noise
        return np.clip(reach_of(self.flux, self.profile, level), 15, self.settings.max_radius)

    def _render(self):
        self.haloes = [self._unit(i, 0 if r else self.reach[i]) for i, r in enumerate(self.reason)]
        self._meet()

    def _unit(self, i, reach):
        return unit_halo(self.psf, self.x[i], self.y[i], reach, self.exposure.shape, self.core)

    def _meet(self):
        """Who shines where; stars that were given up shine nowhere."""
        near = equations.neighbours(self.patches, self.haloes)
        out = self.reason != ""
        self.near = [
            [] if out[i] else [n for n in around if not out[n[0]]] for i, around in enumerate(near)
        ]

    def follow(self):
        """Haloes as far as their fluxes ask for."""
        self.reach = self._reach()
        self._render()

    def solve(self, loss):
        """All fluxes from the present weights, then the weights from the residuals."""
        while True:
            done = equations.solve(self.patches, self.haloes, self.near, self.weights)
            bad = (self.reason == "") & ~(done.flux > 0)
            self.flux, self.covariance = done.flux, done.covariance
            if not bad.any() or loss is huber:
                break
            self.reason[bad] = "no positive amplitude"
            self._meet()
        for i in np.flatnonzero(self.reason == ""):
            self._weigh(i, loss)

    def _rest(self, i):
        """Data of a patch without all stars, and the light of these."""
        light = equations.light_on(self.patches[i], self.haloes, self.flux, self.near[i])
        return self.patches[i].data - light, light

    def _weigh(self, i, loss):
        patch = self.patches[i]
        rest, light = self._rest(i)
        self.skies[i] = equations.sky_of(patch, self.weights[i], rest)
        rest -= np.tensordot(self.skies[i], patch.terms, 1)
        r = distance(self.x[i], self.y[i], patch.box)
        error = np.where(r < self.settings.core * self.fwhm, CORE_ERROR, MODEL_ERROR)
        weight = self._loosened(patch.weight, light, error) * self.open[i]
        z = rest * np.sqrt(weight)
        use = weight > 0
        if use.sum() < FEWEST_PIXELS:
            self.reason[i] = f"fewer than {FEWEST_PIXELS} pixels"
            self._meet()
            return
        scale = max(1.0, float(1.4826 * np.median(np.abs(z[use]))))
        factor = loss(z / scale)
        self.weights[i] = weight * factor
        if loss is tukey:
            mean = np.sum(z[use] ** 2 * factor[use]) / max(np.sum(factor[use]), 1e-300)
            self.chi2[i] = float(mean / TUKEY_MEAN)

    @staticmethod
    def _loosened(weight, light, error):
        """Weights where the model, too, has an error."""
        return weight / (1 + weight * np.square(error * light))

    def mask_sources(self):
        """Leave out what the matched filter finds in the residuals, of either sign."""
        for i in np.flatnonzero(self.reason == ""):
            patch = self.patches[i]
            rest, light = self._rest(i)
            rest -= np.tensordot(self.skies[i], patch.terms, 1)
            weight = self._loosened(patch.weight, light, SOURCE_ERROR)
            significance = matched(rest, weight, self.fwhm)
            r = distance(self.x[i], self.y[i], patch.box)
            bright = patch.weight * np.square(SOURCE_ERROR * light) > DOUBTED**2
            within_rings(significance, np.where(bright, np.round(r), -1).astype(int), weight > 0)
            found = ndimage.binary_dilation(np.abs(significance) >= SOURCE, iterations=GROW)
            self.open[i] = (patch.weight > 0) & ~found
            self.weights[i] = self.weights[i] * self.open[i]

    def shift(self):
        """Positions from the residuals, all stars at once; the haloes follow."""
        steps = [self._step(i) if not self.reason[i] else (0, 0) for i in range(len(self.x))]
        for i, (dx, dy) in enumerate(steps):
            if dx or dy:
                self.x[i] += dx
                self.y[i] += dy
                self.haloes[i] = self._unit(i, self.reach[i])
        self._meet()

    def _step(self, i):
        """Offset (dx, dy) in px that the residuals of a star ask for, held by a prior."""
        patch, halo = self.patches[i], self.haloes[i]
        here, there = equations.overlap(patch.box, halo.box)
        rest, _ = self._rest(i)
        rest = rest[here]
        weight = self.weights[i][here]
        slope = [-self.flux[i] * g for g in np.gradient(halo.light[there].astype(float))[::-1]]
        model = np.stack([*slope, halo.light[there], *patch.terms[(slice(None), *here)]])
        normal = np.einsum("ahw,hw,bhw->ab", model, weight, model, optimize=True)
        right = np.einsum("ahw,hw->a", model, weight * rest)
        normal[[0, 1], [0, 1]] += 1 / (PRIOR * self.fwhm) ** 2
        step = np.linalg.lstsq(normal, right, rcond=1e-14)[0][:2]
        return np.clip(step, -MOST_SHIFT * self.fwhm, MOST_SHIFT * self.fwhm)


def matched(rest, weight, fwhm):
    """Significance of a point source at each pixel, by a Gaussian of the stars' width."""
    sigma = fwhm / FWHM_OF_SIGMA
    top = ndimage.gaussian_filter(weight * rest, sigma, mode="constant")
    # The square of a Gaussian is a narrower one.
    norm = ndimage.gaussian_filter(weight, sigma / np.sqrt(2), mode="constant")
    return top / np.sqrt(np.maximum(norm, 1e-300) / (4 * np.pi * sigma**2))


def _result(state: _State, ids, order) -> HaloFit:
    """The fit with the stars in `order`."""
    ok = state.reason == ""
    error = np.sqrt(np.maximum(np.diag(state.covariance), 0) * np.maximum(state.chi2, 1))
    nan = np.nan
    table = QTable(
        {
            "id": ids,
            "x": state.x * u.pix,
            "y": state.y * u.pix,
            "flux": np.where(ok, state.flux, nan) * u.adu,
            "flux_err": np.where(ok, error, nan) * u.adu,
            "sky": np.where(ok, state.skies[:, 0], nan) * u.adu,
            "radius": np.where(ok, state.reach, nan) * u.pix,
            "chi2": np.where(ok, state.chi2, nan),
            "ok": ok,
            "reason": spoken(state.reason),
        }
    )[order]
    rows = order[ok[order]]
    return HaloFit(
        table, [state.haloes[i] for i in rows], state.covariance[np.ix_(rows, rows)], state.fwhm
    )


def saturated(exposure, fit: HaloFit) -> np.ndarray:
    """True for the fitted stars (m,) with saturated or bad pixels within a FWHM of their centre."""
    full = has_bits(exposure.mask, MaskBit.SAT | MaskBit.BAD)
    reach = fit.fwhm
    out = []
    for halo in fit.haloes:
        near = halo.radii() <= reach
        out.append(bool(full[halo.box][near].any()))
    return np.array(out, bool)
