"""Delta-function kernels that vary over the field: model, three assemblies, solution, fit.

Hu et al. 2022, ApJ 936, 157 (SFFT); Miller et al. 2008, PASP 120, 449 (delta-function kernels).
"""

from psflib.lazy import lazy_names

_HOMES = {
    "SFFTResult": "psflib.subtraction.sfft.result",
    "evaluate_background": "psflib.subtraction.sfft.stdpipe",
    "evaluate_flux_scale": "psflib.subtraction.sfft.stdpipe",
    "evaluate_kernel_at": "psflib.subtraction.sfft.stdpipe",
    "run_sfft": "psflib.subtraction.sfft.run",
    "solve": "psflib.subtraction.sfft.stdpipe",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
