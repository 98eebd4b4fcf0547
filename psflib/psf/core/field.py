"""`PsfField`: the core PSF anywhere in the image."""

import dataclasses
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import QTable

from psflib.image import polynomial
from psflib.loops.render import sample_model
from psflib.loops.sample import sample_grid
from psflib.psf.extended import on_native

FWHM_STEPS = 10  # samples per pixel in the measure of the FWHM
SHAPE_ROUNDS = 20  # of the adaptive moments


@dataclasses.dataclass(frozen=True, eq=False)
class PsfField:
    """Oversampled effective PSF as a polynomial over the image.

    Parameters
    ----------
    terms : ndarray (k, os·s, os·s) float64
        ePSF = Σ_k terms[k]·T_k(x, y) with the k = (order+1)(order+2)/2 Chebyshev products of
        `psflib.image.polynomial.evaluate`.
    oversample : int
        os, odd.
    order : int
        Degree of the polynomial.
    shape : (ny, nx)
        Of the image.
    stars : QTable
        id, x, y (px), flux, flux_err (with `flux_error`), background (ADU), delta_row,
        delta_col (px), ok (entered the fit or, if reserved, could be judged), chi2 (per degree of
        freedom, over the pixels that were not given up), reserved, reason ('' if ok).
    meta : dict
    error : ndarray (os·s, os·s) float64, optional
        Standard error of the constant term.

    Raises
    ------
    ValueError
        If the number or shape of the terms is wrong.
    """

    terms: np.ndarray
    oversample: int
    order: int
    shape: tuple[int, int]
    stars: QTable
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)
    error: np.ndarray | None = None

    def __post_init__(self):
        shape, needed = np.shape(self.terms), polynomial.n_terms(self.order)
        if len(shape) != 3 or shape[0] != needed or shape[1] != shape[2]:
            raise ValueError(f"terms must be ({needed}, os·s, os·s); got {shape}")
        if self.oversample % 2 == 0 or shape[1] % self.oversample or shape[1] % 2 == 0:
            raise ValueError(f"terms of side {shape[1]} do not fit oversample {self.oversample}")
        if self.error is not None and np.shape(self.error) != shape[1:]:
            raise ValueError(f"error {np.shape(self.error)} must have the shape {shape[1:]}")

    @property
    def size(self) -> int:
        """Side of the PSF in native pixels."""
        return self.terms.shape[1] // self.oversample

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the middle of the image, px."""
        return (self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2

    def epsf(self, x: float, y: float) -> np.ndarray:
        """Oversampled ePSF (os·s, os·s) at (x, y), sum os²; off the image, at its nearest pixel.

        A polynomial runs away where there are no stars to hold it.
        """
        ny, nx = self.shape
        x, y = np.clip(x, 0, nx - 1), np.clip(y, 0, ny - 1)
        weights = polynomial.evaluate(self.order, x, y, self.shape)
        psi = np.tensordot(weights, self.terms, axes=1)
        return psi * (self.oversample**2 / psi.sum())

    def flux_error(self, x, y) -> np.ndarray:
        """Relative standard error that the PSF's own error puts on every flux at (x, y).

        It is common to all stars: colours and light curves by one PSF are free of it.  Away from
        the stars that tell how the PSF varies it grows, as the polynomial's error does.

        Returns
        -------
        ndarray, of the shape of `x` and `y` broadcast
            NaN if the PSF does not know it.
        """
        if "shape_error" not in self.meta:
            return np.full(np.broadcast(x, y).shape, np.nan)
        ny, nx = self.shape
        x, y = np.clip(x, 0, nx - 1), np.clip(y, 0, ny - 1)
        terms = polynomial.evaluate(self.order, x, y, self.shape)
        growth = np.square(np.tensordot(np.array(self.meta["mix"]).T, terms, axes=1)).sum(axis=0)
        return np.sqrt(np.square(self.meta["shape_error"]) * growth + self.meta["zero_error"] ** 2)

    def at(self, x: float, y: float, size: int | None = None) -> np.ndarray:
        """PSF (size, size) float64 in native pixels at (x, y), on its centre pixel, unit sum.

        Raises
        ------
        ValueError
            If `size` is even.
        """
        size = self.size if size is None else size
        if size % 2 == 0:
            raise ValueError(f"size must be odd; got {size}")
        native = on_native(self.epsf(x, y), self.oversample, size)
        return native / native.sum()

    def render(self, x, y, flux, shape) -> np.ndarray:
        """Image (ny, nx) float64 of stars at (x, y) px with `flux`; light off the image is lost."""
        ny, nx = shape
        image = np.zeros((ny, nx))
        half = self.size // 2
        scratch = np.empty((self.size, self.terms.shape[1]))
        stamp = np.empty((self.size, self.size))
        for x_, y_, f in np.broadcast(np.atleast_1d(x), np.atleast_1d(y), np.atleast_1d(flux)):
            col, row = round(float(x_)), round(float(y_))
            top, left = max(row - half, 0), max(col - half, 0)
            bottom, right = min(row + half + 1, ny), min(col + half + 1, nx)
            if top >= bottom or left >= right:
                continue
            psi = self.epsf(x_, y_)
            sample_model(psi, self.oversample, y_ - row, x_ - col, scratch, stamp)
            window = stamp[
                top - row + half : bottom - row + half, left - col + half : right - col + half
            ]
            image[top:bottom, left:right] += f * window
        return image

    def fwhm(self, x: float | None = None, y: float | None = None) -> float:
        """FWHM, px: diameter of the disc with the area that is above half the peak.

        By default at the middle of the image.
        """
        middle = self.centre
        psi = self.epsf(middle[0] if x is None else x, middle[1] if y is None else y)
        return area_fwhm(psi, self.oversample)

    def shape_at(self, x: float, y: float) -> tuple[float, float, float]:
        """FWHM (px) and ellipticity e1, e2 at (x, y).

        e1 = (Ixx - Iyy)/(Ixx + Iyy), e2 = 2·Ixy/(Ixx + Iyy) of moments weighted by the Gaussian
        that matches them (Bernstein & Jarvis 2002, sect. 3.1).
        """
        return self.fwhm(x, y), *ellipticity(self.epsf(x, y))

    def maps(self, points: int = 9) -> QTable:
        """FWHM and ellipticity over the field: x, y (px), fwhm (px), e1, e2, points² rows."""
        ny, nx = self.shape
        places = [
            (x, y) for y in np.linspace(0, ny - 1, points) for x in np.linspace(0, nx - 1, points)
        ]
        rows = [(x, y, *self.shape_at(x, y)) for x, y in places]
        table = QTable(rows=rows, names=("x", "y", "fwhm", "e1", "e2"))
        for name in ("x", "y", "fwhm"):
            table[name] = table[name] * u.pix
        return table


def ellipticity(psi):
    """(e1, e2) from moments under the matching elliptical Gaussian."""
    axis = np.arange(len(psi)) - (len(psi) - 1) / 2
    y, x = axis[:, None], axis[None, :]
    area = np.count_nonzero(psi > 0.5 * psi.max())
    xx, yy, xy = area / (2 * np.pi * np.log(2)) * np.array([1, 1, 0])
    for _ in range(SHAPE_ROUNDS):
        det = xx * yy - xy**2
        weight = psi * np.exp(-0.5 * (yy * x**2 - 2 * xy * x * y + xx * y**2) / det)
        total = weight.sum()
        dx, dy = np.sum(weight * x) / total, np.sum(weight * y) / total
        # The product of two equal Gaussians has half their moments.
        xx = 2 * np.sum(weight * (x - dx) ** 2) / total
        yy = 2 * np.sum(weight * (y - dy) ** 2) / total
        xy = 2 * np.sum(weight * (x - dx) * (y - dy)) / total
    return (xx - yy) / (xx + yy), 2 * xy / (xx + yy)


def area_fwhm(psi: np.ndarray, oversample: int) -> float:
    """FWHM in native px of an oversampled PSF, from the area above half its peak."""
    half = (len(psi) - 1) / 2
    step = oversample / FWHM_STEPS
    axis = np.arange(-half, half + step / 2, step) + half
    row, col = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
    fine = np.empty(row.size)
    sample_grid(psi, row, col, fine)
    area = np.count_nonzero(fine > 0.5 * fine.max()) / FWHM_STEPS**2
    return float(2 * np.sqrt(area / np.pi))
