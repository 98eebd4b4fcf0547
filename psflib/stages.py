"""One function a stage: paths in, paths out, and nothing between them but calls.

Keyword arguments are named after the products, here and in the rules.  `run` is the one door,
for rules and for the command line: it checks the settings, keeps the log and tells what went
wrong in one sentence.
"""

import logging
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from psflib import files, haloes, products, registration, subtraction
from psflib.config import section_settings
from psflib.decorrelation import decorrelate as decorrelation
from psflib.detection import detect as detection
from psflib.errors import PsflibError
from psflib.files.writing import write_image
from psflib.image.threads import use_threads
from psflib.preparation import prepare as preparation
from psflib.psf.core import stage as psf_core
from psflib.psf.wings import stage as psf_wings
from psflib.report.summary import epochs, summarise
from psflib.simulation import simulate as simulation
from psflib.stamps import build as cutouts
from psflib.stars import select as selection
from psflib.version import __version__

log = logging.getLogger(__name__)


def simulate(template, epoch_1, epoch_2, truth, settings) -> None:
    """The embedded field: three images as a camera writes them, and the truth."""
    made = simulation.simulate_field(settings)
    write_image(template, made.template)
    write_image(epoch_1, made.science["1"])
    write_image(epoch_2, made.science["2"])
    made.truth.write(truth, format="ascii.ecsv", overwrite=True)


def prepare(fields, field, epoch, exposure, settings) -> None:
    """A row of the table of images becomes an exposure without sky."""
    # a PSF can do without a WCS, and a subtraction may: it is `subtract` that refuses; nor does it
    # matter here whether a field is complete
    row = files.read_fields(fields, until="psf").row(field, epoch)
    raw = row.read(unreadable_wcs="note")
    ready = preparation.prepare(raw, settings)
    _log_notes(ready.meta.get("notes", ()))
    products.write_exposure(exposure, ready, settings)


def select_stars(exposure, stars, settings, catalog=None) -> None:
    """Every detection, and why it is or is not a PSF star; a catalogue of the sky may help."""
    known = files.read_catalog(catalog) if catalog else None
    table = selection.select_stars(products.read_exposure(exposure), settings, known)
    log.info("%d stars selected of %d detections", table["selected"].sum(), len(table))
    products.write_stars(stars, table, settings)


def build_stamps(exposure, stars, stamps, settings) -> None:
    """Cut-outs of the selected stars."""
    image, table = products.read_exposure(exposure), products.read_stars(stars)
    made = cutouts.build_stamps(image, table, settings)
    log.info("%d stamps of %d px", len(made.data), made.data.shape[-1])
    products.write_stamps(stamps, made, settings)


def core_epsf(exposure, stamps, epsf, settings) -> None:
    """The oversampled core of the PSF, varying over the field."""
    shape = products.read_exposure(exposure).shape
    psf = psf_core.core_epsf(products.read_stamps(stamps), shape, settings)
    _log_notes(psf.meta.get("notes", ()))
    log.info("PSF of order %d, FWHM %.3f px at the centre", psf.order, psf.fwhm())
    products.write_psf(epsf, psf, settings)


def extended_psf(exposure, stars, epsf, extended_psf, settings) -> None:
    """Core and wings in one PSF."""
    image, table = products.read_exposure(exposure), products.read_stars(stars)
    made = psf_wings.extended_psf(image, table, products.read_psf(epsf), settings)
    _log_notes(made.meta.get("notes", ()))
    products.write_extended_psf(extended_psf, made, settings)


def subtract_stars(exposure, stars, epsf, extended_psf, starless, settings) -> None:
    """Bright stars with their haloes out of an image."""
    image, table = products.read_exposure(exposure), products.read_stars(stars)
    wings, core = products.read_extended_psf(extended_psf), products.read_psf(epsf)
    made = haloes.subtract_stars(image, table, wings, settings, core)
    products.write_starless(starless, made, settings)


def subtract(
    science, template, psf, aligned, kernel, difference, settings, stars=None, extended_psf=None,
    template_stars=None, template_psf=None, template_extended_psf=None,
) -> None:  # fmt: skip
    """Science minus matched template; with `use_extended_psf`, haloes are removed before."""
    science, template = products.read_exposure(science), products.read_exposure(template)
    known = (stars, extended_psf, psf), (template_stars, template_extended_psf, template_psf)
    science, template = _without_haloes(science, template, known, settings)
    core, science, template = _with_widths(science, template, psf, template_psf)
    moved, facts = registration.register(science, template, settings.register)
    made = subtraction.subtract_aligned(science, moved, settings.method, settings, core)
    _log_notes(made.meta.get("notes", ()))
    made = subtraction.with_facts(made, facts)
    products.write_exposure(aligned, moved)
    products.write_kernel(kernel, made.kernel, settings)
    products.write_difference(difference, made, settings)


