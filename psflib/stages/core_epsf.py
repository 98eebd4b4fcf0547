"""The stage `core_epsf`."""

import logging

from psflib.products.images import read_exposure
from psflib.products.models import read_stamps, write_psf
from psflib.psf.core import stage as psf_core
from psflib.stages.notes import log_notes

log = logging.getLogger(__name__)


def core_epsf(exposure, stamps, epsf, settings) -> None:
    """The oversampled core of the PSF, varying over the field."""
    shape = read_exposure(exposure).shape
    psf = psf_core.core_epsf(read_stamps(stamps), shape, settings)
    log_notes(psf.meta.get("notes", ()))
    log.info("PSF of order %d, FWHM %.3f px at the centre", psf.order, psf.fwhm())
    write_psf(epsf, psf, settings)
