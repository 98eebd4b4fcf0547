"""How far an effective PSF lies from a known truth, and what it does to the fits of other stars."""

import dataclasses

import numpy as np
from scipy.optimize import least_squares

from psflib.loops.sample import sample_grid
from psflib.simulation.star_stamps import node_offsets, simulate_stamps

HELD_OUT = 400
HELD_OUT_SEED = 20240
HELD_OUT_FLUX = (1e5, 1e6)  # e-
EDGE = 1.5  # px inside the edge of the stamp, where the comparison ends
STEP = 0.01  # px, of the numerical derivative by position
MAX_MOVE = 0.3  # px in one step of the fit
N_STEPS = 7


@dataclasses.dataclass(frozen=True)
class EpsfScore:
    """Scores of one effective PSF.

    Parameters
    ----------
    relative_l2 : float
        Norm of the error over the norm of the truth, after the best shift and scale.
    flux_bias, flux_scatter : float
        Mean and standard deviation of measured/true flux of held-out stars, less 1.
    position_scatter : float
        Standard deviation of their positions, px on one axis; a common shift is not counted.
    failed : int
        Held-out stars without a finite fit.
    """

    relative_l2: float
    flux_bias: float
    flux_scatter: float
    position_scatter: float
    failed: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredStars:
    """Flux, background (n,) and offset (n, 2) of stars, float64."""

    flux: np.ndarray
    background: np.ndarray
    delta: np.ndarray


def held_out_stars(truth, size=25, n=HELD_OUT):
    """Clean bright stars which no ePSF has seen, always the same for a truth."""
    flux = np.random.default_rng(HELD_OUT_SEED).uniform(*HELD_OUT_FLUX, n)
    return simulate_stamps(truth, n, size, seed=HELD_OUT_SEED, flux=flux, clean=True)


def catmull_rom_of(grid, oversample):
    """Function (dy, dx) -> values of the ePSF `grid`, as psflib evaluates it."""
    grid = np.ascontiguousarray(grid, np.float64)
    centre = (len(grid) - 1) / 2

    def interpolate(dy, dx):
        dy, dx = np.broadcast_arrays(np.asarray(dy, float), np.asarray(dx, float))
        out = np.empty(dy.size)
        sample_grid(grid, centre + oversample * dy.ravel(), centre + oversample * dx.ravel(), out)
        return out.reshape(dy.shape)

    return interpolate


def relative_l2(grid, truth, oversample):
    """Relative error of an ePSF on its nodes, and the shift (row, col) in px at which it holds.

    The truth moves, not the grid, so that no interpolation enters.  Nodes beyond s/2 - 1.5 px
    from the centre are left out.

    Parameters
    ----------
    grid : ndarray (os·s, os·s)
    truth : EpsfTruth, or another with `at(dy, dx)`
    oversample : int

    Returns
    -------
    float, ndarray (2,)
    """
    rows, cols, inside = _compared_nodes(len(grid), oversample)
    values = np.asarray(grid, float)[inside]
    if not np.isfinite(values).all() or not values.any():
        return np.inf, np.zeros(2)

    def error(shift):
        model = truth.at(rows - shift[0], cols - shift[1])
        scale = (values @ model) / (values @ values)
        return (scale * values - model) / np.linalg.norm(model)

    best = least_squares(error, np.zeros(2), diff_step=1e-3, x_scale=0.1)
    return float(np.linalg.norm(best.fun)), best.x


def shape_error(grid, truth, oversample):
    """Errors of the relative FWHM and of the shear (g1, g2) of an ePSF.

    Least squares of the ePSF by the truth and its derivatives by factor, position, FWHM and shear,
    on the nodes of `relative_l2`; for errors so small that this is linear.

    Parameters
    ----------
    grid : ndarray (os·s, os·s)
    truth : EpsfTruth
    oversample : int

    Returns
    -------
    ndarray (3,)
        FWHM/true - 1, g1 - true, g2 - true.
    """
    rows, cols, inside = _compared_nodes(len(grid), oversample)
    changes = {"fwhm": truth.fwhm * STEP, "g1": STEP, "g2": STEP}
    columns = [truth.at(rows, cols)]
    columns += [truth.at(rows - STEP, cols) - truth.at(rows + STEP, cols)]
    columns += [truth.at(rows, cols - STEP) - truth.at(rows, cols + STEP)]
    for name, step in changes.items():
        values = (getattr(truth, name) + sign * step for sign in (1, -1))
        sides = (dataclasses.replace(truth, **{name: value}) for value in values)
        plus, minus = (side.integrate(rows, cols) for side in sides)
        columns.append((plus - minus) / (2 * STEP))
    found = np.linalg.lstsq(np.stack(columns, axis=-1), np.asarray(grid, float)[inside], rcond=None)
    return found[0][3:] / found[0][0]


