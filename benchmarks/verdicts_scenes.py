"""Pairs for the verdict: good ones of every kind, and each way of being broken."""

import dataclasses

import numpy as np

from psflib.image.exposure import Exposure
from psflib.simulation.camera import Camera, make_wcs, observe
from psflib.simulation.psf_model import PsfModel
from psflib.simulation.scene import Scene, power_law, render

MARGIN = 40  # px around the images in which stars stand too
#: What can be wrong, see `broken`.
BROKEN = (
    "shift 0.7 px",
    "shift 2 px",
    "shift 12 px",
    "wrong field",
    "cloud over half",
    "doubled stars",
    "trailed stars",
    "gain / 3",
    "gain x 3",
    "template half empty",
    "focus donut",
)
#: Of these, what the step of registration can mend or refuse.
OF_REGISTRATION = ("shift 0.7 px", "shift 2 px", "shift 12 px", "wrong field")
#: Odd, but nothing that a subtraction cannot follow.
LEGITIMATE = ("half the light everywhere",)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a pair of images is made of: a sky on the template's grid and two cameras.

    stars : Scene, fluxes in ADU of the template;  new : Scene, in the science image only (ADU of
    it);  science, template : Camera;  seed : of the noise.
    """

    stars: Scene
    new: Scene
    science: Camera
    template: Camera
    seed: int


def plan(seed: int) -> Plan:
    """A good pair: seeing, depth, density, scale, gain and sky drawn widely."""
    rng = np.random.default_rng([seed, 16])
    size = int(rng.choice([256, 288, 320]))
    shape = (size, size)
    n = round(np.exp(rng.uniform(np.log(400), np.log(6000))) * (size + 2 * MARGIN) ** 2 / 1e6)
    quantile = (rng.permutation(n) + rng.uniform(size=n)) / n
    faintest = np.exp(rng.uniform(np.log(300), np.log(1500)))
    flux = power_law(quantile, faintest, 3e6, rng.uniform(1.5, 1.8))
    x, y = rng.uniform(-MARGIN, size + MARGIN, (2, n))
    scale = np.exp(rng.uniform(np.log(0.3), np.log(3)))
    count = rng.poisson(40 * size**2 / 1e6)
    place = rng.uniform(15, size - 15, (2, count))
    new = Scene.points(*place, np.exp(rng.uniform(np.log(1e3), np.log(3e4), count)))

    def camera(fwhm, level, own_scale, gain):
        psf = PsfModel(
            fwhm, *rng.uniform(-0.05, 0.05, 2), variation=rng.uniform(0, 0.08),
            beta=rng.uniform(2.6, 4), wing=0.02, shape=shape, coma=rng.uniform(0, 0.12),
        )  # fmt: skip
        return Camera(
            psf, own_scale, level, tuple(rng.uniform(-0.05, 0.05, 2)), gain,
            rng.uniform(4, 12), wcs=make_wcs(shape), cosmic_rays=rng.poisson(40 * size**2 / 1e6),
            bad_columns=int(rng.integers(0, 2)),
        )  # fmt: skip

    science = camera(rng.uniform(2.2, 5.5), rng.uniform(100, 1500), scale, rng.uniform(1, 4))
    template = camera(rng.uniform(2.0, 4.5), rng.uniform(100, 800), 1.0, rng.uniform(1.5, 8))
    return Plan(Scene.points(x, y, flux), new, science, template, seed)


def light(stars: Scene, camera: Camera, moves=((0.0, 0.0, 1.0),)) -> np.ndarray:
    """Noiseless light of stars, each seen at several places (dx, dy, share)."""
    total = np.zeros(camera.shape)
    for dx, dy, share in moves:
        seen = dataclasses.replace(
            stars, x=stars.x + dx, y=stars.y + dy, flux=stars.flux * camera.scale * share
        )
        total += render(seen, camera.psf, camera.shape, camera.sky_sigma, 40.0)
    return total


def pair(made: Plan, science_moves=((0, 0, 1.0),), template_moves=((0, 0, 1.0),), other=None,
         through=1.0) -> tuple[Exposure, Exposure]:  # fmt: skip
    """Both images.

    science_moves, template_moves : where stars are seen, see `light`;  other : Scene, what the
    template shows instead of the stars;  through : ndarray or number, what is left of the light
    in the science image.
    """
    rng = np.random.default_rng([made.seed, 17])
    unit = dataclasses.replace(made.science, scale=1.0)
    seen = light(made.stars, made.science, science_moves) + light(made.new, unit, science_moves)
    science = observe(seen * through, made.science, rng=rng).exposure
    known = light(other or made.stars, made.template, template_moves)
    return science, observe(known, made.template, rng=rng).exposure


def good(seed: int) -> tuple[Exposure, Exposure]:
    """A pair with which nothing is wrong."""
    return pair(plan(seed))


def broken(kind: str, seed: int) -> tuple[Exposure, Exposure]:
    """A pair of which one thing is wrong, in words of `BROKEN` or `LEGITIMATE`."""
    made = plan(seed)
    if kind.startswith("shift"):
        step, angle = float(kind.split()[1]), seed * 2.4
        moves = ((step * np.cos(angle), step * np.sin(angle), 1.0),)
        return pair(made, template_moves=moves)
    if kind == "wrong field":
        return pair(made, other=plan(seed + 1000).stars)
    if kind == "cloud over half":
        u = np.linspace(-1, 1, made.science.shape[1])
        return pair(made, through=1 - 0.5 / (1 + np.exp(-u / 0.05)))
    if kind == "half the light everywhere":
        return pair(made, through=0.5)
    if kind == "doubled stars":
        return pair(made, science_moves=((-3, -2, 0.5), (4, 3, 0.5)))
    if kind == "trailed stars":
        steps = np.linspace(-8, 8, 33)
        return pair(made, science_moves=tuple((0.8 * q, 0.6 * q, 1 / 33) for q in steps))
    if kind == "focus donut":
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        ring = tuple((6 * np.cos(a), 6 * np.sin(a), 1 / 24) for a in turn)
        return pair(made, science_moves=ring)
    science, template = pair(made)
    if kind.startswith("gain"):
        factor = 3.0 if "x" in kind else 1 / 3
        return science.replace(gain=science.gain * factor), template
    if kind == "template half empty":
        image = template.image.copy()
        image[:, image.shape[1] // 2 :] = np.nan
        return science, Exposure(
            image, wcs=template.wcs, gain=template.gain, read_noise=template.read_noise,
            saturation=template.saturation,
        )  # fmt: skip
    raise ValueError(f"unknown kind {kind!r}")
