"""Proper image subtraction of two planes, tile by tile: D, point-source fluxes, their noise."""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import fft

from psflib.subtraction.zogy.filters import (
    ProperFilters,
    centred,
    frequencies,
    mean_over_frequencies,
    proper_filters,
)
from psflib.subtraction.zogy.tiles import Tile, Tiling


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two images on one grid and one flux scale, without holes.

    Parameters
    ----------
    science, template, var_n, var_r : ndarray (ny, nx) float32
        Images (ADU of the science image) and the variance of each of their pixels (ADU²).
    noise : callable (x, y) -> (s², t²)
        Noise power of the empty sky of both (ADU²), numbers.
    psfs : callable (x, y) -> (P_n, P_r)
        Two stamps (k, k) of unit sum.
    shift : (dx, dy)
        Displacement to be applied to the template, px.
    power : pair of (callable (shape) -> ndarray on the rfft2 grid), optional
        Noise power of each image relative to white noise; None is white.
    """

    science: np.ndarray
    template: np.ndarray
    var_n: np.ndarray
    var_r: np.ndarray
    noise: Callable
    psfs: Callable
    shift: tuple[float, float] = (0.0, 0.0)
    power: tuple = (None, None)

    def filters(self, tile: Tile, support: int) -> ProperFilters:
        """The filters of one tile, for transforms that do not wrap within the PSF's support."""
        x, y = tile.x.centre, tile.y.centre
        shape = transform_shape(tile.shape, support)
        var_n, var_r = (
            value if power is None else value * power(shape)
            for value, power in zip(self.noise(x, y), self.power, strict=True)
        )
        psf_n, psf_r = self.psfs(x, y)
        return proper_filters(psf_n, psf_r, var_n, var_r, shape, self.shift)


@dataclasses.dataclass(frozen=True, eq=False)
class ProperDifference:
    """What proper subtraction makes of a pair; planes (ny, nx) float32.

    Parameters
    ----------
    image : D, ADU of the science image
    variance : of D, ADU²; None unless asked for
    flux : flux of a point source centred on each pixel, S / F_S, ADU
    flux_variance : V_S / F_S², ADU²
    systematic : what errors of the registration (V_ast / F_S²) and of the PSFs add to it, ADU²
    """

    image: np.ndarray
    variance: np.ndarray | None
    flux: np.ndarray
    flux_variance: np.ndarray
    systematic: np.ndarray | None

    @property
    def score(self) -> np.ndarray:
        """S_corr = S / √(V_S + V_ast) (eq. 25)."""
        total = self.flux_variance
        if self.systematic is not None:
            total = total + self.systematic
        return self.flux / np.sqrt(total)


def proper_difference(
    pair: Pair,
    tiles: Tiling,
    support: int,
    astrometric=(0.0, 0.0),
    psf_error=0.0,
    with_variance=False,
) -> ProperDifference:
    """D and its matched filter, with the noise of every pixel.

    Parameters
    ----------
    support : int
        Width of the PSFs, px: the transforms do not wrap within it.
    astrometric : (dx, dy)
        Standard deviation of the registration, px.
    psf_error : float
        Relative error of the PSFs: so much of the template's light may be left.
    with_variance : bool
        Compute the variance of D's pixels too.
    """
    shape = pair.science.shape
    names = ["image", "flux", "flux_variance"]
    names += ["variance"] * with_variance + ["systematic"] * any((*astrometric, psf_error))
    planes = {name: np.zeros(shape, np.float32) for name in names}
    for tile in tiles:
        filters = pair.filters(tile, support)
        _signals(pair, tile, filters, (*astrometric, psf_error), planes)
        _variances(pair, tile, filters, planes)
    return ProperDifference(
        planes["image"], planes.get("variance"), planes["flux"], planes["flux_variance"],
        planes.get("systematic"),
    )  # fmt: skip


