"""How much of a source's change of flux the fit has taken for the kernel's."""

import numpy as np
from scipy import linalg

from psflib.image import polynomial
from psflib.matching.solve import RIDGE, unit_diagonal

MOST = 0.9  # beyond this a source is nearly all that is known of the kernel around it


def leverage(design, matrix, source, listed, model, weight) -> np.ndarray:
    """Share of a listed source's change of flux that the fitted kernel absorbs, (len(listed),).

    g C g / sum(w m²), with m the model, C the inverse of the normal matrix and g = sum(w m x) over
    the source's pixels: held out, its residual would be 1 / (1 - share) times as large (the
    polynomials are taken at the source's mean position).

    Parameters
    ----------
    design : equations.Design
    matrix : ndarray (n, n)
        Normal matrix, with prior, of the fit.
    source : ndarray (pixels,) int64
        Source of each fit pixel, -1 for none.
    listed : ndarray of int
        Sources asked for.
    model, weight : ndarray (pixels,)
    """
    number = np.full(max(source.max(initial=-1), listed.max(initial=-1)) + 2, -1)
    number[listed] = np.arange(len(listed))
    inside = np.flatnonzero((number[source] >= 0) & (weight > 0))
    which, count = number[source[inside]], len(listed)
    light = (weight * model)[inside]

    def sums(values):
        return np.bincount(which, values, count)

    pixels = np.maximum(sums(np.ones(len(which))), 1)
    x, y = sums(design.at.x[inside]) / pixels, sums(design.at.y[inside]) / pixels
    terms = polynomial.evaluate(design.layout.top, x, y, design.shape)
    columns = np.array([*(sums(light * c[inside]) for c in design.columns), sums(light)])
    seen = (columns[:, None] * terms).reshape(-1, count)[design.layout.index]
    scaled, scale = unit_diagonal(matrix, RIDGE)
    seen *= scale[:, None]
    power = np.maximum(sums(light * model[inside]), 1e-300)
    known = linalg.solve(scaled, seen, assume_a="pos", check_finite=False)
    return np.clip(np.sum(seen * known, 0) / power, 0, MOST)
