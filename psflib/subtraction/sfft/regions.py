"""Which pixels `run_sfft` fits: all good ones, or boxes about objects; and with which degree.

The choice of objects is STDPipe's (Karpov 2021, ascl:2112.006): no flags, the best of each cell of
a grid, boxes inside the image and not mostly masked, and all pixels if the boxes hold too few.
"""

import dataclasses

import numpy as np

from psflib.errors import SingularFit
from psflib.image import polynomial
from psflib.matching.cells.candidates import positions
from psflib.subtraction.sfft.fit import MARGIN

DEFAULT_SIZE = 15  # px, half size of a region if objects have no FWHM
SCANTY = 10  # pixels for each unknown, below which objects do not confine the fit
OBJECTS = 2  # for each function of the field


@dataclasses.dataclass(frozen=True)
class ObjectChoice:
    """STDPipe's arguments of the same names, without `obj_`: which objects are fitted."""

    size: float | None = None
    grid: int | None = 4
    per_cell: int | None = 10
    max_masked_fraction: float = 0.5


def choose_pixels(model, good, seen, obj, choice):
    """Pixels to fit, the model that they can carry, and what had to change for it.

    Parameters
    ----------
    model : Model
        As asked for.
    good, seen : ndarray (ny, nx) bool
        Where the difference means something, and where both images have data.
    obj : Table, ndarray (n, 2) or None
    choice : ObjectChoice

    Raises
    ------
    ValueError
        An `obj_size` below 1 px, objects without places.
    SingularFit
        Fewer pixels than unknowns.
    """
    use, count, flags = good, None, []
    if obj is not None and len(obj):
        boxes, count = _boxes(seen, obj, choice)
        enough = SCANTY * model.n_unknowns
        if not count:
            flags.append(f"none of {len(obj)} objects has good pixels around: all are fitted")
        elif (held := int((boxes & seen).sum())) < enough:
            flags.append(
                f"{count} objects hold {held} pixels, {enough} are wanted for "
                f"{model.n_unknowns} unknowns: all pixels are fitted"
            )
            count = 0
        use, count = (boxes & good, count) if count else (good, None)
    order = model.order
    while model.spline is None and model.order > 0 and _too_much(model, use, count):
        lower = model.order - 1
        model = dataclasses.replace(model, order=lower, flux_order=min(model.flux_order, lower))
    if model.order < order:
        what = f"{count} objects" if count is not None else f"{int(use.sum())} pixels"
        flags.append(f"{what} do not carry a kernel of degree {order}: lowered to {model.order}")
    if model.n_unknowns + MARGIN > use.sum():
        raise SingularFit(
            f"{int(use.sum())} usable pixels for {model.n_unknowns} unknowns; "
            f"{model.n_unknowns + MARGIN} are needed"
        )
    return use, model, tuple(flags)


def _too_much(model, use, count):
    if model.n_unknowns + MARGIN > use.sum():
        return True
    return count is not None and count < OBJECTS * polynomial.n_terms(model.order)


def _boxes(seen, obj, choice):
    """Pixels in the boxes of the chosen objects, and how many these are."""
    ny, nx = seen.shape
    half, grid = _half_size(obj, choice.size), max(1, int(choice.grid or 1))
    places, taken = positions(obj), np.zeros((grid, grid), int)
    use, count = np.zeros_like(seen), 0
    for x, y in places[_best_first(obj, len(places))]:
        if not (half <= round(x) < nx - half and half <= round(y) < ny - half):
            continue
        j, i = round(y), round(x)
        cell = min(j * grid // ny, grid - 1), min(i * grid // nx, grid - 1)
        box = np.s_[j - half : j + half + 1, i - half : i + half + 1]
        full = choice.per_cell and taken[cell] >= choice.per_cell
        if full or np.mean(~seen[box]) > choice.max_masked_fraction:
            continue
        use[box] = True
        taken[cell] += 1
        count += 1
    return use, count


def _best_first(obj, count) -> np.ndarray:
    """Indices of objects at known places without flags, by falling flux over its error."""
    kept = np.isfinite(positions(obj)).all(1)
    flags, flux, error = (_column(obj, name) for name in ("flags", "flux", "fluxerr"))
    if flags is not None:
        kept &= flags == 0
    if flux is None:
        return np.flatnonzero(kept)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.nan_to_num(flux if error is None else flux / error, nan=-np.inf)
    order = np.argsort(-value, kind="stable")
    return order[kept[order]]


def _column(obj, name):
    """Values of a column, without units, masked ones as NaN; None if there is none."""
    names = getattr(obj, "colnames", None) or getattr(getattr(obj, "dtype", None), "names", None)
    if name not in (names or ()):
        return None
    return np.asarray(np.ma.filled(np.ma.asarray(getattr(obj[name], "value", obj[name]), float),
                                   np.nan))  # fmt: skip


def _half_size(obj, size) -> int:
    if size is not None:
        if not size >= 1:
            raise ValueError(f"obj_size must be at least 1 px; got {size}")
        return int(size)
    values = _column(obj, "fwhm")
    if values is None:
        return DEFAULT_SIZE
    values = values[np.isfinite(values) & (values > 0)]
    return int(np.ceil(3 * np.median(values))) if len(values) else DEFAULT_SIZE
