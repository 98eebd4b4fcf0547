"""Alard-Lupton basis: Gaussians times polynomials (Alard & Lupton 1998, ApJ 503, 325, eq. 5)."""

import dataclasses

import numpy as np
from scipy.special import erf

DEGREES = (4, 4, 4, 2)
LARGER = (6, 6, 4, 2)  # degrees of the basis that is tried where these do not suffice
NEGLIGIBLE = 1e-6  # of a factor's largest value; the narrow Gaussians fill little of the box


@dataclasses.dataclass(frozen=True)
class Basis:
    """Kernel basis of separable terms.

    factors : ndarray (n_factors, k) float64
        One-dimensional factors.
    pair_x, pair_y : ndarray (nb,) int64
        Raw term b is the outer product of factors[pair_y[b]] (rows) and factors[pair_x[b]].
    own, first : ndarray (nb,) float64
        Basis image b = own[b] raw[b] + first[b] raw[0].  Image 0 has unit sum, the others have
        zero sum and unit norm, so that the kernel sum is the coefficient of image 0 alone.
    reach : ndarray (n_factors,) int64
        Distance from the centre beyond which a factor is zero.
    """

    factors: np.ndarray
    pair_x: np.ndarray
    pair_y: np.ndarray
    own: np.ndarray
    first: np.ndarray
    reach: np.ndarray

    @property
    def half(self) -> int:
        """Half width in px; images have 2 * half + 1 pixels a side."""
        return self.factors.shape[1] // 2

    @property
    def images(self) -> np.ndarray:
        """(nb, k, k) float64."""
        raw = self.factors[self.pair_y][:, :, None] * self.factors[self.pair_x][:, None, :]
        return self.own[:, None, None] * raw + self.first[:, None, None] * raw[0]


def alard_lupton(half: int, sigmas, degrees=DEGREES) -> Basis:
    """Basis of Gaussians of `sigmas` (px) times polynomials of `degrees`.

    Raises
    ------
    ValueError
        If the lists differ in length, or a sigma is not positive, or half < 1.
    """
    if len(sigmas) != len(degrees):
        raise ValueError(f"{len(sigmas)} sigmas but {len(degrees)} degrees")
    if half < 1 or min(sigmas) <= 0 or min(degrees) < 0:
        raise ValueError("half width >= 1, sigmas > 0 and degrees >= 0 are needed")
    lines: list[np.ndarray] = []
    columns: list[int] = []
    rows: list[int] = []
    for sigma, degree in zip(sigmas, degrees, strict=True):
        first = len(lines)
        lines += [_factor(half, sigma, power) for power in range(degree + 1)]
        for total in range(degree + 1):
            for j in range(total + 1):
                columns.append(first + total - j)
                rows.append(first + j)
    factors, pair_x, pair_y = np.array(lines), np.array(columns), np.array(rows)
    size = np.abs(factors)
    factors[size < NEGLIGIBLE * size.max(1, keepdims=True)] = 0
    reach = np.abs(np.where(factors != 0, np.arange(-half, half + 1), 0)).max(1)
    own, first = _mix(factors, pair_x, pair_y)
    return Basis(factors, pair_x, pair_y, own, first, reach)


def sized_for(fwhm_sharp: float, fwhm_broad: float, degrees=DEGREES) -> Basis:
    """Basis for convolving an image of `fwhm_sharp` (px) to one of `fwhm_broad`.

    The Gaussian that matches the two, half, twice and four times of it, none narrower than the
    pixels can carry; the box reaches 3 FWHM of the broad image.  Three Gaussians of degrees
    4, 2, 2 leave rings of 6 sigma at 2.5 FWHM around stars of S/N 700 whose wings differ in
    ellipticity (14 false candidates per Mpx on the embedded field, against 3 with four of degrees
    4, 4, 2, 2); degree 4 of the third takes away those of S/N 1700 where the PSF varies by 20 %.
    """
    match = match_sigma(fwhm_sharp, fwhm_broad)
    sigmas = (max(0.5 * match, 0.6), max(match, 1.0), max(2 * match, 2.0), max(4 * match, 4.0))
    return alard_lupton(int(np.ceil(3.0 * fwhm_broad)), sigmas, degrees)


def match_sigma(fwhm_sharp: float, fwhm_broad: float) -> float:
    """Sigma (px) of the Gaussian that matches two images, none narrower than pixels can carry."""
    return max(max(fwhm_broad**2 - fwhm_sharp**2, 0) ** 0.5 / 2.355, 0.7)


def members(degrees, larger) -> np.ndarray:
    """Which images of a basis of degrees `larger` one of `degrees` has, (n_larger,) bool.

    Both have the same sigmas, so that the images are the same.
    """
    parts = [np.arange(_count(d)) < _count(own) for own, d in zip(degrees, larger, strict=True)]
    return np.concatenate(parts)


def _count(degree):
    return (degree + 1) * (degree + 2) // 2


def _factor(half, sigma, power):
    """Pixel-integrated Gaussian times (u / sigma)**power."""
    u = np.arange(-half, half + 1)
    edge = np.arange(-half - 0.5, half + 1) / (sigma * np.sqrt(2))
    return 0.5 * np.diff(erf(edge)) * (u / sigma) ** power


def _mix(factors, pair_x, pair_y):
    """Amounts of each raw term and of raw term 0 in the basis images."""
    sums = factors.sum(1)[pair_y] * factors.sum(1)[pair_x]
    raw = factors[pair_y][:, :, None] * factors[pair_x][:, None, :]
    own, first = np.ones(len(sums)), -sums / sums[0]
    own[0], first[0] = 0, 1 / sums[0]
    rest = raw[1:] + first[1:, None, None] * raw[0]
    norm = np.sqrt(np.square(rest).sum((1, 2)))
    own[1:] /= norm
    first[1:] /= norm
    return own, first
