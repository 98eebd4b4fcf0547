"""Numbers that judge products and methods."""

from psflib.lazy import lazy_names

_HOMES = {
    "compare_methods": "psflib.judging.comparison",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
