"""`WingStar`: one bright star in the making of a wing, and the fit of its halo."""

import dataclasses

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

from psflib.loops.wings import halo_equations
from psflib.psf.wings.field import stamp_of

TUKEY = 4.0
PASSES = 3
MOST_SHIFT = 0.5  # px a pass
MAX_CENTRE_ERROR = 0.3  # px; a centre known worse stays where it was detected
HIDDEN = 5.0  # S/N of a neighbour in the residuals
GROW = 2  # px
#: Relative error of the model in the search for neighbours.  With 2 % a star's own misfit is taken
#: for neighbours, and the profile is then made of what is left: -9 % at 10-20 px.
MASK_FLOOR = 0.10
DOUBTED = 0.5  # sigma of a pixel; where that floor is above it, neighbours are sought by rings


@dataclasses.dataclass(eq=False)
class WingStar:
    """A bright star: its stamp, and what is known of it so far.

    Parameters
    ----------
    data, weight : ndarray (s, s) float32
        ADU free of other bright stars, ADU⁻²; weight 0 where there is nothing to be used.
    delta : ndarray (2,)
        Offset (row, col) from the centre pixel, px.
    flux : float
        Total, ADU; nan before the first fit.
    sky, sky_error, sky_common : float
        External sky at its place, its own error, and the error it shares with all stars, ADU.
    """

    data: np.ndarray
    weight: np.ndarray
    delta: np.ndarray
    flux: float
    sky: float = 0.0
    sky_error: float = np.inf
    sky_common: float = 0.0
    crowding: float = 1.0  # lift of all stars at its place (`wing_image`) over its own
    row: int = 0  # of the centre pixel in the image
    col: int = 0
    table_row: int = -1
    range: str = "outer"
    from_core: bool = False
    trusted: bool = True  # the core reaches its unsaturated pixels
    reason: str = ""
    flux_error: float = np.nan
    centre_error: float = np.nan
    background: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))
    background_error: float = np.nan
    light: np.ndarray | None = None  # of the star itself, float32
    rest: np.ndarray | None = None  # data minus sky minus star, float32
    clean: np.ndarray | None = None  # weight without neighbours, float32

    @property
    def half(self) -> int:
        return len(self.data) // 2

    @property
    def ok(self) -> bool:
        return self.reason == "" and np.isfinite(self.flux) and self.flux > 0


