"""The stage `detect`."""

import logging

from psflib.detection import detect as detection
from psflib.products.images import read_difference, read_exposure
from psflib.products.tables import read_injection, write_candidates

log = logging.getLogger(__name__)


def detect(decorrelated, candidates, settings, science=None, aligned=None, injection=None) -> None:
    """Candidates of both signs, the verdict, which both images help to find, and what is missed."""
    clean = read_difference(decorrelated)
    given = {"science": science, "template": aligned}
    images = {name: read_exposure(path) for name, path in given.items() if path}
    clean = clean.replace(**images)
    known = read_injection(injection) if injection else None
    found = detection.detect(clean, settings=settings, injection=known)
    log.info("%d candidates, %d of them clean", len(found), found["clean"].sum())
    write_candidates(candidates, found, settings)
