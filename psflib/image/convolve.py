"""Convolution with a kernel that varies over the image, in tiles of bounded memory.

A varying kernel is a short sum  K(x, y) = sum_q w_q(x, y) K_q  of fixed images times smooth
weights, so that (K conv f)(x, y) = sum_q w_q(x, y) (K_q conv f)(x, y): one forward and one inverse
FFT a term and tile, whatever the number of nodes behind it (overlap-save).
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import fft

from psflib.image.threads import bands, for_each
from psflib.image.where import true_pixels
from psflib.loops import convolve as loops

TILE = 384  # with a kernel of 25 pixels the transforms are 408 px: 12 % spent on the overlap


def fft_convolve(plane: np.ndarray, kernel: np.ndarray, full: bool = False) -> np.ndarray:
    """Convolution of two planes that are 0 beyond their borders, float64.

    `scipy.signal` has the same, but brings in `scipy.stats`: a third more before each job begins.

    Parameters
    ----------
    plane, kernel : ndarray (ny, nx), (ky, kx)
    full : bool
        All (ny + ky - 1, nx + kx - 1) pixels that have light; else those of `plane`.
    """
    whole = [n + k - 1 for n, k in zip(plane.shape, kernel.shape, strict=True)]
    side = [fft.next_fast_len(n, real=True) for n in whole]
    out = fft.irfft2(fft.rfft2(plane, side) * fft.rfft2(kernel, side), side)
    if full:
        return out[: whole[0], : whole[1]]
    top, left = ((k - 1) // 2 for k in kernel.shape)
    return out[top : top + plane.shape[0], left : left + plane.shape[1]]


@dataclasses.dataclass(frozen=True, eq=False)
class BilinearWeights:
    """Weights of the terms of a `VaryingKernel`, bilinear between the nodes of a grid.

    nodes : ndarray (r, n_y, n_x) float64
    x, y : ndarray (n_x,), (n_y,)
        Positions of the nodes, increasing; the weights are constant beyond the last.
    """

    nodes: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def __call__(self, x, y) -> np.ndarray:
        """Weights (r, ...) at x, y: two numbers, or a row (1, n) and a column (m, 1)."""
        return bilinear(self.nodes, self.x, self.y, x, y)

    def at_points(self, x, y) -> np.ndarray:
        """Weights (r, n) at n points, x and y (n,)."""
        along_x, along_y = _hats(self.x, x), _hats(self.y, y)
        return np.einsum("ryx,xn,yn->rn", self.nodes, along_x, along_y, optimize=True)


@dataclasses.dataclass(frozen=True)
class VaryingKernel:
    """Convolution kernel sum_q w_q(x, y) images[q].

    images : ndarray (r, k, k) float64, k odd
    weights : callable (x, y) -> ndarray (r, ...), broadcasting a row `x` and a column `y`
    """

    images: np.ndarray
    weights: Callable

    def at(self, x: float, y: float) -> np.ndarray:
        """The kernel at one place, (k, k)."""
        return np.tensordot(self.weights(np.float64(x), np.float64(y)), self.images, 1)

    def on_tiles(self, shape: tuple[int, int], tile: int) -> np.ndarray:
        """The kernel at the middle of each tile, (tiles, k, k) in row order."""
        y, x = (np.minimum(np.arange(0, n, tile) + tile // 2, n - 1) for n in shape)
        weights = self.weights(x[None, :], y[:, None])
        return np.tensordot(weights.reshape(len(weights), -1).T, self.images, 1)

    def convolve(self, plane: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Convolve `plane` (ny, nx); beyond its border it counts as 0.  float32 out."""
        if out is None:
            out = np.empty(plane.shape, np.float32)
        half = self.images.shape[-1] // 2
        tiles = [_tiles(n) for n in plane.shape]
        cells = _tiles_of_cells(self.weights, plane.shape)
        if cells and 5 * _area(cells, half) < (1 + len(self.images)) * _area(tiles, half):
            self._by_cells(plane, cells, half, out)
            return out
        side = _sides(tiles, half)
        kernels = fft.rfft2(self.images.astype(np.float32), side)

        def convolve_tile(place):
            ys, xs = place
            out[place] = self._tile(plane, ys, xs, half, side, kernels)

        for_each(convolve_tile, itertools.product(*tiles))
        return out

    def _by_cells(self, plane, cells, half, out):
        """The same with the kernels at the corners of each cell of the grid of nodes.

        Between four nodes four terms do, however many images the kernel has.
        """
        side = _sides(cells, half)
        weights: Any = self.weights  # bilinear, or there were no cells
        grids = weights.y, weights.x
        node_rows = np.moveaxis(weights.nodes, 1, 0)  # (n_y, r, n_x)

        @functools.lru_cache(2)
        def spectra(row):
            """Of the kernels at the nodes of a row."""
            kernels = np.tensordot(node_rows[row].T, self.images, 1)
            return fft.rfft2(kernels.astype(np.float32), side)

        for ys in cells[0]:
            row, share_y = _between(grids[0], ys)
            corners = spectra(row), spectra(row + 1)

            def convolve_tile(xs, ys=ys, share_y=share_y, corners=corners):
                column, share_x = _between(grids[1], xs)
                spectrum = fft.rfft2(_padded(plane, ys, xs, half), side)
                total = np.zeros((len(share_y), len(share_x)), np.float32)
                for j, i in itertools.product((0, 1), repeat=2):
                    weight = np.outer(*(s if k else 1 - s for s, k in ((share_y, j), (share_x, i))))
                    part = fft.irfft2(spectrum * corners[j][column + i], side, overwrite_x=True)
                    loops.add_product(total, weight, part, 2 * half, 2 * half)
                out[ys, xs] = total

            for_each(convolve_tile, cells[1])

    def _tile(self, plane, ys, xs, half, side, kernels):
        ny, nx = ys.stop - ys.start, xs.stop - xs.start
        spectrum = fft.rfft2(_padded(plane, ys, xs, half), side)
        weights = self.weights(
            np.arange(xs.start, xs.stop)[None, :], np.arange(ys.start, ys.stop)[:, None]
        )
        total = np.zeros((ny, nx), np.float32)
        for weight, kernel in zip(weights, kernels, strict=True):
            part = fft.irfft2(spectrum * kernel, side, overwrite_x=True)
            # full convolution moves by `half`, and the patch began `half` before the tile
            loops.add_product(total, weight, part, 2 * half, 2 * half)
        return total