def _signals(pair, tile, filters, errors, planes):
    """D, S / F_S, and the part of its variance that comes from the registration (eq. 30-32)."""
    science = _forward(pair.science, tile, filters.shape)
    template = _forward(pair.template, tile, filters.shape)
    science *= filters.science
    template *= filters.template
    back = _Backward(tile, filters.shape)
    difference = science - template
    tile.add(planes["image"], back(difference))
    matched = filters.matched
    difference *= matched
    tile.add(planes["flux"], back(difference))
    if "systematic" in planes:
        total = np.zeros(tile.shape, np.float32)
        for spectrum in (science, template):
            part = back(np.multiply(spectrum, matched, out=spectrum))
            for axis, error in ((1, errors[0]), (0, errors[1])):
                if error:
                    total += np.square(np.float32(error) * _slope(part, axis))
        total += np.square(np.float32(errors[2]) * part)  # of the template
        tile.add(planes["systematic"], total)


def _slope(plane, axis):
    """Central differences; one-sided at the border."""
    return np.gradient(plane, axis=axis) if plane.shape[axis] > 1 else np.zeros_like(plane)


def _variances(pair, tile, filters, planes):
    """Variance of S / F_S and, if wanted, of D: squared filters on the variances (eq. 26, 27)."""
    spectra = [_forward(v, tile, filters.shape) for v in (pair.var_n, pair.var_r)]
    back, matched = _Backward(tile, filters.shape), filters.matched
    wanted = {"flux_variance": (filters.science * matched, filters.template * matched)}
    if "variance" in planes:
        wanted["variance"] = (filters.science, filters.template)
    for name, both in wanted.items():
        total = sum(
            spectrum * _squared(f, filters.shape, power)
            for spectrum, f, power in zip(spectra, both, pair.power, strict=True)
        )
        tile.add(planes[name], np.maximum(back(total), 0))


def _squared(spectrum, shape, power):
    """Spectrum of the squared filter, times what correlated noise has more than white noise."""
    squared = fft.rfft2(np.square(fft.irfft2(spectrum, shape)))
    if power is not None:
        passed = np.square(np.abs(spectrum))
        colored = mean_over_frequencies(power(shape) * passed, shape)
        squared *= np.float32(colored / mean_over_frequencies(passed, shape))
    return squared


def transform_shape(shape, support) -> tuple[int, int]:
    """Fast sizes of transforms with `support` pixels of nothing beyond the tile."""
    return tuple(fft.next_fast_len(n + support, real=True) for n in shape)


def _forward(plane, tile, shape):
    return fft.rfft2(plane[tile.box], shape)


@dataclasses.dataclass(frozen=True)
class _Backward:
    """Inverse transform, cut to the tile."""

    tile: Tile
    shape: tuple[int, int]

    def __call__(self, spectrum):
        ny, nx = self.tile.shape
        return fft.irfft2(spectrum, self.shape)[:ny, :nx]


def filtered_images(pair: Pair, tiles: Tiling, support: int) -> dict[str, np.ndarray]:
    """Both images as they enter D, and the template's slopes: (ny, nx) float32 each.

    Keys science, template, slope_x, slope_y; the slopes are the derivatives with respect to the
    position, by the factor i k of their spectra.
    """
    names = ("science", "template", "slope_x", "slope_y")
    planes = {name: np.zeros(pair.science.shape, np.float32) for name in names}
    for tile in tiles:
        filters = pair.filters(tile, support)
        back = _Backward(tile, filters.shape)
        tile.add(
            planes["science"], back(_forward(pair.science, tile, filters.shape) * filters.science)
        )
        template = _forward(pair.template, tile, filters.shape) * filters.template
        tile.add(planes["template"], back(template))
        for name, k in zip(("slope_x", "slope_y"), frequencies(filters.shape), strict=True):
            tile.add(planes[name], back(template * (1j * k).astype(template.dtype)))
    return planes


def node_filters(pair: Pair, tiles: Tiling, support: int, half: int):
    """c_n, c_r and P_D at the tiles' centres.

    Three arrays (n_y, n_x, 2 half + 1, 2 half + 1) float64.
    """
    found = []
    for tile in tiles:
        filters = pair.filters(tile, support)
        spectra = filters.science, filters.template, filters.psf
        found.append([centred(spectrum, filters.shape, half) for spectrum in spectra])
    grid = len(tiles.rows), len(tiles.columns), 3, 2 * half + 1, 2 * half + 1
    return np.moveaxis(np.reshape(found, grid), 2, 0)
