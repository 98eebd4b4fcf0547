"""What a kernel over the field may not be: of a negative or wild sum, or a guess beyond its stars.

Polynomials run away where no star holds them: held-out cells once chose a flux scale of degree 2
that was -322 in a corner.  A kernel is judged at the nodes of a grid, by whether they stand among
the stars that tell its sum (in their convex hull) or beyond; until it is sane, its degrees fall.
"""

import dataclasses
import logging
from collections.abc import Callable

import numpy as np
from scipy import spatial

from psflib.errors import BadImage
from psflib.image.convolve import edge_grid
from psflib.matching.kernel import MatchingKernel
from psflib.settings.subtract import MOST_FLUX_RANGE

log = logging.getLogger(__name__)

NODES = 33  # an axis, at which the sum is looked at ...
SHAPES = 9  # ... and the shape
BEYOND = 0.1  # of the median sum, by which it may leave the range among the stars beyond them
GROWTH = 3.0  # times its largest power among the stars, that a kernel of unit sum may have beyond
UNLIKE = 1.5  # factor between the median sum and the ratio of the stars' fluxes in apertures
CANNOT_FOLLOW = 1.4  # chi-square per pixel of the sources: 1.0 to 1.2 on scenes and real pairs


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A kernel, the degrees that it was fitted with, and the stars (px) that tell its sum.

    ratio : of the stars' fluxes in apertures at the centre of the field, the image that is not
    convolved over the other one; NaN if unknown
    """

    kernel: MatchingKernel
    order: int
    flux_order: int
    x: np.ndarray
    y: np.ndarray
    ratio: float = float("nan")


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is wrong with a kernel: of its sum or of its shape, in words."""

    of_sum: bool
    reason: str


def within_bounds(
    fit: Callable[[int, int], Fitted], order: int, flux_order: int, most: float = MOST_FLUX_RANGE
) -> MatchingKernel:
    """The kernel of the highest degrees at which it is sane.

    Parameters
    ----------
    fit : callable (order, flux_order) -> Fitted
        The fit with these highest degrees.
    most : float
        See `FluxRange`.

    Returns
    -------
    MatchingKernel
        In its `meta`: `kernel_sum_min` and `kernel_sum_max`, the flux scale's range among the
        stars (science flux of unit template flux), and `notes`, why degrees were lowered.

    Raises
    ------
    BadImage
        No degree is.
    """
    notes: list[str] = []
    while True:
        fitted = fit(order, flux_order)
        fault = find_fault(fitted, most)
        if fault is None:
            break
        order, flux_order = fitted.order, min(fitted.flux_order, flux_order)
        if order == flux_order == 0:
            raise BadImage(
                f"{fault.reason}, even if it is the same all over the field: do science and "
                "template show the same sky, aligned, in images that are linear?"
            )
        before = order, flux_order
        if flux_order > 0 and (fault.of_sum or order == 0):
            flux_order -= 1
        else:
            order -= 1
        notes.append(
            f"{fault.reason}: degrees of kernel and flux scale lowered from {before[0]}, "
            f"{before[1]} to {order}, {flux_order}"
        )
        log.warning("%s", notes[-1])
    kernel = fitted.kernel
    misfit = kernel.meta.get("chi2", 1.0)
    if misfit > CANNOT_FOLLOW:
        notes.append(
            f"the kernel cannot follow: chi-square {misfit:.2f} per pixel of its sources (1 is "
            f"right); held-out stars by S/N: {_held_out(kernel)}"
        )
        log.warning("%s", notes[-1])
    low, high = sum_range(kernel, fitted.x, fitted.y)
    kernel.meta.update(
        kernel_sum_min=low, kernel_sum_max=high, notes=[*kernel.meta.get("notes", ()), *notes]
    )
    return kernel


def _held_out(kernel):
    """Residuals of held-out stars in words."""
    pairs = zip(
        kernel.meta.get("heldout_snr", ()), kernel.meta.get("heldout_residual", ()), strict=True
    )
    told = [f"{rms:.1f} sigma above {snr:.0f}" for snr, rms in pairs if np.isfinite(rms)]
    return ", ".join(told) or "unknown"


def sum_range(kernel: MatchingKernel, x, y) -> tuple[float, float]:
    """Least and largest flux scale among stars at (x, y), science flux of unit template flux."""
    nodes, inside = _nodes(kernel.shape, x, y, NODES)
    scales = kernel.flux_scale(*nodes[:, inside])
    return float(scales.min()), float(scales.max())


def find_fault(fitted: Fitted, most: float = MOST_FLUX_RANGE) -> Fault | None:
    """What is wrong with a kernel; None if it is sane."""
    return _fault_of_sum(fitted, most) or _fault_of_shape(fitted)


def _fault_of_sum(fitted, most):
    kernel = fitted.kernel
    nodes, inside = _nodes(kernel.shape, fitted.x, fitted.y, NODES)
    sums = kernel.kernel_sum(*nodes)
    among, beyond = sums[inside], sums[~inside]
    low, high, middle = among.min(), among.max(), np.median(among)
    runs = f"the kernel's sum runs from {low:.4g} to {high:.4g} over its {len(fitted.x)} stars"
    if not (np.isfinite(sums).all() and low > 0):
        return Fault(True, runs)
    if max(high / middle, middle / low) > most:
        return Fault(True, f"{runs}, more than a factor {most:g} from its median {middle:.4g}")
    if max(fitted.ratio / middle, middle / fitted.ratio) > UNLIKE:
        return Fault(True, f"{runs}, whose fluxes ask for {fitted.ratio:.4g}")
    slack = BEYOND * middle
    if len(beyond) and not (low - slack <= beyond.min() and beyond.max() <= high + slack):
        return Fault(
            True, f"{runs}, and from {beyond.min():.4g} to {beyond.max():.4g} where there are none"
        )
    return None


def _fault_of_shape(fitted):
    kernel = fitted.kernel
    nodes, inside = _nodes(kernel.shape, fitted.x, fitted.y, SHAPES)
    power = np.array([np.square(kernel.at(x, y)).sum() for x, y in nodes.T])
    power /= np.square(kernel.kernel_sum(*nodes))
    among, beyond = power[inside].max(), power[~inside]
    if len(beyond) and not beyond.max() <= GROWTH * among:
        return Fault(
            False,
            f"the kernel amplifies noise by up to {np.sqrt(among):.3g} among its {len(fitted.x)} "
            f"stars, by {np.sqrt(beyond.max()):.3g} where there are none",
        )
    return None


def _nodes(shape, x, y, count):
    """Positions (2, n) of the stars and of a grid over the field; which are among the stars."""
    grid = np.array(np.meshgrid(*edge_grid(shape, count))).reshape(2, -1)
    stars = np.array([x, y], float)
    inside = np.zeros(grid.shape[1], bool)
    if stars.shape[1] > 2 and np.linalg.matrix_rank(stars - stars.mean(1, keepdims=True)) == 2:
        inside = spatial.Delaunay(stars.T).find_simplex(grid.T) >= 0
    return np.concatenate([stars, grid], 1), np.r_[np.ones(stars.shape[1], bool), inside]
