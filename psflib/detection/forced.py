"""PSF fluxes at given places of the two images behind a difference, on the same pixels."""

import dataclasses

import numpy as np

from psflib.decorrelation.score import NODES, WIDE, inner_light
from psflib.detection.fits import BATCH, Splines
from psflib.image.convolve import blend_nodes, edge_grid, fft_convolve
from psflib.image.difference import Difference
from psflib.image.exposure import UNUSABLE
from psflib.image.noise import variance_factor
from psflib.loops import candidates as loops

FEWEST = 20  # sources that tell what share of their light is left
FAINT = 0.1  # relative noise of sources that tell it, at most
MOST_LEFT = 0.5  # of the light, that is looked for
MEDIAN = 0.4549  # of the square of a normal deviate
RADIUS = 1.25  # FWHM to each side of the box: 99 % of the weight in the noise of the sky


@dataclasses.dataclass(frozen=True, eq=False)
class ForcedFluxes:
    """PSF fluxes (n,) in ADU of the science image and their standard errors; NaN if not known."""

    science: np.ndarray
    science_err: np.ndarray
    template: np.ndarray
    template_err: np.ndarray


def forced(difference: Difference, planes, y, x, dy, dx, fwhm: float) -> ForcedFluxes:
    """Fluxes of the science image and of the matched template at given places.

    Both are seen by the PSF of the image that was not convolved, on the usable pixels of the
    difference and with one weight, so that they differ by what the raw difference holds: light
    of a host counts in both.  The sky is what `prepare` removed and the kernel's background.

    Parameters
    ----------
    difference : Difference
        With its images; without them all fluxes are NaN.
    planes : tuple of ndarray (ny, nx)
        As of `fit_candidates`; the second weighs the pixels, the third says which are usable.
    y, x : ndarray (n,) of int
    dy, dx : ndarray (n,)
        The place, and from its pixel to it, px.
    fwhm : float
        px.
    """
    kernel = difference.kernel
    science, template = difference.science, difference.template
    if science is None or template is None or not len(y):
        return ForcedFluxes(*np.full((4, len(y)), np.nan))
    still, moved = (science, template) if kernel.convolved == "template" else (template, science)
    size = 2 * int(np.ceil(RADIUS * fwhm)) + 1
    splines = _splines(difference, size)
    seen = *planes[1:], still.image, still.variance, moved.image, moved.variance, moved.mask
    varying, sums = kernel.varying(), np.empty((len(y), loops.FORCED))
    turned = varying.images[:, ::-1, ::-1]
    for first in range(0, len(y), BATCH):
        part = slice(first, first + BATCH)
        at = y[part], x[part]
        kernels = np.tensordot(varying.weights(at[1], at[0]).T, turned, 1)
        shift = np.stack([dy[part], dx[part]], 1)
        mixed = splines.at(at[1], at[0])
        loops.forced_sums(*seen, np.uint16(UNUSABLE), *at, mixed, shift, size, kernels, sums[part])
    return _in_science_units(difference, x, y, sums, _correlated(difference, splines))


def _splines(difference, size):
    """The PSF of the image that was not convolved, cut from one of unit sum over a wide box."""
    x, y = edge_grid(difference.shape, NODES[0])
    edge = max(WIDE - size, 0) // 2
    inner = slice(edge, edge + size)
    grid = [[difference.psf.at(i, j, size + 2 * edge)[inner, inner] for i in x] for j in y]
    factors = inner_light(difference.psf, x, y)[:, :, None, None]
    return Splines.of(blend_nodes(factors * np.array(grid), x, y))


def _correlated(difference, splines):
    """By how much the correlation of its pixels' noise raises the variance of a flux: of the image
    that was not convolved, and of the other; from the PSF and the kernel of the field's centre."""
    ny, nx = difference.shape
    x, y = (nx - 1) / 2, (ny - 1) / 2
    psf = difference.psf.at(x, y, splines.size)
    filters = psf, fft_convolve(psf, difference.kernel.at(x, y)[::-1, ::-1], full=True)
    known = difference.meta.get("noise_correlation") or (None, None)
    return [
        1.0 if rho is None else max(variance_factor(np.asarray(rho), image), 0.0)
        for rho, image in zip(known, filters, strict=True)
    ]


def _in_science_units(difference, x, y, sums, correlated):
    kernel = difference.kernel
    _, covered, still, still_variance, moved, moved_variance = sums.T
    still = still - kernel.background_at(x, y) * covered
    errors = [
        np.sqrt(v * f) for v, f in zip((still_variance, moved_variance), correlated, strict=True)
    ]
    if kernel.convolved == "template":
        return ForcedFluxes(still, errors[0], moved, errors[1])
    scale = kernel.kernel_sum(x, y)
    return ForcedFluxes(moved / scale, errors[1] / scale, still / scale, errors[0] / scale)


def matching_error(flux, flux_err, template_flux) -> float:
    """Share of a static source's light, rms, that the matching leaves beside noise.

    The share for which the squared pulls of static sources have the median that they should have;
    a third of the sources may vary.

    Parameters
    ----------
    flux, flux_err, template_flux : ndarray (n,)
        PSF fluxes of the difference at sources of the template, their noise, and the fluxes of the
        matched template, ADU.

    Returns
    -------
    float
        0 if there are fewer than `FEWEST` sources.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        rest, noise = flux / template_flux, flux_err / template_flux
    good = np.isfinite(rest) & (noise > 0) & (noise < FAINT)
    if good.sum() < FEWEST:
        return 0.0
    rest, noise = rest[good], noise[good]
    low, high = 0.0, MOST_LEFT
    for _ in range(40):
        middle = (low + high) / 2
        wide = np.median(rest**2 / (noise**2 + middle**2)) > MEDIAN
        low, high = (middle, high) if wide else (low, middle)
    return low
