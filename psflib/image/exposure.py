"""`Exposure`: an image with its variance, mask and coordinates, cut and changed together."""

import dataclasses
import enum
import math
from typing import Any

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, NDData, StdDevUncertainty, VarianceUncertainty
from astropy.wcs import WCS


class MaskBit(enum.IntFlag):
    """Meaning of each bit of a mask plane; the names are written to the header of products."""

    NO_DATA = 1  # not observed, or not finite on input
    BAD = 2  # the user's mask, bad columns, dead pixels
    SAT = 4  # saturated, bleeding included
    CR = 8  # cosmic ray
    EDGE = 16  # a kernel reached over the border
    INTERP = 32  # value filled in from its surroundings
    INTRP = 32  # another name of INTERP, LSST's
    DETECTED = 64  # part of a source
    NEIGHBOR = 128  # light of a neighbouring star
    TEMPLATE = 256  # the matched template saw a bad pixel here
    SUSPECT = 512  # usable with care (close to saturation, halo)
    HALO = 1024  # light of a bright star was removed here
    STREAK = 2048  # light of a satellite or aeroplane crosses here


#: A pixel with one of these bits is never used as data.
UNUSABLE = (
    MaskBit.NO_DATA
    | MaskBit.BAD
    | MaskBit.SAT
    | MaskBit.CR
    | MaskBit.EDGE
    | MaskBit.TEMPLATE
    | MaskBit.STREAK
)


COUNTS = u.adu, u.ct, u.dimensionless_unscaled

#: Noise between these is held in the caller's units; float32 squares of others are no numbers.
HELD = 1e-11, 1e14

UNIT_SAMPLE = 100_000  # pixels among which those are looked for that tell the noise

#: The word that says that a mask holds `MaskBit` values.
OWN_BITS = "psflib"


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
        Any nonzero value (or True) means bad and becomes `MaskBit.BAD`, whatever the type; only
        with ``mask_bits="psflib"`` are the values taken as `MaskBit`.
    wcs : astropy.wcs.WCS, optional
    gain : float, optional
        Electrons per unit of a pixel, the exposure time included: e-/ADU for counts, that times
        the exposure time for counts/s, 1 for electrons, the exposure time for electrons/s.
    read_noise : float, optional
        e-.
    saturation : float, optional
        Level in ADU at and above which a pixel is saturated, on the scale of the original image
        (sky included).
    sky : float, optional
        Level of the sky in ADU that was subtracted; None if the image still has its sky.
    meta : dict, optional
        Anything else that should travel along (name, date, filter, what was measured ...).
        `unit`, if it is there, is the value of one of our units in those of the caller: images
        whose variance float32 cannot hold (1e-22 erg/s/cm²/A) are kept in larger units.
    mask_bits : "psflib", optional
        Says that `mask` holds `MaskBit` values.  No type of number says so by itself: other
        people's masks are uint16, too.  An exposure's own mask always holds them.

    Raises
    ------
    ValueError
        If shapes disagree, the image is not 2-D and real, gain is not positive, or `mask_bits`
        is another word.
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
    mask_bits: str | None = None  # "psflib" after construction

    def __post_init__(self):
        image = _native(self.image, "image")
        mask = _bits(self.mask, image.shape, self.mask_bits)
        image, mask = _flag_bad(~np.isfinite(image), mask, image)
        if self.variance is not None:
            unit = _unit_of(np.asarray(self.variance))
            if unit != 1:
                image = self._change_unit(unit)
            variance = _native(self.variance, "variance", image.shape)
            with np.errstate(invalid="ignore"):
                bad = ~((variance > 0) & (variance < np.inf))
            image, variance, mask = _flag_bad(bad, mask, image, variance)
            object.__setattr__(self, "variance", variance)
        for name in ("gain", "read_noise", "saturation"):
            _check_number(name, getattr(self, name), positive=name != "read_noise")
        object.__setattr__(self, "image", image)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "mask_bits", OWN_BITS)

    def _change_unit(self, unit):
        """All that is in units of the pixels by this unit; the image (ny, nx) is returned."""
        for name, power in {"saturation": -1, "sky": -1, "gain": 1}.items():
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else value * unit**power)
        if self.variance is not None:
            object.__setattr__(self, "variance", np.asarray(self.variance, float) / unit**2)
        object.__setattr__(self, "meta", {**self.meta, "unit": self.meta.get("unit", 1.0) * unit})
        return _native(np.asarray(self.image, float) / unit, "image")

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
        """A copy with some fields changed; a new `mask` is read as the constructor reads it."""
        if "mask" in changes:
            changes.setdefault("mask_bits", None)
        return dataclasses.replace(self, **changes)

    def in_unit(self, unit: float) -> "Exposure":
        """A copy with pixels of `unit` times the size; `meta["unit"]` tells how large they are."""
        made = dataclasses.replace(self)
        object.__setattr__(made, "image", made._change_unit(unit))
        if made.variance is not None:
            object.__setattr__(made, "variance", made.variance.astype(np.float32))
        return made

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
            meta={
                **self.meta,
                **{k: v for k, v in scalars.items() if v is not None},
                "mask_bits": OWN_BITS,  # of the flags
            },
        )

    @classmethod
    def from_ccddata(cls, ccd: NDData) -> "Exposure":
        """An exposure from `astropy.nddata`'s CCDData or NDData, inverse of `to_ccddata`.

        Raises
        ------
        ValueError
            If the unit is not ADU, counts or none: gain and saturation refer to ADU.
        """
        if ccd.unit not in (*COUNTS, None):
            raise ValueError(f"{type(ccd).__name__} in {ccd.unit}: convert it to adu first")
        variance = None
        if ccd.uncertainty is not None:
            if isinstance(ccd.uncertainty, StdDevUncertainty):
                variance = np.square(ccd.uncertainty.array)
            else:
                with np.errstate(divide="ignore"):  # no weight: an infinite variance, NO_DATA
                    variance = ccd.uncertainty.represent_as(VarianceUncertainty).array
        meta = dict(ccd.meta)
        scalars = {n: meta.pop(n, None) for n in ("gain", "read_noise", "saturation", "sky")}
        bits = meta.pop("mask_bits", None)
        flags = getattr(ccd, "flags", None)
        mask, bits = (ccd.mask, None) if flags is None else (flags, bits)
        return cls(ccd.data, variance, mask, _wcs_of(ccd), **scalars, meta=meta, mask_bits=bits)


