"""Pairs of which one image is shifted, turned, mirrored or scaled against the other."""

import dataclasses

import numpy as np

from psflib.image.exposure import Exposure
from psflib.simulation.psf_model import PsfModel
from psflib.simulation.scene import Scene, power_law, render


@dataclasses.dataclass(frozen=True)
class Move:
    """Where the sky of the science image lies on the template: about the centres of both.

    Parameters
    ----------
    shift : (float, float)
        px of the template, along x and y.
    turn : float
        degrees, from +x to +y.
    scale : float
        Template pixels in a science pixel.
    mirrored : bool
        x is turned round before all else.
    bend : float
        px, by which a quadratic distortion moves the corners of the science image.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0
    scale: float = 1.0
    mirrored: bool = False
    bend: float = 0.0

    def __call__(self, x, y, shape, other=None):
        """Template positions (x, y) of science positions; shapes (ny, nx) of both images."""
        other = other or shape
        u, v = x - (shape[1] - 1) / 2, y - (shape[0] - 1) / 2
        u, v = (
            u + self.bend * (2 * u / shape[1]) ** 2 * np.sqrt(0.5),
            v + self.bend * (2 * u / shape[1]) * (2 * v / shape[0]) * np.sqrt(0.5),
        )
        u = -u if self.mirrored else u
        c, s = np.cos(np.deg2rad(self.turn)), np.sin(np.deg2rad(self.turn))
        to_x = self.scale * (c * u - s * v) + self.shift[0] + (other[1] - 1) / 2
        to_y = self.scale * (s * u + c * v) + self.shift[1] + (other[0] - 1) / 2
        return to_x, to_y


def simulate_moved(
    move: Move, shape=(512, 512), seed=0, *, density=1000.0, template_shape=None,
    psfs=None, noise=(10.0, 7.0), gain=2.0, scale=1.2, faintest=300.0, brightest=2e5, sky=None,
):  # fmt: skip
    """A science image and a template that `move` puts elsewhere; no WCS.

    Parameters
    ----------
    move : Move
    shape, template_shape : (ny, nx)
    density : float
        Stars per Mpx of the science image, with fluxes as f^-1.6 from `faintest` to `brightest`.
    psfs : (PsfModel, PsfModel), optional
    noise : (float, float)
        Of the empty sky, ADU.
    scale : float
        ADU of the science image for one of the template.
    sky : float, optional
        ADU; None: both without sky, of known variance.

    Returns
    -------
    science, template : Exposure
    """
    rng = np.random.default_rng([seed, 41])
    other = template_shape or shape
    psfs = psfs or (PsfModel(3.6, 0.03, -0.02), PsfModel(2.8, -0.02, 0.03))
    reach = 1.6 * max(*shape, *other)
    n = rng.poisson(density * 1e-6 * (2 * reach) ** 2)
    x, y = rng.uniform(-reach, reach, (2, n)) + np.array([[shape[1] / 2], [shape[0] / 2]])
    flux = power_law(rng.uniform(size=n), faintest, brightest, 1.6)
    tx, ty = move(x, y, shape, other)
    images = []
    for size, psf, px, py, light, sigma in (
        (shape, psfs[0], x, y, scale * flux, noise[0]),
        (other, psfs[1], tx, ty, flux, noise[1]),
    ):
        near = (px > -30) & (py > -30) & (px < size[1] + 30) & (py < size[0] + 30)
        scene = Scene.points(px[near], py[near], light[near])
        seen = render(scene, psf, size, sigma, reach=60.0)
        variance = sigma**2 + seen / gain
        image = seen + rng.normal(0, np.sqrt(variance)) + (sky or 0.0)
        given = (variance, 0.0) if sky is None else (None, None)
        images.append(Exposure(image, given[0], gain=gain if sky is None else None, sky=given[1]))
    return images[0], images[1]
