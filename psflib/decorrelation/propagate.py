"""Variance and covariance of a filtered difference, from those of the two images.

Noise of correlation rho and variance V that went through a filter c has the covariance

    C(lag) = V * F^-1[ |c(k)|² rho(k) ](lag)

and where V varies, c² carries it: V' = c² conv V, and the same scale for the correlation.
"""

import dataclasses
from typing import Any

import numpy as np
from scipy import fft

from psflib.decorrelation.filters import cut, reach, spectrum
from psflib.image.convolve import (
    VaryingKernel,
    bilinear,
    blend_nodes,
    convolve_by_tiles,
    edge_grid,
    fft_convolve,
)
from psflib.image.covariance import LAGS, CovarianceMaps, cell_centres, cell_means

TILE = 64  # px, tiles with one squared filter each
NODES = 9  # nodes an axis at which squared filters are computed, if anything varies
LOST = 2e-3  # share of a squared filter's sum that may be moved inwards


@dataclasses.dataclass(frozen=True)
class NoiseOfInputs:
    """What is known of the noise that went into a difference.

    still, moved : ndarray (ny, nx) float32
        Variance (ADU², > 0 everywhere) of the image that was not convolved and of the other.
        `moved` may be None: all the noise is in `still`.
    rho_s, rho_t : ndarray (odd, odd) or None
        Noise correlation of each; None means white.
    kernel : object with ``at(x, y) -> (k, k)``
        What `moved` went through.
    pre : object with ``at(x, y)``, optional
        What `still` went through, in score mode.
    """

    still: np.ndarray
    moved: np.ndarray | None
    rho_s: np.ndarray | None
    rho_t: np.ndarray | None
    kernel: Any
    pre: Any = None


def propagate(inputs: NoiseOfInputs, whitening: VaryingKernel | None = None):
    """Variance and covariance of the difference after the filter; of the raw one without.

    Returns
    -------
    variance : ndarray (ny, nx) float32
        ADU², in units of the image that was not convolved.
    covariance : CovarianceMaps
    """
    parts = (
        (inputs.still, inputs.rho_s, [whitening, inputs.pre]),
        (inputs.moved, inputs.rho_t, [whitening, inputs.kernel]),
    )
    x, y = _nodes(inputs.still.shape, [whitening, inputs.pre, inputs.kernel])
    variance: Any = None
    maps: Any = 0.0
    for plane, rho, filters in parts:
        if plane is None:
            continue
        squares, gains = _through(x, y, [f for f in filters if f is not None], rho)
        carried = blend_nodes(squares, x, y, LOST).on_tiles(plane.shape, TILE)
        part = convolve_by_tiles(plane, carried, TILE)
        variance = part if variance is None else np.add(variance, part, out=variance)
        maps = maps + _maps(plane, gains, x, y)
    return variance, CovarianceMaps(maps.astype(np.float32))


def _nodes(shape, filters):
    """Grid on which the filters are squared: one node if none of them varies."""
    x, y = edge_grid(shape, 3)
    for f in filters:
        known = [] if f is None else [f.at(i, j) for i in x for j in y]
        if any(np.abs(k - known[0]).max() > 1e-6 * np.abs(k).max() for k in known):
            return edge_grid(shape, NODES)
    return edge_grid(shape, 1)


def _through(x, y, filters, rho):
    """Squares (n_y, n_x, k, k) of the combined filters, and their gains of the covariances.

    Both are relative to the variance of noise of correlation `rho`.
    """
    combined = np.array([[_combined([f.at(i, j) for f in filters]) for i in x] for j in y])
    lags = 1 if rho is None else rho.shape[0]
    side = fft.next_fast_len(2 * combined.shape[-1] + lags, real=True)
    power = np.abs(spectrum(combined, side)) ** 2
    if rho is not None:
        power *= spectrum(rho, side).real
    gain = fft.irfft2(power, (side, side))
    squares = np.square(combined)
    squares *= (gain[..., 0, 0] / squares.sum((-2, -1)))[..., None, None]
    return _core(squares), np.array([gain[..., dy, dx] for dy, dx in LAGS])


def _combined(filters):
    """One filter that does what all of them do, one after the other."""
    total = np.ones((1, 1))
    for f in filters:
        total = f if total.size == 1 else fft_convolve(total, f, full=True)
    return total


def _core(squares):
    """Squared filters (n_y, n_x, k, k) cut to where they matter, each of the sum that it had."""
    flat = squares.reshape(-1, *squares.shape[2:])
    inner = cut(squares, reach(flat, LOST))
    return inner * squares.sum((-2, -1), keepdims=True)


def _maps(plane, gains, x, y):
    """Covariances (lags, ny, nx) that noise of variance `plane` leaves in each cell."""
    at_x, at_y = cell_centres(plane.shape)
    return bilinear(gains, x, y, at_x[None, :], at_y[:, None]) * cell_means(plane)
