"""Seven scenes that judge a subtraction: what is true of each pixel is known.

sparse, crowded, reverse (the template is the worse image), shallow (the template is as noisy as
the science image), steep (the PSF and the flux scale change strongly over the field), equal
(nearly the same seeing, PSFs of different shape) and crossed (the same, elongated across each
other, so that neither image is the sharper one in all directions).
"""

import dataclasses

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy import ndimage

from psflib.image.exposure import MaskBit
from psflib.simulation.camera import Camera, Observation, draw_defects, observe, optimal_snr
from psflib.simulation.psf_model import PsfModel
from psflib.simulation.scene import Scene, power_law, render

MARGIN = 30  # px around the image in which sources are drawn too
CLEARANCE = 10  # px between a transient and anything that spoils it
REACH = 40.0  # px to which the faintest stars are followed
MASKED_RAYS = 0.7  # share of the cosmic rays that the mask knows of


@dataclasses.dataclass(frozen=True)
class Preset:
    """One kind of scene; densities are per 1e6 px.

    fwhm, shear : px and (g1, g2), science and template;  stars : density above `faintest` ADU;
    noise : of the template's empty sky, relative to the science image's;  variation, scale_slope :
    relative change of the PSF's width and of the flux scale over the field.
    """

    fwhm: tuple[float, float]
    stars: float = 350.0
    noise: float = 0.5
    variation: float = 0.06
    scale_slope: float = 0.03
    galaxies: float = 100.0
    shear: tuple[tuple[float, float], tuple[float, float]] = ((0.03, -0.02), (-0.03, 0.03))


SCENES = {
    "sparse": Preset((4.0, 2.8)),
    "crowded": Preset((3.6, 2.6), stars=9000.0, galaxies=50.0),
    "reverse": Preset((2.8, 4.0)),
    "shallow": Preset((4.5, 2.5), noise=1.0),
    "steep": Preset((4.2, 2.7), variation=0.2, scale_slope=0.10),
    "equal": Preset((3.2, 3.1)),
    "crossed": Preset((3.4, 3.2), shear=((0.15, 0.02), (-0.15, -0.01))),
}


@dataclasses.dataclass(frozen=True)
class MatchingScene:
    """A science image, a template on the same grid, and the truth.

    Parameters
    ----------
    science, template : Observation
        Their exposures have a mask (NaN blocks, bad columns, saturation, most of the cosmic rays).
    cameras : (Camera, Camera)
        Science and template.
    scale : ndarray (ny, nx) float64
        Flux scale, science over template.
    steady : (ndarray, ndarray)
        Noiseless light (ny, nx) of science and template if nothing had changed, ADU, no sky.
    sources : QTable
        kind (star, galaxy, variable, transient), x, y (px), flux (ADU of the science image),
        delta_flux (ADU of the science image), snr of delta_flux.
    """

    science: Observation
    template: Observation
    cameras: tuple[Camera, Camera]
    scale: np.ndarray
    steady: tuple[np.ndarray, np.ndarray]
    sources: QTable

    @property
    def total_variance(self) -> np.ndarray:
        """Science variance plus scale² times the template's, ADU² of the science image."""
        return self.science.variance + np.square(self.scale) * self.template.variance


def simulate_scene(name: str, size: int = 1024, seed: int = 1) -> MatchingScene:
    """One of the scenes in `SCENES`; the same arguments give the same pixels.

    Raises
    ------
    ValueError
        Unknown name, or a size below 128.
    """
    if name not in SCENES:
        raise ValueError(f"unknown scene {name!r}; one of {', '.join(SCENES)}")
    if size < 128:
        raise ValueError(f"a scene has at least 128 px a side; got {size}")
    rng = np.random.default_rng([seed, list(SCENES).index(name), size])
    preset = SCENES[name]
    cameras = _cameras(preset, size)
    scale = _scale(preset, size)
    stars, factor = _stars(rng, preset, size)
    galaxies = _galaxies(rng, preset, size)
    fixed = stars + galaxies
    light = render(fixed, cameras[0].psf, scale.shape, 10.0, REACH) * scale
    template = render(fixed, cameras[1].psf, scale.shape, 10.0, REACH)
    change = dataclasses.replace(stars, flux=stars.flux * (factor - 1)).take(factor != 1)
    seen = light + render(change, cameras[0].psf, scale.shape, 10.0, REACH) * scale
    defects = [draw_defects(camera, rng) for camera in cameras]
    clear = _clearance(defects, cameras, (seen, template), stars.take(factor != 1))
    variance = cameras[0].noise_variance(cameras[0].sky_plane() + seen) + np.square(
        scale
    ) * cameras[1].noise_variance(cameras[1].sky_plane() + template)
    transients, snr = _transients(rng, galaxies, clear, cameras[0], variance)
    seen += render(transients, cameras[0].psf, scale.shape, 10.0, REACH)
    seen = (
        observe(seen, cameras[0], defects[0], rng),
        observe(template, cameras[1], defects[1], rng),
    )
    return MatchingScene(
        _masked(seen[0], rng), _masked(seen[1], rng), cameras, scale, (light, template),
        _table(stars, galaxies, factor, transients, snr, scale),
    )  # fmt: skip


