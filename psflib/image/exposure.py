"""`Exposure`: an image with its variance, mask and coordinates, cut and changed together."""

import dataclasses
import enum
from typing import Any

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty, VarianceUncertainty
from astropy.wcs import WCS


class MaskBit(enum.IntFlag):
    """Meaning of each bit of a mask plane; the names are written to the header of products."""

    NO_DATA = 1  # not observed, or not finite on input
    BAD = 2  # the user's mask, bad columns, dead pixels
    SAT = 4  # saturated, bleeding included
    CR = 8  # cosmic ray
    EDGE = 16  # a kernel reached over the border
    INTERP = 32  # value filled in from its surroundings
    DETECTED = 64  # part of a source
    NEIGHBOR = 128  # light of a neighbouring star
    TEMPLATE = 256  # the matched template saw a bad pixel here
    SUSPECT = 512  # usable with care (close to saturation, halo)
    HALO = 1024  # light of a bright star was removed here


#: A pixel with one of these bits is never used as data.
UNUSABLE = (
    MaskBit.NO_DATA | MaskBit.BAD | MaskBit.SAT | MaskBit.CR | MaskBit.EDGE | MaskBit.TEMPLATE
)


def has_bits(mask: np.ndarray, bits: MaskBit) -> np.ndarray:
    """Boolean plane: True where `mask` has any of `bits` set."""
    return (mask & np.uint16(bits)) != 0


@dataclasses.dataclass(frozen=True, eq=False)
class Exposure:
    """One image and all that is known of its pixels.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Counts in ADU, any real dtype and byte order; kept as native float32.  A pixel that is
        not finite is set to 0 and flagged NO_DATA.
    variance : ndarray (ny, nx), optional
        Variance of the noise in ADU²; None means "to be measured" (`prepare` does it).
        Pixels with a variance that is not finite or not positive are flagged NO_DATA.
    mask : ndarray (ny, nx), optional
        Boolean (True is bad) or an integer plane.  Booleans become `MaskBit.BAD`; integers are
        taken as `MaskBit` values when dtype is uint16, else any nonzero value means BAD.
    wcs : astropy.wcs.WCS, optional
    gain : float, optional
        e-/ADU.
    read_noise : float, optional
        e-.
    saturation : float, optional
        Level in ADU at and above which a pixel is saturated, on the scale of the original image
        (sky included).
    sky : float, optional
        Level of the sky in ADU that was subtracted; None if the image still has its sky.
    meta : dict, optional
        Anything else that should travel along (name, date, filter, what was measured ...).

    Raises
    ------
    ValueError
        If shapes disagree, the image is not 2-D and real, or gain is not positive.
    """

    image: np.ndarray
    variance: Any = None  # ndarray once prepared
    mask: Any = None  # ndarray of uint16 after construction
    wcs: WCS | None = None
    gain: float | None = None
    read_noise: float | None = None
    saturation: float | None = None
    sky: float | None = None
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        image = _native(self.image, "image")
        mask = _bits(self.mask, image.shape)
        image, mask = _flag_bad(image, mask, ~np.isfinite(image))
        if self.variance is not None:
            variance = _native(self.variance, "variance", image.shape)
            with np.errstate(invalid="ignore"):
                bad = ~((variance > 0) & np.isfinite(variance))
            image, mask = _flag_bad(image, mask, bad)
            variance, _ = _flag_bad(variance, mask, bad)
            object.__setattr__(self, "variance", variance)
        for name in ("gain", "read_noise", "saturation"):
            _check_number(name, getattr(self, name), positive=name != "read_noise")
        object.__setattr__(self, "image", image)
        object.__setattr__(self, "mask", mask)

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)"""
        return self.image.shape

    @property
    def usable(self) -> np.ndarray:
        """Boolean (ny, nx): True where the pixel can serve as data."""
        return ~has_bits(self.mask, UNUSABLE)

    def weight(self) -> np.ndarray:
        """Inverse variance (ny, nx) float32 in ADU⁻², 0 where the pixel is unusable."""
        if self.variance is None:
            raise ValueError("this exposure has no variance yet: call psflib.prepare first")
        weight = np.zeros_like(self.image)
        np.divide(1, self.variance, out=weight, where=self.usable & (self.variance > 0))
        return weight

    def replace(self, **changes) -> "Exposure":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def cutout(self, y: slice, x: slice) -> "Exposure":
        """All planes cut together, the WCS shifted with them."""
        return dataclasses.replace(
            self,
            image=self.image[y, x],
            variance=None if self.variance is None else self.variance[y, x],
            mask=self.mask[y, x],
            # WCS takes a negative start for an offset, not for "from the end" as arrays do
            wcs=None if self.wcs is None else self.wcs[_from_zero((y, x), self.shape)],
        )

    def to_ccddata(self) -> CCDData:
        """The exposure as `astropy.nddata.CCDData`; scalars go to its `meta`."""
        scalars = {n: getattr(self, n) for n in ("gain", "read_noise", "saturation", "sky")}
        uncertainty = None if self.variance is None else VarianceUncertainty(self.variance.copy())
        return CCDData(
            self.image.copy(),
            unit=u.adu,
            uncertainty=uncertainty,
            mask=~self.usable,
            flags=self.mask.copy(),
            wcs=self.wcs,
            meta={**self.meta, **{k: v for k, v in scalars.items() if v is not None}},
        )

    @classmethod
    def from_ccddata(cls, ccd: CCDData) -> "Exposure":
        """An exposure from `astropy.nddata.CCDData`, inverse of `to_ccddata`.

        Raises
        ------
        ValueError
            If the unit is not ADU, counts or none: gain and saturation refer to ADU.
        """
        if ccd.unit not in (u.adu, u.ct, u.dimensionless_unscaled):
            raise ValueError(f"CCDData in {ccd.unit}: convert it to adu first")
        variance = None
        if ccd.uncertainty is not None:
            if isinstance(ccd.uncertainty, StdDevUncertainty):
                variance = np.square(ccd.uncertainty.array)
            else:
                with np.errstate(divide="ignore"):  # no weight: an infinite variance, NO_DATA
                    variance = ccd.uncertainty.represent_as(VarianceUncertainty).array
        meta = dict(ccd.meta)
        scalars = {n: meta.pop(n, None) for n in ("gain", "read_noise", "saturation", "sky")}
        mask = ccd.flags if ccd.flags is not None else ccd.mask
        return cls(ccd.data, variance, mask, ccd.wcs, **scalars, meta=meta)


def as_exposure(image) -> Exposure:
    """Whatever a caller has, an Exposure, a CCDData or an array (ny, nx), as an exposure.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if isinstance(image, Exposure):
        return image
    if isinstance(image, CCDData):
        return Exposure.from_ccddata(image)
    if isinstance(image, np.ndarray):
        return Exposure(image)
    raise ValueError(f"an image is an Exposure, a CCDData or an array; got {type(image).__name__}")