def convolve_by_tiles(plane: np.ndarray, kernels: np.ndarray, tile: int, tolerance=5e-3):
    """Convolve each tile of `plane` (ny, nx) float32 with a kernel of its own.

    For what needs no more than per cents, as variances do: each kernel is cut to the box that
    holds all but `tolerance` of its absolute sum, replaced by a sum of separable ones that is as
    good, and scaled back to the sum it had.

    Parameters
    ----------
    kernels : ndarray (tiles, k, k), in row order
    """
    half = _core(np.abs(kernels).mean(0), tolerance)
    middle = kernels.shape[1] // 2
    inner = slice(middle - half, middle + half + 1)
    cut = kernels[:, inner, inner]
    left, values, right = np.linalg.svd(cut)
    near = np.cumsum(values, 1) / np.maximum(values.sum(1, keepdims=True), 1e-300)
    rank = 1 + (near < 1 - tolerance).sum(1)
    most = int(rank.max())
    down = left[:, :, :most].transpose(0, 2, 1) * values[:, :most, None]
    across = right[:, :most]
    count = np.arange(most) < rank[:, None]
    kept = (down.sum(2) * across.sum(2) * count).sum(1)
    down = down * (kernels.sum((1, 2)) / np.where(kept == 0, 1, kept))[:, None, None]
    out = np.empty(plane.shape, np.float32)
    down, across = down.astype(np.float32), np.ascontiguousarray(across, np.float32)

    def convolve_rows(rows):
        loops.convolve_tiles(plane, tile, rows.start, rows.stop, down, across, rank, out)

    for_each(convolve_rows, bands(len(plane), tile))
    return out


