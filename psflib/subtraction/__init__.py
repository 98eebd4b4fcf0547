"""Subtraction of a template: one call, several methods under one result type."""

from psflib.lazy import lazy_names

_HOMES = {
    "METHODS": "psflib.subtraction.run",
    "SubtractSettings": "psflib.settings.subtract",
    "run_hotpants": "psflib.subtraction.hotpants.run",
    "run_sfft": "psflib.subtraction.sfft.run",
    "run_zogy": "psflib.subtraction.zogy.run",
    "subtract": "psflib.subtraction.run",
    "subtract_aligned": "psflib.subtraction.run",
    "with_facts": "psflib.subtraction.run",
    "with_width": "psflib.subtraction.widths",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
