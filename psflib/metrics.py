"""Numbers that judge a product: recovery of a known truth, whiteness of noise."""

import dataclasses

import numpy as np
from astropy.table import QTable
from scipy import spatial

from psflib.difference import Difference
from psflib.exposure import Exposure
from psflib.noise import empty_sky, noise_correlation, robust_std

RADIUS = 1.5  # px within which a candidate counts as the true source


@dataclasses.dataclass(frozen=True)
class Recovery:
    """What was found of what is there.

    expected, found : true changes above the S/N limit, and how many of them are clean candidates
    others : clean candidates that belong to no true change;  others_per_mpx : the same by area
    flux_bias, flux_error : mean of (measured / true - 1), weighted by S/N², and its error
    pull_std : scatter of (measured - true) / claimed error
    """

    expected: int
    found: int
    others: int
    others_per_mpx: float
    flux_bias: float
    flux_error: float
    pull_std: float


@dataclasses.dataclass(frozen=True)
class Whiteness:
    """Noise of empty sky.

    std : of D/sigma; correlation_before, correlation_after : largest of the 8 nearest lags, with
    sign; score_std : of the matched-filter significance.  Standard deviations are 1.4826 times
    the median absolute deviation.
    """

    std: float
    correlation_before: float
    correlation_after: float
    score_std: float
    n_pixels: int


def values(table: QTable, name: str) -> np.ndarray:
    """A column as a plain array, in its own unit."""
    column = table[name]
    return np.asarray(getattr(column, "value", column))


def recovery(candidates: QTable, truth: QTable, area: float, snr_min: float = 8.0) -> Recovery:
    """Match clean candidates (no flags) to the truth of one epoch.

    Parameters
    ----------
    candidates : QTable with x, y, flux, flux_err, flags
    truth : QTable with kind, x, y, delta_flux, snr
        Transients are expected to be found; variable stars may be found.
    area : float
        Usable area in px.
    snr_min : float
        True S/N above which a transient is expected.
    """
    clean = candidates[values(candidates, "flags") == ""]
    kind = values(truth, "kind")
    changed = np.isin(kind, ("transient", "variable"))
    expected = (kind == "transient") & (np.abs(values(truth, "snr")) >= snr_min)
    place = np.c_[values(truth, "x"), values(truth, "y")]
    at = np.c_[values(clean, "x"), values(clean, "y")]
    if not len(at):
        return Recovery(int(expected.sum()), 0, 0, 0.0, np.nan, np.nan, np.nan)
    distance, nearest = spatial.cKDTree(at).query(place)
    found = expected & (distance < RADIUS)
    lone = spatial.cKDTree(place[changed]).query(at)[0] > 2 * RADIUS
    bias, error, pull = _flux(clean[nearest[found]], truth[found])
    return Recovery(
        int(expected.sum()), int(found.sum()), int(lone.sum()), float(lone.sum() / area * 1e6),
        bias, error, pull,
    )  # fmt: skip


def _flux(found, truth):
    if not len(found):
        return np.nan, np.nan, np.nan
    true, measured = values(truth, "delta_flux"), values(found, "flux")
    weight = np.square(values(truth, "snr"))
    bias = np.average(measured / true - 1, weights=weight)
    pulls = (measured - true) / values(found, "flux_err")
    return float(bias), float(1 / np.sqrt(weight.sum())), float(np.std(pulls))


def whiteness(raw: Difference, clean: Difference, science: Exposure, avoid=None) -> Whiteness:
    """Noise of empty sky before and after decorrelation.

    avoid : (x, y), optional
        Positions of known changes, left out with 12 px around them.
    """
    usable = clean.usable & raw.usable
    sky = empty_sky(science.image, science.variance, usable, science.meta["fwhm"])
    if avoid is not None:
        _cut_out(sky, avoid[0], avoid[1], radius=12)
    before = noise_correlation(raw.image, raw.variance, sky, 1)
    if clean.score is None:
        raise ValueError("the second difference has no score: decorrelate it first")
    after = noise_correlation(clean.image, clean.variance, sky, 1)
    z = clean.image[sky] / np.sqrt(clean.variance[sky])
    score = clean.score[sky & (clean.score != 0)]
    return Whiteness(
        robust_std(z), _largest(before), _largest(after), robust_std(score), int(sky.sum())
    )


def _cut_out(select, x, y, radius):
    for i, j in zip(np.rint(x).astype(int), np.rint(y).astype(int), strict=True):
        select[max(j - radius, 0) : j + radius + 1, max(i - radius, 0) : i + radius + 1] = False


def _largest(rho):
    """The neighbour's correlation of largest size, with its sign."""
    near = np.delete(rho.ravel(), rho.size // 2)
    return float(near[np.argmax(np.abs(near))])
