"""Products that are images: exposure, template and difference."""

from pathlib import Path
from typing import Any

import numpy as np

from psflib.convolve import VaryingKernel, blend_nodes, constant_kernel, node_grid
from psflib.difference import Difference
from psflib.exposure import Exposure, MaskBit
from psflib.files.reading import KEPT
from psflib.products import models
from psflib.products.hdus import array_hdu, plane_hdus, read_named, read_planes
from psflib.products.provenance import open_product, read_meta, write_product

#: Field of Exposure -> keyword, comment
_SCALARS = {
    "gain": ("GAIN", "e-/ADU"),
    "read_noise": ("RDNOISE", "e-"),
    "saturation": ("SATURATE", "ADU, sky included"),
    "sky": ("SKYLEVEL", "ADU, already subtracted"),
}
PSF_SIZE = 41  # side in px of the PSF picture in a difference
MAX_NODES = 33


def write_exposure(path: str | Path, exposure: Exposure, settings: Any = None) -> None:
    """Write `exposure.fits` or `template.fits`: IMAGE (ADU), VARIANCE (ADU²), MASK.

    Pixels without data are NaN in IMAGE.  The names of the mask bits are in MASK's header
    (MP_SAT = 4, ...), the WCS in that of each plane, gain and the like in IMAGE's.
    """
    cards = [(k, exposure.meta[k], "") for k in KEPT if _fits_a_card(exposure.meta.get(k))]
    for name, (keyword, comment) in _SCALARS.items():
        value = getattr(exposure, name)
        if value is not None:
            cards.append((keyword, float(value), comment))
    hdus = plane_hdus(exposure.image, exposure.variance, exposure.mask, exposure.wcs, cards)
    write_product(path, "exposure", hdus, settings, {"exposure": exposure.meta})


def read_exposure(path: str | Path) -> Exposure:
    """Read what `write_exposure` wrote.

    Raises
    ------
    BadFile
        If the file is missing, damaged or another product.
    """
    with open_product(path, "exposure") as hdus:
        image, variance, mask, wcs = read_planes(hdus, path)
        header = hdus["IMAGE"].header
        scalars = {name: header.get(keyword) for name, (keyword, _) in _SCALARS.items()}
        meta = read_meta(hdus, path).get("exposure", {})
    return Exposure(image, variance, mask, wcs, **scalars, meta=meta)


def write_difference(path: str | Path, difference: Difference, settings: Any = None) -> None:
    """Write `difference.fits` or, if it has a whitening filter, `decorrelated.fits`.

    IMAGE, VARIANCE, MASK, PSF (41, 41) at the centre; WHITENING and SCORE after decorrelation;
    and the PSF model and matching kernel as in `epsf.fits` and `kernel.fits`, so that `psf_at`
    works again anywhere.  The science and template images are not written.
    """
    hdus = plane_hdus(difference.image, difference.variance, difference.mask, difference.wcs)
    ny, nx = difference.shape
    x, y = (nx - 1) / 2, (ny - 1) / 2
    where = [("PSF_X", x, "0-based px"), ("PSF_Y", y, "0-based px")]
    hdus.append(array_hdu("PSF", difference.psf_at(x, y, PSF_SIZE), cards=where))
    product = "difference"
    if difference.whitening is not None:
        product = "decorrelated"
        hdus.append(_whitening_hdu(difference.whitening, difference.shape))
        if difference.score is not None:
            hdus.append(array_hdu("SCORE", difference.score))
    hdus += models.psf_hdus(difference.psf) + models.kernel_hdus(difference.kernel)
    metas = {
        "difference": difference.meta,
        **models.psf_metas(difference.psf),
        **models.kernel_metas(difference.kernel),
    }
    write_product(path, product, hdus, settings, metas)


def read_difference(path: str | Path) -> Difference:
    """Read `difference.fits` or `decorrelated.fits`, without the images that it was made of.

    For `decorrelate` put them back: ``difference.replace(science=..., template=...)``.

    Raises
    ------
    BadFile
        If the file is missing, damaged or another product.
    """
    with open_product(path, "difference", "decorrelated") as hdus:
        image, variance, mask, wcs = read_planes(hdus, path)
        metas = read_meta(hdus, path)
        psf = models.psf_from(hdus, path, metas)
        kernel = models.kernel_from(hdus, path, metas)
        whitening = score = None
        if hdus[0].header["PRODUCT"] == "decorrelated":
            whitening = _whitening_from(hdus, path, image.shape)
            if "SCORE" in hdus:
                score, _ = read_named(hdus, path, "SCORE", np.float32)
    image[(mask & np.uint16(MaskBit.NO_DATA)) != 0] = 0
    meta = metas.get("difference", {})
    return Difference(
        image, variance, mask, kernel, psf, wcs, whitening=whitening, score=score, meta=meta
    )


def _fits_a_card(value):
    if isinstance(value, str):
        return value.isascii() and value.isprintable()
    return isinstance(value, int | float) and np.isfinite(value)


def _whitening_hdu(whitening, shape):
    """WHITENING (k, k), or (n, n, k, k) at the nodes of a grid, bilinear between them."""
    kernels = _sampled(whitening, shape)
    count = len(kernels)
    cards = [("NODES", count, "nodes an axis, see psflib.convolve.node_grid")]
    return array_hdu("WHITENING", kernels[0, 0] if count == 1 else kernels, cards=cards)


def _sampled(whitening: VaryingKernel, shape):
    """Kernels (n, n, k, k) on the coarsest grid whose bilinear blend is the filter itself.

    The filter keeps its weights as a function; so the grid on which it was computed is found by
    comparing them at places that are on no grid.
    """
    rng = np.random.default_rng(0)
    px, py = rng.uniform(0, shape[1], 50), rng.uniform(0, shape[0], 50)
    truth = np.array([whitening.at(*p) for p in zip(px, py, strict=True)])
    for count in range(1, MAX_NODES + 1):
        x, y = node_grid(shape, count)
        kernels = np.array([[whitening.at(i, j) for i in x] for j in y])
        blend = blend_nodes(kernels, x, y, tolerance=1e-12)
        error = max(
            np.abs(blend.at(*p) - t).max()
            for p, t in zip(zip(px, py, strict=True), truth, strict=True)
        )
        if error < 1e-9 * np.abs(truth).max():
            return kernels
    raise ValueError(f"the whitening filter varies on a scale finer than {MAX_NODES} nodes")


def _whitening_from(hdus, path, shape):
    kernels, _ = read_named(hdus, path, "WHITENING", float)
    if kernels.ndim == 2:
        return constant_kernel(kernels)
    return blend_nodes(kernels, *node_grid(shape, len(kernels)), tolerance=1e-12)
