"""The stage `inject`."""

import logging

from psflib.errors import PsflibError
from psflib.injection import run as injecting
from psflib.products.images import read_difference, read_exposure
from psflib.products.models import read_psf
from psflib.products.tables import read_stars, write_injection
from psflib.stages.notes import log_notes
from psflib.stages.subtract import without_haloes
from psflib.subtraction.widths import with_width

log = logging.getLogger(__name__)


def inject(
    science, aligned, psf, stars, decorrelated, injection, settings, others, template=None,
    extended_psf=None, template_stars=None, template_psf=None, template_extended_psf=None,
) -> None:  # fmt: skip
    """Sources put into the science image: which are found again, and from which brightness on."""
    ready, core, known = read_exposure(science), read_psf(psf), read_stars(stars)
    if others["subtract"].use_extended_psf:
        of_both = (stars, extended_psf, psf), (template_stars, template_extended_psf, template_psf)
        ready, _ = without_haloes(ready, read_exposure(template), of_both, others["subtract"])
    given = with_width(ready, core), read_exposure(aligned), core, read_difference(decorrelated)
    made = _injected(*given, settings, injecting.Chain(**others), known)
    log_notes([*made.meta["notes"], f"{made['found'].sum()} of {len(made)} found again"])
    write_injection(injection, made, settings)


def _injected(*given):
    """What became of injected sources; whatever goes wrong, the real difference stands."""
    try:
        return injecting.inject(*given)
    except MemoryError:
        raise
    except Exception as problem:
        expected = isinstance(problem, PsflibError)
        log.log(logging.WARNING, "no injection", exc_info=not expected)
        kind = "" if expected else f"{type(problem).__name__}: "
        return injecting.not_injected(f"{kind}{problem}")
