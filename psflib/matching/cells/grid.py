"""Kernel candidates and the grid of cells that spreads them over the field."""

import dataclasses

import numpy as np
from astropy.table import Table

from psflib.words import NONE

#: Word in `KernelCandidate.reason` -> what it says.
REASONS = {
    "edge": "its stamp reaches over the border",
    "mask": "a masked pixel in its stamp",
    "snr": "too faint in one of the images",
    "size": "too many or too few pixels",
    "variance": "a variance that is not positive",
    "singular": "no solution for its kernel",
    "cond": "ill-conditioned",
    "nan": "its kernel is not finite",
    "mean": "mean of the residuals of its own fit",
    "std": "scatter of the residuals of its own fit",
    "ksum": "kernel sum far from the others': variable, or saturated in one image",
    "spatial mean": "mean of the residuals of the spatial fit",
    "spatial std": "scatter of the residuals of the spatial fit",
    "variable": "flux differs from what the kernel predicts",
    "late": "its turn came after the last round",
}


@dataclasses.dataclass(frozen=True, eq=False)
class CandidateFit:
    """Kernel of one candidate.

    coefficients : ndarray (nb,) of the basis, and `background` in ADU.
    kernel_sum, kernel_sum_error : float; the error is NaN if it was not asked for.
    mean, std : float, of the residuals in sigma;  chi2 : float, per degree of freedom.
    condition : float, of the normal equations, NaN if it was not asked for.
    matrix, vector : normal equations, (nb + 1,) with the background last; empty if not kept.
    notes : tuple of words ("truncated": solved without its worst modes).
    """

    coefficients: np.ndarray
    background: float
    kernel_sum: float
    mean: float
    std: float
    chi2: float
    matrix: np.ndarray
    vector: np.ndarray
    condition: float = np.nan
    kernel_sum_error: float = np.nan
    regularisation: float = 0.0
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(eq=False)
class KernelCandidate:
    """A source that may tell the kernel.

    id : int;  x, y : float, px;  rating : float, candidates of a cell are used by falling rating.
    box : (slice, slice) of rows and columns of its stamp, None if that is not inside the images.
    status : "unknown", "good" or "bad";  reason : word of `REASONS`, "" unless bad.
    fit : CandidateFit of its own kernel, or None;  component_fit : in principal components.
    spatial_mean, spatial_std : residuals of the spatial fit in sigma, NaN before it.
    """

    id: int
    x: float
    y: float
    rating: float
    box: tuple[slice, slice] | None = None
    status: str = "unknown"
    reason: str = ""
    fit: CandidateFit | None = None
    component_fit: CandidateFit | None = None
    spatial_mean: float = np.nan
    spatial_std: float = np.nan

    def reject(self, reason: str) -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown reason {reason!r}")
        self.status, self.reason = "bad", reason

    def accept(self) -> None:
        self.status, self.reason = "good", ""


@dataclasses.dataclass(frozen=True)
class SpatialCell:
    """Rectangle x0 <= x < x1, y0 <= y < y1 (px) and its candidates by falling rating."""

    x0: int
    y0: int
    x1: int
    y1: int
    candidates: tuple[KernelCandidate, ...] = ()

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x0 + self.x1 - 1) / 2, (self.y0 + self.y1 - 1) / 2

    def active(self, count: int) -> list[KernelCandidate]:
        """The `count` best that are not bad; all for -1."""
        usable = [c for c in self.candidates if c.status != "bad"]
        return usable if count < 0 else usable[:count]


@dataclasses.dataclass(frozen=True)
class SpatialCellSet:
    """Cells that cover an image of `shape` (ny, nx)."""

    shape: tuple[int, int]
    cells: tuple[SpatialCell, ...]

    def active(self, count: int) -> list[KernelCandidate]:
        """What a visit sees: of each cell the `count` best that are not bad."""
        return [c for cell in self.cells for c in cell.active(count)]

    @property
    def candidates(self) -> list[KernelCandidate]:
        return [c for cell in self.cells for c in cell.candidates]

    def counts(self) -> dict[str, int]:
        """Number of candidates in all, by status, and of the bad ones by reason."""
        every = self.candidates
        found = {"n_total": len(every)}
        found |= {f"n_{s}": sum(c.status == s for c in every) for s in ("good", "bad", "unknown")}
        for reason in REASONS:
            number = sum(c.reason == reason for c in every)
            if number:
                found["n_bad_" + reason.replace(" ", "_")] = number
        return found

    def table(self) -> Table:
        """A row on each candidate: id, x, y, rating, status, reason and the numbers of its fits."""
        rows = [
            (c.id, c.x, c.y, c.rating, c.status, c.reason or NONE, *_numbers(c.fit), c.spatial_mean,
             c.spatial_std)
            for c in self.candidates
        ]  # fmt: skip
        names = ("id", "x", "y", "rating", "status", "reason", "kernel_sum", "mean", "std", "chi2",
                 "condition", "spatial_mean", "spatial_std")  # fmt: skip
        kinds = (int, float, float, float, "U8", "U16", *[float] * 7)
        return Table(rows=rows or None, names=names, dtype=kinds)


def _numbers(fit):
    if fit is None:
        return [np.nan] * 5
    return fit.kernel_sum, fit.mean, fit.std, fit.chi2, fit.condition


def make_cells(shape, size_x, size_y, candidates=()) -> SpatialCellSet:
    """Grid of cells of `size_x` x `size_y` px with the candidates in it.

    The last cells of a row or column are cut by the border.  Candidates of one rating are ordered
    by their id, so that the same list gives the same fit.

    Raises
    ------
    ValueError
        A cell without extent.
    """
    if size_x < 1 or size_y < 1:
        raise ValueError(f"cells need a positive size; got {size_x} x {size_y} px")
    ny, nx = shape
    columns = -(-nx // size_x)
    members: dict[int, list[KernelCandidate]] = {}
    for one in sorted(candidates, key=lambda c: (-c.rating, c.id)):
        # beyond the border by a part of a pixel: in the outermost cell
        column = int(min(max(one.x, 0), nx - 1)) // size_x
        row = int(min(max(one.y, 0), ny - 1)) // size_y
        members.setdefault(row * columns + column, []).append(one)
    corners = [(x0, y0) for y0 in range(0, ny, size_y) for x0 in range(0, nx, size_x)]
    cells = [
        SpatialCell(x0, y0, min(x0 + size_x, nx), min(y0 + size_y, ny), tuple(members.get(i, ())))
        for i, (x0, y0) in enumerate(corners)
    ]
    return SpatialCellSet(tuple(shape), tuple(cells))
