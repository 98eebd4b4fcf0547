"""Loops are compiled once: by `python -m psflib compile`, or by the job that comes first.

Numba keeps what it has compiled in files, but processes that start together know nothing of each
other and each compile the same.  Here the first one of a stage holds a lock, and the others wait.
"""

import contextlib
import hashlib
import importlib.util
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: every process compiles for itself
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("psflib.stages")

#: A field that all stages can work on, and no larger; brighter stars for the wings.
SMALL = {"size": 256, "star_density": 2500, "brightest_star": 2e6, "nan_blocks": 0}
ROWS = "field,epoch,image\nf,template,template.fits\nf,1,1.fits\n"


@contextlib.contextmanager
def one_compiler(stage: str) -> Iterator[None]:
    """Work of a stage, by one process at a time until one of them has ended well."""
    done = _marker(stage)
    if fcntl is None or done is None or done.exists():
        yield
        return
    with contextlib.ExitStack() as held:
        try:
            lock = held.enter_context((done.parent / "psflib-compiling.lock").open("w"))
            _wait_for(lock)
        except OSError as problem:  # another user's, or a file system without locks
            log.info("compiles without waiting for others: %s", problem)
        if done.exists():  # the other one has compiled all that is needed here
            held.close()
        yield
        with contextlib.suppress(OSError):
            done.touch()


def _wait_for(lock):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("waits for another job that compiles")
        fcntl.flock(lock, fcntl.LOCK_EX)


def compile_all(run: Callable[..., None], methods: tuple[str, ...] = ("al",)) -> None:
    """Run every stage on a small simulated field, so that all its loops are compiled and kept.

    Parameters
    ----------
    run : callable
        `psflib.stages.run`.
    methods : tuple of str
        Of `subtract`.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        images = {"template": place / "template.fits", "epoch_1": place / "1.fits"}
        log_file = place / "log"
        run(
            "simulate",
            log_file,
            SMALL,
            **images,
            epoch_2=place / "2.fits",
            truth=place / "truth.ecsv",
        )
        (place / "fields.csv").write_text(ROWS)
        for epoch in ("template", "1"):
            _compile_image(run, place, epoch, log_file)
        for method in methods:
            _compile_epoch(run, place, method, log_file)


def _compile_image(run, place, epoch, log_file):
    own = {"log_file": log_file, "exposure": place / epoch / "exposure.fits"}
    stars, stamps = place / epoch / "stars.ecsv", place / epoch / "stamps.fits"
    epsf, wings = place / epoch / "epsf.fits", place / epoch / "extended_psf.fits"
    run("prepare", **own, fields=place / "fields.csv", field="f", epoch=epoch)
    run("select_stars", **own, stars=stars)
    run("build_stamps", **own, stars=stars, stamps=stamps)
    run("core_epsf", **own, stamps=stamps, epsf=epsf)
    run("extended_psf", **own, stars=stars, epsf=epsf, extended_psf=wings)
    run(
        "subtract_stars", **own, stars=stars, epsf=epsf, extended_psf=wings,
        starless=place / epoch / "starless.fits",
    )  # fmt: skip


def _compile_epoch(run, place, method, log_file):
    names = ("kernel", "difference", "decorrelated")
    products = {name: place / f"{name}.fits" for name in names}
    images = {"science": place / "1/exposure.fits", "aligned": place / "template.fits"}
    run(
        "subtract", log_file, {"method": method}, **images, psf=place / "1/epsf.fits",
        template=place / "template/exposure.fits", template_psf=place / "template/epsf.fits",
        kernel=products["kernel"], difference=products["difference"],
    )  # fmt: skip
    clean = products["decorrelated"]
    run("decorrelate", log_file, **images, difference=products["difference"], decorrelated=clean)
    run(
        "inject", log_file, **images, psf=place / "1/epsf.fits", stars=place / "1/stars.ecsv",
        decorrelated=clean, injection=place / "injection.ecsv",
        others={"subtract": {"method": method}},
    )  # fmt: skip
    run("detect", log_file, **images, decorrelated=clean, candidates=place / "candidates.ecsv")


def _marker(stage):
    """The file that says that a stage's loops, as they are now, are compiled; None if it cannot.

    Numba compiles again when a file of loops or the processor is another one.
    """
    found = importlib.util.find_spec("psflib.loops")
    if found is None or found.origin is None:
        return None
    loops = Path(found.origin).parent
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or loops / "__pycache__")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stamps = sorted((f.name, f.stat().st_mtime_ns) for f in loops.glob("*.py"))
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    key = hashlib.sha256(f"{stamps} {_processor()}".encode()).hexdigest()[:16]
    return folder / f"psflib-{stage}-{key}.compiled"


def _processor():
    """What tells one kind of processor from another, without loading a compiler."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return ""
    names = ("vendor_id", "cpu family", "model", "flags")
    return [line for line in text.splitlines() if line.split("\t")[0].strip() in names]
