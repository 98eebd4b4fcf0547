"""The Alard-Lupton fit: rounds of weights, rejection and solution.

Model: target = K conv b + background, K varying over the field as Chebyshev polynomials, fitted
to all source footprints at once with inverse-variance weights (Alard & Lupton 1998; Alard 2000,
A&AS 144, 363), corrected for the noise of b, with variable sources left out.
"""

import dataclasses
import logging

import numpy as np
from scipy import ndimage

from psflib import polynomial
from psflib.convolve import constant_kernel
from psflib.errors import NotEnoughStars
from psflib.loops import matching as loops
from psflib.matching import basis as bases
from psflib.matching import pixels, solve
from psflib.matching.kernel import MatchingKernel

log = logging.getLogger(__name__)

FLOORS = (0.10, 0.03, 0.0, 0.0)  # model-error floor of each round, fraction of the model
TOLERANCES = (0.10, 0.05, 0.03, 0.02)  # flux change of a source that is tolerated, by round


@dataclasses.dataclass
class Problem:
    """All that stays the same during the rounds.

    a, var_a : target image and variance (ny, nx);  b, var_b : image to be convolved, filled;
    sky : bool, pixels for the background.
    """

    a: np.ndarray
    var_a: np.ndarray
    b: np.ndarray
    var_b: np.ndarray
    sky: np.ndarray
    sources: pixels.Sources
    at: pixels.FitPixels
    design: np.ndarray
    basis: bases.Basis
    layout: solve.Layout
    smooth: np.ndarray  # first guess of K conv b
    excluded: np.ndarray  # fit pixels of variable sources, (n,) bool


def fit_kernel(target, convolved, fwhms, *, orders, convolved_name="template") -> MatchingKernel:
    """Fit the kernel that turns `convolved` into `target`.

    Parameters
    ----------
    target, convolved : tuple (image, variance, usable)
        Planes (ny, nx); `convolved` has its bad pixels filled.
    fwhms : (float, float)
        FWHM of target and convolved in px.
    orders : (int, int, int)
        Highest degrees of the kernel, its sum, and the background; lowered for few sources.

    Raises
    ------
    NotEnoughStars, SingularFit
    """
    problem = _prepare(target, convolved, fwhms, orders)
    kernel, clipped, dropped = _round(problem, None, FLOORS[0], TOLERANCES[0], convolved_name)
    for floor, tolerance in zip(FLOORS[1:], TOLERANCES[1:], strict=True):
        kernel, clipped, dropped = _round(problem, kernel, floor, tolerance, convolved_name)
    counts = {
        "order": problem.layout.order,
        "lowered": problem.layout.order < orders[0],
        "n_sources": int(np.isfinite(problem.sources.ratio).sum()),
        "n_variable": int(problem.sources.variable.sum()),
        "n_dropped": dropped,
        "n_pixels": len(problem.at.y),
        "n_clipped": int(clipped.sum()),
        **_chi2(problem, kernel),
    }
    log.info("kernel: %s", counts)
    return dataclasses.replace(kernel, meta=counts)


def _prepare(target, convolved, fwhms, orders):
    a, var_a, good_a = target
    b, var_b, good_b = convolved
    good = good_a & good_b
    basis = bases.sized_for(fwhms[1], fwhms[0])
    match_sigma = max(np.sqrt(max(fwhms[0] ** 2 - fwhms[1] ** 2, 0)) / 2.355, 0.7)
    sources = pixels.find_sources((a, var_a), (b, var_b), good, fwhms[0], match_sigma)
    smooth = pixels.smoothed(b, match_sigma) * np.float32(sources.scale)
    inside, sky = _regions(a, var_a, b, var_b, good, sources, basis.half, match_sigma, fwhms[0])
    at = pixels.sort_pixels(inside, sources, fwhms[0])
    layout = _layout(sources, at, orders, len(basis.images))
    design = _design(b, at, basis)
    change = np.where(sources.variable, sources.ratio / sources.scale - 1, 0.0)
    change = np.append(np.nan_to_num(change), 0.0)[at.near]
    excluded = np.abs(change * smooth[at.y, at.x]) > 0.3 * np.sqrt(var_a[at.y, at.x])
    return Problem(a, var_a, b, var_b, sky, sources, at, design, basis, layout, smooth, excluded)


