"""The kernel of one candidate, fitted on its stamp alone, and the residuals of any kernel there."""

import dataclasses
import functools

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, linalg

from psflib.image.exposure import Exposure, has_bits
from psflib.image.weights import weight_variance
from psflib.matching.cells.candidates import bits_of, inner_box
from psflib.matching.cells.delta_basis import choose_lambda
from psflib.matching.cells.grid import CandidateFit, KernelCandidate
from psflib.matching.solve import unit_diagonal

SINGULAR = 1e-13  # reciprocal condition number below which only rounding is left


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """The image to be matched and the image to be convolved, on one grid, with variance."""

    target: Exposure
    convolved: Exposure

    @functools.cached_property
    def weighing(self) -> "Pair":
        """The same with the variances that weights are made of."""
        return Pair(*(
            one.replace(variance=weight_variance(one.image, one.variance, one.usable))
            for one in (self.target, self.convolved)
        ))  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Residuals:
    """Of one stamp, in sigma: mean, scatter, and the number of pixels they stand on."""

    mean: float
    std: float
    n_pixels: int


def build_candidate(
    one: KernelCandidate, pair: Pair, images, config, penalty=None
) -> CandidateFit | str:
    """Fit the kernel of one candidate on its stamp without the border of the kernel's half width.

    Parameters
    ----------
    images : ndarray (nb, k, k)
        Basis.
    config : PsfMatchConfig
    penalty : ndarray (nb + 1, nb + 1), optional
        Regularisation matrix.

    Returns
    -------
    CandidateFit, or the word of `REASONS` why there is none.
    """
    inner = inner_box(one.box, images.shape[-1] // 2)
    target = pair.target.image[inner].astype(float).ravel()
    weighing = pair if config.constant_variance_weighting else pair.weighing
    noise = (weighing.target.variance[inner] + weighing.convolved.variance[inner]).astype(float)
    if not noise.min() > 0:
        return "variance"
    design = _design(pair.convolved.image[one.box], images, config.fit_for_background)
    variance = np.full(noise.size, np.median(noise)) if config.constant_variance_weighting else (
        noise.ravel()
    )  # fmt: skip
    fit = _solve(design, target, variance, config, penalty)
    if isinstance(fit, str):
        return fit
    if config.iterate_single_kernel and not config.constant_variance_weighting:
        kernel = np.tensordot(fit[0][: len(images)], images, 1)
        _, variance = stamp_residual(one, weighing, kernel, 0.0)
        fit = _solve(design, target, variance.ravel(), config, penalty)
        if isinstance(fit, str):
            return fit
    return _summary(one, pair, images, config, design, fit)


def _design(stamp, images, with_background):
    """Basis images convolved with the stamp, where they are complete: (pixels, nb + 1)."""
    k = images.shape[-1]
    stamp = stamp.astype(float)
    rows, columns = (n - k + 1 for n in stamp.shape)
    if len(images) == k * k and images[0, 0, 0] == 1:  # delta functions only move the stamp
        windows = sliding_window_view(stamp, (k, k))[:, :, ::-1, ::-1]
        values = windows.reshape(rows * columns, k * k)
    else:
        values = _inside(stamp, images).reshape(len(images), -1).T
    last = np.full((len(values), 1), 1.0 if with_background else 0.0)
    return np.concatenate([values, last], axis=1)


def _solve(design, target, variance, config, penalty):
    """(solution, matrix, vector, condition, strength of the penalty, notes) or a reason."""
    weight = 1 / variance
    matrix = design.T @ (design * weight[:, None])
    vector = design.T @ (weight * target)
    if not config.fit_for_background:
        matrix[-1, -1] = 1.0  # keeps the unknown at 0
    condition = np.nan
    if config.check_condition_number or len(matrix) <= 100:
        condition = condition_number(matrix, config.condition_number_type)
        if config.check_condition_number and condition > config.max_condition_number:
            return "cond"
    strength = 0.0
    if penalty is not None:
        strength, _ = choose_lambda(matrix, vector, penalty, config)
        matrix = matrix + strength * penalty
    solution, notes = solve_symmetric(matrix, vector, config.max_condition_number)
    if not np.isfinite(solution).all():
        return "nan"
    return solution, matrix, vector, condition, strength, notes


def condition_number(matrix, kind="EIGENVALUE") -> float:
    """Ratio of the largest to the smallest |eigenvalue|, or of singular values."""
    if kind == "SVD":
        values = linalg.svdvals(matrix)
    else:
        values = np.abs(linalg.eigvalsh(matrix))
    least = values.min()
    return float(values.max() / least) if least > 0 else float("inf")


def solve_symmetric(matrix, vector, max_condition):
    """Solution of normal equations; without their worst modes if they are singular to rounding.

    Returns the solution (NaN if there is none) and notes: () or ("truncated",).
    """
    scaled, scale = unit_diagonal(matrix)
    if not (np.isfinite(scaled).all() and np.isfinite(vector).all()):
        return np.full(len(vector), np.nan), ()
    factor, failed = linalg.lapack.dpotrf(scaled)
    if not failed and linalg.lapack.dpocon(factor, np.abs(scaled).sum(0).max())[0] > SINGULAR:
        return linalg.lapack.dpotrs(factor, vector * scale)[0] * scale, ()
    values, vectors = linalg.eigh(scaled)
    keep = values > values[-1] / max_condition
    modes = vectors[:, keep]
    return modes @ ((modes.T @ (vector * scale)) / values[keep]) * scale, ("truncated",)


def stamp_residual(one, pair, kernel, background) -> tuple[np.ndarray, np.ndarray]:
    """target - K conv b - background on the inner part of a candidate's stamp, and its variance.

    ADU and ADU², float64.
    """
    inner = inner_box(one.box, kernel.shape[0] // 2)
    stamps = np.array([pair.convolved.image[one.box], pair.convolved.variance[one.box]], float)
    matched, spread = _inside(stamps, np.array([kernel, np.square(kernel)]))
    return (
        pair.target.image[inner] - matched - background,
        pair.target.variance[inner] + np.maximum(spread, 0),
    )


def _inside(stamps, kernels):
    """Convolutions where they are complete; leading axes broadcast."""
    k = kernels.shape[-1]
    rows, columns = (n - k + 1 for n in stamps.shape[-2:])
    side = [fft.next_fast_len(n, real=True) for n in stamps.shape[-2:]]
    full = fft.irfft2(fft.rfft2(stamps, side) * fft.rfft2(kernels, side), side)
    # the wrapped part of the circular convolution stays within the first k - 1 rows and columns
    return full[..., k - 1 : k - 1 + rows, k - 1 : k - 1 + columns]


def _summary(one, pair, images, config, design, fit):
    solution, matrix, vector, condition, strength, notes = fit
    coefficients, background = solution[:-1], float(solution[-1])
    kernel = np.tensordot(coefficients, images, 1)
    difference, variance = stamp_residual(one, pair, kernel, background)
    found = statistics(one, pair, difference, variance, config)
    if not (np.isfinite(found.mean) and np.isfinite(found.std)):
        return "nan"
    freedom = max(found.n_pixels - len(solution), 1)
    power = (found.mean**2 + found.std**2 * (1 - 1 / found.n_pixels)) * found.n_pixels
    error = np.nan
    if config.calculate_kernel_uncertainty:
        error = _sum_error(images, design, variance.ravel(), matrix, config)
    return CandidateFit(
        coefficients, background, float(kernel.sum()), found.mean, found.std, power / freedom,
        matrix, vector, condition, error, strength, notes,
    )  # fmt: skip


def _sum_error(images, design, variance, matrix, config):
    """Error of the kernel sum for weights that are not the inverse variance."""
    weight = 1 / np.median(variance) if config.constant_variance_weighting else 1 / variance
    inverse = linalg.pinvh(matrix)
    middle = design.T @ (design * np.broadcast_to(weight**2 * variance, variance.shape)[:, None])
    sums = np.append(images.sum((1, 2)), 0)
    return float(np.sqrt(sums @ inverse @ middle @ inverse @ sums))


def residuals(one, pair, kernel, background, config) -> Residuals:
    """Statistics of what a kernel leaves on a candidate's stamp."""
    return statistics(one, pair, *stamp_residual(one, pair, kernel, background), config)


def statistics(one, pair, difference, variance, config) -> Residuals:
    """Mean and sample scatter, unclipped, of the good pixels of `stamp_residual`, in sigma.

    NaN if fewer than two are good.
    """
    inner = inner_box(one.box, (one.box[0].stop - one.box[0].start - len(difference)) // 2)
    bits = bits_of(config.bad_mask_planes)
    good = variance > 0
    for exposure in (pair.target, pair.convolved):
        good &= ~has_bits(exposure.mask[inner], bits)
    if config.use_core_stats:
        good &= _core(one, inner, config.candidate_core_radius)
    if good.sum() < 2:
        return Residuals(np.nan, np.nan, int(good.sum()))
    z = difference[good] / np.sqrt(variance[good])
    return Residuals(float(z.mean()), float(z.std(ddof=1)), int(good.sum()))


def _core(one, inner, radius):
    y, x = (np.arange(s.start, s.stop) for s in inner)
    return (np.abs(y - round(one.y)) <= radius)[:, None] & (np.abs(x - round(one.x)) <= radius)
