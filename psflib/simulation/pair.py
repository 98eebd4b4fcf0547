"""Small aligned pairs for tests and benchmarks."""

import numpy as np
from astropy import units as u
from astropy.table import QTable

from psflib.image.exposure import Exposure
from psflib.simulation.camera import optimal_snr
from psflib.simulation.psf_model import PsfModel
from psflib.simulation.scene import Scene, power_law, render


def simulate_pair(
    shape=(256, 256), seed=0, *, n_stars=60, fwhm_science=3.6, fwhm_template=2.8, scale=1.0,
    noise_science=10.0, noise_template=7.0, gain=2.0, transients=(), background=0.0,
    variation=0.0, wing=0.0, faintest=500.0, brightest=1e5, noise=True,
):  # fmt: skip
    """An aligned pair without sky and without artefacts, of known variance.

    Parameters
    ----------
    shape : (ny, nx)
    seed : int
    n_stars : int
        With fluxes as f^-1.6 between `faintest` and `brightest` (ADU of the template).
    fwhm_science, fwhm_template : float
        px.
    scale : float
        ADU of the science image for one ADU of the template.
    noise_science, noise_template : float
        Of the empty sky, ADU; photon noise of the sources is added with `gain` (e-/ADU).
    transients : sequence of (x, y, flux)
        Sources in the science image only; a negative flux is a source of |flux| ADU (science)
        in the template only.
    background : float
        Constant left in the science image, ADU.
    variation, wing : float
        See `PsfModel`.
    noise : bool
        False leaves the noise out (the variance planes stay).

    Returns
    -------
    science, template : Exposure
        With variance and sky=0; meta['psf'] is the true `PsfModel`.
    truth : QTable
        id, kind (star or transient), x, y, flux, flux_template, delta_flux, snr as in
        `SimulatedField`.
    """
    rng = np.random.default_rng([seed, 99])
    ny, nx = shape
    flux = power_law(rng.uniform(size=n_stars), faintest, brightest, 1.6)
    stars = Scene.points(rng.uniform(-5, nx + 4, n_stars), rng.uniform(-5, ny + 4, n_stars), flux)
    tx, ty, change = np.array(list(transients), float).reshape(-1, 3).T
    x, y = np.concatenate([stars.x, tx]), np.concatenate([stars.y, ty])
    in_science = np.concatenate([scale * stars.flux, np.maximum(change, 0)])
    in_template = np.concatenate([stars.flux, np.maximum(-change, 0) / scale])
    images = []
    for fwhm, values, sigma, level in (
        (fwhm_science, in_science, noise_science, background),
        (fwhm_template, in_template, noise_template, 0.0),
    ):
        psf = PsfModel(fwhm, variation=variation, wing=wing, shape=shape)
        light = render(Scene.points(x, y, values), psf, shape, sigma)
        variance = sigma**2 + light / gain
        image = light + level + noise * rng.normal(0, np.sqrt(variance))
        images.append(
            Exposure(image, variance, gain=gain, saturation=1e6, sky=0.0, meta={"psf": psf})
        )
    science, template = images
    delta = in_science - scale * in_template
    delta[: len(stars)] = 0
    total = science.variance + scale**2 * template.variance
    snr = [optimal_snr(*row, science.meta["psf"], total) for row in zip(delta, x, y, strict=True)]
    truth = QTable(
        {
            "id": np.arange(len(x)),
            "kind": np.repeat(["star", "transient"], [len(stars), len(tx)]),
            "x": x * u.pix,
            "y": y * u.pix,
            "flux": in_science * u.adu,
            "flux_template": in_template * u.adu,
            "delta_flux": delta * u.adu,
            "snr": snr,
        }
    )
    return science, template, truth