def _regions(a, var_a, b, var_b, good, sources, half, match_sigma, fwhm):
    """Footprints to fit the kernel on, sky to fit the background on."""
    scale = np.float32(sources.scale)
    signal = pixels.smoothed(b, np.hypot(match_sigma, 1.0)) * scale
    sigma_a = np.sqrt(np.median(var_a[good]))
    noise = np.sqrt(sigma_a**2 + scale**2 * np.median(var_b[good]))
    inside = pixels.footprints(signal, noise, good, half)
    detected = np.zeros(a.shape, bool)
    detected[sources.y, sources.x] = True
    detected = ndimage.binary_dilation(detected, iterations=int(np.ceil(1.5 * fwhm)))
    sky = good & ~detected & (np.abs(signal) < sigma_a) & ~inside
    sky[:half] = sky[-half:] = False
    sky[:, :half] = sky[:, -half:] = False
    return inside, sky


def _layout(sources, at, orders, n_basis):
    """Degrees that the number of sources holds up."""
    with np.errstate(invalid="ignore"):
        useful = (
            np.isfinite(sources.ratio) & (sources.error < 0.1 * sources.ratio) & ~sources.variable
        )
    count = int(useful.sum())
    if count == 0:
        raise NotEnoughStars("matching kernel", 0, 1)
    if len(at.y) < 2 * n_basis:
        inside = len(np.unique(at.source[at.source >= 0]))
        signal = f"{len(at.y)} pixels with signal off the borders, {2 * n_basis} needed"
        raise NotEnoughStars(f"matching kernel ({signal})", inside, inside + 1)
    limit = 0 if count < 8 else 1 if count < 20 else 2 if count < 300 else 3
    order, flux_order, bg_order = orders
    lowered = solve.Layout(
        n_basis, min(order, limit), min(flux_order, limit), min(bg_order, limit + 1)
    )
    if lowered.order < order:
        log.warning(
            "only %d sources for the kernel: its degree is %d, not %d", count, lowered.order, order
        )
    return lowered


def _design(b, at, basis):
    """Basis images convolved with b, at the fit pixels, and a column of ones: (n, nb + 1)."""
    raw = np.empty((len(at.y), len(basis.pair_x)))
    loops.convolve_at(
        b, at.y, at.x, at.tile_start, at.tile_y, at.tile_x, pixels.TILE,
        basis.factors, basis.pair_x, basis.pair_y, raw,
    )  # fmt: skip
    design = np.ones((len(at.y), raw.shape[1] + 1), np.float32)
    design[:, :-1] = raw @ basis.mix.T
    return design


def _round(problem, kernel, floor, tolerance, name):
    """One round: weights from the current kernel, rejection, solution."""
    at = problem.at
    model, sigma2 = _model(problem, kernel)
    weight = 1 / (sigma2 + np.square(floor * model))
    weight[problem.excluded] = 0
    residual = problem.a[at.y, at.x] - model
    clipped = np.zeros(len(weight), bool)
    dropped = 0
    if kernel is not None:
        clipped = _clip_pixels(problem, residual, weight)
        changed = _changed_sources(problem, residual, model, weight * ~clipped, tolerance)
        dropped = len(changed)
        clipped |= _pixels_of(problem, changed, model, sigma2)
        weight[clipped] = 0
    coef, background = _solve(problem, kernel, weight, corrected=floor == 0)
    layout = problem.layout
    return (
        MatchingKernel(
            problem.basis.images, coef, layout.order, layout.flux_order, background,
            layout.bg_order, problem.a.shape, name,
        ),
        clipped,
        dropped,
    )  # fmt: skip


def _model(problem, kernel):
    """Model of the target and variance of target minus model, at the fit pixels."""
    at = problem.at
    var_a = problem.var_a[at.y, at.x].astype(float)
    if kernel is None:
        spread = problem.sources.scale**2 * 0.3  # a Gaussian of a pixel's sigma keeps 0.28 of it
        return problem.smooth[at.y, at.x].astype(float), var_a + spread * problem.var_b[at.y, at.x]
    terms = polynomial.evaluate(kernel._order, at.x, at.y, kernel.shape)
    model = np.einsum("nb,bn->n", problem.design[:, :-1], kernel.coef @ terms)
    model += kernel.background_at(at.x, at.y)
    centre = kernel.at((kernel.shape[1] - 1) / 2, (kernel.shape[0] - 1) / 2)
    spread = constant_kernel(np.square(centre)).convolve(problem.var_b)
    return model, var_a + spread[at.y, at.x]


def _clip_pixels(problem, residual, weight):
    """Fit pixels off by more than 6 sigma, with their neighbours."""
    at = problem.at
    plane = np.zeros(problem.a.shape, bool)
    plane[at.y, at.x] = np.square(residual) * weight > 36
    return ndimage.binary_dilation(plane, structure=np.ones((3, 3)))[at.y, at.x]


