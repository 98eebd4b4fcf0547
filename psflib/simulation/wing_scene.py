"""An image with bright, saturated stars whose wings are known."""

import numpy as np

from psflib.image.exposure import Exposure
from psflib.simulation.wing_stamps import SATURATION, WingTruth

FAINT_REACH = 25  # px, to which a faint star is drawn
NOISE_SHARE = 0.03  # of the sky noise: a bright star is drawn to where it is below


def simulate_halo_image(
    truth: WingTruth, shape=(768, 768), *, seed, bright=20, flux=(1e6, 5e7), medium=80,
    faint=450, sky=100.0, gradient=0.02, read_noise=5.0,
):  # fmt: skip
    """Simulate an image as a camera writes it, gain 1.

    Parameters
    ----------
    truth : WingTruth
    shape : (ny, nx)
    seed : int
    bright, flux : int and (low, high)
        Bright stars, log-uniform, e-; uniform over the image.
    medium : int
        Stars of 2e4 to 5e5 e-, most of them not saturated.
    faint : int
        Stars of 3e2 to 2e4 e-.
    sky, gradient : float
        e- a pixel, and its relative slope per 1000 px along x.
    read_noise : float
        e-.

    Returns
    -------
    exposure : Exposure
        Sky still in it, no variance; saturated at 6e4 e-.
    stars : ndarray (n, 3)
        x, y (px) and flux (e-), the brightest first.
    """
    rng = np.random.default_rng(seed)
    fluxes = np.concatenate([
        low * (high / low) ** rng.uniform(size=n)
        for n, (low, high) in ((bright, flux), (medium, (2e4, 5e5)), (faint, (3e2, 2e4)))
    ])  # fmt: skip
    fluxes = np.sort(fluxes)[::-1]
    x, y = (rng.uniform(0, n - 1, len(fluxes)) for n in (shape[1], shape[0]))
    columns = np.arange(shape[1]) - shape[1] / 2
    image = np.full(shape, sky) * (1 + gradient / 1000 * columns)
    noise = np.sqrt(sky + read_noise**2)
    profile = truth.at(np.zeros(1200), np.arange(1200.0))
    for px, py, f in zip(x, y, fluxes, strict=True):
        reach = max(FAINT_REACH, int(np.sum(f * profile > NOISE_SHARE * noise)))
        add_star(image, truth, px, py, f, reach)
    data = image + np.sqrt(image + read_noise**2) * rng.normal(size=shape)
    data = np.minimum(data, SATURATION).astype(np.float32)
    return Exposure(data, gain=1.0, read_noise=read_noise, saturation=SATURATION), np.column_stack(
        [x, y, fluxes]
    )


def add_star(image, truth, x, y, flux, reach):
    """Add a star at (x, y) px to an image, in place, to `reach` px."""
    rows = np.arange(max(int(y) - reach, 0), min(int(y) + reach + 1, image.shape[0]))
    cols = np.arange(max(int(x) - reach, 0), min(int(x) + reach + 1, image.shape[1]))
    light = flux * truth.at(rows[:, None] - y, cols[None, :] - x)
    image[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] += light
