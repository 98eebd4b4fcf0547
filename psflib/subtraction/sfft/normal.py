"""Normal equations of listed pixels: exact, or with functions of the field constant over a tile."""

import itertools

import numpy as np
from scipy.linalg import blas

from psflib.loops import sfft as loops

CHUNK = 2048  # pixels whose patches are held together
TILES = 24  # an axis: functions of the field are constant over so small a part of it ...
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
        gram = sums.blank().T if matrix else None
        for part in range(0, len(y), CHUNK):
            rows, columns = y[part : part + CHUNK], x[part : part + CHUNK]
            root = np.sqrt(weight[rows, columns]).astype(np.float32)
            values = root * residual[rows, columns]
            terms, background = model.both_at(columns, rows)
            right[model.n_kernel :] += background @ (root * values)
            if not matrix:
                patches = seen(model, template, rows, columns, root)
                kernel = patches[:, :-1].T @ (terms * values).T.astype(patches.dtype)
                right[: model.n_kernel] += kernel.ravel()
                continue
            patches = seen(model, template, rows, columns, root, model.n_terms)
            patches[:, model.n_shapes + 1 :] = (terms * values).T  # the right side comes with it
            gram = blas.ssyrk(1.0, patches.T, beta=1.0, c=gram, overwrite_c=1)
        if matrix:
            if number not in middles:
                middles[number] = middle_of(template, y, x, np.sqrt(weight[y, x]))
            sums.add(*middles[number])
    if not matrix:
        return None, right
    total = sums.matrix()
    right[: model.n_kernel] += sums.right.ravel()
    return total, right


class TileSums:
    """Sums over tiles of their matrices times the products of the functions at their middles."""

    def __init__(self, model):
        n, m, g = model.n_shapes, model.n_terms, model.n_background
        self.model, self.pairs = model, np.triu_indices(m)
        side = n + 1 + m
        self.kernel, self.right = np.zeros((len(self.pairs[0]), side**2)), np.zeros((n, m))
        self.cross, self.background = np.zeros((n, m, g)), np.zeros((g, g))
        self.grams = np.empty((BATCH, side, side), np.float32)
        self.middles: list[tuple] = []

    def blank(self) -> np.ndarray:
        """Zeros for the next tile's matrix, of which the lower half is to be filled, then `add`."""
        gram = self.grams[len(self.middles)]
        gram[:] = 0
        return gram

    def add(self, x, y):
        """The middle of the tile whose matrix has been filled."""
        self.middles.append((x, y))
        if len(self.middles) == BATCH:
            self._flush()

    def _flush(self):
        if not self.middles:
            return
        grams, (x, y) = self.grams[: len(self.middles)], np.array(self.middles).T
        self.middles = []
        terms, background = self.model.terms(x, y), self.model.background_terms(x, y)
        q, r = self.pairs
        flat = grams.reshape(len(grams), -1)
        self.kernel += (terms[q] * terms[r]).astype(np.float32) @ flat
        n = self.model.n_shapes
        self.right += grams[:, n + 1 :, :n].sum(0, dtype=float).T
        edge = grams[:, n, :n].astype(float)
        self.cross += np.einsum("tn,qt,gt->nqg", edge, terms, background, optimize=True)
        self.background += (background * grams[:, n, n]) @ background.T

    def matrix(self):
        """Normal matrix of all unknowns."""
        self._flush()
        n, m, p = self.model.n_shapes, self.model.n_terms, self.model.n_kernel
        total = np.empty((self.model.n_unknowns,) * 2)
        kernel = total[:p, :p].reshape(n, m, n, m)
        for product, i, j in zip(self.kernel, *self.pairs, strict=True):
            values = _both_halves(product.reshape(n + 1 + m, -1)[:n, :n].T)
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


def seen(model, template, y, x, root, spare=0):
    """Columns of the kernel's unknowns, without the functions of the field, at the listed pixels.

    Returns
    -------
    ndarray (n, n_shapes + 1 + spare)
        Times `root`, which is the last column but for the spare ones, which are not filled.
    """
    width = int(np.prod(model.kernel_shape)) + 1
    spare_now = spare if model.shapes is None else 0
    patches = np.empty((len(y), width + spare_now), template.dtype)
    loops.gather_patches(template, y, x, *model.half, root, patches)
    if model.shapes is None:
        return patches
    columns, n = np.empty((len(y), model.n_shapes + 1 + spare), template.dtype), model.n_shapes
    columns[:, :n] = patches[:, :-1] @ model.shapes.T.astype(template.dtype)
    columns[:, n] = patches[:, -1]
    return columns


def _both_halves(upper):
    """A symmetric matrix of which BLAS filled the upper half."""
    matrix = np.triu(upper)
    matrix += np.triu(upper, 1).T
    return matrix
