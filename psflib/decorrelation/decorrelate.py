"""Decorrelation: a difference whose noise is white again, and its PSF.

The filter follows from the kernel and from the noise of both images (`psflib.whitening`), both of
which vary over the field; so does the filter.
"""

import logging
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from psflib.decorrelation import propagate
from psflib.decorrelation.field import constant_filter, varying_filter
from psflib.decorrelation.filters import filter_from_power, score_filter, whitening_filter
from psflib.decorrelation.propagate import NoiseOfInputs
from psflib.decorrelation.score import score
from psflib.decorrelation.sky_variance import SkyVariance
from psflib.image import noise
from psflib.image.convolve import VaryingKernel, bilinear, constant_kernel, node_grid
from psflib.image.difference import Difference
from psflib.image.exposure import UNUSABLE, MaskBit, has_bits

log = logging.getLogger(__name__)

SAMPLE = 200_000  # pixels of sky that tell a standard deviation to 0.3 %
LEAST = 0.3  # of an image's variance, that what a difference claims may take away
FEWEST = 1000  # values that a scatter is taken from
CELLS, LEAST_CELL = 8, 128  # of the score's scatter: most an axis, smallest side in px
ROWS = 256  # rows at a time of what needs float64 planes


class DecorrelateSettings(BaseModel):
    """Settings of the stage `decorrelate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(
        "varying",
        pattern="^(varying|constant)$",
        description="varying: the filter follows kernel and noise over the field; constant: the "
        "filter of the image's centre and of its mean variances, for all of it",
    )
    accuracy: float = Field(
        0.02, gt=0, lt=1,
        description="error of a varying filter, relative in the L1 norm, above which it is "
        "computed at more places",
    )  # fmt: skip
    distrust_beyond: float = Field(
        0.1, ge=0,
        description="measured and predicted noise of empty sky may differ by this fraction before "
        "the filter is taken from the measured noise instead (images that share exposures, wrong "
        "gains); a large value: never",
    )  # fmt: skip
    max_lag: int = Field(5, ge=1, le=16, description="largest lag of that measurement, px")


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
    """
    settings = settings or DecorrelateSettings()
    if difference.science is None or difference.template is None:
        raise ValueError("this difference does not carry its science and template images")
    if difference.meta.get("white"):
        return _passed_through(difference, settings, pre)
    if difference.whitening is not None:
        raise ValueError("this difference is decorrelated already")
    sky = _empty_sky(difference)
    clean = _by_inputs(difference, settings, pre, sky)
    factor = _noise_factor(clean, sky)
    colored = any(r is not None for r in _correlations(difference))
    if abs(factor - 1) > settings.distrust_beyond and colored:
        clean, factor = _with_white_inputs(difference, settings, pre, sky, clean, factor)
    if abs(factor - 1) > settings.distrust_beyond and pre is None:
        log.warning(
            "noise of empty sky is %.3f times the predicted (do science and template share "
            "exposures, or is a gain or variance plane wrong?): whitened as measured", factor,
        )  # fmt: skip
        clean = _as_measured(difference, settings, sky)
    clean = clean.replace(meta={**difference.meta, "noise_factor": factor})
    values = score(clean) if pre is None else _in_sigma(clean)
    return _with_score(clean, values, sky, settings)


def _passed_through(difference, settings, pre):
    """A difference that is white already, as proper subtraction makes it; its score is kept.

    Noise and score are measured in empty sky as of the others.
    """
    if pre is not None or difference.score is None:
        raise ValueError("this difference is white already: there is no filter to choose")
    note = f"the noise of a difference by {difference.meta['method']} is white: passed through"
    log.info("%s", note)
    sky = _empty_sky(difference)
    factor = _noise_factor(difference, sky)
    meta = {
        **difference.meta, "noise_factor": factor,
        "notes": [*difference.meta.get("notes", ()), note],
    }  # fmt: skip
    return _with_score(difference.replace(meta=meta), difference.score.copy(), sky, settings)


