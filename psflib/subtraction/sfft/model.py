"""What is fitted: kernel pixels times functions of the field, and the differential background."""

import dataclasses
from functools import cached_property

import numpy as np

from psflib.image import polynomial
from psflib.image.convolve import VaryingKernel, fft_convolve
from psflib.image.splines import b_splines


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """target(x) = sum_q f_q(x) sum_s c[s, q] template(x - s) + sum_g d[g] P_g(x).

    Functions are taken at x, where the flux arrives.  Polynomials up to one degree are a space
    that shifts do not leave, so that for a free delta-function kernel the form with f_q(x - s) has
    the same solutions.  Unknowns stand pixel by pixel, for each all its functions, background last.

    shape : (ny, nx) of the images
    kernel_shape : (ky, kx), odd
    order, bg_order, flux_order : degrees of kernel, background and kernel sum
    spline : (ny, nx) of B-spline coefficients that take the place of the kernel's polynomials
    shapes : ndarray (n_shapes, ky * kx), what the kernel is a sum of; default single pixels.  The
        central pixel is one of them, and alone there.
    """

    shape: tuple[int, int]
    kernel_shape: tuple[int, int]
    order: int = 2
    bg_order: int = 2
    flux_order: int = 1
    spline: tuple[int, int] | None = None
    shapes: np.ndarray | None = None

    @property
    def half(self) -> tuple[int, int]:
        return self.kernel_shape[0] // 2, self.kernel_shape[1] // 2

    @cached_property
    def n_shapes(self) -> int:
        """Number of pixels of the kernel, or of what stands for them."""
        return int(np.prod(self.kernel_shape)) if self.shapes is None else len(self.shapes)

    @cached_property
    def sums(self) -> np.ndarray:
        """What each adds to the sum of the kernel, (n_shapes,)."""
        return np.ones(self.n_shapes) if self.shapes is None else self.shapes.sum(1)

    @cached_property
    def middle(self) -> int:
        """Index of the central pixel."""
        centre = int(np.prod(self.kernel_shape)) // 2
        return centre if self.shapes is None else int(np.argmax(self.shapes[:, centre]))

    def images(self, coefficients) -> np.ndarray:
        """Kernels (n, k, k) in a square box of coefficients (n, n_shapes)."""
        flat = coefficients if self.shapes is None else coefficients @ self.shapes
        side = max(self.kernel_shape)
        dy, dx = ((side - n) // 2 for n in self.kernel_shape)
        images = np.zeros((len(flat), side, side))
        box = np.s_[:, dy : dy + self.kernel_shape[0], dx : dx + self.kernel_shape[1]]
        images[box] = flat.reshape(-1, *self.kernel_shape)
        return images

    @cached_property
    def n_terms(self) -> int:
        """Number of functions of the field that multiply each of them."""
        return polynomial.n_terms(self.order) if self.spline is None else int(np.prod(self.spline))

    @property
    def n_kernel(self) -> int:
        return self.n_shapes * self.n_terms

    @property
    def n_background(self) -> int:
        return polynomial.n_terms(self.bg_order)

    @property
    def n_unknowns(self) -> int:
        return self.n_kernel + self.n_background

    def terms(self, x, y) -> np.ndarray:
        """Functions of the kernel at x, y, which broadcast: (n_terms, ...)."""
        if self.spline is None:
            return polynomial.evaluate(self.order, x, y, self.shape)
        ny, nx = self.spline
        along = _splines(nx, np.asarray(x, float), self.shape[1])
        up = _splines(ny, np.asarray(y, float), self.shape[0])
        product = up[:, None] * along[None, :]
        return product.reshape(ny * nx, *product.shape[2:])

    def both_at(self, x, y) -> tuple[np.ndarray, np.ndarray]:
        """Functions of kernel and background at pixels x, y (n,) of the image, float32."""
        along, up, powers = self._axes
        i, j = powers
        background = along[:, x][i] * up[:, y][j]
        count = self.n_background
        if self.spline is None:
            return background[: self.n_terms], background[:count]
        return self.terms(x, y).astype(np.float32), background[:count]

    @cached_property
    def _axes(self):
        top = self.bg_order if self.spline is not None else max(self.order, self.bg_order)
        along, up = (t.astype(np.float32) for t in polynomial.axes(top, self.shape))
        return along, up, tuple(np.array(polynomial.degrees(top)).T)

    def background_terms(self, x, y) -> np.ndarray:
        return polynomial.evaluate(self.bg_order, x, y, self.shape)

    @cached_property
    def flux_terms(self) -> np.ndarray:
        """Orthonormal columns (n_terms, n_flux): coefficients that kernel sums of degree
        `flux_order` have."""
        count = polynomial.n_terms(self.flux_order)
        if self.spline is None:
            return np.eye(self.n_terms)[:, :count]
        ny, nx = self.shape
        x, y = (
            np.linspace(0, nx - 1, 8 * self.spline[1]),
            np.linspace(0, ny - 1, 8 * self.spline[0]),
        )
        grid = x[None, :], y[:, None]
        functions = self.terms(*grid).reshape(self.n_terms, -1)
        wanted = polynomial.evaluate(self.flux_order, *grid, self.shape).reshape(count, -1)
        fitted = np.linalg.lstsq(functions.T, wanted.T, rcond=1e-12)[0]
        return np.linalg.qr(fitted)[0]

    def split(self, solution) -> tuple[np.ndarray, np.ndarray]:
        """Unknowns as kernel coefficients (n_shapes, n_terms) and background coefficients."""
        kernel = solution[: self.n_kernel].reshape(self.n_shapes, self.n_terms)
        return kernel, solution[self.n_kernel :]

    def kernel_at(self, solution, x, y) -> np.ndarray:
        """Kernel at (x, y), (ky, kx)."""
        flat = self.split(solution)[0] @ self.terms(x, y)
        return (flat if self.shapes is None else flat @ self.shapes).reshape(self.kernel_shape)

    def varying(self, solution) -> VaryingKernel:
        """The kernel for `convolve`, in a square box."""
        return VaryingKernel(self.images(self.split(solution)[0].T), self.terms)

    def background_map(self, solution) -> np.ndarray:
        """(ny, nx) float32."""
        return polynomial.product_map(self.split(solution)[1], self.bg_order, self.shape)

    def matched(self, solution, template, exact=False) -> np.ndarray:
        """Convolved template plus background, (ny, nx): float32, or float64 if `exact`."""
        if not exact:
            image = self.varying(solution).convolve(np.asarray(template, np.float32))
            image += self.background_map(solution)
            return image
        return _matched_exactly(self, solution, template)


def _matched_exactly(model, solution, template):
    coefficients, background = model.split(solution)
    ny, nx = model.shape
    x, y = np.arange(nx)[None, :], np.arange(ny)[:, None]
    image = np.tensordot(background, model.background_terms(x, y), 1)
    for kernel, term in zip(model.images(coefficients.T), model.terms(x, y), strict=True):
        image += term * fft_convolve(template, kernel)
    return image


def _splines(count, position, length):
    """Values (count, ...) of clamped uniform B-splines, cubic if there are enough of them."""
    degree = min(3, count - 1)
    knots = np.r_[[0.0] * degree, np.linspace(0, 1, count - degree + 1), [1.0] * degree]
    unit = np.clip(position / max(length - 1, 1), 0, 1)
    matrix = b_splines(unit.ravel(), knots, degree)
    return matrix.reshape(count, *unit.shape)
