"""Products that are tables (ECSV): star tables, candidates and the summary."""

from pathlib import Path
from typing import Any

from astropy.table import QTable

from psflib.errors import BadFile
from psflib.files.atomic import atomic_path
from psflib.products.provenance import REMEDY, json_ready, settings_dict
from psflib.version import __version__
from psflib.words import check_spoken

#: Entry of a file's meta for version, product and settings.
ABOUT = "psflib"


def write_table(path: str | Path, product: str, table: QTable, settings: Any = None) -> None:
    """Write a QTable as ECSV with units, descriptions and meta."""
    about = {
        "version": __version__,
        "product": product,
        "rows": len(table),  # tells a truncated file from a short one
        "settings": settings_dict(settings),
    }
    check_spoken(table)
    copy = QTable(table, copy=False)
    copy.meta = {ABOUT: about, **json_ready({k: v for k, v in table.meta.items() if k != ABOUT})}
    with atomic_path(path) as temporary:
        copy.write(temporary, format="ascii.ecsv", overwrite=True)


def read_table(path: str | Path, product: str) -> QTable:
    """Read what `write_table` wrote.

    Raises
    ------
    BadFile
        If the file is missing, damaged or another product.
    """
    table, about = read_with_about(path)
    if about.get("product") != product:
        problem = f"is a product {about.get('product')!r}, not {product!r}"
        raise BadFile(path, problem if about else "is not a product of psflib", REMEDY)
    if about.get("rows") != len(table):
        raise BadFile(path, f"is truncated: {len(table)} rows of {about.get('rows')}", REMEDY)
    return table


def read_with_about(path: str | Path) -> tuple[QTable, dict[str, Any]]:
    """The table without, and apart from it, its entry `psflib`."""
    path = Path(path)
    if not path.is_file():
        raise BadFile(path, "no such file", "Run the workflow, it will be made")
    try:
        table = QTable.read(path, format="ascii.ecsv")
    except MemoryError:
        raise
    except Exception as error:  # the reader raises whatever a damaged file makes it trip over
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BadFile(path, f"cannot be read ({lines[0].rstrip('.')})", REMEDY) from error
    if not path.read_bytes().endswith(b"\n"):
        raise BadFile(path, "is truncated: its last line has no end", REMEDY)
    about = table.meta.pop(ABOUT, {})
    return table, about if isinstance(about, dict) else {}


def write_stars(path: str | Path, stars: QTable, settings: Any = None) -> None:
    """Write `stars.ecsv`, every detection with the reason why it is not a PSF star."""
    write_table(path, "stars", stars, settings)


def read_stars(path: str | Path) -> QTable:
    """Read `stars.ecsv`; BadFile if it is missing, damaged or another product."""
    return read_table(path, "stars")


def write_candidates(path: str | Path, candidates: QTable, settings: Any = None) -> None:
    """Write `candidates.ecsv`, sources of both signs on a difference."""
    write_table(path, "candidates", candidates, settings)


def read_candidates(path: str | Path) -> QTable:
    """Read `candidates.ecsv`; BadFile if it is missing, damaged, older or another product."""
    table = read_table(path, "candidates")
    lacking = [name for name in ("flag", "flags", "clean") if name not in table.colnames]
    if lacking:
        raise BadFile(path, f"has no column {lacking[0]}: an older psflib made it", REMEDY)
    return table


def write_injection(path: str | Path, injection: QTable, settings: Any = None) -> None:
    """Write `injection.ecsv`, injected sources and what became of them."""
    write_table(path, "injection", injection, settings)


def read_injection(path: str | Path) -> QTable:
    """Read `injection.ecsv`; BadFile if it is missing, damaged or another product."""
    return read_table(path, "injection")


def write_summary(path: str | Path, summary: QTable, settings: Any = None) -> None:
    """Write `summary.ecsv`, one row an epoch."""
    write_table(path, "summary", summary, settings)


def read_summary(path: str | Path) -> QTable:
    """Read `summary.ecsv`; BadFile if it is missing, damaged or another product."""
    return read_table(path, "summary")


def write_objects(path: str | Path, objects: QTable, settings: Any = None) -> None:
    """Write `objects.ecsv`, a row an object of a field."""
    write_table(path, "objects", objects, settings)


def read_objects(path: str | Path) -> QTable:
    """Read `objects.ecsv`; BadFile if it is missing, damaged or another product."""
    return read_table(path, "objects")


def write_light_curves(path: str | Path, points: QTable, settings: Any = None) -> None:
    """Write `lightcurves.ecsv`, a row an object and epoch."""
    write_table(path, "light curves", points, settings)


def read_light_curves(path: str | Path) -> QTable:
    """Read `lightcurves.ecsv`; BadFile if it is missing, damaged or another product."""
    return read_table(path, "light curves")
