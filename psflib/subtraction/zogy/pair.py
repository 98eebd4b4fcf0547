"""Two exposures and their PSFs become a pair that proper subtraction can take.

Holes are filled, the template comes to the science image's flux scale and position, and what is
left of the sky's difference goes.
"""

import dataclasses
import functools

import numpy as np
from scipy import ndimage

from psflib.decorrelation.sky_variance import SkyVariance
from psflib.image import polynomial
from psflib.image.convolve import convolve_sparse
from psflib.image.exposure import Exposure
from psflib.image.fill import fill_masked
from psflib.image.noise import empty_sky, power_spectrum
from psflib.image.weights import weight_variance
from psflib.matching import pixels
from psflib.matching.background import background_of_sky
from psflib.matching.equations import fit_background
from psflib.settings.subtract import MOST_FLUX_RANGE
from psflib.subtraction.zogy.filters import mean_over_frequencies
from psflib.subtraction.zogy.match import Alignment, fit_alignment
from psflib.subtraction.zogy.planes import Pair, filtered_images
from psflib.subtraction.zogy.psf import StampPsf
from psflib.subtraction.zogy.tiles import Tiling

SIGNIFICANT = 5.0  # sigma of the mean of both images, of pixels that tell scale and displacement
REDONE = 0.05  # px, displacement beyond which its linear approximation is improved


@dataclasses.dataclass(frozen=True, eq=False)
class MatchOptions:
    """How the template is fitted to the science image.

    scale : float
        Factor to the template's light to begin with.
    scale_order, background_order : int
        Degrees over the field; a background of -1 is not fitted.
    fit_scale, fit_shift : bool
    good : ndarray (ny, nx) bool, optional
        Pixels that may be fitted, if they are significant.
    rho : (ndarray or None, ndarray or None)
        Noise correlation of both images; None is white.
    flux_range : float
        See `psflib.settings.subtract.FluxRange`.
    """

    scale: float = 1.0
    scale_order: int = 0
    background_order: int = 2
    fit_scale: bool = True
    fit_shift: bool = True
    good: np.ndarray | None = None
    rho: tuple = (None, None)
    flux_range: float = MOST_FLUX_RANGE


@dataclasses.dataclass(frozen=True, eq=False)
class MatchedPair:
    """A `Pair`, and what was done to get it.

    bad : ndarray (ny, nx) bool
        Pixels filled in either image.
    scale : ndarray (n_terms,)
        Chebyshev coefficients of the factor to the template's light, of degree `scale_order`.
    background : ndarray (n_terms,)
        Of what was taken off the science image, ADU, of degree `background_order`.
    """

    pair: Pair
    bad: np.ndarray
    scale: np.ndarray
    scale_order: int
    background: np.ndarray
    background_order: int
    alignment: Alignment

    def scale_at(self, x, y):
        """Factor to the template's light at (x, y)."""
        terms = polynomial.evaluate(self.scale_order, x, y, self.bad.shape)
        return np.tensordot(self.scale, terms, 1)


def match_pair(
    science: Exposure, template: Exposure, psfs: tuple[StampPsf, StampPsf], tiles: Tiling,
    support: int, options: MatchOptions,
) -> MatchedPair:  # fmt: skip
    """Fill, scale, displace; the exposures need a variance and meta['fwhm'] (px)."""
    planes = [*fill_masked(science), *fill_masked(template)]
    planes[2] *= np.float32(options.scale)
    planes[3] *= np.float32(options.scale**2)
    bad = ~(science.usable & template.usable)
    sky = _sky(science, ~bad) & _sky(template, ~bad)
    weights = [
        weight_variance(image, variance, exposure.usable)
        for image, variance, exposure in zip(
            planes[::2], planes[1::2], (science, template), strict=True
        )
    ]
    background, order = _take_background(planes, weights, sky, options.background_order)
    noises = [SkyVariance(plane, sky if sky.any() else ~bad) for plane in planes[1::2]]

    def psf_pair(x, y):
        return tuple(psf.at(x, y, support) for psf in psfs)

    pair = Pair(
        planes[0], planes[2], planes[1], planes[3],
        lambda x, y: (noises[0](x, y), noises[1](x, y)), psf_pair, power=_powers(options.rho),
    )  # fmt: skip
    fwhm = max(e.meta["fwhm"] for e in (science, template))
    alignment, matched = _align(pair, weights, tiles, support, bad, fwhm, options)
    if matched is not None and options.background_order >= 0:
        more = matched.background(~bad, fwhm, order)
        background = background + more
        planes[0] -= polynomial.product_map(more, order, bad.shape)
    pair = _aligned(pair, alignment)
    scale = options.scale * alignment.scale
    return MatchedPair(pair, bad, scale, alignment.order, background, order, alignment)


def _sky(exposure, usable):
    return empty_sky(exposure.image, exposure.variance, usable, exposure.meta["fwhm"])


