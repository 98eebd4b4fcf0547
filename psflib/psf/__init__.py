"""Models of the PSF: core, field and wings."""

from psflib.lazy import lazy_names

_HOMES = {
    "BuildEpsf": "psflib.psf.epsf",
    "EpsfSettings": "psflib.psf.core.stage",
    "ExtendedPsf": "psflib.psf.extended",
    "ExtendedPsfBuilt": "psflib.psf.extended",
    "FluxBackground": "psflib.psf.flux",
    "Nuisance": "psflib.psf.model",
    "PsfField": "psflib.psf.core.field",
    "RobustCombined": "psflib.psf.combine",
    "StarFits": "psflib.psf.model",
    "accumulate": "psflib.psf.model",
    "build_epsf": "psflib.psf.epsf",
    "build_epsf_field": "psflib.psf.core.stage",
    "build_extended_psf": "psflib.psf.extended",
    "combine_chunks": "psflib.psf.combine",
    "core_epsf": "psflib.psf.core.stage",
    "fit_stars": "psflib.psf.model",
    "refine_nuisance": "psflib.psf.model",
    "render": "psflib.psf.model",
    "robust_combine": "psflib.psf.combine",
    "solve_flux_background": "psflib.psf.flux",
    "stitch_psf": "psflib.psf.extended",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
