"""Mode `lsst`: the rounds of fits and the three clippings, in LSST's order.

1. The kernel of each active candidate on its own; off by the mean, then by the scatter of its
   residuals: rejected, and the next of its cell takes its place, until none is rejected.
2. Sums of these kernels: those far from the clipped mean are rejected; back to 1 if there are any.
3. (Principal components: all are fitted again in that basis; back to 1 if any is rejected.)
4. The spatial fit to all, and again the residuals of each; back to 1 if any is rejected, at most
   `max_spatial_iterations` times, after which the survivors are fitted once more.
"""

import dataclasses
import logging
from typing import Any

import numpy as np

from psflib.errors import NotEnoughStars, SingularFit
from psflib.matching.cells import delta_basis
from psflib.matching.cells.grid import SpatialCellSet
from psflib.matching.cells.pca_basis import pca_basis
from psflib.matching.cells.single import Pair, build_candidate, residuals
from psflib.matching.cells.spatial import model_for, solve_spatial
from psflib.matching.kernel import MatchingKernel

log = logging.getLogger(__name__)


@dataclasses.dataclass
class Rounds:
    """What the rounds share and count.

    cells : candidates, whose status changes;  images : basis (nb, k, k) of the single fits.
    penalty : regularisation matrix or None;  metadata : numbers of the fit.
    """

    cells: SpatialCellSet
    pair: Pair
    images: np.ndarray
    config: Any
    convolved: str = "template"
    penalty: np.ndarray | None = None
    components: np.ndarray | None = None
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    def active(self):
        return self.cells.active(self.config.n_star_per_cell)


def match(cells, pair, images, config, convolved="template") -> tuple[MatchingKernel, dict]:
    """The kernel over the field, and all counts; the candidates in `cells` get their status.

    Parameters
    ----------
    cells : SpatialCellSet
    pair : Pair
    images : ndarray (nb, k, k)
        Basis: unit sum in image 0 and zero sums in the others, or delta functions.
    config : PsfMatchConfig
    convolved : "template" or "science"

    Raises
    ------
    NotEnoughStars
        No candidate is left.
    SingularFit
        Kernel sums or solution are not finite.
    """
    rounds = Rounds(cells, pair, images, config, convolved, _penalty(images, config))
    rounds.metadata.update(iterations=0, n_rejected_single=0, n_rejected_ksum=0,
                           n_rejected_component=0, n_rejected_spatial=0)  # fmt: skip
    kernel = None
    while rounds.metadata["iterations"] < config.max_spatial_iterations:
        build_singles(rounds)
        if not rounds.active():
            raise NotEnoughStars(_no_candidates(cells), 0, 1)
        if clip_kernel_sums(rounds) or (
            config.use_pca_for_spatial_kernel and _build_components(rounds)
        ):
            continue
        kernel = _fit(rounds)
        rounds.metadata["iterations"] += 1
        if not assess_spatial(rounds, kernel):
            return kernel, _finish(rounds, kernel)
    return _last_fit(rounds)


def _no_candidates(cells):
    found = {k[6:]: v for k, v in cells.counts().items() if k.startswith("n_bad_")}
    lost = ", ".join(f"{v} {k}" for k, v in found.items()) or "none was offered"
    return f"kernel candidates of {len(cells.candidates)} ({lost})"


def _penalty(images, config):
    if not getattr(config, "use_regularization", False):
        return None
    return delta_basis.regularisation_matrix(
        images.shape[-1], config.regularization_type, config.central_regularization_stencil,
        config.forward_regularization_orders, config.regularization_border_penalty, 1,
    )  # fmt: skip


def build_singles(rounds: Rounds) -> None:
    """Fit every active candidate that has no fit, until a pass rejects none."""
    keep = not rounds.config.use_pca_for_spatial_kernel
    while True:
        waiting = [c for c in rounds.active() if c.fit is None]
        if not waiting:
            return
        for one in waiting:
            fit = build_candidate(one, rounds.pair, rounds.images, rounds.config, rounds.penalty)
            rounds.metadata["n_rejected_single"] += not _take(one, fit, rounds.config, "fit", keep)


def _take(one, fit, config, name, keep=True) -> bool:
    """Store a candidate's fit and clip it by its residuals; False if it is rejected."""
    if isinstance(fit, str):
        one.reject(fit)
        return False
    if not keep:
        fit = dataclasses.replace(fit, matrix=np.empty((0, 0)), vector=np.empty(0))
    setattr(one, name, fit)
    one.accept()
    if config.single_kernel_clipping:
        clip_residuals(one, fit.mean, fit.std, config)
    return one.status != "bad"


def clip_residuals(one, mean, std, config, prefix="") -> None:
    """Reject by the mean, then by the scatter; numbers that are not finite are rejected too."""
    if not abs(mean) <= config.candidate_residual_mean_max:
        one.reject(prefix + "mean")
    elif not std <= config.candidate_residual_std_max:
        one.reject(prefix + "std")


def clip_kernel_sums(rounds: Rounds) -> int:
    """Reject candidates whose kernel sum is far from the others'; the number rejected."""
    active = rounds.active()
    sums = np.array([c.fit.kernel_sum for c in active])
    mean, std = clipped_mean(sums)
    if not np.isfinite(mean):
        raise SingularFit(f"the kernel sums of {len(active)} candidates are not finite")
    rounds.metadata.update(kernel_sum_mean=mean, kernel_sum_std=std)
    if not rounds.config.kernel_sum_clipping:
        return 0
    far = np.abs(sums - mean) > max(rounds.config.max_ksum_sigma * std, 1e-9 * abs(mean))
    for one, off in zip(active, far, strict=True):
        if off:
            one.reject("ksum")
    rounds.metadata["n_rejected_ksum"] += int(far.sum())
    return int(far.sum())


