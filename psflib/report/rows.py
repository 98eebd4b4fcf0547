"""What stands beside the page of an image: its row of the summary, and a small picture."""

import json
from pathlib import Path

from psflib.report.summary import Epoch

ROW, SMALL = "row.json", "small.webp"


def known_row(page: Path, epoch: Epoch) -> dict | None:
    """The row that was written with a page; None if a product or a log is newer than that."""
    row = page.parent / ROW
    try:
        written = row.stat().st_mtime_ns
        newer = [p for p in epoch.sources() if p.stat().st_mtime_ns > written]
        told = json.loads(row.read_text("utf-8"))
        fits = not newer and page.exists() and told["difference"] == epoch.difference
        return told["row"] if fits else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
