"""Subtraction of a template: one call, several methods under one result type."""

from psflib import haloes
from psflib.image.difference import Difference
from psflib.image.exposure import Exposure
from psflib.lazy import lazy_function
from psflib.preparation.prepare import prepare
from psflib.registration import register
from psflib.settings.subtract import SubtractSettings
from psflib.subtraction.widths import with_width

#: Word in config.yaml -> function (science, template, settings, psf_of) on prepared, aligned images
METHODS = {
    "al": lazy_function("psflib.subtraction.al", "subtract"),
    "sfft": lazy_function("psflib.subtraction.sfft.stage", "subtract"),
    "zogy": lazy_function("psflib.subtraction.zogy.stage", "subtract"),
}

#: What a difference takes over from the science image's `meta`, if it is known.
OF_SCIENCE = ("unit", "mjd", "date_obs", "zero_point")

build_psf = lazy_function("psflib.psf.build", "build_psf")


def subtract(
    science,
    template,
    method=None,
    settings=None,
    psf=None,
    known: "tuple[haloes.StarsAndPsf, haloes.StarsAndPsf] | None" = None,
    template_psf=None,
) -> Difference:
    """Science minus template, matched in PSF, flux scale and background.

    Parameters
    ----------
    science, template : Exposure, CCDData, NDData, array (ny, nx) or path
        As read or prepared; the template is warped onto the science grid if their WCS differ,
        and where its stars say so (`psflib.registration.register`).
    method : str, optional
        One of `METHODS`; default is the settings' own.
    settings : SubtractSettings, optional
    psf : PsfField, optional
        PSF of the science image; built from its stars if needed and not given.
    known : (StarsAndPsf, StarsAndPsf), optional
        Stars and extended PSFs of science and template, each on its own grid, for
        `use_extended_psf`; built if they are not given.
    template_psf : PsfField, optional
        PSF of the template on its own grid.  The FWHM of a PSF that is given takes the place of
        the first guess by `prepare`, from which the kernel's width and direction follow.

    Returns
    -------
    Difference
        In science flux units (ADU), on the science grid; `meta` has what `register` found out.

    Raises
    ------
    ValueError
        Unknown method, or images that cannot be aligned.
    DifferentSky
        The stars of both images do not agree.
    NotEnoughStars, NoOverlap, SingularFit
        The data do not allow it.
    """
    settings = settings or SubtractSettings()
    method = method or settings.method
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; one of {', '.join(METHODS)}")
    science, template = prepare(science), prepare(template)
    if settings.use_extended_psf:
        known = known or (haloes.stars_and_psf(science, psf), haloes.stars_and_psf(template))
        psf, template_psf = psf or known[0].core, template_psf or known[1].core
        science, template = haloes.without_haloes(science, template, *known, settings.haloes)
    science, template = with_width(science, psf), with_width(template, template_psf, "template")
    template, facts = register(science, template, settings.register)
    return with_facts(subtract_aligned(science, template, method, settings, psf), facts)


def subtract_aligned(
    science: Exposure, template: Exposure, method, settings, psf=None
) -> Difference:
    """`subtract` for prepared images on one grid."""

    def psf_of(exposure):
        return psf if psf is not None and exposure is science else build_psf(exposure)

    made = METHODS[method](science, template, getattr(settings, method), psf_of)
    told = {"fwhm_science": science.meta["fwhm"], "fwhm_template": template.meta["fwhm"]}
    told |= {name: science.meta[name] for name in OF_SCIENCE if name in science.meta}
    return made.replace(meta={**made.meta, **told})


def with_facts(difference: Difference, facts: dict) -> Difference:
    """The difference with what `register` found out about its images in its meta."""
    notes = [*facts["notes"], *difference.meta.get("notes", ())]
    return difference.replace(meta={**difference.meta, **facts, "notes": notes})
