"""What a camera makes of a scene: sky, noise, saturation, bleeding, cosmic rays, dead pixels."""

import dataclasses

import numpy as np
from astropy.wcs import WCS

from psflib.image.exposure import Exposure, MaskBit
from psflib.loops.simulate import bleed_columns
from psflib.simulation.psf_model import PsfModel


@dataclasses.dataclass(frozen=True)
class Camera:
    """One observation's instrument and conditions.

    Parameters
    ----------
    psf : PsfModel
        Its `shape` is the detector's.
    scale : float
        ADU of this image for one ADU of the scene.
    sky : float
        ADU at the centre.
    sky_gradient : (float, float)
        Relative change of the sky from the centre to the right and to the upper edge.
    gain : float
        e-/ADU.
    read_noise : float
        e-.
    saturation : float
        ADU.
    wcs : WCS, optional
    cosmic_rays, bad_columns, nan_blocks : int
        How many of each.
    """

    psf: PsfModel
    scale: float = 1.0
    sky: float = 300.0
    sky_gradient: tuple[float, float] = (0.0, 0.0)
    gain: float = 1.8
    read_noise: float = 6.0
    saturation: float = 55000.0
    wcs: WCS | None = None
    cosmic_rays: int = 0
    bad_columns: int = 0
    nan_blocks: int = 0

    @property
    def shape(self):
        """(ny, nx)"""
        return self.psf.shape

    @property
    def sky_sigma(self):
        """Noise of the empty sky at the centre, ADU."""
        return float(np.sqrt(self.noise_variance(self.sky)))

    def noise_variance(self, level):
        """Photon and read noise in ADU² where `level` ADU are expected."""
        return np.maximum(level, 0) / self.gain + (self.read_noise / self.gain) ** 2

    def sky_plane(self):
        """The sky (ny, nx) float64 in ADU: a slope with a little curvature."""
        v, u = (np.linspace(-1, 1, n) for n in self.shape)
        gx, gy = self.sky_gradient
        slope = gx * u[None, :] + gy * v[:, None]
        return self.sky * (1 + slope + 0.3 * gx * (u[None, :] ** 2 - v[:, None] ** 2))


@dataclasses.dataclass(frozen=True)
class Observation:
    """A simulated image and what is true of it.

    Parameters
    ----------
    exposure : Exposure
        What the astronomer gets: no variance, no mask but for the NaN blocks.
    expected : ndarray (ny, nx) float64
        ADU, sky included, before noise, saturation and defects.
    sky : ndarray (ny, nx) float64
        ADU.
    variance : ndarray (ny, nx) float64
        True variance of the noise, ADU².
    artefacts : ndarray (ny, nx) uint16
        The true mask: SAT (bleeding included), CR, BAD (columns), NO_DATA (NaN blocks).
    """

    exposure: Exposure
    expected: np.ndarray
    sky: np.ndarray
    variance: np.ndarray
    artefacts: np.ndarray


