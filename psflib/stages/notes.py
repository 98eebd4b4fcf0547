"""Notes of a product, told in the log."""

import logging
from collections.abc import Sequence

log = logging.getLogger("psflib.stages")


def log_notes(notes: Sequence[str]) -> None:
    """A line each."""
    for note in notes:
        log.info("%s", note)
