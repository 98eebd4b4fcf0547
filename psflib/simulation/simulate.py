"""Skies whose truth is known: the embedded field of the first run, and small pairs for tests."""

import dataclasses

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy import ndimage

from psflib.image.exposure import Exposure, MaskBit
from psflib.settings.simulate import SimulateSettings
from psflib.simulation.camera import (
    Camera,
    Observation,
    draw_defects,
    make_wcs,
    observe,
    optimal_snr,
)
from psflib.simulation.pair import simulate_pair
from psflib.simulation.psf_model import PsfModel
from psflib.simulation.scene import Scene, power_law, render
from psflib.simulation.scenes import SCENES, simulate_scene

__all__ = [
    "SCENES",
    "SimulateSettings",
    "SimulatedField",
    "simulate_field",
    "simulate_pair",
    "simulate_scene",
]

MARGIN = 30  # px; sources are drawn this far outside the template, so that no epoch lacks them
CLEARANCE = 8  # px between a changing source and anything that spoils it


@dataclasses.dataclass(frozen=True)
class SimulatedField:
    """A template, its science epochs and the truth.

    Parameters
    ----------
    template : Exposure
    science : dict of str to Exposure
        Epochs '1' and '2'.
    truth : QTable
        A row for each source and science epoch: epoch, id, kind (star, galaxy, variable,
        transient), x, y (px, the epoch's grid), ra, dec, flux (ADU of the epoch), flux_template
        (ADU of the template), delta_flux = flux - scale flux_template (ADU of the epoch: what
        the difference should hold), snr of delta_flux, on_galaxy, saturated.
        snr = |delta_flux| √(Σ P²/σ²), P the PSF of the science image there, σ² the true variance
        of the science image plus scale² times that of the template, photons of the source, its
        host and its neighbours included.
        meta['scale'] holds each epoch's flux scale, science over template.
    observations : dict of str to Observation
        For 'template', '1' and '2': noiseless image, true variance, true mask.
    cameras : dict of str to Camera
        For 'template', '1' and '2': true PSF, gain, scale, WCS.
    """

    template: Exposure
    science: dict[str, Exposure]
    truth: QTable
    observations: dict[str, Observation]
    cameras: dict[str, Camera]


def simulate_field(settings: SimulateSettings | None = None) -> SimulatedField:
    """The embedded field: one template and two science epochs with everything that hurts.

    The same settings give the same pixels.
    """
    settings = settings or SimulateSettings()
    cameras = _cameras(settings)
    steady, variability = _draw_steady(settings)
    light, fluxes = {}, {}
    for name, camera in cameras.items():
        fluxes[name] = steady.flux * camera.scale * variability[name]
        light[name] = _render(steady, fluxes[name], cameras, name)
    rng = _rng(settings, 10)
    defects = {name: draw_defects(camera, rng) for name, camera in cameras.items()}
    changing, changes = _draw_transients(settings, cameras, light, defects, steady, variability)
    for name in cameras:
        light[name] += _render(changing, changes[name], cameras, name)
        fluxes[name] = np.concatenate([fluxes[name], changes[name]])
    rng = _rng(settings, 20)
    seen = {n: observe(light[n], c, defects[n], rng) for n, c in cameras.items()}
    truth = _truth(steady + changing, _kinds(steady, variability, changing), fluxes, cameras, seen)
    science = {name: o.exposure for name, o in seen.items() if name != "template"}
    return SimulatedField(seen["template"].exposure, science, truth, seen, cameras)


def _rng(settings, stream):
    """One stream of random numbers for each purpose: a change in one leaves the others alone."""
    return np.random.default_rng([settings.seed, stream])