def convolve_sparse(plane: np.ndarray, select: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve `plane` (ny, nx), taken as 0 where not `select`, by one kernel; float32."""
    y, x = true_pixels(select)
    if len(y) * kernel.size > 60 * plane.size:  # about where transforms are as fast
        return constant_kernel(kernel).convolve(np.where(select, plane, 0))
    out = np.zeros(plane.shape, np.float32)
    loops.spread(y, x, plane[y, x].astype(np.float32), kernel.astype(np.float32), out)
    return out


def _core(kernel, tolerance):
    """Half width of the central box that holds all but `tolerance` of the kernel's sum."""
    middle = kernel.shape[0] // 2
    for half in range(1, middle):
        box = slice(middle - half, middle + half + 1)
        if kernel[box, box].sum() >= (1 - tolerance) * kernel.sum():
            return half
    return middle


def constant_kernel(image: np.ndarray) -> VaryingKernel:
    """A kernel that is the same everywhere."""

    weights = BilinearWeights(np.ones((1, 1, 1)), np.zeros(1), np.zeros(1))
    return VaryingKernel(np.asarray(image, float)[None], weights)


def blend_nodes(kernels: np.ndarray, x, y, tolerance: float = 2e-3) -> VaryingKernel:
    """Blend kernels known at the nodes of a grid bilinearly, with as few terms as do.

    Parameters
    ----------
    kernels : ndarray (n_y, n_x, k, k)
        The kernel at node (x[j], y[i]).
    x, y : increasing node positions
    tolerance : float
        Largest L1 error of a node kernel, relative to the L1 norm of the mean kernel.

    Notes
    -----
    Bilinear hat weights sum to one, so any linear property shared by the nodes (a unit sum, say)
    holds everywhere; the mean kernel is a term of its own, so truncation keeps it too if the
    deviations are re-centred, which the singular value decomposition of the deviations does.
    """
    n_y, n_x = kernels.shape[:2]
    flat = kernels.reshape(n_y * n_x, -1)
    mean = flat.mean(0)
    left, values, right = np.linalg.svd(flat - mean, full_matrices=False)
    rank = _rank(left, values, right, tolerance * np.abs(mean).sum())
    amplitude = (left[:, :rank] * values[:rank]).T.reshape(rank, n_y, n_x)
    images = np.concatenate([mean[None], right[:rank]]).reshape(rank + 1, *kernels.shape[2:])
    nodes = np.concatenate([np.ones((1, n_y, n_x)), amplitude])
    return VaryingKernel(images, BilinearWeights(nodes, np.asarray(x, float), np.asarray(y, float)))


def _rank(left, values, right, limit):
    """Smallest number of terms whose truncation error is below `limit` at each node."""
    for rank in range(len(values)):
        rest = (left[:, rank:] * values[rank:]) @ right[rank:]
        if np.abs(rest).sum(1).max() <= limit:
            return rank
    return len(values)


def bilinear(nodes, x, y, px, py):
    """Interpolate `nodes` (r, n_y, n_x) at px, py, constant beyond the last node.

    px, py : two numbers, or a row (1, n) and a column (m, 1).
    """
    shape = len(nodes), *np.broadcast_shapes(np.shape(px), np.shape(py))
    if nodes[0].size == 1:
        return np.broadcast_to(nodes.reshape(-1, *[1] * (len(shape) - 1)), shape)
    along_x = nodes @ _hats(x, px)
    values = np.swapaxes(np.swapaxes(along_x, 1, 2) @ _hats(y, py), 1, 2)
    return values.reshape(shape)


def _hats(grid, position):
    """Weight of each node (rows) at each position (columns)."""
    position = np.ravel(position)
    weights = np.zeros((len(grid), len(position)))
    if len(grid) == 1:
        weights[0] = 1
        return weights
    column = np.arange(len(position))
    left = np.clip(np.searchsorted(grid, position, side="right") - 1, 0, len(grid) - 2)
    share = np.clip((position - grid[left]) / (grid[left + 1] - grid[left]), 0, 1)
    weights[left, column] = 1 - share
    weights[left + 1, column] = share
    return weights


def node_grid(shape: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` node positions (x, y) an axis, from the centres of the outermost cells."""
    ny, nx = shape
    return (
        (np.arange(count) + 0.5) * nx / count - 0.5,
        (np.arange(count) + 0.5) * ny / count - 0.5,
    )


def edge_grid(shape: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` node positions (x, y) an axis, from border to border; one stands in the middle."""
    ny, nx = shape
    if count == 1:
        return np.array([(nx - 1) / 2]), np.array([(ny - 1) / 2])
    return np.linspace(0, nx - 1, count), np.linspace(0, ny - 1, count)


def _tiles(n):
    return [slice(i, min(i + TILE, n)) for i in range(0, n, TILE)]


def _tiles_of_cells(weights, shape):
    """Tiles of rows and of columns that lie between two nodes each; None without a grid."""
    if not isinstance(weights, BilinearWeights) or min(len(weights.x), len(weights.y)) < 2:
        return None
    cells: list[list[slice]] = []
    for grid, n in zip((weights.y, weights.x), shape, strict=True):
        edges = np.unique([0, *np.clip(np.ceil(grid[1:-1]).astype(int), 0, n), n])
        cells.append([])
        for start, stop in itertools.pairwise(edges):
            parts = np.linspace(start, stop, -(-(stop - start) // TILE) + 1).astype(int)
            cells[-1] += [slice(a, b) for a, b in itertools.pairwise(parts)]
    return cells


def _between(grid, pixels):
    """Node before a tile's pixels, and how far from it to the next they are, (n,)."""
    position = np.arange(pixels.start, pixels.stop)
    left = int(np.clip(np.searchsorted(grid, pixels.start, side="right") - 1, 0, len(grid) - 2))
    return left, np.clip((position - grid[left]) / (grid[left + 1] - grid[left]), 0, 1)


def _sides(tiles, half):
    """Of the transforms (y, x) of all tiles, with what a kernel reaches beyond them."""
    widest = [max(s.stop - s.start for s in along) for along in tiles]
    return [fft.next_fast_len(n + 2 * half, real=True) for n in widest]


def _area(tiles, half):
    """Pixels of the transforms of all tiles."""
    return np.prod([len(along) * n for along, n in zip(tiles, _sides(tiles, half), strict=True)])


def _padded(plane, ys, xs, half):
    """The tile with `half` pixels around it, zeros beyond the image."""
    ny, nx = plane.shape
    patch = np.zeros((ys.stop - ys.start + 2 * half, xs.stop - xs.start + 2 * half), np.float32)
    y0, y1 = max(ys.start - half, 0), min(ys.stop + half, ny)
    x0, x1 = max(xs.start - half, 0), min(xs.stop + half, nx)
    oy, ox = y0 - (ys.start - half), x0 - (xs.start - half)
    patch[oy : oy + y1 - y0, ox : ox + x1 - x0] = plane[y0:y1, x0:x1]
    return patch