def _with_white_inputs(difference, settings, pre, sky, clean, factor):
    """The difference by inputs taken as white, and its noise factor, if that is nearer to 1.

    In a crowded field unresolved stars look like correlated noise; the difference has none.
    """
    white = difference.replace(meta={**difference.meta, "noise_correlation": (None, None)})
    other = _by_inputs(white, settings, pre, sky)
    other_factor = _noise_factor(other, sky)
    if abs(other_factor - 1) > settings.distrust_beyond:
        return clean, factor
    log.info(
        "the correlation seen in the inputs is not that of their noise (%.3f times the predicted "
        "noise): taken as white", factor,
    )  # fmt: skip
    return other, other_factor


def _correlations(difference):
    """Noise correlation of both images as `subtract` found it; None if white."""
    return difference.meta["noise_correlation"]


def _with_score(clean, values, sky, settings):
    """The difference with its score, and what the score's noise says of its scale.

    Structure that is wider than the filter (banding, residual sky) makes a point source less
    significant than the pixels' noise claims: `score_scale` in `meta` is the measured standard
    deviation of the score in empty sky, 1 where it is within the tolerance.  The score itself is
    divided by what is measured nearby (on GOTO's field it is 1.4 to 1.9).
    """
    sample = _sample(values, sky)
    scale = _scatter(sample[sample != 0])
    if abs(scale - 1) > settings.distrust_beyond:
        log.warning("score of empty sky scatters by %.3f, not 1: divided by its scatter", scale)
        _divide_by_scatter(values, sky, scale)
    else:
        scale = 1.0
    return clean.replace(score=values, meta={**clean.meta, "score_scale": scale})


def _scatter(sample):
    """Standard deviation about 0, robust; 1 if there are too few values."""
    return 1.4826 * float(np.median(np.abs(sample))) if sample.size > FEWEST else 1.0