def _cameras(settings):
    """The template (mean of two exposures: twice the gain) and the two science epochs."""
    shape, rng = (settings.size, settings.size), _rng(settings, 0)

    def camera(fwhm, g1, g2, trend, shift, angle, **rest):
        return Camera(
            PsfModel(fwhm, g1, g2, variation=trend * settings.psf_variation, shape=shape),
            wcs=make_wcs(shape, shift, angle),
            cosmic_rays=rng.poisson(settings.cosmic_rays * settings.size**2 / 1e6),
            bad_columns=settings.bad_columns,
            nan_blocks=settings.nan_blocks,
            **rest,
        )

    return {
        "template": camera(2.8, 0.03, -0.02, 1.0, (0, 0), 0.0, scale=1.0, sky=300.0,
                           sky_gradient=(0.03, 0.02), gain=3.4, read_noise=8.0),
        "1": camera(3.8, -0.03, 0.04, -1.0, (3.4, -2.3), 0.02, scale=1.25, sky=520.0,
                    sky_gradient=(-0.04, 0.05), gain=1.8, read_noise=6.5),
        "2": camera(3.3, 0.05, 0.02, 0.8, (-1.7, 4.2), -0.015, scale=0.8, sky=380.0,
                    sky_gradient=(0.06, -0.02), gain=1.6, read_noise=5.5),
    }  # fmt: skip


def _count(settings, density):
    """How many sources a density means in the field with its margin."""
    return int(np.rint(density * (settings.size + 2 * MARGIN) ** 2 / 1e6))


def _place(rng, n, settings):
    """Positions on the template's grid, margin included."""
    return rng.uniform(-MARGIN, settings.size + MARGIN, (2, n))


def _draw_steady(settings):
    """Stars, galaxies and variable stars on the template's grid.

    Returns the scene and, by image, the factor (n,) on each flux (1 unless variable).
    """
    rng = _rng(settings, 1)
    n = _count(settings, settings.star_density)
    # Even steps through the distribution: no field lacks its few saturated stars by chance.
    quantile = rng.permutation((np.arange(n) + rng.uniform(size=n)) / max(n, 1))
    flux = power_law(quantile, settings.faintest_star, settings.brightest_star, settings.star_slope)
    x, y = _place(rng, n, settings)
    stars = Scene.points(x, y, flux)
    galaxies = _draw_galaxies(settings, _rng(settings, 2))
    rng = _rng(settings, 3)
    n = _count(settings, settings.variable_density)
    flux = np.exp(rng.uniform(np.log(1500), np.log(1.5e5), n))
    x, y = _place(rng, n, settings)
    variables = Scene.points(x, y, flux)
    scene = stars + galaxies + variables
    factors = {"template": np.ones(len(scene))}
    for epoch in ("1", "2"):
        change = rng.choice([-1, 1], n) * rng.uniform(0.1, 0.5, n)
        factors[epoch] = np.concatenate([np.ones(len(stars) + len(galaxies)), 1 + change])
    return scene, factors


def _draw_galaxies(settings, rng):
    """Exponential discs and de Vaucouleurs spheroids, half and half."""
    n = _count(settings, settings.galaxy_density)
    x, y = _place(rng, n, settings)
    flux = power_law(rng.uniform(size=n), 2000, 3e5, 1.8)
    size = np.clip(1.3 * (flux / 2000) ** 0.25 * np.exp(rng.normal(0, 0.3, n)), 1.0, 8.0)
    return Scene(
        x, y, flux, size,
        sersic=rng.choice([1.0, 4.0], n),
        axis_ratio=rng.uniform(0.3, 1.0, n),
        angle=rng.uniform(0, np.pi, n),
    )  # fmt: skip


def _move(x, y, cameras, name):
    """Pixel positions of the template's grid on the grid of image `name`."""
    sky = cameras["template"].wcs.pixel_to_world_values(x, y)
    return [np.asarray(a, float) for a in cameras[name].wcs.world_to_pixel_values(*sky)]


def _render(scene, flux, cameras, name):
    """Noiseless light of a scene given on the template's grid, in image `name`."""
    x, y = _move(scene.x, scene.y, cameras, name)
    camera = cameras[name]
    moved = dataclasses.replace(scene, x=x, y=y, flux=flux)
    return render(moved, camera.psf, camera.shape, camera.sky_sigma)


