"""Normal equations of an oversampled model as a stencil of 7 × 7 neighbours.

A pixel of a star sees 4 × 4 coefficients of a cubic B-spline, with weights that factor into rows
and columns, so AᵀWA joins coefficients at most 3 apart.  By symmetry 25 planes hold it:
`planes[lag(da, db), r, c]` is the element of the nodes (r, c) and (r + da, c + db), for da = 0,
db = 0 ... 3 and da = 1 ... 3, db = -3 ... 3.  Rows and columns are summed one after the other,
which leaves long sums over neighbouring columns: about 170 multiply-adds a pixel, four or eight at
a time, instead of 136 scattered ones.
"""

import numpy as np

from psflib.loops._numba import loop
from psflib.loops.splines import place


@loop
def lag(da, db):
    """Index of the plane of lag (da, db)."""
    return db if da == 0 else 4 + 7 * (da - 1) + db + 3


@loop
def add_gram(weight, row_start, row_taps, col_start, col_taps, planes):
    """planes += Σ weight·(row taps × column taps)² over the pixels (row, col); 0 or less: none.

    `start` (pixel,), `taps` (pixel, 4) along each axis as in `psflib.loops.splines`.
    """
    side = planes.shape[1]
    products = np.empty((4, side))
    for i in range(weight.shape[0]):
        for d in range(4):
            for k in range(side):
                products[d, k] = 0.0
        for j in range(weight.shape[1]):
            w = weight[i, j]
            if w <= 0:
                continue
            for d in range(4):
                for b in range(4 - d):
                    product = w * col_taps[j, b] * col_taps[j, b + d]
                    products[d, col_start[j] + b] += product
        for a in range(4):
            for da in range(4 - a):
                factor = row_taps[i, a] * row_taps[i, a + da]
                if factor != 0:
                    add_row(products, factor, row_start[i] + a, da, planes)


@loop
def add_row(products, factor, row, da, planes):
    """Add one row of products to the planes of row lag `da`, column lags of both signs."""
    side = products.shape[1]
    for d in range(4):
        plane = lag(da, d)
        for k in range(side):
            planes[plane, row, k] += factor * products[d, k]
    if da == 0:
        return
    for d in range(1, 4):
        plane = lag(da, -d)
        for k in range(side - d):
            planes[plane, row, k + d] += factor * products[d, k]


@loop
def normal_planes(weight, scale, delta, oversample, first, blocks, planes):
    """planes += Σ_n scale[n]²·AᵀWA of star n; pixels whose taps leave the grid are left out.

    `first`, `blocks`: see `psflib.psf.core.mesh.Mesh`.
    """
    n_stars, size, _ = weight.shape
    row_start, col_start = np.empty(size, np.int64), np.empty(size, np.int64)
    row_taps, col_taps, slope = np.empty((size, 4)), np.empty((size, 4)), np.empty((size, 4))
    own = np.empty((size, size))
    for n in range(n_stars):
        square = scale[n] * scale[n]
        if not square > 0:
            continue
        top, bottom = place(oversample, delta[n, 0], first, blocks, row_start, row_taps, slope)
        left, right = place(oversample, delta[n, 1], first, blocks, col_start, col_taps, slope)
        for i in range(size):
            for j in range(size):
                whole = top <= i < bottom and left <= j < right
                own[i, j] = square * weight[n, i, j] if whole else 0.0
        add_gram(own, row_start, row_taps, col_start, col_taps, planes)


@loop
def apply_planes(planes, vector, out):
    """out = H·vector for a symmetric H in planes; `vector`, `out` (side, side)."""
    side = vector.shape[0]
    for r in range(side):
        for c in range(side):
            out[r, c] = planes[0, r, c] * vector[r, c]
    for da in range(4):
        for db in range(-3 if da else 1, 4):
            plane = lag(da, db)
            for r in range(side - da):
                for c in range(max(0, -db), side - max(0, db)):
                    h = planes[plane, r, c]
                    out[r, c] += h * vector[r + da, c + db]
                    out[r + da, c + db] += h * vector[r, c]
