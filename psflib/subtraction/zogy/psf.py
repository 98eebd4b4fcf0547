"""PSFs in the forms in which users have them, as stamps that proper subtraction can use."""

import dataclasses
import functools
import logging
from typing import Any

import numpy as np
from scipy import fft, ndimage

log = logging.getLogger(__name__)

OFF_CENTRE = 0.2  # px, beyond which the centroid of a stamp is moved to its central pixel
NEEDED = ("data", "width", "height", "sampling", "degree", "x0", "y0", "sx", "sy")
WINDOW = 1.5  # px, least sigma of the window of a centroid
SIZE_OF_FWHM = 8  # a PSF that is known without limits is cut to this many FWHM
INNER = 0.75  # of the half width, from where a fitted PSF goes to 0, its error being the larger
SUPPORTS = 11, 61  # px, least and most of it


@dataclasses.dataclass(frozen=True, eq=False)
class StampPsf:
    """PSF stamps of unit sum, centred on their central pixel, anywhere in the image.

    Parameters
    ----------
    model : object with ``at(x, y, size)``
    size : int
        Odd side of the stamps, px.
    clean : float
        Values below this fraction of the peak are set to 0.
    fitted : bool
        The model knows its outskirts less than these are small: they go to 0 smoothly.
    """

    model: Any
    size: int
    clean: float = 0.0
    fitted: bool = False

    def at(self, x: float, y: float, size: int | None = None) -> np.ndarray:
        """(size, size) float64 of unit sum; beyond the PSF's own size it is 0."""
        stamp = self.model.at(x, y, self.size)
        if self.fitted:
            stamp = stamp * _window(self.size)
        if self.clean:
            stamp = np.where(stamp < self.clean * stamp.max(), 0, stamp)
        return resized(stamp / stamp.sum(), self.size if size is None else size)

    def fwhm(self, x: float, y: float) -> float:
        """FWHM (px) of the Gaussian with the same noise area."""
        return float(2.355 * np.sqrt(1 / np.square(self.at(x, y)).sum() / (4 * np.pi)))


