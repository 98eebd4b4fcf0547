"""`MatchingKernel`: the fitted kernel, its flux scale and its background, anywhere."""

import dataclasses
from typing import Any

import numpy as np

from psflib.image import polynomial
from psflib.image.convolve import VaryingKernel, blend_nodes, node_grid


@dataclasses.dataclass(frozen=True, eq=False)
class MatchingKernel:
    """Kernel sum_b c_b(x, y) B_b, with Chebyshev polynomials c_b.

    basis : ndarray (nb, k, k) float64
        Image 0 has unit sum, the others zero sum.
    coef : ndarray (nb, nq) float64
        Polynomial coefficients of each basis image (short ones padded with 0).
    order, flux_order : int
        Degrees of the kernel's shape and of its sum.
    background : ndarray (nbg,) float64
        Differential background in ADU of the image that is not convolved.
    bg_order : int
    shape : (ny, nx) of the images.
    convolved : "template" or "science"
    region : (x0, x1, y0, y1), optional
        Where its polynomials are known, px; beyond it they keep the value at the nearest place.
    """

    basis: np.ndarray
    coef: np.ndarray
    order: int
    flux_order: int
    background: np.ndarray
    bg_order: int
    shape: tuple[int, int]
    convolved: str = "template"
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)
    region: tuple[float, float, float, float] | None = None

    def at(self, x: float, y: float) -> np.ndarray:
        """The kernel at (x, y), (k, k) float64; true convolution, origin at the centre pixel."""
        return np.tensordot(self._terms(x, y) @ self.coef.T, self.basis, 1)

    def on_grid(self, x, y) -> np.ndarray:
        """The kernels at all (x[i], y[j]), row by row: (len(y) * len(x), k, k) float64."""
        terms = self._terms(np.asarray(x)[None, :], np.asarray(y)[:, None])
        return np.tensordot(terms.reshape(-1, terms.shape[-1]) @ self.coef.T, self.basis, 1)

    def kernel_sum(self, x, y):
        """Sum of the kernel at (x, y); x and y broadcast."""
        return np.tensordot(self.coef[0], self._terms(x, y).T, 1).T

    def flux_scale(self, x, y):
        """Science flux of a source of unit template flux."""
        total = self.kernel_sum(x, y)
        return total if self.convolved == "template" else 1 / total

    def background_at(self, x, y):
        """Differential background in ADU at (x, y)."""
        return np.tensordot(
            self.background, polynomial.evaluate(self.bg_order, x, y, self.shape), 1
        )

    def background_map(self) -> np.ndarray:
        """Differential background, (ny, nx) float32."""
        return polynomial.product_map(self.background, self.bg_order, self.shape)

    def varying(self) -> VaryingKernel:
        """The kernel for `convolve`: one image a polynomial term, exact at each pixel."""
        images = np.tensordot(self.coef.T, self.basis, 1)
        return VaryingKernel(images, self._polynomials)

    def squared(self, nodes: int = 5) -> VaryingKernel:
        """The squared kernel, which propagates the variance of white noise."""
        return self.node_kernels(nodes, np.square)

    def node_kernels(self, nodes, function) -> VaryingKernel:
        """`function` of the kernel, blended between nodes x nodes places."""
        nodes = 1 if self._order == 0 else nodes
        x, y = node_grid(self.shape, nodes)
        return blend_nodes(np.array([[function(self.at(i, j)) for i in x] for j in y]), x, y)

    @property
    def _order(self):
        return max(self.order, self.flux_order)

    def _terms(self, x, y):
        return np.moveaxis(self._polynomials(x, y), 0, -1)

    def _polynomials(self, x, y):
        if self.region is not None:
            x0, x1, y0, y1 = self.region
            x, y = np.clip(x, x0, x1), np.clip(y, y0, y1)
        return polynomial.evaluate(self._order, x, y, self.shape)