def _cameras(preset, size):
    shape, area = (size, size), size**2 / 1e6
    science, template = preset.fwhm
    (g1, g2), (h1, h2) = preset.shear
    rays, columns = round(40 * area), max(1, round(2 * size / 1024))
    blocks = max(1, round(3 * area))
    # noise of the sky at gain g: √(sky/g + (read noise/g)²); a stacked template has a higher gain
    gain = 4.0 / preset.noise**2
    return (
        Camera(
            PsfModel(science, g1, g2, preset.variation, 3.2, shape=shape, coma=0.2),
            sky=400.0, sky_gradient=(0.08, -0.06), gain=4.0, read_noise=8.0,
            cosmic_rays=rays, bad_columns=columns, nan_blocks=blocks,
        ),
        Camera(
            PsfModel(template, h1, h2, -0.04, 3.6, shape=shape, coma=-0.15),
            sky=360.0, sky_gradient=(-0.03, 0.04), gain=gain, read_noise=8.0 / preset.noise,
            cosmic_rays=rays, bad_columns=columns, nan_blocks=blocks,
        ),
    )  # fmt: skip


def _scale(preset, size):
    line = np.linspace(-1, 1, size)
    x, y = line[None, :], line[:, None]
    return 1.15 * (1 + preset.scale_slope * (0.7 * x - 0.5 * y + 0.3 * x * y))


def _stars(rng, preset, size):
    """Stars on the template's flux scale, and by how much each changes (3 % do)."""
    n = round(preset.stars * (size + 2 * MARGIN) ** 2 / 1e6)
    quantile = rng.permutation((np.arange(n) + rng.uniform(size=n)) / max(n, 1))
    x, y = rng.uniform(-MARGIN, size + MARGIN, (2, n))
    factor = np.ones(n)
    changed = rng.uniform(size=n) < 0.03
    factor[changed] += rng.choice([-1, 1], changed.sum()) * rng.uniform(0.05, 0.5, changed.sum())
    return Scene.points(x, y, power_law(quantile, 300.0, 5e6, 1.6)), factor


def _galaxies(rng, preset, size):
    n = round(preset.galaxies * (size + 2 * MARGIN) ** 2 / 1e6)
    flux = power_law(rng.uniform(size=n), 1500.0, 2e5, 1.8)
    radius = np.clip(1.3 * (flux / 2000) ** 0.25 * np.exp(rng.normal(0, 0.3, n)), 1.0, 8.0)
    x, y = rng.uniform(-MARGIN, size + MARGIN, (2, n))
    return Scene(
        x, y, flux, radius, rng.choice([1.0, 4.0], n),
        rng.uniform(0.3, 1.0, n), rng.uniform(0, np.pi, n),
    )  # fmt: skip


def _clearance(defects, cameras, lights, variables):
    """Distance (px) of each pixel from the next defect, saturated pixel or variable star."""
    bad = np.zeros(lights[0].shape, bool)
    bad[[0, -1], :] = bad[:, [0, -1]] = True
    for defect, camera, light in zip(defects, cameras, lights, strict=True):
        empty = np.random.default_rng(0)
        bad |= (defect.mask > 0) | (observe(light, camera, defect, empty).artefacts > 0)
    ny, nx = bad.shape
    col, row = np.rint(variables.x).astype(int), np.rint(variables.y).astype(int)
    inside = (col >= 0) & (col < nx) & (row >= 0) & (row < ny)
    bad[row[inside], col[inside]] = True
    return ndimage.distance_transform_edt(~bad)