def _divide_by_scatter(values, sky, typical):
    """Divide a score (ny, nx) by its scatter in empty sky, bilinear between cells, in place."""
    cells = [max(1, min(CELLS, n // LEAST_CELL)) for n in values.shape]
    x, y = node_grid(values.shape, cells[1])[0], node_grid(values.shape, cells[0])[1]
    edges = [np.linspace(0, n, c + 1).astype(int) for n, c in zip(values.shape, cells, strict=True)]
    nodes = np.full(cells, float(typical))
    for j, i in np.ndindex(*cells):
        cell = np.s_[edges[0][j] : edges[0][j + 1], edges[1][i] : edges[1][i + 1]]
        sample = values[cell][sky[cell]]
        sample = sample[sample != 0]
        if sample.size > FEWEST:
            nodes[j, i] = _scatter(sample)
    columns = np.arange(values.shape[1])[None, :]
    for y0 in range(0, len(values), ROWS):
        rows = np.arange(y0, min(y0 + ROWS, len(values)))[:, None]
        values[y0 : y0 + ROWS] /= bilinear(nodes[None], x, y, columns, rows)[0]


def _by_inputs(difference, settings, pre, sky):
    """Whitened by the kernel and the noise of the two images."""
    inputs = _inputs(difference, pre)
    variances = SkyVariance(inputs.still, sky), SkyVariance(inputs.moved, sky)
    rho_s, rho_t = inputs.rho_s, inputs.rho_t
    kernel, varies = difference.kernel, settings.method == "varying"

    def filter_at(x, y):
        still, moved = (v(x, y) if varies else v.typical for v in variances)
        noise = still, moved, rho_s, rho_t
        if pre is None:
            return whitening_filter(kernel.at(x, y), *noise)
        return score_filter(kernel.at(x, y), pre.at(x, y), *noise)

    if varies:
        whitening = varying_filter(filter_at, difference.shape, settings.accuracy)
    else:
        whitening = constant_filter(filter_at, difference.shape)
    variance, covariance = propagate(inputs, whitening)
    del inputs
    if kernel.convolved == "science":
        _scale_by_kernel_sum(kernel, variance, -2)
        total = kernel.kernel_sum(*_centre(difference.shape))
        np.divide(covariance.maps, total**2, out=covariance.maps)
    return _applied(difference, whitening, variance, covariance)


def _inputs(difference, pre):
    """Noise of the two images, with what the difference's variance says beyond them.

    A subtraction knows more than its inputs' planes: filled pixels, crowded sky.
    """
    kernel = difference.kernel
    still, moved = difference.science, difference.template
    if kernel.convolved == "science":
        still, moved = moved, still
    rho_s, rho_t = (None if r is None else np.array(r) for r in _correlations(difference))
    variances = _filled_variance(still), _filled_variance(moved)
    inputs = NoiseOfInputs(*variances, rho_s, rho_t, kernel, pre)
    if pre is None:
        own = inputs.still
        excess, _ = propagate(inputs)
        claimed = difference.variance.copy()
        if kernel.convolved == "science":
            _scale_by_kernel_sum(kernel, claimed, 2)
        np.subtract(claimed, excess, out=excess)
        excess[claimed <= 0] = 0
        own += np.maximum(excess, np.float32(LEAST - 1) * own, out=excess)
    return inputs


def _as_measured(difference, settings, sky):
    """Whitened by the noise of the difference itself, in empty sky."""
    rho = noise.noise_correlation(difference.image, difference.variance, sky, settings.max_lag)
    rho[np.abs(rho) < 3 / np.sqrt(sky.sum())] = 0
    crop = difference.kernel.basis.shape[1]
    psi = filter_from_power(noise.power_spectrum(rho, (4 * crop, 4 * crop)), crop)
    whitening = constant_kernel(psi)
    measured = difference.variance * np.float32(_noise_factor(difference, sky) ** 2)
    variance, covariance = propagate(NoiseOfInputs(measured, None, rho, None, None), whitening)
    return _applied(difference, whitening, variance, covariance)


def _applied(difference, whitening: VaryingKernel, variance, covariance):
    """Whitened difference, its variance and mask, blank where there are no data."""
    image = whitening.convolve(np.where(difference.usable, difference.image, np.float32(0)))
    mask = difference.mask.copy()
    half = max(1, whitening.images.shape[-1] // 8)  # nearly all of psi lies in its inner quarter
    for edge in (np.s_[:half], np.s_[-half:], np.s_[:, :half], np.s_[:, -half:]):
        mask[edge] |= np.uint16(MaskBit.EDGE)
    no_data = has_bits(mask, MaskBit.NO_DATA)
    image[no_data] = 0
    variance[no_data] = 0
    np.maximum(variance, 0, out=variance)
    return difference.replace(
        image=image, variance=variance, mask=mask, whitening=whitening, covariance=covariance
    )


def _in_sigma(clean):
    """Image over its own standard deviation; 0 where it means nothing."""
    out = np.zeros(clean.shape, np.float32)
    known = clean.usable & (clean.variance > 0)
    np.divide(clean.image, np.sqrt(clean.variance), out=out, where=known)
    return out


def _scale_by_kernel_sum(kernel, plane, power):
    """`plane` (ny, nx) times the kernel's sum to that power, in place."""
    x = np.arange(plane.shape[1])[None, :]
    for y0 in range(0, len(plane), ROWS):
        y = np.arange(y0, min(y0 + ROWS, len(plane)))[:, None]
        plane[y0 : y0 + ROWS] *= np.asarray(kernel.kernel_sum(x, y) ** power, np.float32)


def _filled_variance(exposure):
    """Variance with the typical value where there are no data."""
    typical = np.median(exposure.variance[exposure.usable][::7])
    return np.where(exposure.variance > 0, exposure.variance, np.float32(typical))


def _centre(shape):
    return (shape[1] - 1) / 2, (shape[0] - 1) / 2


def _empty_sky(difference):
    science = difference.science
    usable = ~has_bits(difference.mask, UNUSABLE) & (difference.variance > 0)
    return noise.empty_sky(science.image, science.variance, usable, science.meta["fwhm"])


def _noise_factor(difference, sky):
    """Measured over predicted noise in empty sky, by the median absolute deviation."""
    image, variance = _sample(difference.image, sky), _sample(difference.variance, sky)
    known = variance > 0
    if known.sum() < 1000:
        return 1.0
    return noise.robust_std(image[known] / np.sqrt(variance[known]))


def _sample(plane, sky):
    """At most about `SAMPLE` pixels of sky, spread evenly over whole rows."""
    rows = slice(None, None, max(1, int(sky.size // SAMPLE)))
    return plane[rows][sky[rows]]
