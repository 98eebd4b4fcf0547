"""The stage `page`."""

from pathlib import Path

from psflib.files.fields import read_fields
from psflib.report.image import write_page
from psflib.report.summary import image_of


def page(fields, output, field, epoch, page, settings, until="all") -> None:
    """Pictures and figures of one image, of whatever has been made of it."""
    table = read_fields(fields, until)
    write_page(page, table.path, image_of(table, Path(output), field, epoch, until), settings)
