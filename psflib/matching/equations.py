"""Normal equations of the kernel fit: what pixels, sky and the noise of the regressors add."""

import dataclasses

import numpy as np

from psflib.image import polynomial
from psflib.loops import matching as loops
from psflib.matching import basis as bases
from psflib.matching import pixels, solve

NOISE_CELL = 128  # px; the noise of the regressors is summed over cells of this size


@dataclasses.dataclass(frozen=True)
class Design:
    """Basis images convolved with b, at the fit pixels.

    columns : ndarray (nb, n) float32
    """

    columns: np.ndarray
    at: pixels.FitPixels
    basis: bases.Basis
    layout: solve.Layout
    shape: tuple[int, int]

    def model(self, coef, background) -> np.ndarray:
        """K conv b + background at the fit pixels, (n,) float64."""
        order = max(self.layout.order, self.layout.flux_order)
        out = np.empty(len(self.at.y))
        tx, ty = polynomial.axes(max(order, self.layout.bg_order), self.shape)
        powers = np.array(polynomial.degrees(order)).T.copy()
        loops.model_at(
            self.columns, self.at.y, self.at.x, np.ascontiguousarray(coef), tx, ty, *powers, out
        )
        out += polynomial.evaluate(self.layout.bg_order, self.at.x, self.at.y, self.shape).T @ (
            background
        )
        return out

    def normal(self, residual, weight):
        """Normal matrix of all unknowns, and the right side of their correction."""
        gram, right = self.blocks(residual, weight)
        terms = polynomial.evaluate(self.layout.top, self.at.block_x, self.at.block_y, self.shape)
        return solve.assemble(self.layout, gram, right, terms)

    def blocks(self, residual, weight):
        """Normal equations of each block, the first two arguments of `solve.assemble`."""
        m = len(self.columns) + 1
        gram = np.empty((len(self.at.block_x), m * (m + 1) // 2))
        right = np.empty((len(self.at.block_x), m))
        loops.block_gram(self.columns, residual, weight, self.at.block_start, gram, right)
        return gram, right

    def regressor_noise(self, var_b, weight):
        """Expected contribution of b's noise to the normal matrix of the kernel unknowns.

        Every other pixel is taken (as on a chessboard), twice as heavy: neighbours see the same
        variance.
        """
        at, layout, half = self.at, self.layout, self.basis.half
        cells = -(-self.shape[1] // NOISE_CELL)
        odd = (at.y + at.x) % 2 == 1
        reach = self.basis.half  # off the border, where the sums see the whole kernel
        ny, nx = self.shape
        odd &= (at.y >= reach) & (at.y < ny - reach) & (at.x >= reach) & (at.x < nx - reach)
        y, x = at.y[odd], at.x[odd]
        numbers, cell = np.unique(y // NOISE_CELL * cells + x // NOISE_CELL, return_inverse=True)
        sums = np.zeros((len(numbers), 2 * half + 1, 2 * half + 1))
        loops.lagged_sums(var_b, y, x, 2 * weight[odd], cell, half, sums)
        images = self.basis.images.reshape(layout.n_basis, -1)
        whole = np.zeros((layout.n_basis + 1, layout.n_basis + 1))
        upper = np.triu_indices(len(whole))
        blocks = np.empty((len(sums), len(upper[0])))
        for block, lagged in zip(blocks, sums[:, :, ::-1].reshape(len(sums), -1), strict=True):
            whole[:-1, :-1] = (images * lagged) @ images.T
            block[:] = whole[upper]
        middle = (NOISE_CELL - 1) / 2
        terms = polynomial.evaluate(
            layout.top, numbers % cells * NOISE_CELL + middle,
            numbers // cells * NOISE_CELL + middle, self.shape,
        )  # fmt: skip
        matrix, _ = solve.assemble(layout, blocks, np.zeros((len(blocks), len(whole))), terms)
        return matrix[: layout.n_kernel, : layout.n_kernel]


def make_design(b, at, basis, layout) -> Design:
    """Convolve `b` with each basis image at the fit pixels."""
    columns = np.empty((len(basis.pair_x), len(at.y)), np.float32)
    loops.convolve_at(
        np.pad(b, basis.half), at.y + basis.half, at.x + basis.half, at.tile_start,
        at.tile_y + basis.half, at.tile_x + basis.half, pixels.TILE,
        basis.factors.astype(np.float32), basis.reach, basis.pair_x, basis.pair_y,
        basis.own.astype(np.float32), basis.first.astype(np.float32), columns,
    )  # fmt: skip
    return Design(columns, at, basis, layout, b.shape)


@dataclasses.dataclass(frozen=True)
class Sky:
    """Sums over the sky pixels of each block: of the weights, and of weight times a - K conv b."""

    total: np.ndarray
    weighted: np.ndarray

    def normal(self, order, shape):
        """Normal equations of the background's coefficients."""
        i, j = np.nonzero(self.total)
        middle = (pixels.BLOCK - 1) / 2
        terms = polynomial.evaluate(
            order, j * pixels.BLOCK + middle, i * pixels.BLOCK + middle, shape
        )
        return (terms * self.total[i, j]) @ terms.T, terms @ self.weighted[i, j]


def sky_sums(rest, variance, select, clip=5.0) -> Sky:
    """Sums over the sky pixels of `rest`, a - K conv b, within `clip` sigma of its median."""
    cells = [-(-n // pixels.BLOCK) for n in rest.shape]
    total, weighted = np.zeros(cells), np.zeros(cells)
    if select.any():
        level = np.float32(np.median(pixels.sample(rest, select)))
        loops.sky_sums(rest, variance, select, level, clip**2, pixels.BLOCK, total, weighted)
    return Sky(total, weighted)


def fit_background(rest, variance, select, order):
    """Coefficients of the background that `rest` (ny, nx) has where selected; None if too few."""
    sky = sky_sums(rest, variance, select)
    if (sky.total > 0).sum() < 4 * polynomial.n_terms(order):
        return None
    matrix, vector = sky.normal(order, rest.shape)
    return np.linalg.lstsq(matrix, vector, rcond=1e-10)[0]
