"""Products that are images: exposure, template and difference."""

from pathlib import Path
from typing import Any

import numpy as np

from psflib.files.reading import KEPT
from psflib.haloes.starless import Starless
from psflib.image.convolve import BilinearWeights, VaryingKernel, constant_kernel
from psflib.image.covariance import CovarianceMaps
from psflib.image.difference import Difference
from psflib.image.exposure import OWN_BITS, Exposure, MaskBit
from psflib.products import models
from psflib.products.hdus import (
    array_hdu,
    card,
    plane_hdus,
    read_named,
    read_planes,
    read_table,
    table_hdu,
)
from psflib.products.provenance import open_product, read_meta, write_product

#: Field of Exposure -> keyword, comment
_SCALARS = {
    "gain": ("GAIN", "e-/ADU"),
    "read_noise": ("RDNOISE", "e-"),
    "saturation": ("SATURATE", "ADU, sky included"),
    "sky": ("SKYLEVEL", "ADU, already subtracted"),
}
PSF_SIZE = 41  # side in px of the PSF picture in a difference


def write_exposure(path: str | Path, exposure: Exposure, settings: Any = None) -> None:
    """Write `exposure.fits` or `template.fits`: IMAGE (ADU), VARIANCE (ADU²), MASK.

    Pixels without data are NaN in IMAGE.  The names of the mask bits are in MASK's header
    (MP_SAT = 4, ...), the WCS in that of each plane, gain and the like in IMAGE's.
    """
    cards = _cards(exposure)
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
        return _exposure_from(hdus, path)


def write_starless(path: str | Path, starless: Starless, settings: Any = None) -> None:
    """Write `starless.fits`: IMAGE, VARIANCE, MASK as in `exposure.fits`, LIGHT (ADU), REMOVED."""
    exposure = starless.exposure
    hdus = [
        *plane_hdus(
            exposure.image, exposure.variance, exposure.mask, exposure.wcs, _cards(exposure)
        ),
        array_hdu("LIGHT", starless.light, "adu"),
        table_hdu("REMOVED", starless.removed),
    ]
    metas = {"exposure": exposure.meta, "removed": starless.removed.meta}
    write_product(path, "starless", hdus, settings, metas)


def read_starless(path: str | Path) -> Starless:
    """Read what `write_starless` wrote; BadFile if it is missing, damaged or another product."""
    with open_product(path, "starless") as hdus:
        exposure = _exposure_from(hdus, path)
        light, _ = read_named(hdus, path, "LIGHT", np.float32)
        removed = read_table(hdus, path, "REMOVED", read_meta(hdus, path).get("removed"))
    return Starless(exposure, removed, light)


def write_difference(path: str | Path, difference: Difference, settings: Any = None) -> None:
    """Write `difference.fits` or, if it has a whitening filter, `decorrelated.fits`.

    IMAGE, VARIANCE, MASK, PSF (41, 41) at the centre; after decorrelation WHITENING (and
    WHITENING_NODES, the weights of its terms), COVARIANCE (ADU², at four lags) and SCORE; and the
    PSF model and matching kernel as in `epsf.fits` and `kernel.fits`, so that `psf_at`
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
        hdus += _whitening_hdus(difference.whitening)
        if difference.covariance is not None:
            hdus.append(_covariance_hdu(difference.covariance))
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
        whitening = covariance = score = None
        if hdus[0].header["PRODUCT"] == "decorrelated":
            whitening = _whitening_from(hdus, path)
            if "COVARIANCE" in hdus:
                covariance = _covariance_from(hdus, path)
            if "SCORE" in hdus:
                score, _ = read_named(hdus, path, "SCORE", np.float32)
    image[(mask & np.uint16(MaskBit.NO_DATA)) != 0] = 0
    meta = metas.get("difference", {})
    return Difference(
        image, variance, mask, kernel, psf, wcs,
        whitening=whitening, covariance=covariance, score=score, meta=meta,
    )  # fmt: skip


def _cards(exposure):
    """What is known of an exposure, as (keyword, value, comment)."""
    cards = [(k, exposure.meta[k], "") for k in KEPT if _fits_a_card(exposure.meta.get(k))]
    for name, (keyword, comment) in _SCALARS.items():
        value = getattr(exposure, name)
        if value is not None:
            cards.append((keyword, float(value), comment))
    return cards


def _exposure_from(hdus, path):
    image, variance, mask, wcs = read_planes(hdus, path)
    header = hdus["IMAGE"].header
    scalars = {name: header.get(keyword) for name, (keyword, _) in _SCALARS.items()}
    meta = read_meta(hdus, path).get("exposure", {})
    return Exposure(image, variance, mask, wcs, **scalars, meta=meta, mask_bits=OWN_BITS)


def _fits_a_card(value):
    if isinstance(value, str):
        return value.isascii() and value.isprintable()
    return isinstance(value, int | float) and np.isfinite(value)


def _whitening_hdus(whitening):
    """WHITENING (k, k), or its terms (r, k, k) and their weights at the nodes of a grid."""
    images, weights = whitening.images, whitening.weights
    if len(images) == 1:
        return [array_hdu("WHITENING", images[0])]
    cards = []
    for axis, at in (("X", weights.x), ("Y", weights.y)):
        cards += [
            (f"NODE_{axis}0", at[0], "first node, 0-based px"),
            (f"NODE_{axis}1", at[-1], "last node, at equal distances"),
        ]
    return [
        array_hdu("WHITENING", images),
        array_hdu("WHITENING_NODES", weights.nodes, cards=cards),
    ]


def _whitening_from(hdus, path):
    images, _ = read_named(hdus, path, "WHITENING", float)
    if images.ndim == 2:
        return constant_kernel(images)
    nodes, header = read_named(hdus, path, "WHITENING_NODES", float)
    x, y = (
        np.linspace(card(header, f"NODE_{axis}0", path), card(header, f"NODE_{axis}1", path), n)
        for axis, n in (("X", nodes.shape[2]), ("Y", nodes.shape[1]))
    )
    return VaryingKernel(images, BilinearWeights(nodes, x, y))


def _covariance_hdu(covariance):
    """COVARIANCE (lag, y, x) in ADU², one value a cell."""
    cards = [("SPACING", covariance.spacing, "px, side of a cell")]
    for number, (dy, dx) in enumerate(covariance.lags):
        cards += [(f"LAG_Y{number}", dy, "px"), (f"LAG_X{number}", dx, "px")]
    return array_hdu("COVARIANCE", covariance.maps, cards=cards)


def _covariance_from(hdus, path):
    maps, header = read_named(hdus, path, "COVARIANCE", np.float32)
    lags = tuple(
        tuple(card(header, f"LAG_{axis}{n}", path) for axis in "YX") for n in range(len(maps))
    )
    return CovarianceMaps(maps, card(header, "SPACING", path), lags)
