"""What a matching kernel is expected to be, before the stars are asked.

How it varies over the field: a PSF that gets wider, elongated or comatic multiplies the Fourier
transform of the kernel K by a smooth function of frequency, whose Taylor terms are the derivatives
of K: its shift, its width and elongation, its coma and so on.  Kernels that vary otherwise are far
less likely.

What it is everywhere: a core as wide as the target's PSF, in which all is possible, and little
around it.  Many stars decide that alone; few faint ones cannot tell the wings of the kernel,
and with it its sum, from noise (thirty stars: a flux scale of 4.6 for 1).
"""

import dataclasses

import numpy as np
from scipy import fft, linalg

from psflib.image import polynomial
from psflib.matching import basis as bases
from psflib.matching.solve import Layout

TOP = 4  # highest derivative
SLOPE = 0.2  # rms of the terms of degree 1 along the first derivatives, times sigma of the target
FALL = 0.7  # of the rms from one derivative to the next
ANY = 0.015  # rms along any other change of the kernel, relative to its norm
DEGREE = 0.1  # variance of the terms of one degree in units of the degree's below
SMOOTH = 0.7  # px; derivatives of kernels that are nearly a single pixel are smoothed by this
RIDGE = 1e-6
CORE, WINGS = 1.0, 0.002  # rms of the pixels of a kernel of unit sum, in the middle and far out
CORE_WIDTH = 0.9  # of the core, in units of the target's sigma, which no kernel is wider than


@dataclasses.dataclass(frozen=True)
class Prior:
    """Inverse covariances of the coefficients, whose expectation is 0.

    constant : ndarray (nb, nb)
        Of the constant terms.
    varying : ndarray (nb - 1, nb - 1)
        Of the terms of degree 1, without image 0; `DEGREE` says what it is for others.
    """

    constant: np.ndarray
    varying: np.ndarray

    def __mul__(self, factor: float) -> "Prior":
        return Prior(self.constant * factor, self.varying * factor)


def expected(basis: bases.Basis, kernel, sigma: float) -> Prior:
    """The prior of a fit.

    kernel : ndarray (k, k), the kernel in the middle of the field
    sigma : px, of the target's PSF
    """
    return Prior(_constant(basis, kernel.sum(), sigma), precision(basis, kernel, sigma))


def _constant(basis, total, sigma):
    half = basis.half
    j, i = np.mgrid[-half : half + 1, -half : half + 1]
    rms = CORE * np.exp(-0.5 * (i**2 + j**2) / (CORE_WIDTH * sigma) ** 2) + WINGS
    flat = (basis.images / (rms * total)).reshape(len(basis.pair_x), -1)
    return flat @ flat.T


def precision(basis: bases.Basis, kernel, sigma: float) -> np.ndarray:
    """Inverse covariance (nb - 1, nb - 1) of the coefficients of degree 1, without image 0.

    kernel : ndarray (k, k), the kernel in the middle of the field
    sigma : px, of the target's PSF; its n-th derivatives count in units of sigma^-n √n!
    """
    flat = basis.images[1:].reshape(len(basis.pair_x) - 1, -1)
    products = flat @ flat.T
    order, modes = _derivatives(kernel, sigma)
    within = products + RIDGE * np.eye(len(products))
    modes = linalg.solve(within, flat @ modes.reshape(len(modes), -1).T, assume_a="pos")
    modes *= SLOPE * FALL ** (order - 1.0)
    # (A⁻¹ + m mᵀ)⁻¹ = A - A m (1 + mᵀ A m)⁻¹ mᵀ A
    free = products / (ANY**2 * np.square(kernel).sum())
    seen = free @ modes
    inner = np.eye(len(order)) + modes.T @ seen
    return free - seen @ linalg.solve(inner, seen.T, assume_a="pos")


def _derivatives(kernel, sigma):
    """Orders (m,), and sigma^n / √n! times the n-th derivatives of the kernel, (m, k, k)."""
    k = len(kernel)
    side = fft.next_fast_len(k + 2 * int(np.ceil(4 * SMOOTH)), real=True)
    v = 2 * np.pi * fft.fftfreq(side)[:, None]
    u = 2 * np.pi * fft.rfftfreq(side)[None, :]
    spectrum = fft.rfft2(kernel, (side, side)) * np.exp(-0.5 * SMOOTH**2 * (u**2 + v**2))
    powers = [(i, j) for i in range(TOP + 1) for j in range(TOP + 1 - i) if i + j > 0]
    order = np.array([i + j for i, j in powers])
    factors = np.array([(1j * u * sigma) ** i * (1j * v * sigma) ** j for i, j in powers])
    images = fft.irfft2(spectrum * factors, (side, side))[:, :k, :k]
    norm = np.sqrt([np.prod(np.arange(1.0, n + 1)) for n in order])
    return order, images / norm[:, None, None]


def add_to(layout: Layout, matrix: np.ndarray, prior: Prior) -> None:
    """Add the prior to a normal matrix, in place; how the kernel's sum varies stays free."""
    terms = polynomial.n_terms(layout.order)
    first = polynomial.n_terms(layout.flux_order)
    block = matrix[first : layout.n_kernel, first : layout.n_kernel]
    for q, (i, j) in enumerate(polynomial.degrees(layout.order)):
        if i + j > 0:
            block[q::terms, q::terms] += DEGREE ** (1 - i - j) * prior.varying
    constant = np.r_[0, first : layout.n_kernel : terms]
    matrix[np.ix_(constant, constant)] += prior.constant


def log_determinant(layout: Layout, prior: Prior) -> float:
    """Logarithm of the determinant of what `add_to` adds, up to what all layouts share."""
    degree = np.array([i + j for i, j in polynomial.degrees(layout.order)])
    degree = degree[degree > 0]
    size = len(prior.varying)
    return float(
        len(degree) * np.linalg.slogdet(prior.varying)[1]
        + size * np.log(DEGREE) * np.sum(1 - degree)
    )
