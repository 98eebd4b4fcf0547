"""Normal equations of listed pixels: exact, or with functions of the field constant over a tile."""

import itertools

import numpy as np
from scipy.linalg import blas

from psflib.loops import sfft as loops

CHUNK = 4096  # pixels whose patches are held together
TILES = 32  # an axis: functions of the field are constant over so small a part of it ...
SIDES = 12, 64  # ... but tiles are no smaller and no larger (px)
BATCH = 32  # tiles whose matrices are summed up at once


def tiles_of(use, coarse=1):
    """Number and pixels (y, x) of each tile that has some; the side is `coarse` times larger."""
    edges = []
    for length in use.shape:
        side = coarse * min(max(length / TILES, SIDES[0]), SIDES[1])
        edges.append(np.linspace(0, length, max(1, round(length / side)) + 1).round().astype(int))
    boxes = itertools.product(*map(itertools.pairwise, edges))
    for number, ((y0, y1), (x0, x1)) in enumerate(boxes):
        y, x = np.nonzero(use[y0:y1, x0:x1])
        if len(y):
            yield number, y + y0, x + x0


def middle_of(template, y, x, root):
    """Where a tile's information lies: x, y averaged with the weights of its light.

    Of a tile with one star that is the star, so that what is neglected is of second order.
    """
    power = np.square(root * template[y, x], dtype=float) + 1e-30
    return float(power @ x / power.sum()), float(power @ y / power.sum())


def by_tiles(model, template, use, weight, residual, middles=None, matrix=True, coarse=1):
    """Normal matrix with functions constant over each tile, and the exact right side.

    Constant on both sides of the equation: the matrix is that of a slightly different model, and a
    correction by the exact residuals of a solution ends where the exact matrix would.

    Parameters
    ----------
    template : ndarray (ny, nx) float32
    use : ndarray (ny, nx) bool
    weight, residual : ndarray (ny, nx)
    middles : dict of tile number -> (x, y), optional
        Where functions are taken; tiles that it lacks are added.
    matrix : bool
        Else only the right side.
    """
    middles = {} if middles is None else middles
    sums, right = TileSums(model), np.zeros(model.n_unknowns)
    for number, y, x in tiles_of(use, coarse):
        gram = np.zeros((model.n_shapes + 1,) * 2, np.float32, order="F")
        for part in range(0, len(y), CHUNK):
            rows, columns = y[part : part + CHUNK], x[part : part + CHUNK]
            root = np.sqrt(weight[rows, columns]).astype(np.float32)
            patches = seen(model, template, rows, columns, root)
            if matrix:
                gram = blas.ssyrk(1.0, patches.T, beta=1.0, c=gram, overwrite_c=1)
            _add_right(model, patches, root * residual[rows, columns], rows, columns, right)
        if matrix:
            if number not in middles:
                middles[number] = middle_of(template, y, x, np.sqrt(weight[y, x]))
            sums.add(gram, *middles[number])
    return sums.matrix() if matrix else None, right


class TileSums:
    """Sums over tiles of their matrices times the products of the functions at their middles."""

    def __init__(self, model):
        n, m, g = model.n_shapes, model.n_terms, model.n_background
        self.model, self.pairs = model, np.triu_indices(m)
        self.kernel = np.zeros((len(self.pairs[0]), (n + 1) ** 2))
        self.cross, self.background = np.zeros((n, m, g)), np.zeros((g, g))
        self.waiting: list[tuple] = []

    def add(self, gram, x, y):
        """A tile's matrix, of which the upper half is filled, and its middle."""
        self.waiting.append((gram, x, y))
        if len(self.waiting) == BATCH:
            self._flush()

    def _flush(self):
        if not self.waiting:
            return
        grams, x, y = (np.array(column) for column in zip(*self.waiting, strict=True))
        self.waiting = []
        terms, background = self.model.terms(x, y), self.model.background_terms(x, y)
        q, r = self.pairs
        flat = grams.reshape(len(grams), -1)
        self.kernel += (terms[q] * terms[r]).astype(np.float32) @ flat
        edge = grams[:, :-1, -1].astype(float)
        self.cross += np.einsum("tn,qt,gt->nqg", edge, terms, background, optimize=True)
        self.background += (background * grams[:, -1, -1]) @ background.T

    def matrix(self):
        """Normal matrix of all unknowns."""
        self._flush()
        n, m, p = self.model.n_shapes, self.model.n_terms, self.model.n_kernel
        total = np.empty((self.model.n_unknowns,) * 2)
        kernel = total[:p, :p].reshape(n, m, n, m)
        for product, i, j in zip(self.kernel, *self.pairs, strict=True):
            values = _both_halves(product.reshape(n + 1, n + 1)[:n, :n])
            kernel[:, i, :, j] = values
            kernel[:, j, :, i] = values
        total[:p, p:] = self.cross.reshape(p, -1)
        total[p:, :p] = total[:p, p:].T
        total[p:, p:] = self.background
        return total