def field_shape_errors(psf, truth):
    """rms over 5 x 5 places of the errors of FWHM (relative), g1 and g2 of a `PsfField`."""
    ny, nx = truth.shape
    places = [(x, y) for x in np.linspace(0, nx - 1, 5) for y in np.linspace(0, ny - 1, 5)]
    errors = [shape_error(psf.epsf(x, y), truth.place(x, y), psf.oversample) for x, y in places]
    return np.sqrt(np.mean(np.square(errors), axis=0))


def measure_stars(interpolate, stamps, shift=(0.0, 0.0)):
    """Fit flux, background and position of every star, by Gauss-Newton from the true position.

    Parameters
    ----------
    interpolate : callable (dy, dx) -> values
        The ePSF by the interpolation of the tool that made it.
    stamps : StarStamps
    shift : (row, col)
        Of the ePSF's centre from the truth's, px, as `relative_l2` finds it.

    Returns
    -------
    MeasuredStars
    """
    size = stamps.data.shape[1]
    pixel = np.arange(size) - (size - 1) / 2
    data, weight = stamps.data.astype(float), stamps.weight.astype(float)
    delta = stamps.delta - np.asarray(shift)
    linear = np.zeros((len(data), 4))
    for _ in range(N_STEPS):
        row = pixel[None, :, None] - delta[:, 0, None, None]
        col = pixel[None, None, :] - delta[:, 1, None, None]
        slope_row = (interpolate(row - STEP, col) - interpolate(row + STEP, col)) / (2 * STEP)
        slope_col = (interpolate(row, col - STEP) - interpolate(row, col + STEP)) / (2 * STEP)
        columns = [interpolate(row, col), np.ones_like(data), slope_row, slope_col]
        linear = _solve(np.stack(columns, axis=-1), data, weight)
        move = linear[:, 2:] / np.where(linear[:, :1] == 0, np.inf, linear[:, :1])
        delta = delta + np.clip(np.nan_to_num(move), -MAX_MOVE, MAX_MOVE)
    return MeasuredStars(linear[:, 0], linear[:, 1], delta)


def score_epsf(grid, truth, oversample, held_out, interpolate=None):
    """All scores of an ePSF; it gets the truth's volume first.

    Parameters
    ----------
    grid : ndarray (os·s, os·s)
    truth : EpsfTruth
    oversample : int
    held_out : StarStamps
        Of `held_out_stars`, with stamps of the same side s.
    interpolate : callable (dy, dx) -> values, optional
        By default Catmull-Rom, as psflib evaluates an ePSF.

    Returns
    -------
    EpsfScore
    """
    error, shift = relative_l2(grid, truth, oversample)
    node = node_offsets(len(grid) // oversample, oversample)
    volume = truth.at(node[:, None], node[None, :]).sum() / np.sum(grid)
    interpolate = interpolate or catmull_rom_of(grid, oversample)
    fits = measure_stars(lambda dy, dx: volume * interpolate(dy, dx), held_out, -shift)
    return _summarise(error, fits, held_out)


def score_floor(truth, held_out):
    """Scores of the truth itself: what the noise of the held-out stars allows."""
    return _summarise(0.0, measure_stars(truth.at, held_out), held_out)


def _compared_nodes(side, oversample):
    """Offsets (rows, cols) of the nodes that count, and where they are (side, side)."""
    node = (np.arange(side) - (side - 1) / 2) / oversample
    inside = np.hypot(node[:, None], node[None, :]) < side / oversample / 2 - EDGE
    rows, cols = np.broadcast_arrays(node[:, None], node[None, :])
    return rows[inside], cols[inside], inside


def _summarise(error, fits, held_out):
    ratio = fits.flux / held_out.flux
    good = np.isfinite(ratio) & np.isfinite(fits.delta).all(axis=1)
    moved = (fits.delta - held_out.delta)[good]
    return EpsfScore(
        error,
        float(np.mean(ratio[good]) - 1),
        float(np.std(ratio[good])),
        float(np.sqrt(np.mean(np.var(moved, axis=0)))),
        int((~good).sum()),
    )


def _solve(columns, data, weight):
    """Weighted least squares of every star: columns (n, s, s, p) -> coefficients (n, p)."""
    weighted = columns * weight[..., None]
    normal = np.einsum("nijp,nijq->npq", weighted, columns)
    right = np.einsum("nijp,nij->np", weighted, data)
    scale = np.sqrt(np.einsum("npp->np", normal))
    scale[scale == 0] = 1.0
    normal = normal / (scale[:, :, None] * scale[:, None, :]) + 1e-12 * np.eye(len(scale[0]))
    return np.linalg.solve(normal, (right / scale)[..., None])[..., 0] / scale
