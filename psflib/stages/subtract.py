"""The stage `subtract`."""

from psflib import haloes
from psflib.image.exposure import Exposure
from psflib.products.images import read_exposure, write_difference, write_exposure
from psflib.products.models import read_extended_psf, read_psf, write_kernel
from psflib.products.tables import read_stars
from psflib.registration.register import register
from psflib.stages.notes import log_notes
from psflib.subtraction.run import subtract_aligned, with_facts
from psflib.subtraction.widths import with_width


def subtract(
    science, template, psf, aligned, kernel, difference, settings, stars=None, extended_psf=None,
    template_stars=None, template_psf=None, template_extended_psf=None,
) -> None:  # fmt: skip
    """Science minus matched template; with `use_extended_psf`, haloes are removed before."""
    science, template = read_exposure(science), read_exposure(template)
    known = (stars, extended_psf, psf), (template_stars, template_extended_psf, template_psf)
    science, template = without_haloes(science, template, known, settings)
    core, science, template = _with_with_width(science, template, psf, template_psf)
    moved, facts = register(science, template, settings.register)
    made = subtract_aligned(science, moved, settings.method, settings, core)
    log_notes(made.meta.get("notes", ()))
    made = with_facts(made, facts)
    write_exposure(aligned, moved)
    write_kernel(kernel, made.kernel, settings)
    write_difference(difference, made, settings)


def without_haloes(science: Exposure, template: Exposure, paths, settings):
    """Both images without haloes, if asked; `paths`: star table, extended PSF and PSF of each."""
    if not settings.use_extended_psf:
        return science, template
    if None in (*paths[0], *paths[1]):
        raise ValueError("use_extended_psf needs stars, PSF and extended PSF of both images")
    return haloes.without_haloes(
        science, template, _stars_and_psf(*paths[0]), _stars_and_psf(*paths[1]), settings.haloes
    )


def _with_with_width(science, template, psf, template_psf):
    """The science PSF, and both images with the FWHM of theirs, as far as they are known."""
    core, own = (None if path is None else read_psf(path) for path in (psf, template_psf))
    return core, with_width(science, core), with_width(template, own, "template")


def _stars_and_psf(stars, extended, psf):
    return haloes.StarsAndPsf(read_stars(stars), read_extended_psf(extended), read_psf(psf))
