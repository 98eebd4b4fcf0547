"""Reading: users' images, the table that names them; and writing any file atomically."""

from psflib.files.atomic import atomic_path
from psflib.files.fields import TEMPLATE, FieldsTable, Row, read_fields
from psflib.files.reading import read

__all__ = ["TEMPLATE", "FieldsTable", "Row", "atomic_path", "read", "read_fields"]
