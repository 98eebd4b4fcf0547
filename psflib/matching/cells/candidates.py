"""Candidates for the kernel: detected or given, then vetted on both images."""

import logging

import numpy as np
import sep

from psflib.errors import BadImage
from psflib.image.exposure import Exposure, MaskBit, has_bits
from psflib.matching.cells.grid import KernelCandidate

log = logging.getLogger(__name__)

LEAST_SNR = 5.0  # of the core of a candidate, in each image
CORE = 3  # px, half side of the core that rates a candidate


def bits_of(names) -> MaskBit:
    """The union of mask planes given by name."""
    bits = MaskBit(0)
    for name in names:
        bits |= MaskBit[name]
    return bits


def detect_candidates(exposure: Exposure, config) -> np.ndarray:
    """Sources of a sky-free exposure with variance.

    Parameters
    ----------
    config : DetectionConfig

    Returns
    -------
    ndarray (n,) with fields x, y (px), npix
    """
    bad = has_bits(exposure.mask, bits_of(config.bad_mask_planes)) | (exposure.variance <= 0)
    if bad.all():
        return np.empty(0, [("x", float), ("y", float), ("npix", int)])
    sigma = np.sqrt(np.where(bad, 0, exposure.variance))
    image = np.where(bad, 0, exposure.image)
    threshold, error = _threshold(config, sigma, bad)
    sep.set_extract_pixstack(max(1_000_000, image.size // 2))
    sep.set_sub_object_limit(8192)
    for factor in (1, 2, 4):
        try:
            found = sep.extract(
                image, factor * threshold, err=error, mask=bad, minarea=config.fp_npix_min,
                clean=False,
            )  # fmt: skip
            return found[["x", "y", "npix"]]
        except Exception as failure:  # sep raises bare Exception when deblending gives up
            problem = failure
            log.warning("detection at %g times the threshold: %s", factor, failure)
    raise BadImage(f"sources cannot be separated even at 4 times the threshold: {problem}")


def _threshold(config, sigma, bad):
    """sep's threshold and error plane for the four meanings of a threshold."""
    sky = float(np.median(sigma[~bad]))
    if config.det_threshold_type == "pixel_stdev":
        return config.det_threshold, np.where(bad, sky, sigma).astype(np.float32)
    factor = 1.0 if config.det_threshold_type == "value" else sky
    return config.det_threshold * factor, None


def positions(candidates) -> np.ndarray:
    """(n, 2) float64 x, y of a table with columns x and y, or of anything that is (n, 2).

    Raises
    ------
    ValueError
        If it is neither.
    """
    names = getattr(candidates, "colnames", None) or getattr(
        getattr(candidates, "dtype", None), "names", None
    )
    if names is not None:
        if not {"x", "y"} <= set(names):
            raise ValueError(f"candidates need the columns x and y; got {', '.join(names)}")
        columns = [getattr(candidates[n], "value", candidates[n]) for n in ("x", "y")]
        return np.stack([np.asarray(np.ma.filled(c, np.nan), float) for c in columns], 1)
    array = np.asarray(candidates, float)
    if array.size == 0:
        return np.empty((0, 2))
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(
            f"candidates are a table with x and y, or (n, 2) positions; got shape {array.shape}"
        )
    return array


def vet_candidates(found, template, science, config, half, margin=0) -> list[KernelCandidate]:
    """All candidates, the unusable ones with a reason.

    Parameters
    ----------
    found : table or (n, 2) positions; with npix its range is checked
    template, science : Exposure
        On one grid, with variance.
    config : DetectionConfig
    half : int
        Half side of a stamp, px.
    margin : int
        Width of the outer part of a stamp that may have masked pixels, px.
    """
    bad_bits = bits_of(config.bad_mask_planes)
    bad = has_bits(template.mask, bad_bits) | has_bits(science.mask, bad_bits)
    names = getattr(getattr(found, "dtype", None), "names", None) or ()
    sizes = found["npix"] if "npix" in names else None
    vetted = []
    for i, (x, y) in enumerate(positions(found)):
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        one = KernelCandidate(i, float(x), float(y), 0.0, stamp_box(x, y, half, science.shape))
        if one.box is None:
            one.reject("edge")
        else:
            npix = None if sizes is None else sizes[i]
            _vet(one, template, science, bad, npix, config, inner_box(one.box, margin))
        vetted.append(one)
    return vetted


def inner_box(box, margin):
    """The stamp without its outermost `margin` pixels."""
    return tuple(slice(s.start + margin, s.stop - margin) for s in box)


def _vet(one, template, science, bad, npix, config, inner):
    ratings = [_core_snr(e, one.x, one.y, bad) for e in (science, template)]
    one.rating = ratings[0]
    if bad[inner].any():
        one.reject("mask")
    elif npix is not None and not config.fp_npix_min <= npix <= config.fp_npix_max:
        one.reject("size")
    elif min(ratings) < LEAST_SNR:
        one.reject("snr")
    elif min(e.variance[inner].min() for e in (template, science)) <= 0:
        one.reject("variance")


def _core_snr(exposure, x, y, bad):
    """Flux over its error in the core, good pixels only."""
    rows, columns = (
        slice(max(round(c) - CORE, 0), round(c) + CORE + 1) for c in (float(y), float(x))
    )
    good = ~bad[rows, columns]
    noise = np.sqrt(exposure.variance[rows, columns][good].sum(dtype=float))
    return float(exposure.image[rows, columns][good].sum(dtype=float) / noise) if noise > 0 else 0.0


def stamp_half(config, kernel_size: int) -> int:
    """Half side in px of a candidate's stamp."""
    if not config.scale_by_fwhm:
        return config.fp_grow_pix
    return int(config.fp_grow_kernel_scaling * kernel_size + 0.5)


def stamp_box(x, y, half, shape):
    """Rows and columns of the stamp about (x, y), or None if it is not inside."""
    row, column = round(float(y)), round(float(x))
    ny, nx = shape
    if row < half or column < half or row >= ny - half or column >= nx - half:
        return None
    return slice(row - half, row + half + 1), slice(column - half, column + half + 1)
