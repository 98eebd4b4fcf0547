"""`SfftResult`: the fitted kernel anywhere, its errors, and what is known of the fit."""

import dataclasses
from functools import cached_property

import numpy as np

from psflib.matching.kernel import MatchingKernel
from psflib.subtraction.sfft.fit import Fitted
from psflib.subtraction.sfft.model import Model


@dataclasses.dataclass(frozen=True, eq=False)
class SfftResult:
    """What `run_sfft` found.

    model : what was fitted (degrees, shape of the kernel, functions of the field)
    fitted : unknowns, normal matrix, pixels used
    noise : ndarray (ny, nx) float32
        Sigma of the difference, ADU; noise of both images taken as white.
    dmask, edges : ndarray (ny, nx) bool
        Where the difference means nothing, and where the reason is that the kernel reaches over
        the border.
    flags : tuple of str
        What was changed of what was asked for, and why.
    """

    model: Model
    fitted: Fitted
    noise: np.ndarray
    dmask: np.ndarray
    edges: np.ndarray
    weighted: bool
    flags: tuple[str, ...] = ()

    @property
    def kernel_shape(self) -> tuple[int, int]:
        return self.model.kernel_shape

    @property
    def coefficients(self) -> np.ndarray:
        """Coefficients (ky kx, n_terms) of each pixel of the kernel."""
        return self.model.split(self.fitted.solution)[0]

    @property
    def background(self) -> np.ndarray:
        """Coefficients of the differential background, ADU; see `psflib.image.polynomial`."""
        return self.model.split(self.fitted.solution)[1]

    @property
    def flux(self) -> np.ndarray:
        """Coefficients (n_terms,) of the flux scale, the kernel's sum."""
        return self.model.sums @ self.coefficients

    @property
    def n_iter(self) -> int:
        """Rounds of rejection."""
        return self.fitted.n_iter

    @property
    def n_good(self) -> int:
        """Pixels that the final fit used."""
        return int(self.fitted.used.sum())

    @property
    def rms(self) -> float:
        """Rms of their residuals, ADU."""
        return self.fitted.rms

    @property
    def assembly(self) -> str:
        """ "fourier", "tiles" or "gram"."""
        return self.fitted.assembly

    def kernel_at(self, x: float, y: float) -> np.ndarray:
        """Kernel at (x, y), (ky, kx) float64; true convolution, origin at the central pixel."""
        return self.model.kernel_at(self.fitted.solution, x, y)

    def kernel_error_at(self, x: float, y: float) -> np.ndarray:
        """Sigma of each pixel of the kernel at (x, y), (ky, kx)."""
        terms, p = self.model.terms(x, y), self.model.n_kernel
        n, m = self.model.n_shapes, self.model.n_terms
        kernel = self.covariance[:p, :p].reshape(n, m, n, m)
        own = np.einsum("sqsr,q,r->s", kernel, terms, terms)
        return np.sqrt(np.maximum(own, 0)).reshape(self.kernel_shape)

    def flux_at(self, x, y):
        """Science flux of a source of unit template flux at (x, y), which broadcast."""
        return np.tensordot(self.flux, self.model.terms(x, y), 1)

    def flux_error_at(self, x: float, y: float) -> float:
        """Sigma of `flux_at`."""
        row = np.zeros(self.model.n_unknowns)
        row[: self.model.n_kernel] = np.outer(self.model.sums, self.model.terms(x, y)).ravel()
        return float(np.sqrt(row @ self.covariance @ row))

    def background_at(self, x, y):
        """Differential background at (x, y), ADU, of images without their medians."""
        return np.tensordot(self.background, self.model.background_terms(x, y), 1)

    def background_map(self) -> np.ndarray:
        """The same, (ny, nx) float32."""
        return self.model.background_map(self.fitted.solution)

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of all unknowns: (M + P)⁻¹ M (M + P)⁻¹, M the normal matrix, P the penalties.

        Of the science image's noise and that of the convolved template; without weights, of noise
        as large as the residuals.
        """
        unit = 1.0 if self.weighted else self.rms**2
        return unit * self.fitted.solver.covariance(self.fitted.matrix)

    @property
    def kernel(self) -> MatchingKernel:
        """The same kernel as the other methods have it.

        Raises
        ------
        ValueError
            If it varies by B-splines.
        """
        return matching_kernel(self.model, self.fitted.solution)


def in_units(fitted: Fitted, unit: float, own: float, weighted: bool) -> Fitted:
    """The fit of images that had been divided by `unit` and `own` (science, template), in ADU."""
    model = fitted.solver.model
    factor = np.full(model.n_unknowns, unit)
    factor[: model.n_kernel] /= own
    matrix = fitted.matrix / np.outer(factor, factor)
    return dataclasses.replace(
        fitted,
        solution=fitted.solution * factor,
        matrix=matrix if weighted else matrix * unit**2,
        variance=fitted.variance * np.float32(unit) ** 2,
        residual=fitted.residual * unit,
    )


def matching_kernel(model, solution, convolved="template", meta=None) -> MatchingKernel:
    """A solution as a `MatchingKernel`: the sum in basis image 0, all others of zero sum.

    Raises
    ------
    ValueError
        If it varies by B-splines.
    """
    if model.spline is not None:
        raise ValueError("a kernel of B-splines over the field is no MatchingKernel")
    coefficients, background = model.split(solution)
    images = model.images(np.eye(model.n_shapes))
    middle, others = model.middle, np.delete(np.arange(model.n_shapes), model.middle)
    rest = images[others] - np.multiply.outer(model.sums[others], images[middle])
    sums = model.sums @ coefficients
    return MatchingKernel(
        np.concatenate([images[middle][None], rest]),
        np.concatenate([sums[None], coefficients[others]]),
        model.order, model.order, background, model.bg_order, model.shape, convolved,
        dict(meta or {}),
    )  # fmt: skip
