"""The brightest sources of an image and where they are, to a few hundredths of a pixel.

Not `stars.sources.detect_sources`: positions of some hundred bright sources are all that is
wanted, and they cost a tenth of a full detection.
"""

import dataclasses

import numpy as np
import sep
from scipy import spatial

from psflib.image.exposure import UNUSABLE, Exposure, MaskBit
from psflib.image.patches import patch_centres
from psflib.loops.moments import adaptive_moments
from psflib.loops.peaks import block_snr, light_centre, local_maxima
from psflib.stars.sources import FWHM_OF_SIGMA, NARROWEST

THRESHOLD = 6.0  # sigma, of the light in a block
REACH = 2  # blocks, half the width of the window in which a maximum is the highest
MOST = 400  # sources; more make the fit no better than the PSFs' centroids are
MOST_PER_MPX = 60.0  # and these, for distortions that only a large image has
MOST_MAXIMA = 200_000  # looked at, of a crowded image
SHARE_OF_FLUX = 1.3  # error of a centroid by the S/N in an aperture: sqrt(2) by that of the PSF
FIRST_FWHM = 3.0  # px, when it is not known


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """Sources as aligned arrays (n,), brightest first.

    Parameters
    ----------
    x, y : ndarray
        px, centroids of the adaptive Gaussian; of saturated stars the middle of the saturation.
    error : ndarray
        px, one standard deviation of each coordinate by the noise.
    snr : ndarray
        In an aperture of one FWHM; inf of saturated stars.
    rough : ndarray of bool
        Saturated: good to find the place of the image, not to measure it.
    """

    x: np.ndarray
    y: np.ndarray
    error: np.ndarray
    snr: np.ndarray
    rough: np.ndarray

    def __len__(self):
        return len(self.x)

    @property
    def xy(self) -> np.ndarray:
        """(n, 2) px"""
        return np.c_[self.x, self.y]

    def take(self, rows) -> "Detections":
        """The sources `rows` (index or boolean array)."""
        return Detections(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))


def bright_sources(exposure: Exposure) -> Detections:
    """Brightest sources of a prepared image.

    Returns
    -------
    Detections
        At most `MOST`, and `MOST_PER_MPX` for each Mpx.
    """
    fwhm = exposure.meta.get("fwhm") or FIRST_FWHM
    side = max(1, round(fwhm / 2))
    snr, full = _blocks(exposure, side)
    places = np.empty((MOST_MAXIMA, 2), np.int64)
    places = places[: local_maxima(snr, full, THRESHOLD, REACH, places)]
    most = MOST + int(MOST_PER_MPX * exposure.image.size / 1e6)
    order = np.argsort(-snr[tuple(places.T)], kind="stable")[:most]
    found = _measured(exposure, places[order] * side, side, fwhm)
    return _joined(_saturated(full, side), found)


def _blocks(exposure, side):
    ny, nx = exposure.shape
    shape = -(-ny // side), -(-nx // side)
    snr, full = np.empty(shape, np.float32), np.empty(shape, bool)
    bits = np.uint16(UNUSABLE), np.uint16(MaskBit.SAT)
    block_snr(exposure.image, exposure.variance, exposure.mask, *bits, side, snr, full)
    return snr, full


def _measured(exposure, corners, side, fwhm):
    """Sources at the blocks with these corners (row, column)."""
    ny, nx = exposure.shape
    start = np.empty((len(corners), 2))
    for k, (y, x) in enumerate(corners):
        box = max(y - side, 0), min(y + 2 * side, ny), max(x - side, 0), min(x + 2 * side, nx)
        start[k] = light_centre(exposure.image, *box)
    usable, shape = exposure.usable, np.zeros((len(start), 6))
    sigma = 1.1 * fwhm / FWHM_OF_SIGMA
    x, y = np.ascontiguousarray(start.T)
    adaptive_moments(exposure.image, usable, x, y, sigma, 4 * sigma, max(1.5, fwhm), shape)
    x, y = np.ascontiguousarray(shape[:, :2].T)
    flux, noise, _ = sep.sum_circle(
        exposure.image, x, y, fwhm, var=exposure.variance, mask=~usable, subpix=1
    )
    mean, half = (shape[:, 2] + shape[:, 4]) / 2, (shape[:, 2] - shape[:, 4]) / 2
    minor = mean - np.hypot(half, shape[:, 3])
    good = (shape[:, 5] > 0) & (noise > 0) & (flux > 0) & (minor > NARROWEST**2)
    good &= (x > 0) & (y > 0) & (x < nx - 1) & (y < ny - 1)
    snr = flux[good] / noise[good]
    error = SHARE_OF_FLUX * np.sqrt(mean[good]) / snr
    order = np.argsort(-snr, kind="stable")
    rough = np.zeros(len(snr), bool)
    found = Detections(x[good], y[good], error, snr, rough).take(order)
    return _without_twins(found, fwhm / 2)


def _without_twins(found, radius):
    """Two maxima of one source end at one place; the later one goes."""
    if len(found) < 2:
        return found
    pairs = spatial.cKDTree(found.xy).query_pairs(radius, output_type="ndarray")
    keep = np.ones(len(found), bool)
    keep[pairs.max(axis=1)] = False
    return found.take(keep)


def _saturated(full, side):
    """Middles of the saturated areas, largest first."""
    if not full.any():
        none = np.zeros(0)
        return Detections(none, none, none, none, np.zeros(0, bool))
    centres, area = patch_centres(full)
    order = np.argsort(-area, kind="stable")[:MOST]
    y, x = (centres[order] * side + (side - 1) / 2).T
    error = side * np.sqrt(area[order]) / 4
    return Detections(x, y, error, np.full(len(x), np.inf), np.ones(len(x), bool))


def _joined(first, second):
    names = [f.name for f in dataclasses.fields(Detections)]
    return Detections(*(np.concatenate([getattr(first, n), getattr(second, n)]) for n in names))
