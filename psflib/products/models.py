"""Products that are models: stamps, ePSF, extended PSF and matching kernel."""

from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import QTable

from psflib.matching.kernel import MatchingKernel
from psflib.products.hdus import array_hdu, card, read_named, read_table, table_hdu
from psflib.products.provenance import open_product, read_meta, write_product
from psflib.psf.core.field import PsfField
from psflib.psf.wings.field import ExtendedPsfField, PowerLaw
from psflib.psf.wings.variation import WingVariation
from psflib.stamps.build import Stamps, pixels


def write_stamps(path: str | Path, stamps, settings: Any = None) -> None:
    """Write `stamps.fits`: DATA (n, s, s) in ADU, WEIGHT in ADU⁻², STARS table."""
    hdus = [
        array_hdu("DATA", stamps.data, "adu"),
        array_hdu("WEIGHT", stamps.weight, "adu-2"),
        table_hdu("STARS", stamps.table),
    ]
    metas = {"stamps": stamps.meta, "stars": stamps.table.meta}
    write_product(path, "stamps", hdus, settings, metas)


def read_stamps(path: str | Path):
    """Read what `write_stamps` wrote, a `psflib.stamps.build.Stamps`.

    Raises
    ------
    BadFile
        If the file is missing, damaged or another product; so for all `read_` functions here.
    """
    with open_product(path, "stamps") as hdus:
        metas = read_meta(hdus, path)
        stars = read_table(hdus, path, "STARS", metas.get("stars"))
        data, _ = read_named(hdus, path, "DATA", np.float32)
        weight, _ = read_named(hdus, path, "WEIGHT", np.float32)
    return Stamps(data, weight, stars, metas.get("stamps", {}))


def write_psf(path: str | Path, psf, settings: Any = None) -> None:
    """Write `epsf.fits`: EPSF (terms, os·s, os·s), ERROR of its first term, STARS table."""
    write_product(path, "psf", psf_hdus(psf), settings, psf_metas(psf))


def read_psf(path: str | Path):
    """Read what `write_psf` wrote, a `psflib.psf.core.field.PsfField`."""
    with open_product(path, "psf") as hdus:
        return psf_from(hdus, path, read_meta(hdus, path))


def psf_hdus(psf) -> list:
    cards = [
        ("OVERSAMP", int(psf.oversample), "samples per pixel and axis"),
        ("ORDER", int(psf.order), "degree of the variation over the field"),
        *_field_cards(psf.shape),
    ]
    hdus = [array_hdu("EPSF", psf.terms, cards=cards), table_hdu("STARS", psf.stars)]
    return hdus if psf.error is None else [*hdus, array_hdu("ERROR", psf.error)]


def psf_metas(psf) -> dict[str, dict]:
    return {"psf": psf.meta, "stars": psf.stars.meta}


def psf_from(hdus, path, metas):
    terms, header = read_named(hdus, path, "EPSF", float)
    stars = read_table(hdus, path, "STARS", metas.get("stars"))
    return PsfField(
        terms=terms,
        oversample=card(header, "OVERSAMP", path),
        order=card(header, "ORDER", path),
        shape=_field_shape(header, path),
        stars=stars,
        meta=metas.get("psf", {}),
        error=read_named(hdus, path, "ERROR", float)[0] if "ERROR" in hdus else None,
    )


def write_extended_psf(path: str | Path, extended, settings: Any = None) -> None:
    """Write `extended_psf.fits`: CORE, WING, PROFILE (r, value, error, enclosed), STARS and, where
    the wing changes over the field, VARIATION.
    """
    cards = [
        ("OVERSAMP", int(extended.oversample), "samples of the core per pixel and axis"),
        ("MATCHRAD", float(extended.match_radius), "px, where the wing is scaled to the core"),
        ("FEATHER", float(extended.feather_width), "px, width of the seam"),
        ("EERADIUS", float(extended.ee_radius), "px, the PSF has unit sum within"),
        *_tail_cards(extended.tail),
    ]
    hdus = [
        array_hdu("CORE", extended.core, cards=cards),
        array_hdu("WING", extended.wing),
        table_hdu("PROFILE", extended.profile),
        table_hdu("STARS", extended.stars),
        *_variation_hdus(extended.variation),
    ]
    metas = {
        "extended_psf": extended.meta,
        "profile": extended.profile.meta,
        "stars": extended.stars.meta,
    }
    write_product(path, "extended_psf", hdus, settings, metas)


def read_extended_psf(path: str | Path):
    """Read what `write_extended_psf` wrote, a `psflib.psf.wings.stage.ExtendedPsfField`."""
    with open_product(path, "extended_psf") as hdus:
        metas = read_meta(hdus, path)
        core, header = read_named(hdus, path, "CORE", float)
        wing, _ = read_named(hdus, path, "WING", float)
        return ExtendedPsfField(
            core=core,
            oversample=card(header, "OVERSAMP", path),
            wing=wing,
            match_radius=card(header, "MATCHRAD", path),
            feather_width=card(header, "FEATHER", path),
            ee_radius=card(header, "EERADIUS", path),
            profile=read_table(hdus, path, "PROFILE", metas.get("profile")),
            stars=read_table(hdus, path, "STARS", metas.get("stars")),
            meta=metas.get("extended_psf", {}),
            tail=_tail_from(header, path),
            variation=_variation_from(hdus, path),
        )