def observe(light, camera: Camera, defects=None, rng=None) -> Observation:
    """Expose: add sky, photon and read noise, saturate, bleed, put the defects in.

    Parameters
    ----------
    light : ndarray (ny, nx)
        Noiseless sources in ADU of this image (`render` of fluxes times `camera.scale`).
    camera : Camera
    defects : Defects, optional
        From `draw_defects`; drawn here if not given.
    rng : numpy Generator, optional
        Default: seed 0.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    defects = draw_defects(camera, rng) if defects is None else defects
    sky = camera.sky_plane()
    expected = sky + light
    electrons = rng.poisson(np.maximum(expected, 0) * camera.gain).astype(float)
    electrons += rng.normal(0, camera.read_noise, camera.shape)
    image = electrons / camera.gain + defects.charge
    bleed_columns(image, camera.saturation)
    artefacts = defects.mask.copy()
    artefacts[image >= camera.saturation] |= np.uint16(MaskBit.SAT)
    image[(defects.mask & MaskBit.BAD) > 0] *= 0.2
    image[(defects.mask & MaskBit.NO_DATA) > 0] = np.nan
    exposure = Exposure(
        image, wcs=camera.wcs, gain=camera.gain, read_noise=camera.read_noise,
        saturation=camera.saturation,
    )  # fmt: skip
    return Observation(exposure, expected, sky, camera.noise_variance(expected), artefacts)


@dataclasses.dataclass(frozen=True)
class Defects:
    """Charge of cosmic rays (ny, nx) float64 in ADU, and a uint16 mask of CR, BAD and NO_DATA."""

    charge: np.ndarray
    mask: np.ndarray


def draw_defects(camera: Camera, rng) -> Defects:
    """Draw where cosmic rays, bad columns and blocks of NaN fall."""
    ny, nx = camera.shape
    charge, mask = np.zeros(camera.shape), np.zeros(camera.shape, np.uint16)
    for _ in range(camera.cosmic_rays):
        rows, cols = _track(rng, ny, nx)
        charge[rows, cols] += np.exp(rng.uniform(np.log(300), np.log(8000)))
    mask[charge > 0] |= np.uint16(MaskBit.CR)
    for _ in range(camera.bad_columns):
        mask[:, rng.integers(nx // 8, nx - nx // 8)] |= np.uint16(MaskBit.BAD)
    for _ in range(camera.nan_blocks):
        height, width = rng.integers(6, 30, 2)
        row, col = rng.integers(0, ny - height), rng.integers(0, nx - width)
        mask[row : row + height, col : col + width] |= np.uint16(MaskBit.NO_DATA)
    return Defects(charge, mask)


def _track(rng, ny, nx):
    """Pixels of a straight track, mostly short, one pixel wide."""
    length = int(np.clip(rng.exponential(4), 1, 25))
    angle = rng.uniform(0, np.pi)
    along = np.arange(length)
    rows = np.rint(rng.uniform(0, ny - 1) + along * np.sin(angle)).astype(int)
    cols = np.rint(rng.uniform(0, nx - 1) + along * np.cos(angle)).astype(int)
    inside = (rows >= 0) & (rows < ny) & (cols >= 0) & (cols < nx)
    return rows[inside], cols[inside]


def make_wcs(shape, shift=(0.0, 0.0), angle=0.0, pixel_scale=0.5, ra=150.0, dec=2.2) -> WCS:
    """A TAN projection.

    Parameters
    ----------
    shape : (ny, nx)
    shift : (float, float)
        By how many px sources move in x and y against a WCS without shift.
    angle : float
        Rotation about the centre in degrees.
    pixel_scale : float
        Arcsec.
    ra, dec : float
        Of the centre (before the shift), degrees.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.cunit = "deg", "deg"
    wcs.wcs.crval = ra, dec
    wcs.wcs.crpix = (shape[1] + 1) / 2 + shift[0], (shape[0] + 1) / 2 + shift[1]
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = pixel_scale / 3600 * np.array([[-c, s], [s, c]])
    wcs.wcs.set()
    return wcs


def optimal_snr(flux, x, y, psf: PsfModel, variance, size=31):
    """S/N of a source of known position and PSF P in noise of known variance.

    S/N = |flux| √(Σ P²/σ²), the best a linear (matched) filter can reach.

    Parameters
    ----------
    flux, x, y : float
        ADU, px.
    psf : PsfModel
    variance : ndarray (ny, nx)
        ADU².
    size : int
        Side of the box, px; cut at the image's border.
    """
    row, col = int(np.rint(y)), int(np.rint(x))
    model = psf.at(x, y, size, dx=x - col, dy=y - row)
    row0, col0 = row - size // 2, col - size // 2
    ny, nx = variance.shape
    rows = slice(max(row0, 0), min(row0 + size, ny))
    cols = slice(max(col0, 0), min(col0 + size, nx))
    part = model[rows.start - row0 : rows.stop - row0, cols.start - col0 : cols.stop - col0]
    return float(abs(flux) * np.sqrt(np.sum(part**2 / variance[rows, cols])))