def plane_of(background, side):
    """Sky (side, side) of level and slopes per half side."""
    axis = np.arange(side) / (side // 2) - 1
    return background[0] + background[1] * axis[:, None] + background[2] * axis


def fit_halo(star: WingStar, psf, floor, *, centre=True, sky=True, weight=None, passes=PASSES):
    """Amplitude, sky plane and centre of a star against the PSF, in place.

    Robust least squares over the whole stamp (Tukey, variance with `floor` of the model); the
    centre and the sky can be held.  A star that cannot be fitted gets a `reason`.
    """
    weight = star.weight if weight is None else weight
    background = star.background.copy()
    flux, delta = star.flux, star.delta.copy()
    free = np.array([0, *((1, 2, 3) if sky else ()), *((4, 5) if centre else ())])
    matrix, vector = np.empty((6, 6)), np.empty(6)
    for number in range(passes):
        model = stamp_of(psf, delta, len(star.data))
        rest = star.data - plane_of(background, len(star.data)) - flux * model
        scale = _scale(rest, weight, floor * flux * model)
        halo_equations(rest, weight, model, flux, floor, scale, TUKEY, matrix, vector)
        step = _solve(matrix, vector, free)
        if step is None:
            star.reason = "too few usable pixels"
            return
        flux, background = flux + step[0], background + step[1:4]
        if centre and number < passes - 1:
            delta = delta + np.clip(step[4:], -MOST_SHIFT, MOST_SHIFT)
        if not flux > 0:
            star.reason = "no light in its halo"
            return
    errors = np.zeros(6)
    errors[free] = np.sqrt(np.diag(np.linalg.inv(matrix[np.ix_(free, free)]))) * scale
    star.flux, star.background = float(flux), background
    star.flux_error = float(errors[0])
    held = star.sky_error if np.isfinite(star.sky_error) else 1.0  # only ratios matter then
    star.background_error = float(errors[1]) if sky else max(held, 1e-12)
    if centre:
        star.centre_error = float(np.max(errors[4:]))
        if star.centre_error < MAX_CENTRE_ERROR and np.abs(delta).max() < star.half / 2:
            star.delta = delta
    light = (flux * stamp_of(psf, star.delta, len(star.data))).astype(np.float32)
    star.rest = star.data - plane_of(background, len(star.data)).astype(np.float32) - light
    star.light = light


def mask_neighbours(star: WingStar, fwhm, core_radius) -> None:
    """`clean` weights: pixels of sources in the residuals are left out, in place."""
    light = np.float32(MASK_FLOOR) * (0 if star.light is None else star.light)
    inverse = star.weight / (1 + star.weight * np.square(light))
    axis = np.arange(len(star.data)) - star.half
    radius = np.hypot(axis[:, None] - star.delta[0], axis - star.delta[1])
    bright = np.square(light) * star.weight > DOUBTED**2
    found = sources_in(star.rest, inverse, fwhm, np.where(bright, np.round(radius), -1))
    found &= radius > core_radius
    star.clean = np.where(found, np.float32(0), star.weight)


def sources_in(rest, weight, fwhm, rings=None, norm=None):
    """Pixels of sources above S/N 5 in a Gaussian of the stars' FWHM, grown by 2 px.

    Parameters
    ----------
    rest, weight : ndarray (ny, nx) float32
        Residuals and inverse variances.
    fwhm : float
        px.
    rings : ndarray (ny, nx) of int, optional
        Where not negative, a pixel is compared with the others of its ring: with their median,
        and with their scatter if that is above the noise.
    norm : ndarray (ny, nx), optional
        `search_norm` of `weight`, if it is known already.
    """
    sigma = fwhm / 2.3548
    weight = np.asarray(weight, np.float32)
    top = gaussian_filter(weight * rest, sigma, mode="constant", truncate=3)
    norm = search_norm(weight, fwhm) if norm is None else norm
    significance = top / np.sqrt(np.maximum(norm, 1e-30))
    if rings is not None:
        within_rings(significance, np.asarray(rings, int), norm > 1e-30)
    return binary_dilation(significance > HIDDEN, iterations=GROW)


def search_norm(weight, fwhm):
    """Variance (ny, nx) of the weighted Gaussian sum by which `sources_in` judges."""
    sigma = fwhm / 2.3548
    norm = gaussian_filter(weight, sigma / np.sqrt(2), mode="constant", truncate=3)
    norm /= 4 * np.pi * sigma**2  # the square of a Gaussian is a narrower one
    return norm


def within_rings(significance, rings, known) -> None:
    """Significance beside the pixels of the same ring (label >= 0), in place.

    What a whole ring has too much is the star's own misfit and no neighbour: taken for one, it
    would keep the profile from ever rising there.
    """
    use = known & (rings >= 0)
    labels = rings[use]
    if not labels.size:
        return
    order = np.argsort(labels, kind="stable")
    values = significance[use][order]
    for part in np.split(np.arange(len(order)), np.flatnonzero(np.diff(labels[order])) + 1):
        ring = values[part]
        ring = ring - np.median(ring)
        values[part] = ring / max(1.0, 1.4826 * float(np.median(np.abs(ring))))
    out = np.empty_like(values)
    out[order] = values
    significance[use] = out


def _scale(rest, weight, floor):
    """Robust spread of the residuals in sigma, at least 1."""
    step = max(1, len(rest) // 100)
    rest, weight, floor = (plane[::step, ::step] for plane in (rest, weight, floor))
    use = weight > 0
    if use.sum() < 20:
        return 1.0
    z = np.abs(rest[use]) / np.sqrt(1 / weight[use] + floor[use] ** 2)
    return max(1.0, 1.4826 * float(np.median(z)))


def _solve(matrix, vector, free):
    """Increments (6,) that solve the equations of the `free` ones; None without a solution."""
    matrix = matrix[np.ix_(free, free)]
    diagonal = np.sqrt(np.diag(matrix))
    if not ((diagonal > 0).all() and np.isfinite(matrix).all() and np.isfinite(vector).all()):
        return None
    scaled = matrix / np.outer(diagonal, diagonal)
    if np.linalg.cond(scaled) > 1e10:
        return None
    step = np.zeros(6)
    step[free] = np.linalg.solve(scaled, vector[free] / diagonal) / diagonal
    return step