def _from_zero(slices, shape):
    return tuple(slice(*s.indices(n)) for s, n in zip(slices, shape, strict=True))


def _native(array, name, shape=None):
    """`array` as C-ordered native float32, copied only if it must be."""
    array = np.asarray(array)
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} must be a 2-D array of real numbers; got shape {array.shape}, {array.dtype}"
        )
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, the image {shape}")
    return np.ascontiguousarray(array, dtype=np.float32)


def _bits(mask, shape):
    if mask is None:
        return np.zeros(shape, np.uint16)
    mask = np.asarray(mask)
    if mask.shape != shape:
        raise ValueError(f"mask has shape {mask.shape}, the image {shape}")
    if mask.dtype.kind == "u" and mask.dtype.itemsize == 2:
        return np.ascontiguousarray(mask, dtype=np.uint16)
    return np.where(mask != 0, np.uint16(MaskBit.BAD), np.uint16(0))


def _flag_bad(image, mask, bad):
    """Zero `image` and set NO_DATA where `bad`, without touching the caller's arrays."""
    if not bad.any():
        return image, mask
    image, mask = image.copy(), mask.copy()
    image[bad] = 0
    mask[bad] |= np.uint16(MaskBit.NO_DATA)
    return image, mask


def _check_number(name, value, positive):
    if value is None:
        return
    if not np.isfinite(value) or value < 0 or (positive and value == 0):
        raise ValueError(
            f"{name} must be a {'positive' if positive else 'non-negative'} number; got {value}"
        )
