"""Decorrelation: a difference whose noise is white again, and its PSF.

Three steps: what noise is there (`noise_model`), which filter makes it white (`choose_filter`),
apply it (`apply`) and tell how significant a source is (`score`).  Kernel and noise of both images
vary over the field; so does the filter.
"""

import dataclasses
import logging
from typing import Any

import numpy as np

from psflib.decorrelation.apply import apply_filter, filtered_noise
from psflib.decorrelation.choose_filter import filter_of_difference, filter_of_inputs
from psflib.decorrelation.noise_model import (
    FEWEST,
    claimed_noise,
    correlation_left,
    correlations,
    empty_sky,
    measured_noise,
    noise_factor,
    sample,
    with_white_inputs,
)
from psflib.decorrelation.score import divide_by_scatter, scatter, score
from psflib.decorrelation.streaks import with_streaks
from psflib.errors import BadImage
from psflib.image.difference import Difference
from psflib.image.exposure import MaskBit, has_bits
from psflib.settings.decorrelate import DecorrelateSettings

log = logging.getLogger(__name__)

CROWDED_SCORE = 0.02  # of its scatter, from which the score of a crowd is divided by it
MOST_LOST = 0.01  # share of the usable pixels that may have no variance and are masked


def decorrelate(
    difference: Difference, settings: DecorrelateSettings | None = None, pre: Any = None
) -> Difference:
    """Whiten the noise of a difference.

    Parameters
    ----------
    difference : Difference
        From `subtract`, with its science and template.
    pre : object with ``at(x, y) -> (p, p)`` of unit sum, optional
        Score mode: what the science image was convolved with before the subtraction, its PSF
        turned by 180 degrees; `difference.psf` is the PSF after it.  The result's image is then
        proportional to the likelihood of a point source at each pixel.

    Returns
    -------
    Difference
        New planes; `whitening` is the filter applied, `psf_at` the corrected PSF, `covariance`
        the noise that neighbours still share, `score` the matched-filter significance.

    Raises
    ------
    ValueError
        If the difference does not carry its images, or was decorrelated before.
    BadImage
        If no pixel is usable, or variance or score of those that are say nothing.
    """
    settings = settings or DecorrelateSettings()
    if not isinstance(difference, Difference):
        raise ValueError(
            f"decorrelate takes the Difference that `subtract` makes of two images; got "
            f"{type(difference).__name__}"
        )
    if difference.science is None or difference.template is None:
        raise ValueError("this difference does not carry its science and template images")
    if difference.whitening is not None and not difference.meta.get("white"):
        raise ValueError("this difference is decorrelated already")
    sky = empty_sky(difference)
    if difference.meta.get("white"):
        clean, values = _passed_through(difference, pre, sky)
        clean = with_streaks(clean) if settings.mask_streaks else clean
        values[has_bits(clean.mask, MaskBit.STREAK)] = 0
    else:
        clean = _whitened(difference, settings, pre, sky)
        clean = with_streaks(clean) if settings.mask_streaks and pre is None else clean
        values = score(clean) if pre is None else _in_sigma(clean)
    return _with_score(clean, values, sky, settings)


def _passed_through(difference, pre, sky):
    """A difference that is white already, as proper subtraction makes it, and its own score.

    Noise and score are measured in empty sky as of the others.
    """
    if pre is not None or difference.score is None:
        raise ValueError("this difference is white already: there is no filter to choose")
    note = f"the noise of a difference by {difference.meta['method']} is white: passed through"
    log.info("%s", note)
    meta = {
        **difference.meta, "noise_factor": noise_factor(difference, sky),
        "noise_model": "claimed", "correlation_left": correlation_left(difference, sky),
        "notes": [*difference.meta.get("notes", ()), note],
    }  # fmt: skip
    return difference.replace(meta=meta), difference.score.copy()


@dataclasses.dataclass(frozen=True)
class _Tried:
    """A model of the noise by its name, the difference filtered by it, and how well it did.

    factor : measured noise of empty sky over what `clean` claims;  left : largest correlation of
    neighbours;  NaN where there is too little sky.
    """

    model: str
    clean: Difference
    factor: float
    left: float

    @property
    def misfit(self) -> float:
        return max(abs(self.factor - 1), self.left)


def _whitened(difference, settings, pre, sky):
    """Filtered by the first model of the noise that the empty sky agrees with.

    In `meta`, `noise_factor` is the measured noise over what the images claim, NaN if there is too
    little sky to tell; `noise_model` the model that was taken.  If none agrees it is the one that
    leaves the least, with variances as large as the noise is.
    """

    def tried(model, clean):
        return _Tried(model, clean, noise_factor(clean, sky), correlation_left(clean, sky))

    def agrees(result):
        return abs(result.factor - 1) <= settings.distrust_beyond

    best = claimed = tried("claimed", _by_inputs(difference, settings, pre, sky))
    if claimed.factor == 0:
        raise BadImage(
            f"more than half of {int(sky.sum())} px of empty sky hold one value in the difference: "
            "is one of the images constant, or a copy of the other?"
        )
    if np.isnan(claimed.factor):
        note = f"noise unknown: fewer than {FEWEST} px of empty sky; taken as the images claim it"
        return _told(difference, claimed, claimed.factor, [note])
    correlated = any(rho is not None for rho in correlations(difference))
    if not agrees(claimed) and correlated:
        white = tried("white", _by_inputs(with_white_inputs(difference), settings, pre, sky))
        believed = agrees(white) and white.left <= max(settings.distrust_beyond, claimed.left)
        if believed:
            log.info(
                "the correlation seen in the inputs is not that of their noise (%.3f times the "
                "predicted noise): taken as white", claimed.factor,
            )  # fmt: skip
        if believed or white.misfit < claimed.misfit:
            best = white
    factor, notes = best.factor, []
    if not agrees(best) and pre is None:
        measured = tried("measured", _as_measured(difference, settings, sky))
        notes.append(
            f"noise of empty sky is {factor:.3f} times the predicted (do science and template "
            "share exposures, or is a gain or variance plane wrong?): "
        )
        if measured.misfit <= max(settings.distrust_beyond, best.left):
            best, notes[-1] = measured, notes[-1] + "whitened as measured"
        else:
            notes[-1] += (
                f"variances times {factor**2:.3f}; the noise as measured makes no filter "
                f"({measured.factor:.3f} times its prediction, correlation {measured.left:.3f})"
            )
            best = dataclasses.replace(best, clean=_scaled(best.clean, factor**2))
    return _told(difference, best, factor, notes)