@functools.cache
def _window(size):
    """1 up to `INNER` of the half width, 0 from the half width on."""
    line = np.arange(size) - size // 2
    radius = np.hypot(line[:, None], line[None, :]) / max(size // 2, 1)
    return np.cos(np.pi / 2 * np.clip((radius - INNER) / (1 - INNER), 0, 1)) ** 2


@dataclasses.dataclass(frozen=True, eq=False)
class ConstantStamp:
    """The same stamp everywhere."""

    stamp: np.ndarray

    def at(self, x, y, size):
        return resized(self.stamp, size)


@dataclasses.dataclass(frozen=True, eq=False)
class PsfexModel:
    """PSFEx's model: polynomials of degree `degree` in the scaled position, on samples.

    psf(x, y) = sum of data[k] u^i v^j over j = 0 ... degree, i = 0 ... degree - j, with
    u = (x - x0) / sx and v = (y - y0) / sy; samples stand `sampling` px apart.
    """

    values: dict

    def at(self, x, y, size):
        v = self.values
        degree = int(v["degree"])
        px, py = (x - v["x0"]) / v["sx"], (y - v["y0"]) / v["sy"]
        terms = [px**i * py**j for j in range(degree + 1) for i in range(degree + 1 - j)]
        image = np.tensordot(terms, np.asarray(v["data"], float), 1)
        return _sampled(image, float(v["sampling"]), size)


def stamp_psf(name: str, psf, shape, fwhm=None, clean=0.0) -> StampPsf:
    """Any PSF argument, checked.

    Parameters
    ----------
    name : str
        How messages call it.
    psf : dict, ndarray (h, w) or object with ``at(x, y, size)``
        PSFEx's model as a dict (keys `NEEDED`), one stamp, or a model as `PsfField`.
    shape : (ny, nx) of the image
    fwhm : float, optional
        px; sets the size of models that have none.
    clean : float
        See `StampPsf`.

    Raises
    ------
    ValueError
        Anything else; stamps that are not finite, have no light, or are larger than the image.
    """
    if not (isinstance(clean, int | float) and 0 <= clean < 1):
        raise ValueError(f"psf_clean is a fraction of the PSF's peak; got {clean}")
    if isinstance(psf, dict):
        model: Any = _from_dict(name, psf)
        size = _dict_size(psf)
    elif isinstance(psf, np.ndarray):
        stamp = centred_stamp(name, psf)
        model, size = ConstantStamp(stamp), len(stamp)
    elif hasattr(psf, "at"):
        model, size = psf, _model_size(psf, shape, fwhm)
    else:
        raise ValueError(
            f"{name} must be a dict as of PSFEx, a stamp or an object with at(x, y, size); "
            f"got {type(psf).__name__}"
        )
    if size > min(shape):
        raise ValueError(f"{name} is {size} px wide, the image only {min(shape)} px")
    fitted = getattr(model, "error", None) is not None  # as `PsfField`, which comes from stars
    checked = StampPsf(model, size, clean, fitted)
    centre = np.asarray(model.at((shape[1] - 1) / 2, (shape[0] - 1) / 2, size), float)
    _check_light(name, centre)
    return checked


def centred_stamp(name: str, stamp) -> np.ndarray:
    """A stamp with an odd, equal number of rows and columns, its centroid in the middle, sum 1.

    What had to be corrected is logged.
    """
    stamp = np.asarray(stamp)
    if stamp.ndim != 2 or stamp.dtype.kind not in "fiu" or min(stamp.shape) < 3:
        raise ValueError(
            f"{name} must be a 2-D stamp of at least 3 x 3; got {stamp.shape}, {stamp.dtype}"
        )
    stamp = stamp.astype(float)
    _check_light(name, stamp)
    total = stamp.sum()
    if abs(total - 1) > 1e-3:
        log.info("%s has a sum of %.6g: normalised", name, total)
    stamp = stamp / total
    side = max(stamp.shape) + 1 - max(stamp.shape) % 2
    row, col = centroid(stamp)
    middle = side // 2
    even = any(n % 2 == 0 for n in stamp.shape)
    off = np.hypot(row - (stamp.shape[0] - 1) / 2, col - (stamp.shape[1] - 1) / 2)
    if not even and off <= OFF_CENTRE:
        return resized(stamp, side)
    log.info(
        "%s (%d x %d px) has its centroid at row %.2f, column %.2f: moved to the central pixel",
        name, *stamp.shape, row, col,
    )  # fmt: skip
    moved = _displaced(stamp, side, middle - row, middle - col)
    return moved / moved.sum()


def centroid(stamp) -> tuple[float, float]:
    """(row, column) under a Gaussian window about the light, iterated."""
    row, col = np.unravel_index(np.argmax(stamp), stamp.shape)
    area = 1 / np.square(stamp / stamp.sum()).sum()
    sigma = max(WINDOW, np.sqrt(area / (4 * np.pi)))
    y, x = np.indices(stamp.shape)
    for _ in range(20):
        weight = stamp * np.exp(-0.5 * ((y - row) ** 2 + (x - col) ** 2) / sigma**2)
        total = weight.sum()
        step = 2 * np.array([(weight * (y - row)).sum(), (weight * (x - col)).sum()]) / total
        row, col = row + step[0], col + step[1]
        if not (np.isfinite(row) and 0 <= row < len(stamp) and 0 <= col < stamp.shape[1]):
            raise ValueError("a PSF stamp has no centre: its light is not in one place")
        if np.abs(step).max() < 1e-4:
            break
    return float(row), float(col)


def resized(stamp, size) -> np.ndarray:
    """A stamp cut or padded with zeros about its central pixel; rows and columns are odd."""
    if size % 2 == 0:
        raise ValueError(f"size must be odd, so that the PSF has a central pixel; got {size}")
    out = np.zeros((size, size))
    half = [min(n, size) // 2 for n in stamp.shape]
    inner = tuple(slice(size // 2 - h, size // 2 + h + 1) for h in half)
    source = tuple(
        slice(n // 2 - h, n // 2 + h + 1) for n, h in zip(stamp.shape, half, strict=True)
    )
    out[inner] = stamp[source]
    return out


def _displaced(stamp, side, down, right):
    """The stamp in a (side, side) array, moved by whole pixels and a phase for the rest."""
    steps = int(np.rint(down)), int(np.rint(right))
    big = 2 * side
    plane = np.zeros((big, big))
    plane[: stamp.shape[0], : stamp.shape[1]] = stamp
    k = 2 * np.pi * np.fft.fftfreq(big)
    k[big // 2] = 0
    factor = np.exp(-1j * (k[:, None] * (down - steps[0]) + k[None, :] * (right - steps[1])))
    plane = np.roll(fft.ifft2(fft.fft2(plane) * factor).real, steps, (0, 1))
    return plane[:side, :side]


def _check_light(name, stamp):
    if not np.isfinite(stamp).all():
        raise ValueError(f"{name} has values that are not finite")
    if not stamp.sum() > 0:
        raise ValueError(f"{name} has a sum of {stamp.sum():g}: there is no light in it")


def _from_dict(name, psf) -> PsfexModel:
    missing = [key for key in NEEDED if key not in psf]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}; a PSF model has {', '.join(NEEDED)}")
    data, degree = np.asarray(psf["data"]), int(psf["degree"])
    terms = (degree + 1) * (degree + 2) // 2
    if data.shape != (terms, psf["height"], psf["width"]):
        raise ValueError(
            f"{name}: data {data.shape} do not fit degree {degree} ({terms} terms) and "
            f"{psf['height']} x {psf['width']} samples"
        )
    for key in ("sampling", "sx", "sy"):
        if not (np.isfinite(psf[key]) and psf[key] > 0):
            raise ValueError(f"{name}: {key} must be positive; got {psf[key]}")
    return PsfexModel(psf)


def _dict_size(psf):
    side = int(np.floor(max(psf["width"], psf["height"]) * psf["sampling"]))
    return max(3, side - 1 + side % 2)


def _model_size(psf, shape, fwhm):
    """The model's own width, else so many FWHM; odd, and no wider than the image."""
    own = getattr(psf, "size", None)
    if own is None:
        width = getattr(psf, "fwhm", None) if fwhm is None else fwhm
        width = width() if callable(width) else width
        own = int(np.clip(np.ceil(SIZE_OF_FWHM * (width or 4.0)), *SUPPORTS))
    own = min(int(own), min(shape))
    return own - 1 + own % 2


def _sampled(image, sampling, size):
    """Native pixels of a model on samples, flux per pixel, unit sum."""
    if sampling == 1 and image.shape[0] == image.shape[1] and image.shape[0] % 2:
        native = resized(image, size)
    else:
        offset = (np.arange(size) - size // 2) / sampling
        rows, cols = (offset + n // 2 for n in image.shape)
        grid = np.meshgrid(rows, cols, indexing="ij")
        native = ndimage.map_coordinates(image, grid, order=5, mode="constant")
    return native / native.sum()
