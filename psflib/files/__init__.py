"""Reading: users' images, the table that names them; and writing any file atomically."""

from psflib.files.atomic import atomic_path
from psflib.files.reading import read

__all__ = ["atomic_path", "read"]