def _told(difference, best, factor, notes):
    """The result of a model, with what is to be said of it."""
    for note in notes:
        log.warning("%s", note)
    meta = {
        **difference.meta, "noise_factor": factor, "noise_model": best.model,
        "correlation_left": best.left, "notes": [*difference.meta.get("notes", ()), *notes],
    }  # fmt: skip
    return best.clean.replace(meta=meta)


def _scaled(clean, factor):
    """The difference with its variance and covariances times a factor."""
    maps = dataclasses.replace(clean.covariance, maps=clean.covariance.maps * np.float32(factor))
    return clean.replace(variance=clean.variance * np.float32(factor), covariance=maps)


def _by_inputs(difference, settings, pre, sky):
    inputs = claimed_noise(difference, pre)
    whitening = filter_of_inputs(inputs, sky, settings)
    noise = filtered_noise(difference, inputs, whitening)
    del inputs  # two planes; the peak of the memory comes now
    return apply_filter(difference, whitening, *noise)


def _as_measured(difference, settings, sky):
    inputs = measured_noise(difference, sky, settings.max_lag)
    whitening = filter_of_difference(inputs, crop=difference.kernel.basis.shape[1])
    noise = filtered_noise(difference, inputs, whitening)
    return apply_filter(difference, whitening, *noise)


def _with_score(clean, values, sky, settings):
    """The difference with its score, and what the score's noise says of its scale.

    Structure that is wider than the filter (banding, residual sky) makes a point source less
    significant than the pixels' noise claims: `score_scale` in `meta` is the measured standard
    deviation of the score in empty sky, 1 where it is within the tolerance, NaN if unknown.  The
    score itself is divided by what is measured nearby (on GOTO's field it is 1.4 to 1.9), which
    `score_scatter` keeps: rows of cells, bilinear between their centres.
    """
    notes, told = list(clean.meta.get("notes", ())), {}
    clean = _without_lost(clean, values, notes)
    _refuse_empty(clean, values)
    known = sample(values, sky)
    scale = scatter(known[known != 0])
    crowded = any(image.meta.get("confusion") for image in (clean.science, clean.template))
    # in a crowd what stars leave is everywhere, and adds up in a score before it shows in pixels
    if abs(scale - 1) > (CROWDED_SCORE if crowded else settings.distrust_beyond):
        notes.append(f"score of empty sky scatters by {scale:.3f}, not 1: divided by its scatter")
        log.warning("%s", notes[-1])
        told = {"score_scatter": divide_by_scatter(values, sky, scale).tolist()}
    elif np.isfinite(scale):
        scale = 1.0
    meta = {**clean.meta, "score_scale": scale, **told, "notes": notes}
    return clean.replace(score=values, meta=meta)


def _without_lost(clean, values, notes):
    """The difference with its usable pixels of no variance masked; `values` (ny, nx) 0 there."""
    lost = clean.usable & ~(clean.variance > 0)
    count = int(lost.sum())
    if not count:
        return clean
    said = f"{count} of {int(clean.usable.sum())} usable pixels of the decorrelated difference"
    if count > MOST_LOST * clean.usable.sum():
        raise BadImage(
            f"{said} have no variance: the variance planes of science and template contradict "
            "their noise"
        )
    notes.append(f"{said} have no variance: masked")
    log.warning("%s", notes[-1])
    values[lost] = 0
    mask = clean.mask.copy()
    mask[lost] |= np.uint16(MaskBit.BAD)
    return clean.replace(mask=mask)


def _refuse_empty(clean, values):
    """A difference whose noise or score says nothing is none in which nothing is found."""
    usable = clean.usable
    count = int(usable.sum())
    if not count:
        raise BadImage(
            f"no pixel of the difference is usable ({usable.size} px, all masked): do science and "
            "template overlap, and are their masks right?"
        )
    known = values[usable]
    if not np.isfinite(known).all() or known.min() == known.max():
        raise BadImage(
            f"the score of {count} usable pixels is {known[0]:g} everywhere or not finite: "
            "no source could be found; is the PSF right, is one of the images constant?"
        )


def _in_sigma(clean):
    """Image over its own standard deviation; 0 where it means nothing."""
    out = np.zeros(clean.shape, np.float32)
    known = clean.usable & (clean.variance > 0)
    np.divide(clean.image, np.sqrt(clean.variance), out=out, where=known)
    return out
