"""One alert packet (Avro) a candidate, with its cut-outs; the schema is `alert.avsc`.

Avro (Apache, version 1.11) is what surveys send alerts in: ZTF, Rubin, ATLAS.  A file of psflib
holds its schema, as Avro's object container files do, so that any reader can read it alone.
"""

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
from astropy.table import QTable

from psflib.errors import PsflibError
from psflib.files.atomic import atomic_path
from psflib.products.cutouts import cutout_bytes
from psflib.version import __version__

try:
    import fastavro
except ImportError:  # an extra; `write_alerts` says so
    fastavro = None  # type: ignore[assignment]

SIDE = 63  # px of a cut-out


def alert_schema() -> dict:
    """The schema of a packet, as Avro's JSON."""
    text = resources.files("psflib.exports").joinpath("alert.avsc").read_text("utf-8")
    return json.loads(text)


def alert_packets(candidates: QTable, field: str, epoch: str, images=None) -> Iterator[dict]:
    """A packet a candidate, in the order of the table.

    Parameters
    ----------
    candidates : QTable
        As `psflib.detect` finds them.
    field, epoch : str
    images : mapping of str to ndarray (ny, nx), optional
        Of `science`, `template` and `difference`: cut-outs of them go with the packet.
    """
    schema = alert_schema()
    known = {f["name"] for f in _record(schema, "candidate")["fields"]}
    meta = candidates.meta
    for row in candidates:
        values = {name: _value(row[name]) for name in candidates.colnames if name in known}
        place = float(row["x"].value), float(row["y"].value)
        cuts = {name: cutout_bytes(i, *place, SIDE) for name, i in (images or {}).items()}
        yield {
            "schema_version": schema["version"],
            "publisher": f"psflib {__version__}",
            "alert_id": f"{field}/{epoch}/{row['id']}",
            "field": field,
            "epoch": epoch,
            "mjd": _number(meta.get("mjd")),
            "zero_point": _number(meta.get("zero_point")),
            "verdict": str(meta.get("verdict", "unknown")),
            "candidate": values,
            **{f"cutout_{name}": cuts.get(name) for name in ("science", "template", "difference")},
        }


def write_alerts(path: str | Path, packets) -> int:
    """Write packets to an Avro container file; returns how many.

    Raises
    ------
    PsflibError
        If fastavro is not installed.
    """
    if fastavro is None:
        raise PsflibError("alerts need fastavro: pip install 'psflib[alerts]'")
    packets = list(packets)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(alert_schema()), packets, codec="deflate")
    return len(packets)


def _record(schema, name):
    field = next(f for f in schema["fields"] if f["name"] == name)
    return field["type"]


def _value(value):
    """A cell as a plain number or word; None where it is not known."""
    value = getattr(value, "value", value)
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return _number(value)
    return str(value)


def _number(value):
    return float(value) if value is not None and np.isfinite(value) else None
