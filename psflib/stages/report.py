"""The stage `report`."""

from pathlib import Path

from psflib.files.fields import read_fields
from psflib.lazy import lazy_function
from psflib.products.tables import write_summary
from psflib.report.report import PAGES, write_report
from psflib.report.rows import known_row
from psflib.report.summary import epochs, summary_table

# draws, and loads what draws: only for images whose own job failed
write_page = lazy_function("psflib.report.image", "write_page")


def report(fields, output, page, summary, settings, until="all") -> None:
    """A row on every image and an index of their pages, of whatever has been made."""
    table = read_fields(fields, until)
    found, rows = epochs(table, Path(output), until), []
    for image in found:
        own = Path(page).parent / PAGES / image.field / image.epoch / "index.html"
        rows.append(known_row(own, image) or write_page(own, table.path, image, settings))
    images = [(image.field, image.epoch) for image in found]
    told = summary_table(images, rows)
    write_summary(summary, told, settings)
    write_report(page, table, told)
