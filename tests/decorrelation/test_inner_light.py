"""The light of a PSF beyond its core is the field's share, wherever a polynomial takes it."""

import numpy as np

from psflib.decorrelation.score import inner_light

NODES = np.linspace(0, 400, 5)


class WithPedestal:
    """Gaussians whose width grows, with a halo of light that no star has told."""

    def at(self, x, y, size):
        j, i = np.mgrid[-(size // 2) : size // 2 + 1, -(size // 2) : size // 2 + 1]
        width = 1.5 + 0.5 * x / 400
        image = np.exp(-(i**2 + j**2) / (2 * width**2)) / (2 * np.pi * width**2)
        image += self.halo(y) / size**2
        return image / image.sum()

    def halo(self, y):
        return 0.02 + 0.06 * (y - 200) / 400


def test_fluxes_are_alike_over_the_field():
    psf = WithPedestal()
    factors = inner_light(psf, NODES, NODES)
    share = np.array([1 / (1 + psf.halo(y)) for y in NODES])[:, None]  # that unit sums leave
    assert np.ptp(share) > 0.05
    # of a halo of at most 0.05 a tenth lies within 2 FWHM
    np.testing.assert_allclose(factors * share * 1.02, 1, atol=0.1 * 0.05)


def test_a_psf_that_is_the_same_stays():
    class Same(WithPedestal):
        def halo(self, y):
            return 0.02

        def at(self, x, y, size):
            return super().at(100, y, size)

    np.testing.assert_allclose(inner_light(Same(), NODES, NODES), 1)