def clipped_mean(values, sigma=3.0, iterations=3) -> tuple[float, float]:
    """Mean and sample scatter, values beyond `sigma` left out `iterations` times."""
    values = np.asarray(values, float)
    for _ in range(iterations + 1):
        mean = float(values.mean()) if len(values) else np.nan
        std = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        kept = values[np.abs(values - mean) <= sigma * std] if std > 0 else values
        if len(kept) == len(values):
            break
        values = kept
    return mean, std


def _build_components(rounds: Rounds) -> int:
    """Principal components of the kernels, and all candidates fitted in them; number rejected."""
    config, active = rounds.config, rounds.active()
    kernels = [np.tensordot(c.fit.coefficients, rounds.images, 1) for c in active]
    rounds.components = pca_basis(
        kernels, config.num_principal_components, config.subtract_mean_for_pca
    )
    rejected = 0
    for one in active:
        fit = build_candidate(one, rounds.pair, rounds.components, config)
        rejected += not _take(one, fit, config, "component_fit")
    rounds.metadata["n_rejected_component"] += rejected
    return rejected


def _fit(rounds: Rounds) -> MatchingKernel:
    """The spatial fit to the active candidates."""
    config, active = rounds.config, rounds.active()
    images = rounds.images if rounds.components is None else rounds.components
    name = "fit" if rounds.components is None else "component_fit"
    # the sum of a kernel of delta functions is no coefficient of its own, so it varies as well
    deltas = rounds.components is None and np.ptp(images.sum((1, 2))) == 0
    model, notes = model_for(
        active, rounds.cells.shape, config.spatial_kernel_order,
        config.spatial_kernel_order if deltas else 0,
        config.spatial_bg_order if config.fit_for_background else None,
    )  # fmt: skip
    fits = [getattr(c, name) for c in active]
    kernel, condition = solve_spatial(
        active, fits, images, rounds.cells.shape, model, config, rounds.convolved
    )
    if not np.isfinite(kernel.coef).all():
        raise SingularFit(f"no finite kernel; condition number {condition:.3g}")
    unknowns = model.n_unknowns(len(images))
    rounds.metadata.update(
        spatial_condition_num=condition, n_unknowns=unknowns, notes=notes,
        spatial_kernel_order_used=model.order, spatial_bg_order_used=model.bg_order,
    )  # fmt: skip
    return kernel


def assess_spatial(rounds: Rounds, kernel: MatchingKernel) -> int:
    """Residuals of the spatial fit at each active candidate; the number rejected."""
    active = rounds.active()
    rejected = 0
    for one in active:
        found = residuals(
            one, rounds.pair, kernel.at(one.x, one.y), float(kernel.background_at(one.x, one.y)),
            rounds.config,
        )  # fmt: skip
        one.spatial_mean, one.spatial_std = found.mean, found.std
        if rounds.config.spatial_kernel_clipping:
            clip_residuals(one, found.mean, found.std, rounds.config, "spatial ")
        rejected += one.status == "bad"
    rounds.metadata["n_rejected_spatial"] += rejected
    return rejected


def _last_fit(rounds: Rounds) -> tuple[MatchingKernel, dict]:
    """After the last round that still rejected: one fit to the survivors that have been built."""
    name = "fit" if rounds.components is None else "component_fit"
    while late := [c for c in rounds.active() if getattr(c, name) is None]:
        for one in late:
            one.reject("late")
    if not rounds.active():
        raise NotEnoughStars(_no_candidates(rounds.cells), 0, 1)
    kernel = _fit(rounds)
    return kernel, _finish(rounds, kernel)


def _finish(rounds: Rounds, kernel: MatchingKernel) -> dict:
    """All counts of the match; warnings when little holds up much."""
    used, shape = rounds.active(), rounds.cells.shape
    meta = {**rounds.metadata, **rounds.cells.counts(), "n_used": len(used)}
    centre = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    meta["spatial_kernel_sum"] = float(kernel.kernel_sum(*centre))
    local = [(c.component_fit or c.fit) for c in used]
    for word, values in (
        ("local_mean", [f.mean for f in local]), ("local_std", [f.std for f in local]),
        ("local_chi2", [f.chi2 for f in local]),
        ("spatial_mean", [c.spatial_mean for c in used]),
        ("spatial_std", [c.spatial_std for c in used]),
    ):  # fmt: skip
        finite = np.array(values)[np.isfinite(values)]
        for name, function in (("mean", np.mean), ("median", np.median), ("stdev", np.std)):
            meta[f"{word}_{name}"] = float(function(finite)) if len(finite) else None
    notes = doubts(meta, len(used))
    if len(used) == 1:
        notes.append("a single candidate: the kernel is constant")
    condition = meta["spatial_condition_num"]
    if condition > rounds.config.max_spatial_condition_number:
        notes.append(f"spatial condition number {condition:.3g}")
    if not np.isfinite(condition):  # too many unknowns to compute it, or no smallest one
        meta["spatial_condition_num"] = None
    for note in notes:
        log.warning("%s", note)
    meta["notes"] = [*meta["notes"], *notes]
    return meta


def doubts(counts: dict, n_used: int) -> list[str]:
    """Sentences on how little a kernel stands on."""
    lost = counts["n_bad"] - counts.get("n_bad_edge", 0) - counts.get("n_bad_mask", 0)
    notes = []
    if lost > 2 * n_used:
        notes.append(
            f"{lost} candidates disagree and {n_used} agree with the kernel: variable sources, or "
            "images that do not belong together"
        )
    return notes
