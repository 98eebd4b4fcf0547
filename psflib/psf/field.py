"""`PsfField`: the core PSF anywhere in the image."""

import dataclasses
import logging
from typing import Any

import numpy as np
from astropy.table import QTable
from pydantic import BaseModel, ConfigDict, Field, field_validator

from psflib import polynomial
from psflib.errors import NotEnoughStars
from psflib.loops.render import sample_model
from psflib.loops.sample import sample_grid
from psflib.psf.epsf import build_epsf
from psflib.psf.extended import on_native
from psflib.psf.judge import calm_wings, judge, outliers
from psflib.psf.seed import fit_moffat, moffat_epsf
from psflib.stamps import Stamps

log = logging.getLogger(__name__)

FEWEST_FITTED = 3  # with fewer, the reserved stars are used too
FWHM_STEPS = 10  # samples per pixel in the measure of the FWHM


class EpsfSettings(BaseModel):
    """Settings of the stage `core_epsf`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    oversample: int = Field(3, ge=1, description="Samples per pixel; odd. 5 if FWHM < 1.5 px.")
    max_iter: int = Field(
        10,
        ge=1,
        description="Rounds of super-resolution. They sharpen the start, then fit the noise: "
        "more only for hundreds of bright stars.",
    )
    tol: float = Field(1e-4, gt=0, description="Relative change of the ePSF that ends them.")
    reweight: str = Field(
        "huber", description="none, huber or tukey: down-weighting of large residuals."
    )
    reweight_c: float = Field(4.0, gt=0, description="Where that begins, sigma.")
    max_chi: float = Field(
        4.0, gt=0, description="Stars whose misfit is this many sigma above the usual are left out."
    )
    model_error: float = Field(
        0.02, ge=0, description="Error of the model, relative, allowed when stars are left out."
    )

    @field_validator("oversample")
    @classmethod
    def _odd(cls, oversample):
        if oversample % 2 == 0:
            raise ValueError(f"oversample must be odd; got {oversample}")
        return oversample

    @field_validator("reweight")
    @classmethod
    def _known(cls, reweight):
        if reweight not in ("none", "huber", "tukey"):
            raise ValueError(f"reweight must be none, huber or tukey; got {reweight}")
        return reweight


@dataclasses.dataclass(frozen=True, eq=False)
class PsfField:
    """Oversampled effective PSF as a polynomial over the image.

    Parameters
    ----------
    terms : ndarray (k, os·s, os·s) float64
        ePSF = Σ_k terms[k]·T_k(x, y) with the k = (order+1)(order+2)/2 Chebyshev products of
        `psflib.polynomial.evaluate`.
    oversample : int
        os, odd.
    order : int
        Degree of the polynomial.
    shape : (ny, nx)
        Of the image.
    stars : QTable
        id, x, y (px), flux, background (ADU), delta_row, delta_col (px), ok (entered the fit or,
        if reserved, could be judged), chi2 (per degree of freedom), reserved.
    meta : dict

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

    def __post_init__(self):
        shape, needed = np.shape(self.terms), polynomial.n_terms(self.order)
        if len(shape) != 3 or shape[0] != needed or shape[1] != shape[2]:
            raise ValueError(f"terms must be ({needed}, os·s, os·s); got {shape}")
        if self.oversample % 2 == 0 or shape[1] % self.oversample or shape[1] % 2 == 0:
            raise ValueError(f"terms of side {shape[1]} do not fit oversample {self.oversample}")

    @property
    def size(self) -> int:
        """Side of the PSF in native pixels."""
        return self.terms.shape[1] // self.oversample

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the middle of the image, px."""
        return (self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2

    def epsf(self, x: float, y: float) -> np.ndarray:
        """Oversampled ePSF (os·s, os·s) at (x, y), sum os²."""
        weights = polynomial.evaluate(self.order, x, y, self.shape)
        psi = np.tensordot(weights, self.terms, axes=1)
        return psi * (self.oversample**2 / psi.sum())

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


def core_epsf(stamps: Stamps, shape, settings: EpsfSettings | None = None) -> PsfField:
    """Build the core PSF from stamps; reserved stars are judged with it, never fitted.

    The start is a Moffat profile fitted to the stars: from the native blocks that `build_epsf`
    makes by itself, hundreds of rounds do not reach the PSF.

    Parameters
    ----------
    stamps : Stamps
    shape : (ny, nx)
        Of the image.
    settings : EpsfSettings, optional

    Returns
    -------
    PsfField
        meta: fwhm (px), n_fitted, n_rejected, iterations, converged, used_reserved (there were
        too few others), pedestal (what was taken off the model, per peak).

    Raises
    ------
    NotEnoughStars
        If no star could be fitted.
    """
    settings = settings or EpsfSettings()
    reserved = np.asarray(stamps.table["reserved"], bool)
    used_reserved = np.count_nonzero(~reserved) < FEWEST_FITTED
    fitted = np.ones(len(reserved), bool) if used_reserved else ~reserved
    seed = fit_moffat(stamps.data[fitted], stamps.weight[fitted], stamps.delta[fitted])
    if seed is None:
        raise NotEnoughStars("core ePSF", 0, 1)
    start = moffat_epsf(seed, stamps.data.shape[1], settings.oversample)
    built = _solve(stamps, fitted, start, settings)
    table = judge(built.epsf, settings.oversample, stamps)
    bad = outliers(
        built.epsf, settings.oversample, stamps, table, fitted,
        settings.model_error, settings.max_chi,
    )  # fmt: skip
    keep = fitted & ~bad
    if keep.sum() < fitted.sum():
        built = _solve(stamps, keep, start, settings)
    if not built.ok.any():
        raise NotEnoughStars("core ePSF", 0, 1)
    epsf, pedestal = calm_wings(built.epsf, start, settings.oversample)
    table = judge(epsf, settings.oversample, stamps)
    table["ok"] &= keep | reserved
    table["reserved"] = reserved & ~used_reserved
    meta = {
        "fwhm": area_fwhm(epsf, settings.oversample),
        "n_fitted": int(built.ok.sum()),
        "n_rejected": int(fitted.sum() - keep.sum()),
        "iterations": built.iterations,
        "converged": built.converged,
        "used_reserved": bool(used_reserved and reserved.any()),
        "pedestal": pedestal,
    }
    log.info("core ePSF: %s", meta)
    return PsfField(epsf[None], settings.oversample, 0, tuple(shape), table, meta)


def _solve(stamps, use, start, settings):
    """`build_epsf` of the chosen stars."""
    return build_epsf(
        stamps.data[use],
        stamps.delta[use],
        settings.oversample,
        weight=stamps.weight[use],
        psi_init=start,
        max_iter=settings.max_iter,
        tol=settings.tol,
        residual_reweight=settings.reweight,
        reweight_c=settings.reweight_c,
    )