def _draw_transients(settings, cameras, light, defects, steady, factors):
    """Transients on the template's grid, and their flux (n,) in each image.

    A third of each epoch's transients shine in the template only: these are the same ones in
    both epochs, for there is one template.
    """
    rng = _rng(settings, 4)
    total = int(np.rint(settings.transient_density * settings.size**2 / 1e6))
    fading, rising = total // 3, total - total // 3
    clear = _clearances(cameras, light, defects)
    varying = factors["1"] != 1
    taken = [(steady.x[varying], steady.y[varying])]
    hosts = np.flatnonzero(steady.size > 0)
    x, y = [], []
    fluxes: dict[str, list[float]] = {name: [] for name in cameras}
    for home, n in (("template", fading), ("1", rising), ("2", rising)):
        camera = cameras[home]
        noise = "1" if home == "template" else home
        variance = _variance(cameras, light, noise)
        for k in range(n):
            near = hosts if k % 3 == 0 else hosts[:0]
            px, py = _free_place(rng, settings, cameras, clear, taken, steady.take(near))
            taken.append((np.array([px]), np.array([py])))
            seen_x, seen_y = (float(a) for a in _move(px, py, cameras, noise))
            unit = optimal_snr(1.0, seen_x, seen_y, cameras[noise].psf, variance)
            snr = np.exp(rng.uniform(*np.log(settings.transient_snr)))
            # Photon noise of the source itself: solve flux²·unit² / (1 + flux·share) = snr².
            share = unit**2 / cameras[noise].gain
            flux = (snr**2 * share + np.sqrt((snr**2 * share) ** 2 + 4 * (snr * unit) ** 2)) / 2
            flux /= unit**2
            x.append(px)
            y.append(py)
            for name in cameras:
                scale = camera.scale / cameras[noise].scale
                fluxes[name].append(flux * scale if name == home else 0.0)
    return Scene.points(x, y, 1.0), {name: np.array(v) for name, v in fluxes.items()}


def _variance(cameras, light, epoch):
    """True variance of epoch minus scaled template on the epoch's grid, ADU²."""
    planes = {}
    for name in ("template", epoch):
        camera = cameras[name]
        planes[name] = camera.noise_variance(camera.sky_plane() + light[name])
    return combined_variance(planes[epoch], planes["template"], cameras, epoch)


def combined_variance(science, template, cameras, epoch):
    """Variance of the science image plus scale² times the template's, on the science grid.

    Parameters
    ----------
    science, template : ndarray (ny, nx)
        Each on its own grid, ADU².
    cameras : dict of str to Camera
    epoch : str
    """
    corner = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # x, y of three science pixels
    sky = cameras[epoch].wcs.pixel_to_world_values(*corner)
    x, y = cameras["template"].wcs.world_to_pixel_values(*sky)
    matrix = [[y[2] - y[0], y[1] - y[0]], [x[2] - x[0], x[1] - x[0]]]
    moved = ndimage.affine_transform(template, matrix, [y[0], x[0]], order=1, mode="nearest")
    return science + (cameras[epoch].scale / cameras["template"].scale) ** 2 * moved


def _clearances(cameras, light, defects):
    """By image, the distance (px) of each pixel from the next saturated or defective one."""
    clear = {}
    for name, camera in cameras.items():
        bleeding = camera.sky_plane() + light[name] + defects[name].charge
        seen = observe(light[name], camera, defects[name], np.random.default_rng(0))
        bad = (seen.artefacts > 0) | (bleeding > 0.9 * camera.saturation)
        bad[[0, -1], :] = bad[:, [0, -1]] = True
        clear[name] = ndimage.distance_transform_edt(~bad)
    return clear


def _free_place(rng, settings, cameras, clear, taken, hosts):
    """A place (template px), in one of `hosts` if any, with nothing bad within CLEARANCE."""
    busy_x = np.concatenate([t[0] for t in taken])
    busy_y = np.concatenate([t[1] for t in taken])
    for trial in range(2000):
        if len(hosts) and trial < 1000:
            host = rng.integers(len(hosts))
            x, y = np.array([hosts.x[host], hosts.y[host]]) + hosts.size[host] * rng.normal(
                0, 0.7, 2
            )
        else:
            x, y = rng.uniform(0, settings.size, 2)
        alone = np.all(np.hypot(busy_x - x, busy_y - y) > CLEARANCE)
        if alone and _is_clear(x, y, cameras, clear):
            return x, y
    raise ValueError(f"no free place for {len(taken)} transients in {settings.size} px squared")


