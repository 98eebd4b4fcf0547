"""Sources put into the science image, and what became of them: completeness and its limits."""

from psflib.lazy import lazy_names

_HOMES = {
    "Chain": "psflib.injection.run",
    "Completeness": "psflib.injection.completeness",
    "fit_completeness": "psflib.injection.completeness",
    "inject": "psflib.injection.run",
    "summarise": "psflib.injection.summary",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
