"""Reading: users' images, catalogues, the table of images; writing any file atomically."""

from psflib.lazy import lazy_names

_HOMES = {
    "TEMPLATE": "psflib.files.fields",
    "FieldsTable": "psflib.files.fields",
    "Row": "psflib.files.fields",
    "atomic_path": "psflib.files.atomic",
    "read": "psflib.files.reading",
    "read_catalog": "psflib.files.catalogs",
    "read_fields": "psflib.files.fields",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
