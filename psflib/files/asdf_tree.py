"""ASDF files (Roman) as FITS images in memory, so that one reader serves both.

Needs the packages asdf and gwcs: ``pip install "psflib[asdf]"``.
"""

import importlib.util
import math
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits

from psflib.errors import BadFile, BadImage

try:
    import asdf
except ImportError:  # an extra; `open_asdf` says so
    asdf = None

#: Place in the tree -> keyword of the image's header.
_CARDS = {
    "meta.telescope": "TELESCOP",
    "meta.instrument.name": "INSTRUME",
    "meta.instrument.detector": "DETECTOR",
    "meta.instrument.optical_element": "FILTER",
    "meta.exposure.exposure_time": "EXPTIME",
    "meta.coadd_info.exposure_time": "EXPTIME",
    "meta.exposure.start_time": "DATE-OBS",
    "meta.coadd_info.time_mean": "DATE-OBS",
    "meta.observation.target": "OBJECT",
}
_FIT_ERROR = 0.01  # px between the file's WCS and the FITS one that is fitted to it


def open_asdf(path: str | Path) -> fits.HDUList:
    """The 2-D arrays of an ASDF file as image HDUs, named as in the tree (DATA, ERR, DQ ...).

    They are copies; the WCS, if there is one, is a FITS one with SIP fitted to the file's gwcs.

    Raises
    ------
    BadFile
        If asdf or gwcs is not installed, the file is damaged, or holds no 2-D array.
    BadImage
        If the WCS cannot be fitted to 0.01 px.
    """
    _check_installed(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tags of the observatory's own are read as plain trees
        with asdf.open(path, lazy_load=True) as file:
            root, tree = _image_tree(file.tree, path)
            shape = np.shape(tree["data"])
            header = _header(tree, root)
            header.update(_wcs_cards(_at(tree, "meta.wcs"), shape, path))
            planes = {k: v for k, v in tree.items() if len(getattr(v, "shape", ())) == 2}
            hdus = [_hdu(name, plane, header) for name, plane in planes.items()]
    hdus.sort(key=lambda hdu: hdu.name != "DATA")
    return fits.HDUList([fits.PrimaryHDU(), *hdus])


def _check_installed(path):
    # asdf itself loads gwcs when a file holds a WCS
    missing = [package for package, there in (
        ("asdf", asdf is not None), ("gwcs", importlib.util.find_spec("gwcs") is not None)
    ) if not there]  # fmt: skip
    if missing:
        raise BadFile(
            path, f"is an ASDF file, and the package {' and '.join(missing)} is not installed",
            'Install what reads it: pip install "psflib[asdf]"',
        )  # fmt: skip


def _image_tree(tree, path):
    """Name and content of the branch that holds a 2-D array `data`."""
    for name, branch in [*tree.items(), ("", tree)]:
        data = branch.get("data") if hasattr(branch, "get") else None
        if len(getattr(_plain(data), "shape", ())) == 2:
            return name, {key: _plain(value) for key, value in branch.items()}
    raise BadFile(path, "holds no 2-D array named `data`", f"Its branches are {', '.join(tree)}")


def _plain(value):
    """Early files wrap their arrays with a unit."""
    return value.value if hasattr(value, "unit") and hasattr(value, "value") else value


def _at(tree, place):
    for key in place.split("."):
        tree = tree.get(key) if hasattr(tree, "get") else None
    return tree


def _header(tree, root):
    header = fits.Header()
    header["ASDFROOT"] = root or "-"
    for place, keyword in _CARDS.items():
        value = _at(tree, place)
        if value is None or keyword in header:
            continue
        if isinstance(value, int | float) and not isinstance(value, bool):
            if math.isfinite(value):
                header[keyword] = value
        elif str(value).isascii() and len(str(value)) < 60:
            header[keyword] = str(value)
    return header


def _wcs_cards(wcs, shape, path):
    if wcs is None:
        return fits.Header()
    ny, nx = shape
    box = ((-0.5, nx - 0.5), (-0.5, ny - 0.5))
    try:
        cards = wcs.to_fits_sip(bounding_box=box, max_pix_error=_FIT_ERROR)
    except Exception as error:  # gwcs and astropy raise whatever they meet
        reason = str(error).strip() or type(error).__name__
        raise BadImage(f"{path}: its WCS (gwcs) cannot be written as FITS ({reason})") from error
    if cards.get("SIPMXERR", 0.0) > _FIT_ERROR:
        raise BadImage(
            f"{path}: its WCS (gwcs) cannot be written as FITS to {_FIT_ERROR} px, only to "
            f"{cards['SIPMXERR']:.2g}"
        )
    for keyword in ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND"):
        cards.remove(keyword, ignore_missing=True)
    return cards


def _hdu(name, plane, header):
    array = np.array(plane)
    if array.dtype == np.float16:  # FITS has none
        array = array.astype(np.float32)
    return fits.ImageHDU(array, header=header if name == "data" else None, name=name.upper())
