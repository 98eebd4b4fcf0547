"""What is in the sky: stars and galaxies with their positions and fluxes."""

import dataclasses

import numpy as np

from psflib.image.convolve import fft_convolve
from psflib.simulation.psf_model import PsfModel

# A galaxy is a grid of points at half a pixel anchored to its centre, so that every epoch sees
# exactly the same light, whatever its pixel phase.
STEP = 0.5  # px
LIGHT_RADIUS = 24  # px, the galaxy's light
PSF_RADIUS = 40  # px, the PSF that smears it


@dataclasses.dataclass(frozen=True)
class Scene:
    """Sources as aligned arrays (n,).

    Parameters
    ----------
    x, y : ndarray
        Pixel positions on the grid of the observation.
    flux : ndarray
        ADU.
    size : ndarray
        Half-light radius in px; 0 for a point source.
    sersic : ndarray
        Sérsic index (1 exponential, 4 de Vaucouleurs); unused for points.
    axis_ratio, angle : ndarray
        Minor over major axis; angle of the major axis from +x, radians.
    """

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    size: np.ndarray
    sersic: np.ndarray
    axis_ratio: np.ndarray
    angle: np.ndarray

    @classmethod
    def points(cls, x, y, flux):
        """A scene of stars only."""
        x, y, flux = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(a, float)) for a in (x, y, flux))
        )
        zero, one = np.zeros(x.shape), np.ones(x.shape)
        return cls(x, y, flux, zero, one, one, zero)

    def take(self, rows):
        """The sources `rows` (index or boolean array)."""
        return Scene(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))

    def __len__(self):
        return len(self.x)

    def __add__(self, other):
        names = [f.name for f in dataclasses.fields(self)]
        return Scene(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in names))


def render(scene: Scene, psf: PsfModel, shape, sky_sigma=10.0, reach=120.0) -> np.ndarray:
    """The noiseless image of a scene without sky.

    Parameters
    ----------
    scene : Scene
    psf : PsfModel
        Evaluated at the place of each source.
    shape : (ny, nx)
    sky_sigma : float
        Noise of the sky in ADU; sets how far bright stars are followed (`PsfModel.render`).
    reach : float
        Smallest radius in px to which a star is followed.

    Returns
    -------
    ndarray (ny, nx) float64
        ADU.
    """
    out = np.zeros(shape)
    point = scene.size == 0
    psf.render(scene.x[point], scene.y[point], scene.flux[point], out, reach, sky_sigma)
    for k in np.flatnonzero(~point):
        _add_galaxy(out, scene, k, psf)
    return out


def _add_galaxy(out, scene, k, psf):
    """Add one galaxy, convolved with the PSF of its place."""
    col, row = int(np.rint(scene.x[k])), int(np.rint(scene.y[k]))
    # Samples of the PSF at the pixel centres as seen from the galaxy's centre.
    stamp = psf.at(
        scene.x[k], scene.y[k], size=2 * int(PSF_RADIUS / STEP) + 1,
        dx=scene.x[k] - col, dy=scene.y[k] - row, step=STEP,
    )  # fmt: skip
    light = sersic_light(scene.size[k], scene.sersic[k], scene.axis_ratio[k], scene.angle[k])
    image = fft_convolve(stamp, light)[:: int(1 / STEP), :: int(1 / STEP)]
    add_stamp(out, image * scene.flux[k], row - PSF_RADIUS, col - PSF_RADIUS)


def sersic_light(size, sersic, axis_ratio, angle):
    """Light of a galaxy on the half-pixel grid around its centre, unit sum, (97, 97) float64.

    I(r) ~ exp(-b (r/r_e)^(1/n)) with b = 2n - 1/3 + 4/(405n) (Ciotti & Bertin 1999, A&A 352, 447),
    tapered to zero at the edge of the grid; a small softening removes the cusp.
    """
    half = int(LIGHT_RADIUS / STEP)
    axis = STEP * np.arange(-half, half + 1)
    dx, dy = axis[None, :], axis[:, None]
    along = dx * np.cos(angle) + dy * np.sin(angle)
    across = dy * np.cos(angle) - dx * np.sin(angle)
    r2 = along**2 * axis_ratio + across**2 / axis_ratio + (0.3 * STEP) ** 2
    b = 2 * sersic - 1 / 3 + 4 / (405 * sersic)
    light = np.exp(-b * (np.sqrt(r2) / size) ** (1 / sersic))
    taper = np.clip(1 - (dx**2 + dy**2) / LIGHT_RADIUS**2, 0, 1)
    light *= taper
    return light / light.sum()


def add_stamp(out, stamp, row0, col0):
    """Add `stamp` to `out` with its corner at (row0, col0), cut where it hangs over."""
    ny, nx = out.shape
    rows = slice(max(row0, 0), min(row0 + stamp.shape[0], ny))
    cols = slice(max(col0, 0), min(col0 + stamp.shape[1], nx))
    if rows.start < rows.stop and cols.start < cols.stop:
        part = stamp[rows.start - row0 : rows.stop - row0, cols.start - col0 : cols.stop - col0]
        out[rows, cols] += part


def power_law(quantile, low, high, slope):
    """Inverse of the cumulative distribution of x^-slope between `low` and `high`."""
    power = 1 - slope
    return (low**power + quantile * (high**power - low**power)) ** (1 / power)