def _wcs_of(ccd):
    """The WCS without the wrapper that NDData puts around it."""
    return getattr(ccd.wcs, "low_level_wcs", ccd.wcs)


def as_exposure(image) -> Exposure:
    """Whatever a caller has, as an exposure.

    Parameters
    ----------
    image : Exposure, astropy.nddata.NDData or array (ny, nx)
        CCDData are NDData; of a masked array, what is masked is bad; a Quantity in ADU or counts.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if isinstance(image, Exposure):
        return image
    if isinstance(image, NDData):
        return Exposure.from_ccddata(image)
    if isinstance(image, np.ma.MaskedArray):
        return Exposure(image.data, mask=np.ma.getmaskarray(image))
    if isinstance(image, u.Quantity) and image.unit not in COUNTS:
        raise ValueError(f"an image in {image.unit}: convert it to adu first")
    if isinstance(image, np.ndarray):
        return Exposure(np.asarray(image))
    raise ValueError(
        f"an image is an Exposure, a CCDData or NDData, or an array; got {type(image).__name__}"
    )


def unit_for(noise: float) -> float:
    """Power of two in whose units pixels of this noise are kept; 1 where float32 serves."""
    plain = not (noise > 0 and np.isfinite(noise)) or HELD[0] < noise < HELD[1]
    return 1.0 if plain else 2.0 ** round(np.log2(noise))


def _unit_of(variance):
    """`unit_for` a plane of variances, whatever it holds."""
    few = variance.ravel()[:: max(1, variance.size // UNIT_SAMPLE)]
    for values in (few, variance):
        with np.errstate(invalid="ignore"):
            known = values[(values > 0) & (values < np.inf)]
        if known.size:
            return unit_for(math.sqrt(np.median(known[:: max(1, known.size // 1000)])))
    return 1.0


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


def _bits(mask, shape, meaning):
    if meaning not in (None, OWN_BITS):
        raise ValueError(f"mask_bits must be {OWN_BITS!r} or None; got {meaning!r}")
    if mask is None:
        return np.zeros(shape, np.uint16)
    mask = np.asarray(mask)
    if mask.shape != shape:
        raise ValueError(f"mask has shape {mask.shape}, the image {shape}")
    if meaning == OWN_BITS and mask.dtype.kind != "b":
        if mask.dtype.kind not in "ui":
            raise ValueError(f"a mask of {OWN_BITS}'s bits must hold integers; got {mask.dtype}")
        return np.ascontiguousarray(mask, dtype=np.uint16)
    return np.where(mask != 0, np.uint16(MaskBit.BAD), np.uint16(0))


def _flag_bad(bad, mask, *planes):
    """The planes with 0, and the mask with NO_DATA, where `bad`; the caller's are not touched."""
    rows = np.flatnonzero(bad)
    bit = np.uint16(MaskBit.NO_DATA)
    changed = []
    for plane in planes:
        if plane.ravel()[rows].any():  # NaN counts
            plane = plane.copy()
            plane.ravel()[rows] = 0
        changed.append(plane)
    if not (mask.ravel()[rows] & bit).all():
        mask = mask.copy()
        mask.ravel()[rows] |= bit
    return *changed, mask


def _check_number(name, value, positive):
    if value is None:
        return
    if not np.isfinite(value) or value < 0 or (positive and value == 0):
        raise ValueError(
            f"{name} must be a {'positive' if positive else 'non-negative'} number; got {value}"
        )
