"""Tables of candidates as VOTable and Parquet."""

from pathlib import Path

from astropy.table import QTable, Table

from psflib.errors import PsflibError
from psflib.files.atomic import atomic_path


def write_votable(path: str | Path, candidates: QTable) -> None:
    """Write candidates as a VOTable (1.4, binary) with units and descriptions.

    The mixin `sky` is left out: a VOTable says the same by `ra` and `dec`.
    """
    plain = _plain(candidates)
    plain.meta = {}
    with atomic_path(path) as temporary:
        plain.write(temporary, format="votable", table_id="candidates", overwrite=True,
                    tabledata_format="binary")  # fmt: skip


def write_parquet(path: str | Path, table: QTable) -> None:
    """Write a table as Parquet with units and meta, which `QTable.read` gives back.

    Raises
    ------
    PsflibError
        If pyarrow is not installed.
    """
    try:
        with atomic_path(path) as temporary:
            _plain(table).write(temporary, format="parquet", overwrite=True)
    except ImportError as error:  # astropy asks for it when it writes
        raise PsflibError("Parquet needs pyarrow: pip install 'psflib[parquet]'") from error


def _plain(table):
    names = [name for name in table.colnames if hasattr(table[name], "dtype")]
    return Table(table[names], copy=False)