#: Keywords of the power law that continues the wing, and its fields.
_TAIL = (
    ("TAILRAD", "radius", "px, largest radius known from data"),
    ("TAILREAC", "reach", "px, end of the extrapolation"),
    ("TAILVAL", "value", "PSF at TAILRAD, per px2"),
    ("TAILVERR", "value_error", "its standard error"),
    ("TAILSLOP", "slope", "PSF falls as r^-TAILSLOP beyond"),
    ("TAILSERR", "slope_error", "its standard error"),
)


def _tail_cards(tail):
    if tail is None:
        return []
    return [(keyword, float(getattr(tail, name)), text) for keyword, name, text in _TAIL]


def _tail_from(header, path):
    """The power law of the header; None in products without one."""
    if "TAILRAD" not in header:
        return None
    return PowerLaw(**{name: card(header, keyword, path) for keyword, name, _ in _TAIL})


def _variation_hdus(variation):
    """The table VARIATION; none where the wing is the same everywhere."""
    if variation is None:
        return []
    names = ("slope_x", "slope_y", "slope_x_err", "slope_y_err")
    columns = np.hstack([variation.slopes, variation.errors]).T
    table = QTable({"r": variation.radii * u.pix, **dict(zip(names, columns, strict=True)),
                    "energy": variation.energy})  # fmt: skip
    hdu = table_hdu("VARIATION", table)
    hdu.header["X0"] = (float(variation.centre[0]), "px, where there is no change")
    hdu.header["Y0"] = (float(variation.centre[1]), "px")
    hdu.header["SCALE"] = (float(variation.scale), "px, that the slopes are for")
    return [hdu]


def _variation_from(hdus, path):
    if "VARIATION" not in hdus:
        return None
    table, header = read_table(hdus, path, "VARIATION"), hdus["VARIATION"].header
    slopes = np.column_stack([table[f"slope_{axis}"] for axis in "xy"])
    errors = np.column_stack([table[f"slope_{axis}_err"] for axis in "xy"])
    centre = card(header, "X0", path), card(header, "Y0", path)
    return WingVariation(
        pixels(table["r"]), slopes, errors, np.asarray(table["energy"]), centre,
        card(header, "SCALE", path),
    )  # fmt: skip


def write_kernel(path: str | Path, kernel, settings: Any = None) -> None:
    """Write `kernel.fits`: BASIS, COEF and BACKGROUND, which give the kernel anywhere again,
    and KERNEL, its picture at the field's centre.
    """
    write_product(path, "kernel", kernel_hdus(kernel), settings, kernel_metas(kernel))


def read_kernel(path: str | Path):
    """Read what `write_kernel` wrote, a `psflib.matching.kernel.MatchingKernel`."""
    with open_product(path, "kernel") as hdus:
        return kernel_from(hdus, path, read_meta(hdus, path))


def kernel_hdus(kernel) -> list:
    ny, nx = kernel.shape
    cards = [
        ("ORDER", int(kernel.order), "degree of the shape's variation"),
        ("FLUXORD", int(kernel.flux_order), "degree of the sum's variation"),
        ("BGORDER", int(kernel.bg_order), "degree of the differential background"),
        ("CONVOLVD", kernel.convolved, "the image to be convolved"),
        *_field_cards(kernel.shape),
        *_region_cards(kernel.region),
    ]
    return [
        array_hdu("BASIS", kernel.basis, cards=cards),
        array_hdu("COEF", kernel.coef),
        array_hdu("BACKGROUND", kernel.background, "adu"),
        array_hdu("KERNEL", kernel.at((nx - 1) / 2, (ny - 1) / 2)),
    ]


def kernel_metas(kernel) -> dict[str, dict]:
    return {"kernel": kernel.meta}


def kernel_from(hdus, path, metas):
    basis, header = read_named(hdus, path, "BASIS", float)
    return MatchingKernel(
        basis=basis,
        coef=read_named(hdus, path, "COEF", float)[0],
        order=card(header, "ORDER", path),
        flux_order=card(header, "FLUXORD", path),
        background=read_named(hdus, path, "BACKGROUND", float)[0],
        bg_order=card(header, "BGORDER", path),
        shape=_field_shape(header, path),
        convolved=card(header, "CONVOLVD", path),
        meta=metas.get("kernel", {}),
        region=_region_from(header, path),
    )


#: Keywords of the region in which a kernel's polynomials are known, px.
_REGION = ("REGIONX0", "REGIONX1", "REGIONY0", "REGIONY1")


def _region_cards(region):
    comment = "0-based px, beyond it the kernel is constant"
    return [(k, float(v), comment) for k, v in zip(_REGION, region or (), strict=False)]


def _region_from(header, path):
    """The region of the header; None in products without one."""
    if _REGION[0] not in header:
        return None
    x0, x1, y0, y1 = (float(card(header, keyword, path)) for keyword in _REGION)
    return x0, x1, y0, y1


def _field_cards(shape):
    ny, nx = shape
    return [("FIELDNX", int(nx), "px, width of the image"), ("FIELDNY", int(ny), "px, height")]


def _field_shape(header, path):
    return card(header, "FIELDNY", path), card(header, "FIELDNX", path)
