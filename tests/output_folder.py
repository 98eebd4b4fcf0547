"""A tiny output folder as the workflow writes it, made once for widgets, notebooks and browser."""

import numpy as np
import pytest

import psflib
from psflib import products
from psflib.psf.core.stage import core_epsf
from psflib.psf.wings.stage import extended_psf
from psflib.settings.inject import InjectSettings
from psflib.simulation.simulate import simulate_pair
from psflib.stamps.build import build_stamps
from psflib.stars.select import select_stars

SHAPE = (300, 320)
TRANSIENTS = [(80.0, 90.0, 3000.0), (210.3, 160.7, 5000.0), (150.0, 240.0, -4000.0)]


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """Output folder with the field "tiny", its template and the science epoch "night1"."""
    folder = tmp_path_factory.mktemp("results")
    science, template, _ = simulate_pair(
        SHAPE,
        seed=3,
        n_stars=45,
        faintest=4000,
        brightest=1e6,
        transients=TRANSIENTS,
        scale=1.2,
        variation=0.03,
        wing=0.02,
    )
    for epoch, exposure in (("template", template), ("night1", science)):
        psf = write_psf_products(folder / "tiny" / epoch, exposure)
    write_difference_products(folder / "tiny" / "night1", science, template, psf)
    return folder


def write_psf_products(folder, exposure):
    """What `prepare` to `extended_psf` write; gives back the PSF."""
    folder.mkdir(parents=True)
    exposure = psflib.prepare(exposure)
    stars = select_stars(exposure)
    stamps = build_stamps(exposure, stars)
    psf = core_epsf(stamps, exposure.shape)
    products.write_exposure(folder / "exposure.fits", exposure)
    products.write_stars(folder / "stars.ecsv", stars)
    products.write_stamps(folder / "stamps.fits", stamps)
    products.write_psf(folder / "epsf.fits", psf)
    products.write_extended_psf(folder / "extended_psf.fits", extended_psf(exposure, stars, psf))
    return psf


def write_difference_products(folder, science, template, psf):
    """What `subtract` to `detect` write."""
    raw = psflib.subtract(science, template, psf=psf)
    clean = psflib.decorrelate(raw)
    products.write_exposure(folder / "template.fits", raw.template)
    products.write_kernel(folder / "kernel.fits", raw.kernel)
    products.write_difference(folder / "difference.fits", raw)
    products.write_difference(folder / "decorrelated.fits", clean)
    ready = psflib.prepare(science)
    put = psflib.inject(ready, raw.template, psf, clean, InjectSettings(least=60))
    put["clean"][np.flatnonzero(put["found"])[::2]] = False  # or a panel has nothing to choose
    products.write_injection(folder / "injection.ecsv", put)
    products.write_candidates(folder / "candidates.ecsv", psflib.detect(clean, injection=put))
