"""The matched filter: how significant is a point source at each pixel."""

import numpy as np

from psflib.image.convolve import (
    VaryingKernel,
    bilinear,
    blend_nodes,
    convolve_by_tiles,
    edge_grid,
    node_grid,
)
from psflib.image.difference import Difference
from psflib.image.weights import weight_variance

NODES = 5, 9  # an axis, at which the PSF is computed: as the whitening filter, within these
TILE = 64  # px, tiles with one squared PSF each
WIDE = 61  # px, box over which the PSF has unit sum
INNER, EDGE = 2.0, 0.6  # FWHM within which its light is told, and softness of that border in px
COVERED = 0.5  # share of the PSF that must fall on usable pixels
FEWEST = 1000  # values that a scatter is taken from
CELLS, LEAST_CELL = 8, 128  # of the score's scatter: most an axis, smallest side in px
ROWS = 256  # rows at a time of what needs float64 planes


def score(difference: Difference) -> np.ndarray:
    """Significance of a point source centred on each pixel, in sigma.

    The optimal filter for white noise of known variance (e.g. Zackay & Ofek 2017, ApJ 836, 187):
    sum(phi D / V) / sqrt(sum(phi² / V)), with masked pixels left out; 0 where less than half of
    the PSF falls on usable pixels.

    Returns
    -------
    ndarray (ny, nx) float32
    """
    psf = reversed_psf(difference)
    usable = difference.usable & (difference.variance > 0)
    weight = np.zeros(difference.shape, np.float32)
    variance = weight_variance(difference.image, difference.variance, usable)
    np.divide(1, variance, out=weight, where=usable)
    power = _squared(psf, weight)
    covered = power > 1e-6 * np.median(power[::7, ::7])
    out = psf.convolve(difference.image * weight)
    np.divide(out, np.sqrt(power, out=power, where=covered), out=out, where=covered)
    central = psf.at((out.shape[1] - 1) / 2, (out.shape[0] - 1) / 2)
    np.copyto(weight, usable)
    covered &= convolve_by_tiles(weight, central[None], max(out.shape)) >= COVERED
    out[~covered] = 0
    return out


def reversed_psf(difference: Difference) -> VaryingKernel:
    """The PSF turned by 180 degrees, so that convolving with it correlates with the PSF.

    Cut from a PSF of unit sum over a wider box and not normalised again: fluxes are those of the
    whole PSF, not of the part that the filter sees (2 % at 2.5 FWHM).
    """
    size = psf_size(difference)
    edge = max(WIDE - size, 0) // 2
    x, y = edge_grid(difference.shape, _nodes(difference))
    wide = [[difference.psf_at(i, j, size + 2 * edge)[::-1, ::-1] for i in x] for j in y]
    inner = slice(edge, edge + size)
    factors = inner_light(difference.psf, x, y)[:, :, None, None]
    return blend_nodes(factors * np.array(wide)[:, :, inner, inner], x, y)


def inner_light(psf, x, y) -> np.ndarray:
    """Factors (n_y, n_x) by which PSFs of unit sum have the same light within 2 FWHM all over.

    Their widths are told well at every place, their light beyond is not: polynomials of 70 stars
    leave it off by 3 % in the corners, and with it every flux; so it is that of the middle of all.

    Parameters
    ----------
    psf : object with ``at(x, y, size)``
    x, y : ndarray (n_x,), (n_y,)
        Places, px.
    """
    j, i = np.mgrid[-(WIDE // 2) : WIDE // 2 + 1, -(WIDE // 2) : WIDE // 2 + 1]
    radius, light = np.hypot(j, i), np.empty((len(y), len(x)))
    for row, column in np.ndindex(*light.shape):
        image = psf.at(x[column], y[row], WIDE)
        fwhm = 2.355 / np.sqrt(4 * np.pi * np.square(image).sum())  # as that of a Gaussian
        edge = np.clip((INNER * fwhm - radius) / EDGE, -30, 30)
        light[row, column] = np.sum(image / (1 + np.exp(-edge)))
    good = light > 0
    middle = np.median(light[good]) if good.any() else 1.0
    return np.where(good, middle / np.where(good, light, 1), 1)


def _nodes(difference):
    """Nodes an axis; between those of its filter the PSF of a whitened difference is linear."""
    filter_ = difference.whitening
    return int(np.clip(1 if filter_ is None else len(filter_.weights.x), *NODES))


def _squared(psf, weight):
    """Sum of phi² / V at each pixel."""
    kernels = np.square(psf.on_tiles(weight.shape, TILE))
    return convolve_by_tiles(weight, kernels, TILE, tolerance=1e-3)


def psf_size(difference: Difference) -> int:
    """Odd side of the box that the PSF needs: 2.5 FWHM to each side."""
    ny, nx = difference.shape
    psf = difference.psf_at((nx - 1) / 2, (ny - 1) / 2, 31)
    area = 1 / np.square(psf).sum()  # noise area of a Gaussian: 4 pi sigma²
    fwhm = 2.355 * np.sqrt(area / (4 * np.pi))
    return 2 * int(np.ceil(2.5 * fwhm)) + 1


def scatter(values: np.ndarray) -> float:
    """Standard deviation about 0 (n,), robust; NaN if there are too few values."""
    return 1.4826 * float(np.median(np.abs(values))) if values.size > FEWEST else float("nan")


def score_cells(shape):
    """Centres (x, y) of the cells of a field (ny, nx) in which a score's scatter is measured, and
    the part of it that each (row, column) of them is."""
    counts = [max(1, min(CELLS, n // LEAST_CELL)) for n in shape]
    x, y = node_grid(shape, counts[1])[0], node_grid(shape, counts[0])[1]
    rows, columns = (
        np.linspace(0, n, c + 1).astype(int) for n, c in zip(shape, counts, strict=True)
    )
    return (
        x,
        y,
        {
            (j, i): np.s_[rows[j] : rows[j + 1], columns[i] : columns[i + 1]]
            for j, i in np.ndindex(*counts)
        },
    )


def divide_by_scatter(values: np.ndarray, sky: np.ndarray, typical: float) -> np.ndarray:
    """Divide a score (ny, nx) by its scatter in empty sky, bilinear between cells, in place.

    `typical` is the scatter of cells that have too little sky.  Returned are the scatters, (rows,
    columns), at the centres of the cells (`node_grid`).
    """
    x, y, cells = score_cells(values.shape)
    nodes = np.full((len(y), len(x)), float(typical))
    for place, cell in cells.items():
        sample = values[cell][sky[cell]]
        sample = sample[sample != 0]
        if sample.size > FEWEST:
            nodes[place] = scatter(sample)
    columns = np.arange(values.shape[1])[None, :]
    for y0 in range(0, len(values), ROWS):
        rows = np.arange(y0, min(y0 + ROWS, len(values)))[:, None]
        values[y0 : y0 + ROWS] /= bilinear(nodes[None], x, y, columns, rows)[0]
    return nodes