def _changed_sources(problem, residual, model, weight, tolerance):
    """Sources whose flux differs from the model's beyond noise and tolerance."""
    source, count = problem.at.source, len(problem.sources.x)
    inside = source >= 0
    power = np.bincount(source[inside], (weight * model * model)[inside], count)
    change = np.bincount(source[inside], (weight * model * residual)[inside], count)
    with np.errstate(all="ignore"):
        delta, error = change / power, 1 / np.sqrt(power)
        return np.flatnonzero(
            (np.abs(delta) > np.hypot(5 * error, tolerance)) & ~problem.sources.constant
        )


def _pixels_of(problem, changed, model, sigma2):
    """Fit pixels that belong to the listed sources and carry their light."""
    near = np.isin(problem.at.near, changed)
    return near & (np.abs(model) > 0.3 * np.sqrt(sigma2))


def _solve(problem, kernel, weight, corrected):
    at, layout = problem.at, problem.layout
    n_columns = problem.design.shape[1]
    gram = np.empty((len(at.block_x), n_columns, n_columns))
    right = np.empty((len(at.block_x), n_columns))
    target = problem.a[at.y, at.x].astype(float)
    loops.block_gram(problem.design, target, weight, at.block_start, gram, right)
    terms = polynomial.evaluate(layout.top, at.block_x, at.block_y, problem.a.shape)
    matrix, vector = solve.assemble(layout, gram, right, terms)
    solve.add_spatial_prior(layout, matrix)
    _add_sky(problem, kernel, matrix, vector)
    noise = _regressor_noise(problem, weight) if corrected else None
    return layout.split(solve.solve(layout, matrix, vector, noise))


def _add_sky(problem, kernel, matrix, vector):
    """Sky pixels enter for the background alone.

    Their target is a - K conv b, not a: the wings of faint sources are signal (taking `a` cost up
    to 2.5 % of flux scale in crowded fields).
    """
    if kernel is None:
        rest = problem.a - problem.smooth
        chi2 = np.square(rest)
    else:
        rest = kernel.varying().convolve(problem.b)
        np.subtract(problem.a, rest, out=rest)
        chi2 = kernel.background_map()
        np.square(np.subtract(rest, chi2, out=chi2), out=chi2)
    chi2 /= np.maximum(problem.var_a, np.float32(1e-30))
    select = problem.sky & (chi2 < (100 if kernel is None else 16))
    weight = np.divide(1, np.maximum(problem.var_a, np.float32(1e-30)), out=chi2)
    cells = [-(-n // pixels.BLOCK) for n in rest.shape]
    total, weighted = np.zeros(cells), np.zeros(cells)
    loops.block_sums(rest, weight, select, pixels.BLOCK, total, weighted)
    i, j = np.nonzero(total)
    centre = (pixels.BLOCK - 1) / 2
    terms = polynomial.evaluate(
        problem.layout.bg_order, j * pixels.BLOCK + centre, i * pixels.BLOCK + centre, rest.shape
    )
    n = problem.layout.n_kernel
    matrix[n:, n:] += (terms * total[i, j]) @ terms.T
    vector[n:] += terms @ weighted[i, j]


def _regressor_noise(problem, weight):
    """Expected contribution of b's noise to the normal matrix of the kernel unknowns."""
    at, layout, half = problem.at, problem.layout, problem.basis.half
    sums = np.empty((len(at.tile_x), 2 * half + 1, 2 * half + 1))
    loops.lagged_sums(problem.var_b, at.y, at.x, weight, at.tile_start, half, sums)
    images = problem.basis.images.reshape(layout.n_basis, -1)
    flat = sums.reshape(len(sums), -1)
    blocks = np.zeros((len(flat), layout.n_basis + 1, layout.n_basis + 1))
    for block, lagged in zip(blocks, flat, strict=True):
        block[:-1, :-1] = (images * lagged) @ images.T
    centre = (pixels.TILE - 1) / 2
    terms = polynomial.evaluate(layout.top, at.tile_x + centre, at.tile_y + centre, problem.a.shape)
    matrix, _ = solve.assemble(layout, blocks, np.zeros((len(flat), layout.n_basis + 1)), terms)
    return matrix[: layout.n_kernel, : layout.n_kernel]


def _chi2(problem, kernel):
    """Chi-square per pixel in the footprints, of what was not excluded, and its robust twin."""
    model, sigma2 = _model(problem, kernel)
    at = problem.at
    keep = ~problem.excluded
    z2 = (np.square(problem.a[at.y, at.x] - model) / sigma2)[keep]
    if not len(z2):
        return {"chi2": float("nan")}
    return {"chi2": float(z2[z2 < 36].mean()), "chi2_median": float(np.median(z2) / 0.4549)}
