"""Models of the PSF: core, field and wings."""

from psflib.psf.combine import RobustCombined, combine_chunks, robust_combine
from psflib.psf.core.field import PsfField
from psflib.psf.core.stage import EpsfSettings, build_epsf_field, core_epsf
from psflib.psf.epsf import BuildEpsf, build_epsf
from psflib.psf.extended import ExtendedPsf, ExtendedPsfBuilt, build_extended_psf, stitch_psf
from psflib.psf.flux import FluxBackground, solve_flux_background
from psflib.psf.model import Nuisance, StarFits, accumulate, fit_stars, refine_nuisance, render

__all__ = [
    "BuildEpsf",
    "EpsfSettings",
    "ExtendedPsf",
    "ExtendedPsfBuilt",
    "FluxBackground",
    "Nuisance",
    "PsfField",
    "RobustCombined",
    "StarFits",
    "accumulate",
    "build_epsf",
    "build_epsf_field",
    "build_extended_psf",
    "combine_chunks",
    "core_epsf",
    "fit_stars",
    "refine_nuisance",
    "render",
    "robust_combine",
    "solve_flux_background",
    "stitch_psf",
]
