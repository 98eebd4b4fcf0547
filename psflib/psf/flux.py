"""Flux and background of stars under a known PSF."""

import dataclasses

import numpy as np

from psflib.image.checks import require_array, require_model, require_weight
from psflib.loops.nuisance import solve_stars


@dataclasses.dataclass(frozen=True, eq=False)
class FluxBackground:
    """Per star, shape (n,): `flux`, `background` (float64, NaN where not ok) and `ok` (bool)."""

    flux: np.ndarray
    background: np.ndarray
    ok: np.ndarray


def solve_flux_background(epsf, oversample, data, delta, *, weight=None):
    """Fit data = flux·PSF + background to every stamp, at a fixed position.

    Exact weighted linear least squares, two unknowns a star.  The model is sampled at the
    centre of each pixel: the response of the pixel is part of an effective PSF.

    Parameters
    ----------
    epsf : ndarray (os·s, os·s) float64
        Oversampled effective PSF.
    oversample : int
        os, odd.
    data : ndarray (n, s, s) float32 or float64
    delta : ndarray (n, 2) float64
        Offset (row, col) of each star from the centre pixel of its stamp, px.
    weight : ndarray (n, s, s) of the dtype of `data`, optional
        Inverse variances.

    Returns
    -------
    FluxBackground
        `ok` is False for a star with fewer than 3 valid pixels or a singular system.

    Raises
    ------
    ValueError
        For wrong shapes, dtypes or an even `oversample`.
    """
    epsf, oversample, size = require_model("epsf", epsf, oversample)
    stamps = require_array("data", data, 3)
    delta = require_array("delta", delta, 2, (np.float64,))
    require_batch(stamps, delta, size)
    weights = require_weight(weight, data)
    n = len(stamps)
    flux, background, ok = np.empty(n), np.empty(n), np.empty(n, bool)
    solve_stars(epsf, oversample, stamps, weights, delta, flux, background, ok)
    return FluxBackground(flux, background, ok)


def require_batch(data, delta, size):
    """Check that `data` is (n, size, size) and `delta` (n, 2)."""
    n = len(data)
    if data.shape[1:] != (size, size) or delta.shape != (n, 2):
        raise ValueError(
            f"batch dimensions disagree: data {data.shape}, delta {delta.shape}, "
            f"expected ({n}, {size}, {size}) and ({n}, 2)"
        )