def _transients(rng, galaxies, clear, camera, variance):
    """New sources of S/N 4 to 80, 60 per Mpx, a third of them on galaxies."""
    size = clear.shape[0]
    inside = galaxies.take(
        (np.minimum(galaxies.x, galaxies.y) > 15) & (np.maximum(galaxies.x, galaxies.y) < size - 15)
    )
    x, y, flux, snrs = [], [], [], []
    clear = clear.copy()
    rows, cols = np.ogrid[:size, :size]
    for k in range(round(60 * size**2 / 1e6)):
        place = _place(rng, inside if k % 3 == 0 else inside.take([]), clear)
        if place is None:
            continue
        px, py = place
        box = np.s_[max(int(py) - 20, 0) : int(py) + 21, max(int(px) - 20, 0) : int(px) + 21]
        near = np.hypot(rows[box[0]] - py, cols[:, box[1]] - px)
        clear[box] = np.minimum(clear[box], near)
        snr = np.exp(rng.uniform(np.log(4), np.log(80)))
        unit = optimal_snr(1.0, px, py, camera.psf, variance)
        share = unit**2 / camera.gain  # its own photons: flux² unit² / (1 + flux share) = snr²
        root = np.sqrt((snr**2 * share) ** 2 + 4 * (snr * unit) ** 2)
        x.append(px)
        y.append(py)
        flux.append((snr**2 * share + root) / 2 / unit**2)
        snrs.append(snr)
    return Scene.points(np.array(x), np.array(y), np.array(flux)), np.array(snrs)


def _place(rng, hosts, clear):
    """A free place (x, y) px, in a galaxy if there are hosts; None after many trials."""
    size = clear.shape[0]
    for _ in range(500):
        if len(hosts):
            host = rng.integers(len(hosts))
            offset = hosts.size[host] * rng.normal(0, 0.7, 2)
            x, y = hosts.x[host] + offset[0], hosts.y[host] + offset[1]
        else:
            x, y = rng.uniform(0, size, 2)
        if 0 <= x < size - 1 and 0 <= y < size - 1 and clear[round(y), round(x)] > CLEARANCE:
            return x, y
    return None


def _masked(seen: Observation, rng) -> Observation:
    """The observation with a mask as pipelines hand it out: not all cosmic rays are known."""
    rays, _ = ndimage.label((seen.artefacts & MaskBit.CR) > 0, structure=np.ones((3, 3)))
    known = np.append(False, rng.uniform(size=rays.max()) < MASKED_RAYS)[rays]
    mask = seen.artefacts.copy()
    mask[(rays > 0) & ~known] &= np.uint16(0xFFFF ^ int(MaskBit.CR))
    saturated = ndimage.binary_dilation((mask & MaskBit.SAT) > 0)
    mask[saturated] |= np.uint16(MaskBit.SAT)
    exposure = seen.exposure
    return dataclasses.replace(seen, exposure=exposure.replace(mask=exposure.mask | mask))


def _table(stars, galaxies, factor, transients, snr, scale):
    x, y = (
        np.concatenate([getattr(s, n) for s in (stars, galaxies, transients)]) for n in ("x", "y")
    )
    size = len(scale)
    local = scale[np.clip(np.rint(y).astype(int), 0, size - 1), np.clip(np.rint(x).astype(int), 0, size - 1)]  # fmt: skip  # noqa: E501
    steady = (
        np.concatenate([stars.flux * factor, galaxies.flux]) * local[: len(stars) + len(galaxies)]
    )
    change = np.zeros(len(x))
    change[: len(stars)] = stars.flux * (factor - 1) * local[: len(stars)]
    change[len(x) - len(transients) :] = transients.flux
    kind = np.repeat(["star", "galaxy", "transient"], [len(stars), len(galaxies), len(transients)])
    kind = kind.astype("U9")
    kind[: len(stars)][factor != 1] = "variable"
    significance = np.zeros(len(x))
    significance[len(x) - len(transients) :] = snr
    return QTable(
        {
            "kind": kind, "x": x * u.pix, "y": y * u.pix,
            "flux": np.concatenate([steady, transients.flux]) * u.adu,
            "delta_flux": change * u.adu, "snr": significance,
        }
    )  # fmt: skip
