"""Writes and reads every product of the workflow: `write_X(path, value, settings=None)`, `read_X`.

Writes are atomic and depend on nothing but the values: equal runs give equal files.
"""

from psflib.lazy import lazy_names

_HOMES = {
    "read_candidates": "psflib.products.tables",
    "read_difference": "psflib.products.images",
    "read_exposure": "psflib.products.images",
    "read_extended_psf": "psflib.products.models",
    "read_injection": "psflib.products.tables",
    "read_kernel": "psflib.products.models",
    "read_notes": "psflib.products.told",
    "read_provenance": "psflib.products.told",
    "read_light_curves": "psflib.products.tables",
    "read_objects": "psflib.products.tables",
    "read_psf": "psflib.products.models",
    "read_stamps": "psflib.products.models",
    "read_starless": "psflib.products.images",
    "read_stars": "psflib.products.tables",
    "read_summary": "psflib.products.tables",
    "write_candidates": "psflib.products.tables",
    "write_difference": "psflib.products.images",
    "write_exposure": "psflib.products.images",
    "write_extended_psf": "psflib.products.models",
    "write_injection": "psflib.products.tables",
    "write_kernel": "psflib.products.models",
    "write_light_curves": "psflib.products.tables",
    "write_objects": "psflib.products.tables",
    "write_psf": "psflib.products.models",
    "write_stamps": "psflib.products.models",
    "write_starless": "psflib.products.images",
    "write_stars": "psflib.products.tables",
    "write_summary": "psflib.products.tables",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
