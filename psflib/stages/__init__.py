"""One function a stage: paths in, paths out, and nothing between them but calls.

Keyword arguments are named after the products, here and in the rules.  `run` is the one door,
for rules and for the command line: it checks the settings, keeps the log and tells what went
wrong in one sentence.  A stage's module is imported when the stage is run, so that no job pays
for what it does not call.
"""

import importlib
import inspect
import logging
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from psflib.config import section_settings
from psflib.errors import PsflibError
from psflib.image.threads import use_threads
from psflib.stages.compiling import one_compiler
from psflib.stages.records import Record
from psflib.version import __version__

log = logging.getLogger(__name__)

#: In the order in which they follow each other; each is a module with a function of that name.
STAGES = (
    "simulate", "prepare", "select_stars", "build_stamps", "core_epsf", "extended_psf",
    "subtract_stars", "subtract", "decorrelate", "inject", "detect", "lightcurves", "page",
    "report",
)  # fmt: skip

#: Stages that one job runs one after the other in one process.
CHAINS = {
    "image": ("prepare", "select_stars", "build_stamps", "core_epsf"),
    "epoch": ("subtract", "decorrelate", "inject", "detect"),
}

#: Section of the settings, where it is not named as the stage.
SECTIONS = {"page": "report"}

#: Stages whose settings a stage needs beside its own: it does again what they do.
OTHERS = {"inject": ("subtract", "decorrelate", "detect")}

#: Arguments that may stand in other folders than those of their field and epoch.
NO_PRODUCTS = ("template", "catalog")


def stage(name: str) -> Callable[..., None]:
    """The function of a stage; ValueError if there is none of that name."""
    if name not in STAGES:
        raise ValueError(f"unknown stage {name!r}; one of {', '.join(STAGES)}")
    return getattr(importlib.import_module(f"psflib.stages.{name}"), name)


def run(
    name: str,
    log_file: str | Path | None = None,
    settings=None,
    record: Record | None = None,
    threads: int = 1,
    others: Mapping | None = None,
    **paths: Any,
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
    record : Record, optional
        Will say what the products were made from, if all goes well; what was made from their
        predecessors goes first.
    threads : int
        That work on the rows and tiles of an image; the results do not depend on it.
    others : mapping, optional
        Stage -> section, of those that `OTHERS` names.
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
        own: dict[str, Any] = {"settings": section_settings(SECTIONS.get(name, name), settings)}
        if name in OTHERS:
            known = others or {}
            own["others"] = {o: section_settings(o, known.get(o)) for o in OTHERS[name]}
        if record:
            record.forget_following(name)
        with one_compiler(name), use_threads(threads):
            stage(name)(**paths, **own)
        if record:
            record.write(name, paths)
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


def run_all(
    names, logs: Mapping, settings: Mapping, records: Mapping, threads: int = 1, **paths: Any
) -> None:
    """Run stages one after the other; each takes the arguments that it knows.

    Parameters
    ----------
    names : sequence of str
        Of `STAGES`.
    logs, settings, records : mapping
        Stage -> `log_file`, `settings` and `record` of `run`.
    threads : int
        As of `run`.
    **paths
        Arguments of any of the stages.
    """
    for name in names:
        known = inspect.signature(stage(name)).parameters
        own = {argument: path for argument, path in paths.items() if argument in known}
        others = {other: settings.get(other) for other in OTHERS.get(name, ())}
        run(name, logs.get(name), settings.get(name), records.get(name), threads, others, **own)


def peak_memory() -> int:
    """Largest memory (bytes) that this process ever held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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


def _place(paths):
    """Field and epoch for messages: every product stands in {output}/{field}/{epoch}/."""
    if "field" in paths:
        return f"{paths['field']} {paths['epoch']}: "
    folders = [Path(str(path)).parent for name, path in paths.items() if name not in NO_PRODUCTS]
    return f"{folders[-1].parent.name} {folders[-1].name}: " if len(folders) > 1 else ""
