"""What a difference says of its own false alarms: by its negative side, and by its sky's noise.

Three numbers that should agree where nothing but noise makes alarms: what a smooth Gaussian field
is expected to do (`alarms`), candidates of the sign-flipped difference, and peaks of the noise
itself, one half of the field minus the other.  The flipped ones hold what subtractions leave of
stars, as positive false alarms do, but sources that faded, too: they bound false alarms from above.
"""

from typing import Any

import numpy as np

from psflib.detection.alarms import ScoreNoise, expected_alarms, height_of
from psflib.detection.peaks import tops
from psflib.image.convolve import BilinearWeights
from psflib.image.difference import Difference
from psflib.image.noise import empty_sky
from psflib.image.where import true_pixels
from psflib.loops import footprints
from psflib.stamps.build import pixels

TELLING = 4.0  # sigma, above which noise alone has enough peaks to count
LIT = 3.0  # sigma of the flux of the template from which it has light at a place
LEAST_AREA = 1000  # px of paired sky, of less nothing is said of its noise ...
TOLD_AREA = 10_000  # ... and of less not how often it exceeds the threshold


def self_test(difference: Difference, candidates, noise: ScoreNoise, sky) -> dict[str, Any]:
    """Numbers for the `meta` of a table of candidates; NaN is left out.

    Parameters
    ----------
    difference : Difference
        Decorrelated, with its score.
    candidates : QTable
        Of both signs, with flags and threshold.
    noise : ScoreNoise
    sky : ndarray (ny, nx) bool
        Pixels away from anything significant, see `empty_of_candidates`.

    Returns
    -------
    dict
        alarms_halves (peaks of both signs that the sky's noise lifts over the threshold, as one
        half of it minus the other does it, for all that is searched; `expected_alarms` is that of
        Gaussian noise);  expected_alarms_4, alarms_halves_4 (both, above 4 sigma), halves_4 (peaks
        counted for it);
        alarms_flipped, alarms_flipped_all (clean, and all, candidates of the sign-flipped
        difference: the negative ones, sources that faded among them);  purity (share of the clean
        positive candidates that is not false, if as many are as are flipped), purity_err (Poisson);
        alarms_dark, purity_dark, purity_dark_err (the same of those where the template has no
        light: nothing can have faded there, what is negative is false).
    """
    threshold = float(candidates.meta["threshold"])
    negative = np.asarray(candidates["snr"]) < 0
    clean = np.asarray(candidates["clean"], bool)
    flipped, positive = int((negative & clean).sum()), int((~negative & clean).sum())
    told: dict[str, Any] = {
        "expected_alarms_4": expected_alarms(noise, TELLING),
        "alarms_flipped": flipped,
        "alarms_flipped_all": int(negative.sum()),
    }
    told |= _of_halves(difference, noise, sky, threshold)
    told["purity"], told["purity_err"] = purity(positive, flipped)
    dark = _dark(candidates)
    if dark is not None:
        told["alarms_dark"] = int((negative & clean & dark).sum())
        new = int((~negative & clean & dark).sum())
        told["purity_dark"], told["purity_dark_err"] = purity(new, told["alarms_dark"])
    known = {name: value for name, value in told.items() if np.isfinite(value)}
    return {n: v if isinstance(v, int) else float(v) for n, v in known.items()}


def _dark(candidates):
    """Where the template has no light, (n,) bool; None if that is not known."""
    if "template_flux" not in candidates.colnames:
        return None
    flux, error = (pixels(candidates[name]) for name in ("template_flux", "template_flux_err"))
    if not np.isfinite(flux).all():
        return None
    return flux < LIT * error


def purity(positive: int, false: int) -> tuple[float, float]:
    """Share of the positive candidates that is true, and its Poisson error, if `false` others are
    as many as the false ones among them; NaN without any.

    None that was counted is none but for a count of 1.
    """
    if not positive:
        return np.nan, np.nan
    share = false / positive
    error = np.sqrt(max(false, 1) * (1 + share)) / positive
    return max(0.0, 1 - share), min(float(error), 1.0)


def _of_halves(difference, noise, sky, threshold):
    """Peaks of the noise of the sky, as numbers for the whole area."""
    heights, area = noise_peaks(difference, noise, sky)
    if area < LEAST_AREA:
        return {}
    scale = noise.area / area
    telling = int((heights >= TELLING).sum())
    told = {"alarms_halves_4": telling * scale, "halves_4": telling}
    if area >= TOLD_AREA:
        told["alarms_halves"] = float((heights >= height_of(threshold)).sum() * scale)
    return told


def noise_peaks(difference: Difference, noise: ScoreNoise, sky) -> tuple[np.ndarray, int]:
    """Heights (n,) of peaks above about 3.5 sigma, of either sign, of the sky's noise, and the area
    (px) in which they were looked for.

    Left half minus right half, and lower minus upper, over sqrt(2): what is smooth or alike on both
    is gone.  Sources are left out, on the image and in the score: a peak of 5 sigma of noise alone
    as well, which costs 4 % of those that are counted at 5.
    """
    score: Any = difference.score
    sky = sky & (score != 0)
    science = difference.science
    if science is not None and "fwhm" in science.meta:
        known = difference.usable & (difference.variance > 0)
        sky &= empty_sky(science.image, science.variance, known, science.meta["fwhm"])
    if not (noise.scatter == 1).all():
        ny, nx = score.shape
        scatter = BilinearWeights(noise.scatter[None], noise.x, noise.y)
        score = score / scatter(np.arange(nx)[None, :], np.arange(ny)[:, None])[0].astype(
            np.float32
        )
    found, area = [], 0
    for axis in (0, 1):
        half = score.shape[axis] // 2
        first: Any = np.s_[:, :half] if axis else np.s_[:half]
        second: Any = np.s_[:, -half:] if axis else np.s_[-half:]
        plane = (score[first] - score[second]) / np.float32(np.sqrt(2))
        paired = sky[first] & sky[second]
        found.append(_heights(plane, paired))
        area += int(paired.sum())
    return np.concatenate(found), area


def _heights(plane, select):
    """Heights (n,) of the peaks of |plane| in `select`, by a parabola along each axis."""
    strength = np.abs(plane)
    top = np.zeros(plane.shape, bool)
    footprints.mark_peaks(strength, np.float32(TELLING - 0.5), select, 1, top)
    top[[0, -1]] = top[:, [0, -1]] = False
    return tops(strength, *true_pixels(top & select))
