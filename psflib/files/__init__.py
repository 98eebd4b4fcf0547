"""Reading: users' images, catalogues, the table of images; writing any file atomically."""

from psflib.files.atomic import atomic_path
from psflib.files.catalogs import read_catalog
from psflib.files.fields import TEMPLATE, FieldsTable, Row, read_fields
from psflib.files.reading import read

__all__ = ["TEMPLATE", "FieldsTable", "Row", "atomic_path", "read", "read_catalog", "read_fields"]
