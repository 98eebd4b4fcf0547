"""`SFFTResult`: the fitted kernel anywhere, its errors, and what is known of the fit."""

import dataclasses
from functools import cached_property

import numpy as np

from psflib.image import polynomial
from psflib.matching.kernel import MatchingKernel
from psflib.subtraction.sfft.fit import Fitted
from psflib.subtraction.sfft.model import Model


@dataclasses.dataclass(frozen=True, eq=False)
class SFFTResult:
    """What `run_sfft` and `solve` found; attributes of STDPipe's class of that name, and ours.

    STDPipe's coefficients stand before powers of u, v in [-1, 1] over the image, in the order 1,
    v, u, v², uv, u² ...; ours before Chebyshev polynomials, see `psflib.image.polynomial`.

    diff, model : ndarray (ny, nx) float32
        Difference, and convolved template plus background, ADU; their sum is the image where not
        `dmask`.  There the difference is 0.
    noise : ndarray (ny, nx) float32
        Sigma of the difference, ADU; noise of both images taken as white.
    dmask, edges : ndarray (ny, nx) bool
        Where the difference means nothing, and where the reason is that the kernel reaches over
        the border.
    form : Model
        What was fitted: degrees, shape of the kernel, functions of the field.
    fitted : unknowns, normal matrix, pixels used
    levels : (float, float)
        Medians of image and template, ADU; the fit is one of images without them.
    reweighted : bool
        The noise of the template was given.
    flags : tuple of str
        What was changed of what was asked for, and why.
    """

    diff: np.ndarray
    model: np.ndarray
    noise: np.ndarray
    dmask: np.ndarray
    edges: np.ndarray
    form: Model
    fitted: Fitted
    levels: tuple[float, float]
    weighted: bool
    reweighted: bool
    flags: tuple[str, ...] = ()

    @property
    def kernel_shape(self) -> tuple[int, int]:
        """(ky, kx), px."""
        return self.form.kernel_shape

    @property
    def kernel_poly_order(self) -> int:
        """Degree of the kernel's variation that was fitted; `flags` tell if it was lowered."""
        return self.form.order

    @property
    def bg_poly_order(self) -> int:
        return self.form.bg_order

    @property
    def flux_poly_order(self) -> int:
        return self.form.flux_order

    @property
    def kernel_coeffs(self) -> np.ndarray:
        """(ky kx, n_terms), before powers.

        Raises
        ------
        ValueError
            If the kernel varies by B-splines.
        """
        if self.form.spline is not None:
            raise ValueError("a kernel of B-splines over the field has no polynomial coefficients")
        return _powers(self.coefficients, self.form.order)

    @property
    def flux_poly_coeffs(self) -> np.ndarray:
        """Those of the kernel's sum up to `flux_poly_order`, before powers."""
        return self.kernel_coeffs.sum(0)[: polynomial.n_terms(self.form.flux_order)]

    @property
    def bg_coeffs(self) -> np.ndarray:
        """Background of the images as they were given, ADU, before powers."""
        return _powers(self._whole_background, self.form.bg_order)

    @property
    def convolved(self) -> np.ndarray:
        """The convolved template, (ny, nx) float32, ADU: `model` without the background.

        That is the kernel on the template as it was given, its sky included, unless the flux
        scale varies by a higher degree than the background: then its sky varies by the latter's.
        """
        form = self.form
        background = polynomial.product_map(
            self._whole_background, form.bg_order, form.shape, np.float64
        )
        return (self.model - background).astype(np.float32)

    @property
    def _whole_background(self):
        """Chebyshev coefficients of the background with the levels of both images, ADU."""
        own, (level, template_level) = self.background.copy(), self.levels
        own[0] += level
        if self.form.spline is not None:
            own[0] -= template_level * np.mean(self.flux)  # B-splines sum up to 1 everywhere
            return own
        count = min(len(own), len(self.flux))
        own[:count] -= template_level * self.flux[:count]
        return own

    @property
    def coefficients(self) -> np.ndarray:
        """Coefficients (ky kx, n_terms) of each pixel of the kernel."""
        return self.form.split(self.fitted.solution)[0]

    @property
    def background(self) -> np.ndarray:
        """Coefficients of the differential background, ADU; see `psflib.image.polynomial`."""
        return self.form.split(self.fitted.solution)[1]

    @property
    def flux(self) -> np.ndarray:
        """Coefficients (n_terms,) of the flux scale, the kernel's sum."""
        return self.form.sums @ self.coefficients

    @property
    def n_iter(self) -> int:
        """Solutions: the first, one after each rejection, and one more if the template's noise was
        given, which takes a first kernel to be propagated through."""
        return 1 + self.fitted.n_iter + self.reweighted

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
        return self.form.kernel_at(self.fitted.solution, x, y)

    def kernel_error_at(self, x: float, y: float) -> np.ndarray:
        """Sigma of each pixel of the kernel at (x, y), (ky, kx)."""
        terms, p = self.form.terms(x, y), self.form.n_kernel
        n, m = self.form.n_shapes, self.form.n_terms
        kernel = self.covariance[:p, :p].reshape(n, m, n, m)
        own = np.einsum("sqsr,q,r->s", kernel, terms, terms)
        return np.sqrt(np.maximum(own, 0)).reshape(self.kernel_shape)

    def flux_at(self, x, y):
        """Science flux of a source of unit template flux at (x, y), which broadcast."""
        return np.tensordot(self.flux, self.form.terms(x, y), 1)

    def flux_error_at(self, x: float, y: float) -> float:
        """Sigma of `flux_at`."""
        row = np.zeros(self.form.n_unknowns)
        row[: self.form.n_kernel] = np.outer(self.form.sums, self.form.terms(x, y)).ravel()
        return float(np.sqrt(row @ self.covariance @ row))

    def background_at(self, x, y):
        """Differential background at (x, y), ADU, of images without their medians."""
        return np.tensordot(self.background, self.form.background_terms(x, y), 1)

    def background_map(self) -> np.ndarray:
        """The same, (ny, nx) float32."""
        return self.form.background_map(self.fitted.solution)

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
        return matching_kernel(self.form, self.fitted.solution)


def _powers(coefficients, order):
    """Chebyshev coefficients (..., n_terms) as STDPipe's: of each degree, powers of y first."""
    powers = polynomial.to_powers(coefficients, order)
    degrees = polynomial.degrees(order)
    first = sorted(range(len(degrees)), key=lambda k: (sum(degrees[k]), degrees[k][0]))
    return powers[..., first]


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
