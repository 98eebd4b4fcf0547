"""What is left of stars that the kernel has not seen, by their brightness.

The cells of the image are held out in four groups, as for the choice of the degrees; the kernel of
the other three meets the stars of each.
"""

import dataclasses

import numpy as np

from psflib.errors import SingularFit
from psflib.image import polynomial
from psflib.matching import prior as priors
from psflib.matching import solve

FOLDS = 4
CELL = 128  # px
CLASSES = (30.0, 100.0, 300.0, 1000.0)  # signal to noise of a star over empty sky, lower limits
BEST = 0.9  # of the stars of a class that count: some are variable, or beside others
FEWEST = 3  # stars of a class


def residuals(fit, variance, floor) -> dict[str, list]:
    """Residuals of held-out stars in units of the noise.

    Parameters
    ----------
    fit : selection.Judged
    variance : ndarray (n,)
        Of target minus model at the fit pixels, ADU².
    floor : float
        Of `solve.solve`.

    Returns
    -------
    dict
        heldout_snr : lower limits of the classes;  heldout_residual : rms over the best nine tenths
        of a class's stars of (target - model) / sigma within 1 FWHM, 1 is right, NaN of fewer than
        3 stars;  heldout_stars : their number.
    """
    problem = fit.problem
    try:
        z2 = np.square(problem.a - _predicted(fit, floor)) / variance
    except SingularFit:
        z2 = np.full(len(variance), np.nan)
    source = problem.at.source
    use = (source >= 0) & ~problem.excluded
    count = len(problem.sources.x)
    pixels = np.bincount(source[use], minlength=count)
    rms2 = np.bincount(source[use], z2[use], count) / np.maximum(pixels, 1)
    snr = _signal_to_noise(problem, source, use, count)
    rms2[(pixels == 0) | problem.sources.variable] = np.nan
    rms, numbers = [], []
    for low, high in zip(CLASSES, (*CLASSES[1:], np.inf), strict=True):
        found = np.sort(rms2[(snr >= low) & (snr < high) & np.isfinite(rms2)])
        best = found[: max(int(np.ceil(BEST * len(found))), FEWEST)]
        numbers.append(len(found))
        rms.append(round(float(np.sqrt(best.mean())), 3) if len(found) >= FEWEST else float("nan"))
    return {"heldout_snr": list(CLASSES), "heldout_residual": rms, "heldout_stars": numbers}


def _signal_to_noise(problem, source, use, count):
    """Of each source over empty sky, from its peak: sqrt(pi) sigma peak / noise of a Gaussian."""
    peak = np.zeros(count)
    np.maximum.at(peak, source[use], problem.smooth[use])
    noise = np.sqrt(np.quantile(problem.var_a, 0.1))
    return np.sqrt(np.pi) * problem.sigma * peak / noise


def _predicted(fit, floor):
    """Model at each fit pixel by the kernel of the other groups of cells, (n,)."""
    problem, design = fit.problem, fit.problem.design
    layout, at, n = problem.layout, design.at, problem.layout.n_kernel
    gram, right = design.blocks(problem.a - fit.state.model, fit.weight)
    terms = polynomial.evaluate(layout.top, at.block_x, at.block_y, design.shape)
    group = (at.block_x // CELL + 2 * (at.block_y // CELL)).astype(int) % FOLDS
    parts = [
        solve.assemble(layout, gram[group == g], right[group == g], terms[:, group == g])
        for g in range(FOLDS)
    ]
    whole, vector = sum(p[0] for p in parts), sum(p[1] for p in parts)
    sky_matrix, sky_vector = problem.sky.normal(layout.bg_order, design.shape)
    of_pixel = np.repeat(group, np.diff(at.block_start))
    model = np.empty(len(at.y))
    for g, (matrix, towards) in enumerate(parts):
        train = whole - matrix
        rest = vector - towards + train @ fit.state.solution
        train[n:, n:] += sky_matrix
        rest[n:] += sky_vector
        priors.add_to(layout, train, fit.prior)
        noise = None if problem.noise is None else problem.noise * (1 - 1 / FOLDS)
        solution = solve.solve(layout, train, rest, noise, floor)
        here = of_pixel == g
        part = dataclasses.replace(
            design, columns=np.ascontiguousarray(design.columns[:, here]),
            at=dataclasses.replace(at, y=at.y[here], x=at.x[here]),
        )  # fmt: skip
        model[here] = part.model(*layout.split(solution))
    return model