def decorrelate(science, aligned, difference, decorrelated, settings) -> None:
    """A difference with white noise, its PSF and its matched-filter significance."""
    images = {"science": science, "template": aligned}
    raw = products.read_difference(difference)
    raw = raw.replace(**{name: products.read_exposure(path) for name, path in images.items()})
    clean = decorrelation.decorrelate(raw, settings)
    products.write_difference(decorrelated, clean, settings)


def detect(decorrelated, candidates, settings, science=None, aligned=None) -> None:
    """Candidates of both signs, and the verdict, which both images help to find."""
    clean = products.read_difference(decorrelated)
    given = {"science": science, "template": aligned}
    images = {name: products.read_exposure(path) for name, path in given.items() if path}
    clean = clean.replace(**images)
    found = detection.detect(clean, settings=settings)
    log.info("%d candidates, %d of them clean", len(found), (found["flags"] == "").sum())
    products.write_candidates(candidates, found, settings)


def report(fields, output, page, summary, settings, until="all") -> None:
    """A page on every field and a row on every epoch, of whatever has been made."""
    # imported here: the other stages do without the 0.4 s and 60 MB of matplotlib
    from psflib.report.report import write_report

    table = files.read_fields(fields, until)
    found = epochs(table, Path(output), until)
    rows = summarise(found)
    products.write_summary(summary, rows, settings)
    write_report(page, table, found, rows, settings)


#: Arguments that may stand in other folders than those of their field and epoch.
NO_PRODUCTS = ("template", "catalog")

STAGES: dict[str, Callable[..., None]] = {
    stage.__name__: stage
    for stage in (
        simulate, prepare, select_stars, build_stamps, core_epsf, extended_psf,
        subtract_stars, subtract, decorrelate, detect, report,
    )
}  # fmt: skip


def run(
    name: str, log_file: str | Path | None = None, settings=None, threads: int = 1, **paths: Any
) -> None:
    """Run one stage.

    Parameters
    ----------
    name : str
        One of `STAGES`.
    log_file : path, optional
        Gets what the stage has to say; replaced if it exists.
    settings : mapping, optional
        The stage's section of the configuration; what is left out keeps its default.
    threads : int
        That work on the rows and tiles of an image; the results do not depend on it.
    **paths
        The stage's own arguments.

    Raises
    ------
    SystemExit
        With a sentence on what is wrong with the data or the call.
    """
    with_log = _open_log(log_file)
    start = time.perf_counter()
    listed = ", ".join(f"{argument} {path}" for argument, path in paths.items())
    log.info("psflib %s, %s: %s", __version__, name, listed)
    try:
        with use_threads(threads):
            STAGES[name](**paths, settings=section_settings(name, settings))
    except (PsflibError, ValueError, OSError) as error:
        log.exception("%s failed: %s", name, error)
        where = f"\nMore in {log_file}" if log_file else ""
        raise SystemExit(f"{_place(paths)}{name}: {error}{where}") from error
    finally:
        log.info(
            "took %.2f s, peak memory %.0f MB", time.perf_counter() - start, peak_memory() / 1e6
        )
        with_log.close()
        logging.getLogger("psflib").removeHandler(with_log)


def peak_memory() -> int:
    """Largest memory (bytes) that this process ever held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _without_haloes(science, template, paths, settings):
    """Both images without haloes, if asked; `paths`: star table, extended PSF and PSF of each."""
    if not settings.use_extended_psf:
        return science, template
    if None in (*paths[0], *paths[1]):
        raise ValueError("use_extended_psf needs stars, PSF and extended PSF of both images")
    return haloes.without_haloes(
        science, template, _stars_and_psf(*paths[0]), _stars_and_psf(*paths[1]), settings.haloes
    )


def _with_widths(science, template, psf, template_psf):
    """The science PSF, and both images with the FWHM of theirs, as far as they are known."""
    core, own = (None if path is None else products.read_psf(path) for path in (psf, template_psf))
    widths = subtraction.with_width
    return core, widths(science, core), widths(template, own, "template")


def _stars_and_psf(stars, extended, psf):
    return haloes.StarsAndPsf(
        products.read_stars(stars), products.read_extended_psf(extended), products.read_psf(psf)
    )


def _open_log(path) -> logging.Handler:
    handler: logging.Handler = logging.StreamHandler()
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("psflib")
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    return handler


def _log_notes(notes: Sequence[str]) -> None:
    for note in notes:
        log.info("%s", note)


def _place(paths):
    """Field and epoch for messages: every product stands in {output}/{field}/{epoch}/."""
    if "field" in paths:
        return f"{paths['field']} {paths['epoch']}: "
    folders = [Path(str(path)).parent for name, path in paths.items() if name not in NO_PRODUCTS]
    return f"{folders[-1].parent.name} {folders[-1].name}: " if len(folders) > 1 else ""