def noise_by_tiles(model, variance, use, weight):
    """What white noise of the template adds to the normal matrix of the kernel on average.

    Returns
    -------
    ndarray (n_shapes, n_shapes, n_terms, n_terms)
    """
    width = int(np.prod(model.kernel_shape))
    variance = np.ascontiguousarray(variance, np.float32)
    out = np.zeros((width, model.n_terms, model.n_terms))
    for _, y, x in tiles_of(use):
        patches = np.empty((len(y), width + 1), np.float32)
        loops.gather_patches(variance, y, x, *model.half, np.ones(len(y), np.float32), patches)
        terms = model.terms(x.mean(), y.mean())
        sums = weight[y, x].astype(float) @ patches[:, :-1]
        out += sums[:, None, None] * np.outer(terms, terms)
    if model.shapes is None:
        return np.einsum("st,sqr->stqr", np.eye(width), out)
    return np.einsum("sp,tp,pqr->stqr", model.shapes, model.shapes, out, optimize=True)


def exactly(model, template, y, x, weight, residual, pad=(0, 0)):
    """Exact normal equations of the listed pixels, in blocks of the design matrix.

    Parameters
    ----------
    template : ndarray (ny, nx) float64
    y, x : ndarray (n,)
    weight, residual : ndarray (n,)
    pad : rows and columns that `template` has before pixel (0, 0)
    """
    total = np.zeros((model.n_unknowns,) * 2, order="F")
    right = np.zeros(model.n_unknowns)
    size = max(64, 4_000_000 // model.n_unknowns)
    for part in range(0, len(y), size):
        rows, columns = y[part : part + size], x[part : part + size]
        root = np.sqrt(weight[part : part + size])
        patches = seen(model, template, rows + pad[0], columns + pad[1], root)
        terms = model.terms(columns, rows)
        design = np.empty((len(rows), model.n_unknowns))
        kernel = design[:, : model.n_kernel].reshape(len(rows), model.n_shapes, model.n_terms)
        np.multiply(patches[:, :-1, None], terms.T[:, None, :], out=kernel)
        design[:, model.n_kernel :] = model.background_terms(columns, rows).T * root[:, None]
        total = blas.dsyrk(1.0, design.T, beta=1.0, c=total, overwrite_c=1)
        right += design.T @ (root * residual[part : part + size])
    return _both_halves(total), right


def seen(model, template, y, x, root):
    """Columns of the kernel's unknowns, without the functions of the field, at the listed pixels.

    Returns
    -------
    ndarray (n, n_shapes + 1)
        Times `root`, which is the last column.
    """
    width = int(np.prod(model.kernel_shape)) + 1
    patches = np.empty((len(y), width), template.dtype)
    loops.gather_patches(template, y, x, *model.half, root, patches)
    if model.shapes is None:
        return patches
    columns = np.empty((len(y), model.n_shapes + 1), template.dtype)
    np.matmul(patches[:, :-1], model.shapes.T.astype(template.dtype), out=columns[:, :-1])
    columns[:, -1] = patches[:, -1]
    return columns


def _add_right(model, patches, values, y, x, right):
    """Exact sums of the residuals with the columns of the model."""
    terms, background = model.both_at(x, y)
    kernel = patches[:, :-1].T @ (terms * values).T.astype(patches.dtype)
    right[: model.n_kernel] += kernel.ravel()
    right[model.n_kernel :] += background @ (patches[:, -1] * values)


def _both_halves(upper):
    """A symmetric matrix of which BLAS filled the upper half."""
    matrix = np.triu(upper)
    matrix += np.triu(upper, 1).T
    return matrix
