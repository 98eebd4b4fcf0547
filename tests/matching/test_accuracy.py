"""The error of the kernel that a fit states, against draws from its covariance."""

import dataclasses

import numpy as np
import pytest
from scipy import signal

from psflib.image import polynomial
from psflib.matching import basis, solve
from psflib.matching.accuracy import NODES, kernel_error

SHAPE = (80, 100)
FWHM = 3.0
DRAWS = 4000


@dataclasses.dataclass
class Design:
    basis: basis.Basis
    layout: solve.Layout
    shape: tuple[int, int]


@pytest.fixture(scope="module")
def fit():
    """A design, a normal matrix and kernels drawn from its covariance."""
    rng = np.random.default_rng(8)
    images = basis.sized_for(2.5, 3.5)
    layout = solve.Layout(len(images.images), 1, 1, 0)
    n = layout.n_kernel + 1
    root = rng.normal(0, 30, (n, 2 * n))
    matrix = root @ root.T
    drawn = rng.multivariate_normal(np.zeros(n), np.linalg.inv(matrix), DRAWS)
    return Design(images, layout, SHAPE), matrix, drawn


def scatter(design, drawn, x, y):
    """Standard deviation of a star's image after drawn kernels at (x, y), and the star's norm."""
    terms = polynomial.evaluate(1, x, y, SHAPE)
    coef = np.array([design.layout.split(solution)[0] @ terms for solution in drawn])
    j, i = np.mgrid[-5:6, -5:6]
    star = np.exp(-0.5 * (i**2 + j**2) / (FWHM / 2.355) ** 2)
    stars = np.array([signal.fftconvolve(b, star, "same") for b in design.basis.images])
    return np.tensordot(coef, stars, 1).std(0), np.sqrt(np.sum(star**2))


def test_profile_is_the_scatter_of_a_star(fit):
    design, matrix, drawn = fit
    found = kernel_error(design, matrix, FWHM)["profile"]
    sigma, norm = scatter(design, drawn, 49.5, 39.5)
    middle = len(sigma) // 2
    ring = [(0, 0)], [(0, 2), (2, 0), (0, -2), (-2, 0), (1, 2), (2, 1), (-1, 2), (2, -1)]
    ring[1].extend([(-1, -2), (-2, -1), (1, -2), (-2, 1)])
    for r, places in zip((0, 2), ring, strict=True):
        mean = np.sqrt(np.mean([sigma[middle + a, middle + b] ** 2 for a, b in places]))
        assert found[r] == pytest.approx(mean / norm, rel=5 / np.sqrt(2 * DRAWS))


def test_the_error_grows_to_the_corners(fit):
    design, matrix, drawn = fit
    nodes = np.array(kernel_error(design, matrix, FWHM)["nodes"])
    assert nodes.shape == (NODES, NODES) and nodes[2, 2] == 1
    ratio = np.sqrt(
        np.sum(scatter(design, drawn, 0, 0)[0] ** 2)
        / np.sum(scatter(design, drawn, 49.5, 39.5)[0] ** 2)
    )
    assert nodes[0, 0] == pytest.approx(ratio, rel=0.05) and ratio > 1.2


def test_no_more_than_the_residuals_show(fit):
    design, matrix, _ = fit
    whole, part = (kernel_error(design, matrix, FWHM, share) for share in (1.0, 0.25))
    np.testing.assert_allclose(part["profile"], np.array(whole["profile"]) / 2, rtol=0.01)
