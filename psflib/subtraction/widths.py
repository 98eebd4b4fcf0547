"""Widths of the images from their PSF models, in the place of the first guess."""

import logging

import numpy as np

from psflib.image.exposure import Exposure
from psflib.psf.core.field import area_fwhm

log = logging.getLogger(__name__)

FAR = 1.25  # factor between guess and model above which it is said
SIZE = 61  # px, side of the box in which a PSF without a width of its own is measured


def with_width(exposure: Exposure, psf, name: str = "science") -> Exposure:
    """The exposure with the FWHM of its PSF, on which matching, sky and masks rest.

    Parameters
    ----------
    exposure : Exposure
        Prepared, on its own grid; the warp of a template scales the width with the pixels.
    psf : object with ``at(x, y, size)`` and, if it has one, ``fwhm()`` in px; or None
        None leaves the first guess of `prepare`.
    name : str
        What the note calls the image.
    """
    if psf is None:
        return exposure
    width, guess = width_of(psf, exposure.shape), exposure.meta.get("fwhm")
    notes = list(exposure.meta.get("notes", ()))
    if guess and max(width / guess, guess / width) > FAR:
        notes.append(f"{name}: FWHM {width:.2f} px by its PSF, not {guess:.2f} px as first guessed")
        log.warning("%s", notes[-1])
    return exposure.replace(meta={**exposure.meta, "fwhm": width, "notes": notes})


def width_of(psf, shape) -> float:
    """FWHM (px) of a PSF at the middle of an image (ny, nx)."""
    if hasattr(psf, "fwhm"):
        return float(psf.fwhm())
    return area_fwhm(np.asarray(psf.at((shape[1] - 1) / 2, (shape[0] - 1) / 2, SIZE), float), 1)
