"""The stage `detect`."""

import logging

from psflib.detection import detect as detection
from psflib.products.images import read_difference, read_exposure
from psflib.products.tables import write_candidates

log = logging.getLogger(__name__)


def detect(decorrelated, candidates, settings, science=None, aligned=None) -> None:
    """Candidates of both signs, and the verdict, which both images help to find."""
    clean = read_difference(decorrelated)
    given = {"science": science, "template": aligned}
    images = {name: read_exposure(path) for name, path in given.items() if path}
    clean = clean.replace(**images)
    found = detection.detect(clean, settings=settings)
    log.info("%d candidates, %d of them clean", len(found), found["clean"].sum())
    write_candidates(candidates, found, settings)
