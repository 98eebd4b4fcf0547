"""Flux scale and displacement between two images, from what proper subtraction subtracts.

In D = c_n N - c_r R both terms have the same PSF and, together, white noise.  With a scale q and a
displacement (dx, dy) of the template

    c_n N  =  q [c_r R - dx d(c_r R)/dx - dy d(c_r R)/dy] + background,

solved by Gauss-Newton steps with these derivatives, on the pixels that matter.  Both sides have
noise: the derivative to q is taken of the weighted mean of both, as an exact fit of a line through
points with errors in both coordinates asks for (York 1966), or q would come out too small.
"""

import dataclasses

import numpy as np

from psflib.image import polynomial
from psflib.matching import bounds
from psflib.settings.subtract import MOST_FLUX_RANGE

MOST_PIXELS = 200_000
LEAST_PIXELS = 10
ROUNDS = 12
HUBER = 3.0  # sigma, beyond which a pixel's weight falls
MODEL_ERROR = 0.02  # of the light of a pixel, that the PSFs may be wrong by
LARGEST_SHIFT = 0.5  # px


@dataclasses.dataclass(frozen=True, eq=False)
class Alignment:
    """What makes the template fit.

    scale : ndarray (n_terms,)
        Chebyshev coefficients over the field of the factor to the template's light.
    order : int
        Their degree.
    shift : (dx, dy)
        Displacement to be applied to the template, px.
    n_pixels : int
        That entered the fit.
    notes : list of str
    """

    scale: np.ndarray
    order: int
    shift: tuple[float, float]
    n_pixels: int
    notes: list[str]

    @classmethod
    def trivial(cls, note):
        return cls(np.ones(1), 0, (0.0, 0.0), 0, [note])


def fit_alignment(
    planes, variances, select, order=0, fit_scale=True, fit_shift=True, most=MOST_FLUX_RANGE
) -> Alignment:
    """Scale and displacement by Gauss-Newton.

    Parameters
    ----------
    planes : dict of ndarray (ny, nx)
        science, template, slope_x, slope_y, as of `filtered_images`.
    variances : (ndarray, ndarray)
        About the variance of each pixel of the first two (ADU²).
    select : ndarray (ny, nx) bool
        Pixels to use.
    order : int
        Highest degree of the scale's variation; lowered if the pixels cover too little, or until
        the scale is positive and within bounds all over the field.
    most : float
        See `psflib.settings.subtract.FluxRange`.
    """
    y, x = np.nonzero(select)
    if len(y) < LEAST_PIXELS:
        return Alignment.trivial(
            f"scale and displacement not fitted: {len(y)} usable pixels, {LEAST_PIXELS} needed"
        )
    step = -(-len(y) // MOST_PIXELS)
    y, x = y[::step], x[::step]
    shape, order = select.shape, _order(x, y, select.shape, order) if fit_scale else 0
    data = {name: plane[y, x].astype(float) for name, plane in planes.items()}
    noise = [v[y, x].astype(float) for v in variances]
    notes = []
    while True:
        terms = polynomial.evaluate(order, x, y, shape)
        scale, shift = _gauss_newton(data, noise, terms, fit_scale, fit_shift)
        fault = _fault(scale, terms, order, shape, most)
        if fault is None or order == 0:
            break
        notes.append(f"{fault}: its degree is {order - 1}, not {order}")
        order -= 1
    if np.abs(shift).max() > LARGEST_SHIFT:
        notes.append(
            f"displacement ({shift[0]:.2f}, {shift[1]:.2f}) px cut to {LARGEST_SHIFT} px: "
            "are the images aligned?"
        )
        shift = np.clip(shift, -LARGEST_SHIFT, LARGEST_SHIFT)
    if fault is not None:
        return Alignment.trivial("scale and displacement not fitted: the scale is not positive")
    return Alignment(scale, order, (float(shift[0]), float(shift[1])), len(y), notes)


def _fault(scale, terms, order, shape, most):
    """What is wrong with a scale over the field, in words; None if nothing is."""
    if not np.isfinite(scale).all():
        return "the flux scale is not finite"
    known = scale @ terms
    field = polynomial.product_map(scale, order, shape, float)
    low, high, middle = known.min(), known.max(), np.median(known)
    runs = f"the flux scale runs from {field.min():.4g} to {field.max():.4g} over the field"
    if not field.min() > 0 or max(high / middle, middle / low) > most:
        return runs
    slack = bounds.BEYOND * middle
    if field.min() < low - slack or field.max() > high + slack:
        return f"{runs}, from {low:.4g} to {high:.4g} among its sources"
    return None


def _gauss_newton(data, noise, terms, fit_scale, fit_shift):
    """Coefficients of the scale, and (dx, dy)."""
    n_scale = len(terms) if fit_scale else 0
    scale, shift, background = np.eye(1, len(terms))[0], np.zeros(2), 0.0
    for _ in range(ROUNDS):
        q = scale @ terms
        moved = data["template"] - shift[0] * data["slope_x"] - shift[1] * data["slope_y"]
        rest = data["science"] - background - q * moved
        variance = noise[0] + q**2 * noise[1]
        light = (moved * noise[0] + q * (data["science"] - background) * noise[1]) / variance
        variance = variance + np.square(MODEL_ERROR * q * light)
        z = np.abs(rest) / np.sqrt(variance)
        spread = max(1.0, 1.4826 * float(np.median(z)))
        weight = 1 / variance / np.maximum(1, z / (HUBER * spread))
        columns = [*(terms[:n_scale] * light)]
        if fit_shift:
            columns += [-q * data["slope_x"], -q * data["slope_y"]]
        columns.append(np.ones(len(q)))
        step = _solve(np.array(columns), weight, rest)
        scale[:n_scale] += step[:n_scale]
        if fit_shift:
            shift += step[n_scale : n_scale + 2]
        background += step[-1]
        if np.abs(step[:-1]).max(initial=0) < 1e-6:
            break
    return scale, shift


def _solve(design, weight, rest):
    """Weighted least squares; columns of any scale."""
    size = np.sqrt(np.maximum((design**2 * weight).sum(1), 1e-300))
    design = design / size[:, None]
    weighted = design * weight
    return np.linalg.lstsq(weighted @ design.T, weighted @ rest, rcond=1e-10)[0] / size


def _order(x, y, shape, order):
    """Highest degree for which the pixels cover enough of a 4 x 4 grid of cells."""
    cells = len(np.unique(4 * y // shape[0] * 4 + 4 * x // shape[1]))
    return max(o for o in range(order + 1) if o == 0 or cells >= 2 * polynomial.n_terms(o))
