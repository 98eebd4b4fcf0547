"""Reads a catalogue of the sky in whatever format it came."""

from pathlib import Path

from astropy.table import Table

from psflib.errors import BadFile

#: What a catalogue must have, one pair of it.
POSITIONS = (("x", "y"), ("ra", "dec"))


def read_catalog(path: str | Path) -> Table:
    """Read a catalogue: FITS, VOTable, ECSV, CSV, anything that astropy knows by itself.

    Returns
    -------
    Table
        Column names in lower case.

    Raises
    ------
    BadFile
        If the file is missing or no table, or has neither ra, dec (deg) nor x, y (px).
    """
    path = Path(path)
    if not path.is_file():
        raise BadFile(path, "no such file", "Check the column `catalog` of the table of images")
    table = _read(path)
    table.rename_columns(table.colnames, [name.lower() for name in table.colnames])
    if not any(set(pair) <= set(table.colnames) for pair in POSITIONS):
        found = ", ".join(table.colnames)
        raise BadFile(path, f"has the columns {found}", "It needs ra, dec (deg) or x, y (px)")
    return table


def _read(path):
    plain = {".csv": "ascii.csv", ".txt": "ascii"}.get(path.suffix.lower())
    try:
        return Table.read(path, format=plain)
    except Exception as error:  # each of astropy's readers has errors of its own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadFile(path, f"cannot be read as a table ({reason})") from error
