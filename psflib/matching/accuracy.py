"""How well the fit knows the kernel: what it may leave of a star, from its core to the wings."""

import numpy as np
from scipy import linalg

from psflib.image import polynomial
from psflib.image.convolve import edge_grid, fft_convolve
from psflib.matching.solve import RIDGE, unit_diagonal

NODES = 5  # an axis, at which the error is given
MARGIN = 3  # widths of the star beyond which there is no light


def kernel_error(design, matrix, fwhm, share=1.0) -> dict:
    """Standard error of the kernel as stars show it.

    The image of a star s after the kernel has the variance sum(V_ij s_i s_j), with V the covariance
    of the basis' coefficients and s_i the star convolved with a basis image.  It follows the
    star's light, so that it is given as what the square of each pixel's light spreads.

    Parameters
    ----------
    design : equations.Design
    matrix : ndarray (n, n)
        Normal matrix, with prior, of the fit.
    fwhm : float
        Of the convolved image, px.
    share : float
        Of the claimed variance, that the residuals show.

    Returns
    -------
    dict
        profile : list, error at 0, 1, ... px from a pixel of unit light, at the field's centre;
        nodes : list of lists, factor of it at the nodes of `edge_grid`.
    """
    layout, basis = design.layout, design.basis.images
    kernel = slice(layout.n_kernel)
    scaled, scale = unit_diagonal(matrix, RIDGE)
    inverse = linalg.inv(scaled, check_finite=False) * np.outer(scale, scale)
    covariance = share * inverse[kernel, kernel]
    image, term = np.divmod(layout.index[kernel], polynomial.n_terms(layout.top))
    stars, total = _stars(basis, fwhm)
    x, y = edge_grid(design.shape, NODES)
    terms = polynomial.evaluate(layout.top, x[None, :], y[:, None], design.shape)
    seen = terms[term].reshape(len(term), -1)
    products = stars @ stars.T
    nodes = np.sum(seen * ((covariance * products[np.ix_(image, image)]) @ seen), 0)
    centre = np.zeros((len(basis), len(basis)))
    middle = seen[:, seen.shape[1] // 2]
    np.add.at(centre, (image[:, None], image), covariance * np.outer(middle, middle))
    variance = np.einsum("ip,ij,jp->p", stars, centre, stars, optimize=True) / total
    nodes = np.sqrt(np.maximum(nodes / max(nodes[len(nodes) // 2], 1e-300), 0))
    return {
        "profile": [float(f"{v:.3g}") for v in _profile(variance, basis.shape[-1])],
        "nodes": np.round(nodes.reshape(NODES, NODES), 3).tolist(),
    }


def _stars(basis, fwhm):
    """A Gaussian star after each basis image, (n_basis, pixels), and its sum of squares."""
    half = int(np.ceil(MARGIN * fwhm / 2))
    j, i = np.mgrid[-half : half + 1, -half : half + 1]
    star = np.exp(-0.5 * (i**2 + j**2) / (fwhm / 2.355) ** 2)
    images = [fft_convolve(b, star).ravel() for b in basis]
    return np.array(images), np.sum(star**2)


def _profile(variance, size):
    """Root of the mean variance at 0, 1, ... px from the centre."""
    j, i = np.indices((size, size)) - size // 2
    ring = np.rint(np.hypot(i, j)).astype(int).ravel()
    mean = np.bincount(ring, variance) / np.maximum(np.bincount(ring), 1)
    return np.sqrt(np.maximum(mean[: size // 2 + 1], 0))
