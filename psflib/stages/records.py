"""What each product was made from: `{output}/made/{field}/{epoch}/{stage}.json`.

A product fits if it was made by this version, with these settings, from these files, and is still
what was written then.  Size and time of a file stand for what is in it; where the time alone has
changed (a copy, a touch, a clock) its hash decides.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from psflib.files.atomic import atomic_path
from psflib.version import __version__

#: Stage -> its arguments that are products.
OUTPUTS = {
    "simulate": ("template", "epoch_1", "epoch_2", "truth"),
    "prepare": ("exposure",),
    "select_stars": ("stars",),
    "build_stamps": ("stamps",),
    "core_epsf": ("epsf",),
    "extended_psf": ("extended_psf",),
    "subtract_stars": ("starless",),
    "subtract": ("aligned", "kernel", "difference"),
    "decorrelate": ("decorrelated",),
    "detect": ("candidates",),
    "page": ("page",),
    "report": ("page", "summary"),
}


def asked(settings: Mapping[str, Any], files: Iterable[str | Path] = (), **more) -> dict[str, Any]:
    """What a stage is asked to do, as JSON gives it back.

    Parameters
    ----------
    settings : mapping
        The stage's section of the configuration.
    files : paths
        The user's files that it reads.
    **more
        Anything else that its products depend on, as JSON can hold it.
    """
    files = [str(path) for path in files]
    told = {"version": __version__, "settings": dict(settings), "files": files, **more}
    return json.loads(json.dumps(told))


def write_record(path: str | Path, asked: Mapping[str, Any], stage: str, paths: Mapping) -> None:
    """Say at `path` what a stage was asked to do, what it read and what it wrote."""
    made = [paths[name] for name in OUTPUTS[stage]]
    _write(path, asked, {str(file): _facts(file) for file in (*asked["files"], *made)})


def fits_record(path: str | Path, asked: Mapping[str, Any]) -> bool:
    """Whether the products of a stage are as they are asked for, and as they were written."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if found["asked"] != asked:
            return False
        files = {file: _still(file, facts) for file, facts in found["files"].items()}
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return False
    if not all(files.values()):
        return False
    if files != found["files"]:  # so that nothing is hashed again the next time
        _write(path, asked, files)
    return True


def _still(file, facts):
    """The facts of a file that is what it was, with its new time; None of another one."""
    size, time, digest = facts
    found = Path(file).stat()
    if found.st_size != size:
        return None
    if found.st_mtime_ns != time and _digest(file) != digest:
        return None
    return [size, found.st_mtime_ns, digest]


def _facts(file):
    found = Path(file).stat()
    return [found.st_size, found.st_mtime_ns, _digest(file)]


def _digest(file):
    with Path(file).open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _write(path, asked, files):
    with atomic_path(path) as temporary:
        text = json.dumps({"asked": asked, "files": files}, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")