def _is_clear(x, y, cameras, clear):
    for name, distance in clear.items():
        col, row = (int(np.rint(a)) for a in _move(x, y, cameras, name))
        ny, nx = distance.shape
        if not (0 <= row < ny and 0 <= col < nx) or distance[row, col] <= CLEARANCE:
            return False
    return True


def _kinds(steady, factors, changing):
    kinds = np.where(steady.size > 0, "galaxy", "star").astype("U9")
    kinds[factors["1"] != 1] = "variable"
    return np.concatenate([kinds, np.full(len(changing), "transient")])


def _truth(scene, kinds, fluxes, cameras, seen):
    """The truth table; see SimulatedField."""
    rows: dict[str, list] = {name: [] for name in _COLUMNS}
    for epoch in (e for e in cameras if e != "template"):
        for name, values in _truth_of_epoch(scene, kinds, fluxes, cameras, seen, epoch).items():
            rows[name].append(values)
    table = QTable({name: np.concatenate(values) for name, values in rows.items()})
    for name, unit in _COLUMNS.items():
        if unit is not None:
            table[name] = table[name] * unit
    table.meta["scale"] = {e: cameras[e].scale for e in cameras if e != "template"}
    return table


_COLUMNS = {
    "epoch": None, "id": None, "kind": None, "x": u.pix, "y": u.pix, "ra": u.deg, "dec": u.deg,
    "flux": u.adu, "flux_template": u.adu, "delta_flux": u.adu, "snr": None, "on_galaxy": None,
    "saturated": None,
}  # fmt: skip


def _truth_of_epoch(scene, kinds, fluxes, cameras, seen, epoch):
    """Columns of the truth for the sources inside one epoch's frame."""
    x, y = _move(scene.x, scene.y, cameras, epoch)
    ny, nx = cameras[epoch].shape
    delta = fluxes[epoch] - cameras[epoch].scale / cameras["template"].scale * fluxes["template"]
    keep = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    # A transient of the other epoch is not in this one.
    keep &= (kinds != "transient") | (delta != 0)
    rows = np.flatnonzero(keep)
    variance = combined_variance(seen[epoch].variance, seen["template"].variance, cameras, epoch)
    psf = cameras[epoch].psf
    delta[np.isin(kinds, ["star", "galaxy"])] = 0
    snr = np.zeros(len(delta))
    for k in np.flatnonzero(keep & (delta != 0)):
        snr[k] = optimal_snr(delta[k], x[k], y[k], psf, variance)
    saturated = (seen[epoch].artefacts & MaskBit.SAT) > 0
    near = ndimage.binary_dilation(saturated, iterations=2)
    ra, dec = cameras[epoch].wcs.pixel_to_world_values(x[rows], y[rows])
    return {
        "epoch": np.full(len(rows), epoch), "id": rows, "kind": kinds[rows], "x": x[rows],
        "y": y[rows], "ra": ra, "dec": dec, "flux": fluxes[epoch][rows],
        "flux_template": fluxes["template"][rows], "delta_flux": delta[rows], "snr": snr[rows],
        "on_galaxy": _on_galaxy(scene)[rows],
        "saturated": near[np.rint(y[rows]).astype(int), np.rint(x[rows]).astype(int)],
    }  # fmt: skip


def _on_galaxy(scene):
    """Point sources within two half-light radii of a galaxy."""
    hosts = np.flatnonzero(scene.size > 0)
    if not len(hosts):
        return np.zeros(len(scene), bool)
    distance = np.hypot(
        scene.x[:, None] - scene.x[None, hosts], scene.y[:, None] - scene.y[None, hosts]
    )
    return (scene.size == 0) & np.any(distance < 2 * scene.size[None, hosts], axis=1)
