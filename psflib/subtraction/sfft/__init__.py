"""Delta-function kernels that vary over the field: model, three assemblies, solution, fit.

Hu et al. 2022, ApJ 936, 157 (SFFT); Miller et al. 2008, PASP 120, 449 (delta-function kernels).
"""

from psflib.subtraction.sfft.result import SFFTResult
from psflib.subtraction.sfft.run import run_sfft
from psflib.subtraction.sfft.stdpipe import (
    evaluate_background,
    evaluate_flux_scale,
    evaluate_kernel_at,
    solve,
)

__all__ = [
    "SFFTResult",
    "evaluate_background",
    "evaluate_flux_scale",
    "evaluate_kernel_at",
    "run_sfft",
    "solve",
]
