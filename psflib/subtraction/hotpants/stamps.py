"""Substamps: the sources that HOTPANTS fits, one a stamp, and which of them are kept.

A stamp is a `SpatialCell` of which one candidate, a substamp, is used at a time; when it is
rejected the next takes its place.  Unlike HOTPANTS, pixels are weighted by their inverse variance.
"""

import dataclasses
import logging

import numpy as np
from scipy import ndimage

from psflib.errors import NotEnoughStars, SingularFit
from psflib.image.exposure import Exposure
from psflib.image.noise import clipped, robust_std
from psflib.matching.cells.candidates import inner_box, stamp_box
from psflib.matching.cells.clipping import clipped_mean
from psflib.matching.cells.config import PsfMatchConfigAL
from psflib.matching.cells.grid import KernelCandidate, SpatialCellSet, make_cells
from psflib.matching.cells.lsst_basis import gaussian_basis
from psflib.matching.cells.single import Pair, build_candidate, stamp_residual
from psflib.matching.cells.spatial import model_for, solve_spatial
from psflib.matching.kernel import MatchingKernel

log = logging.getLogger(__name__)

POOR = 3.0  # merit above which a kernel is doubted aloud
FIT = PsfMatchConfigAL(
    constant_variance_weighting=False, iterate_single_kernel=True,
    single_kernel_clipping=False, kernel_sum_clipping=False, spatial_kernel_clipping=False,
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class StampFit:
    """A kernel and how well the substamps like it.

    merit, scatter : float
        Clipped mean and scatter of the substamps' figures of merit (1 is noise).
    n_stamps, n_rejected : int
    """

    kernel: MatchingKernel
    cells: SpatialCellSet
    merit: float
    scatter: float
    n_stamps: int
    n_rejected: int
    notes: list[str]


def fit_stamps(target, convolved, usable, options, name) -> StampFit:
    """Kernel from the substamps of a region.

    Parameters
    ----------
    target, convolved : Exposure
        Sky removed, with variance.
    usable : ndarray (ny, nx) bool
        Pixels that a substamp may use.
    options : HotpantsOptions
    name : "template" or "science", the image that is convolved.

    Raises
    ------
    NotEnoughStars
        No substamp.
    """
    cells = find_substamps(convolved, usable, options)
    pair = Pair(target, convolved)
    images = gaussian_basis(options.r, options.sigmas, options.degrees)
    _build(cells, pair, images)
    rejected = _clip_sums(cells, options)
    while True:
        _build(cells, pair, images)
        active = cells.active(1)
        if not active:
            raise NotEnoughStars(f"substamps (of {len(cells.candidates)}, all rejected)", 0, 1)
        model, notes = model_for(active, cells.shape, options.ko, 0, options.bgo)
        fits = [c.fit for c in active]
        kernel, _ = solve_spatial(active, fits, images, cells.shape, model, FIT, name)
        if not np.isfinite(kernel.coef).all():
            raise SingularFit(f"no finite kernel from {len(active)} substamps")
        merits = np.array([_merit(c, pair, kernel, options.fom) for c in active])
        mean, scatter = clipped_mean(merits, options.ssig)
        bad = merits - mean > max(options.ks * scatter, 1e-9 * mean)
        if not bad.any():
            if mean > POOR:
                notes.append(
                    f"mean merit of {len(active)} substamps is {mean:.1f}, noise would be 1: "
                    "variable sources, a wrong noise model, or images that do not belong together"
                )
            return StampFit(kernel, cells, mean, scatter, len(active), rejected, notes)
        for one in np.array(active, object)[bad]:
            one.reject("spatial std")
        rejected += int(bad.sum())


def _build(cells, pair, images):
    while waiting := [c for c in cells.active(1) if c.fit is None]:
        for one in waiting:
            fit = build_candidate(one, pair, images, FIT)
            if isinstance(fit, str):
                one.reject(fit)
            else:
                one.fit = fit
                one.accept()


def _clip_sums(cells, options) -> int:
    """Reject substamps whose kernel sum is far from the others'; once, as in HOTPANTS."""
    active = cells.active(1)
    if not active:
        return 0
    sums = np.array([c.fit.kernel_sum for c in active])
    mean, scatter = clipped_mean(sums, options.ssig)
    far = np.abs(sums - mean) > max(options.ks * scatter, 1e-9 * abs(mean))
    if far.all():
        return 0
    for one in np.array(active, object)[far]:
        one.reject("ksum")
    return int(far.sum())


def _merit(one, pair, kernel, kind) -> float:
    """Figure of merit of a substamp: variance of the residuals in sigma², in one of three ways."""
    image = kernel.at(one.x, one.y)
    background = float(kernel.background_at(one.x, one.y))
    difference, variance = stamp_residual(one, pair, image, background)
    z = difference / np.sqrt(variance)
    if kind == "v":
        return float(np.mean(np.square(z)))
    return float(np.var(z) if kind == "s" else robust_std(z) ** 2)


def find_substamps(exposure: Exposure, usable, options) -> SpatialCellSet:
    """Up to `nss` substamps in each of nsx x nsy stamps, the brightest first.

    Raises
    ------
    NotEnoughStars
        None at all; the message counts what stood in the way.
    """
    half = options.rss + options.r
    ny, nx = exposure.shape
    if 2 * half + 1 > min(ny, nx):
        raise ValueError(
            f"substamps of {2 * half + 1} px (2 (rss + r) + 1) are larger than the region "
            f"{exposure.shape}"
        )
    if not usable.any():
        raise NotEnoughStars(f"substamps (none of {usable.size} pixels is usable)", 0, 1)
    size = -(-nx // options.nsx), -(-ny // options.nsy)
    if options.places is not None:
        x, y = options.places.T - 1
        found = _vetted(exposure, usable, x, y, options)
        if options.afssc:
            found += _others(exposure, usable, found, options)
    else:
        found = _search(exposure, usable, options.ft, options)
        cells = make_cells(exposure.shape, *size, found)
        filled = sum(bool(cell.active(1)) for cell in cells.cells)
        if filled < max(options.nft * len(cells.cells), 1):
            found = _search(exposure, usable, options.ft * options.sft, options)
    cells = make_cells(exposure.shape, *size, found)
    cells = dataclasses.replace(cells, cells=tuple(_best(c, options.nss) for c in cells.cells))
    if not cells.active(1):
        raise NotEnoughStars(f"substamps ({_fate(cells.candidates)})", 0, 1)
    return cells


def _others(exposure, usable, given, options):
    """Substamps found away from the given ones, which come first whatever their brightness."""
    free, half = usable.copy(), options.rss
    for one in given:
        if one.status != "bad":
            x, y = round(one.x), round(one.y)
            free[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1] = False
    found = _search(exposure, free, options.ft, options)
    span = max((abs(c.rating) for c in (*given, *found)), default=0.0)
    for one in found:
        one.rating, one.id = one.rating - 4 * span, one.id + len(given)
    return found


def _best(cell, count):
    """The cell with its `count` best usable substamps, and the unusable ones."""
    usable = cell.active(count)
    bad = [c for c in cell.candidates if c.status == "bad"]
    return dataclasses.replace(cell, candidates=(*usable, *bad))


def _fate(candidates):
    count = {r: sum(c.reason == r for c in candidates) for r in ("edge", "mask", "late")}
    return f"{len(candidates)} sources: " + ", ".join(f"{v} {k}" for k, v in count.items())


def _search(exposure, usable, threshold, options):
    """Peaks above `threshold` sigma of the sky, each with its box; the brightest takes a place."""
    image = np.where(usable, exposure.image, 0)
    level, spread = clipped(exposure.image[usable][::7])
    top = image == ndimage.maximum_filter(image, 2 * max(options.rss // 3, 1) + 1)
    y, x = np.nonzero(top & (image > level + threshold * max(spread, 1e-30)))
    return _vetted(exposure, usable, x, y, options)


def _vetted(exposure, usable, x, y, options):
    """Substamps that do not share their centre with a brighter one's box."""
    half = options.rss + options.r
    rows, columns = np.rint(y).astype(int), np.rint(x).astype(int)
    inside = (rows >= 0) & (columns >= 0)
    inside &= (rows < exposure.shape[0]) & (columns < exposure.shape[1])
    x, y, rows, columns = (a[inside] for a in (x, y, rows, columns))
    brightness = exposure.image[rows, columns]
    taken = np.zeros(exposure.shape, bool)
    found = []
    for i in np.argsort(-brightness, kind="stable"):
        if taken[rows[i], columns[i]]:
            continue
        box = stamp_box(x[i], y[i], half, exposure.shape)
        one = KernelCandidate(int(i), float(x[i]), float(y[i]), float(brightness[i]), box)
        if box is None:
            one.reject("edge")
        elif not usable[inner_box(box, options.r)].all():
            one.reject("mask")
        else:
            taken[inner_box(box, options.r)] = True
        found.append(one)
    return found