@dataclasses.dataclass(frozen=True, eq=False)
class _Matched:
    """Both images as they enter D, aligned; their light tells nothing of the background any more.

    Where the wider PSF has its wings, beside sources, the images themselves differ (-0.03 ADU, 3
    standard errors of a Mpx, in a sky of 5 electrons).

    template, rest, variance : ndarray (ny, nx) float32;  gain : of a level of the science image
    """

    template: np.ndarray
    rest: np.ndarray
    variance: np.ndarray
    gain: float

    def background(self, usable, fwhm, order):
        """Coefficients of the science image's background that is left, ADU."""
        edge = int(np.ceil(2 * fwhm))  # the filters reach beyond it
        usable = ~pixels.grown(~usable, edge)
        usable[:edge] = usable[-edge:] = False
        usable[:, :edge] = usable[:, -edge:] = False
        found = background_of_sky(self.rest, self.variance, self.template, usable, fwhm, order)
        if found is None:
            return np.zeros(polynomial.n_terms(order))
        return found / self.gain


def _take_background(planes, weights, sky, order):
    """Take the difference of the backgrounds off the science image; coefficients and degree."""
    if order < 0:
        return np.zeros(1), 0
    rest = planes[0] - planes[2]
    for lower in range(order, -1, -1):
        found = fit_background(rest, weights[0] + weights[1], sky, lower)
        if found is not None:
            planes[0] -= polynomial.product_map(found, lower, rest.shape)
            return found, lower
    return np.zeros(1), 0


def _powers(rho):
    """Noise power on any grid, from the correlations."""
    return tuple(
        None if r is None else functools.partial(power_spectrum, np.asarray(r)) for r in rho
    )


def _align(pair, weights, tiles, support, bad, fwhm, options) -> tuple[Alignment, _Matched | None]:
    """Scale and displacement; twice if the displacement is large."""
    if not (options.fit_scale or options.fit_shift):
        return Alignment(np.ones(1), 0, (0.0, 0.0), 0, []), None
    first, matched = _fit(pair, weights, tiles, support, bad, fwhm, options)
    if not options.fit_shift or np.abs(first.shift).max() < REDONE:
        return first, matched
    moved = dataclasses.replace(pair, shift=first.shift)
    again, matched = _fit(moved, weights, tiles, support, bad, fwhm, options)
    shift = tuple(np.clip(np.add(first.shift, again.shift), -0.5, 0.5).tolist())
    return dataclasses.replace(again, shift=shift, notes=[*first.notes, *again.notes]), matched


def _fit(pair, weights, tiles, support, bad, fwhm, options):
    planes = filtered_images(pair, tiles, support)
    middle = next(iter(tiles))
    filters = pair.filters(middle, support)
    gains = [
        mean_over_frequencies(np.square(np.abs(f)), filters.shape)
        for f in (filters.science, filters.template)
    ]
    variances = [v * np.float32(g) for v, g in zip(weights, gains, strict=True)]
    select = _telling(planes, variances, fwhm)
    if options.good is not None:
        select &= options.good
    select &= ~ndimage.binary_dilation(bad, iterations=max(1, round(fwhm)))
    found = fit_alignment(
        planes, variances, select, options.scale_order, options.fit_scale, options.fit_shift,
        options.flux_range,
    )  # fmt: skip
    scale = polynomial.product_map(found.scale, found.order, bad.shape)
    template = planes["template"]
    for shift, axis in zip(found.shift, "xy", strict=True):
        template -= np.float32(shift) * planes[f"slope_{axis}"]
    template *= scale
    rest = np.subtract(planes["science"], template, out=planes["science"])
    variance = variances[0] + np.square(scale) * variances[1]
    return found, _Matched(template, rest, variance, float(filters.science[0, 0].real))


def _telling(planes, variances, fwhm):
    """Pixels of significant light, away from the border.

    Judged by the best mean of both images, whose noise has nothing to do with that of their
    difference: pixels picked for being bright in one would be brighter there than they are.
    """
    one, two = variances
    light = (planes["science"] * two + planes["template"] * one) / (one + two)
    select = light > np.float32(SIGNIFICANT) * np.sqrt(one * two / (one + two))
    # one pixel alone is a cosmic ray or noise
    select = ndimage.binary_dilation(ndimage.binary_opening(select))
    edge = int(np.ceil(2 * fwhm))
    select[:edge] = select[-edge:] = False
    select[:, :edge] = select[:, -edge:] = False
    return select


def _aligned(pair: Pair, alignment: Alignment) -> Pair:
    """The pair with the template on the science image's scale."""
    shape, order, scale = pair.science.shape, alignment.order, alignment.scale
    factor = polynomial.product_map(scale, order, shape)

    def noise(x, y):
        there = float(scale @ polynomial.evaluate(order, x, y, shape))
        still, moved = pair.noise(x, y)
        return still, moved * there**2

    return dataclasses.replace(
        pair, template=pair.template * factor, var_r=pair.var_r * np.square(factor),
        noise=noise, shift=alignment.shift,
    )  # fmt: skip


def masked_share(bad: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Share of |kernel|'s weight that falls on `bad` pixels or off the image, (ny, nx) float32."""
    weight = np.abs(kernel)
    weight = (weight / weight.sum()).astype(np.float32)
    share = convolve_sparse(bad.astype(np.float32), bad, weight)
    ny, nx = bad.shape
    down, across = (_inside(weight.sum(1 - axis), n) for axis, n in ((0, ny), (1, nx)))
    share += 1 - np.outer(down, across)
    return share


def _inside(profile, length):
    """Share of a profile's weight that falls inside an axis of `length`, at each position."""
    return np.clip(np.convolve(np.ones(length), profile[::-1], "same")[:length], 0, 1).astype(
        np.float32
    )
