"""Step 1, what noise is there: as the two images claim, as if they were white, or as measured."""

from typing import Any

import numpy as np

from psflib.decorrelation.propagate import NoiseOfInputs, propagate
from psflib.image import noise
from psflib.image.correlation import as_covariance
from psflib.image.difference import Difference
from psflib.image.exposure import UNUSABLE, has_bits

SAMPLE = 200_000  # pixels of sky that tell a standard deviation to 0.3 %
FEWEST = 1000  # pixels of sky; of fewer the noise is not known
NEAR = 2  # px, lags at which correlation is looked for
STRIP = 32  # px, rows looked at together
LEAST = 0.3  # of an image's variance, that what a difference claims may take away
ROWS = 256  # rows at a time of what needs float64 planes


def claimed_noise(difference: Difference, pre=None) -> NoiseOfInputs:
    """Noise of the two images, with what the difference's variance says beyond them.

    A subtraction knows more than its inputs' planes: filled pixels, crowded sky.
    """
    kernel = difference.kernel
    still, moved = difference.science, difference.template
    if kernel.convolved == "science":
        still, moved = moved, still
    rho_s, rho_t = (None if r is None else np.array(r) for r in correlations(difference))
    variances = _filled_variance(still), _filled_variance(moved)
    inputs = NoiseOfInputs(*variances, rho_s, rho_t, kernel, pre)
    if pre is None:
        own = inputs.still
        excess, _ = propagate(inputs)
        claimed = difference.variance.copy()
        if kernel.convolved == "science":
            scale_by_kernel_sum(kernel, claimed, 2)
        np.subtract(claimed, excess, out=excess)
        excess[claimed <= 0] = 0
        own += np.maximum(excess, np.float32(LEAST - 1) * own, out=excess)
    return inputs


def with_white_inputs(difference: Difference) -> Difference:
    """The difference, of images whose noise is taken as white.

    In a crowded field unresolved stars look like correlated noise; the difference has none.
    """
    return difference.replace(meta={**difference.meta, "noise_correlation": (None, None)})


def measured_noise(difference: Difference, sky, max_lag: int) -> NoiseOfInputs:
    """The noise of the difference itself, correlation and scale, as its empty sky shows it."""
    rho = noise.noise_correlation(difference.image, difference.variance, sky, max_lag)
    rho[np.abs(rho) < 3 / np.sqrt(sky.sum())] = 0
    rho = as_covariance(rho)
    measured = difference.variance * np.float32(noise_factor(difference, sky) ** 2)
    return NoiseOfInputs(measured, None, rho, None, None)


def correlations(difference: Difference):
    """Noise correlation of both images as `subtract` found it; None if white."""
    return difference.meta["noise_correlation"]


def empty_sky(difference: Difference) -> np.ndarray:
    """Pixels (ny, nx) bool without sources, in which noise can be measured."""
    science: Any = difference.science
    usable = ~has_bits(difference.mask, UNUSABLE) & (difference.variance > 0)
    fwhm = difference.meta.get("fwhm_science", science.meta["fwhm"])
    return noise.empty_sky(science.image, science.variance, usable, fwhm)


def noise_factor(difference: Difference, sky) -> float:
    """Measured over predicted noise in empty sky, by the median absolute deviation.

    NaN if fewer than `FEWEST` pixels of sky tell it.
    """
    image, variance = sample(difference.image, sky), sample(difference.variance, sky)
    known = variance > 0
    if known.sum() < FEWEST:
        return float("nan")
    return noise.robust_std(image[known] / np.sqrt(variance[known]))


def correlation_left(difference: Difference, sky) -> float:
    """Largest correlation of the noise of pixels up to `NEAR` px apart; NaN if unknown."""
    strips = _strips(difference.shape[0], sky)
    image, variance, select = (
        np.concatenate([plane[s] for s in strips])
        for plane in (difference.image, difference.variance, sky & (difference.variance > 0))
    )
    if select.sum() < FEWEST:
        return float("nan")
    rho = noise.noise_correlation(image, variance, select, NEAR)
    rho[NEAR, NEAR] = 0
    return float(np.abs(rho).max())


def _strips(height, sky):
    """Strips of whole rows, spread evenly, that hold about `SAMPLE` pixels."""
    step = max(STRIP, int(STRIP * sky.size / SAMPLE))
    return [slice(y, y + STRIP) for y in range(0, height, step)]


def sample(plane: np.ndarray, sky) -> np.ndarray:
    """At most about `SAMPLE` pixels of sky, spread evenly over whole rows."""
    rows = slice(None, None, max(1, int(sky.size // SAMPLE)))
    return plane[rows][sky[rows]]


def scale_by_kernel_sum(kernel, plane: np.ndarray, power: int) -> None:
    """`plane` (ny, nx) times the kernel's sum to that power, in place."""
    x = np.arange(plane.shape[1])[None, :]
    for y0 in range(0, len(plane), ROWS):
        y = np.arange(y0, min(y0 + ROWS, len(plane)))[:, None]
        plane[y0 : y0 + ROWS] *= np.asarray(kernel.kernel_sum(x, y) ** power, np.float32)


def _filled_variance(exposure):
    """Variance with the typical value where there are no data."""
    typical = np.median(exposure.variance[exposure.usable][::7])
    return np.where(exposure.variance > 0, exposure.variance, np.float32(typical))
