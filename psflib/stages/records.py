"""What each product was made from: `{output}/made/{field}/{epoch}/{stage}.json`.

A product fits if it was made by this version, with these settings, from these files, and is still
what was written then.  Size and time of a file stand for what is in it; where the time alone has
changed (a copy, a touch, a clock) its hash decides.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from psflib.files.atomic import atomic_path
from psflib.files.fields import TEMPLATE
from psflib.version import __version__

#: Files that each stage makes of an image, in the order of the work.
FILES = {
    "prepare": ("exposure.fits",),
    "select_stars": ("stars.ecsv",),
    "build_stamps": ("stamps.fits",),
    "core_epsf": ("epsf.fits",),
    "extended_psf": ("extended_psf.fits",),
    "subtract_stars": ("starless.fits",),
    "subtract": ("template.fits", "kernel.fits", "difference.fits"),
    "decorrelate": ("decorrelated.fits",),
    "inject": ("injection.ecsv",),
    "detect": ("candidates.ecsv",),
}
OF_DIFFERENCE = ("subtract", "decorrelate", "inject", "detect")
OF_FIELD = ("lightcurves.ecsv", "lightcurves.parquet", "objects.ecsv")

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
    "inject": ("injection",),
    "detect": ("candidates",),
    "lightcurves": ("objects", "points", "parquet", "page"),
    "page": ("page",),
    "report": ("page", "summary"),
}


@dataclasses.dataclass(frozen=True)
class Record:
    """Where it is written what a stage made of an image, and what it is asked to do now.

    Parameters
    ----------
    path : str
        The JSON file.
    asked : dict
        Version, settings, files and whatever else the products depend on, as JSON gives it back.
    output : str
        Folder to which the paths of products are relative ...
    home : str
        ... and those of the user's files, so that both may be moved.
    """

    path: str
    asked: dict[str, Any]
    output: str
    home: str

    def write(self, stage: str, paths: Mapping[str, Any]) -> None:
        """Say what was asked, what was read and what was written."""
        made = [os.path.relpath(paths[name], self.output) for name in OUTPUTS[stage]]
        read = {file: _facts(Path(self.home, file)) for file in self.asked["files"]}
        self._write(read, {file: _facts(Path(self.output, file)) for file in made})

    def fits(self) -> bool:
        """Whether the products are as they are asked for, and as they were written."""
        try:
            found = json.loads(Path(self.path).read_text(encoding="utf-8"))
            if found["asked"] != self.asked:
                return False
            read = {f: _still(Path(self.home, f), facts) for f, facts in found["read"].items()}
            made = {f: _still(Path(self.output, f), facts) for f, facts in found["made"].items()}
        except (OSError, ValueError, LookupError, AttributeError, TypeError):
            return False
        if not (all(read.values()) and all(made.values())):
            return False
        if (read, made) != (found["read"], found["made"]):
            # so that nothing is hashed again the next time; who may only read hashes again
            with contextlib.suppress(OSError):
                self._write(read, made)
        return True

    def forget_following(self, stage: str) -> None:
        """Remove what was made from the products that this stage is about to make anew.

        If it fails, its old difference would else be taken for that of the new image.
        """
        if stage not in FILES:
            return
        order = list(FILES)
        following = order[order.index(stage) + 1 :]
        if stage == "extended_psf":
            following = ["subtract_stars"]
        elif stage == "subtract_stars":
            following = []
        folder = Path(self.path).parent
        images: list[tuple[Path, Sequence[str]]] = [(folder, following)]
        if folder.name == TEMPLATE and "subtract" in following:
            others = [p for p in folder.parent.glob("*/") if p != folder]
            images += [(other, OF_DIFFERENCE) for other in others]
        for image, stages in images:
            for name in stages:
                (image / f"{name}.json").unlink(missing_ok=True)
                for file in FILES[name]:
                    place = Path(self.output, image.parent.name, image.name, file)
                    place.unlink(missing_ok=True)
        if "detect" in (stage, *following):
            field = folder.parent
            (field / "lightcurves.json").unlink(missing_ok=True)
            for file in OF_FIELD:
                Path(self.output, field.name, file).unlink(missing_ok=True)

    def correct_times(self) -> None:
        """Date products of the future, by whatever clock, long back: nothing would be newer."""
        with contextlib.suppress(OSError, ValueError, LookupError, AttributeError, TypeError):
            for file in json.loads(Path(self.path).read_text(encoding="utf-8"))["made"]:
                path = Path(self.output, file)
                if path.stat().st_mtime > time.time():
                    os.utime(path, (1e9, 1e9))

    def _write(self, read, made):
        with atomic_path(self.path) as temporary:
            text = json.dumps({"asked": self.asked, "read": read, "made": made}, indent=1)
            temporary.write_text(text + "\n", encoding="utf-8")


def asked(
    settings: Mapping[str, Any], files: Iterable[str | Path] = (), home=".", **more
) -> dict[str, Any]:
    """What a stage is asked to do, as JSON gives it back.

    Parameters
    ----------
    settings : mapping
        The stage's section of the configuration.
    files : paths
        The user's files that it reads.
    home : path
        Folder to which they are told.
    **more
        Anything else that its products depend on, as JSON can hold it.
    """
    told = {
        "version": __version__,
        "settings": dict(settings),
        "files": [os.path.relpath(path, home) for path in files],
        **more,
    }
    return json.loads(json.dumps(told))


def _still(file, facts):
    """The facts of a file that is what it was, with its new time; None of another one."""
    size, time, digest = facts
    found = file.stat()
    if found.st_size != size:
        return None
    if found.st_mtime_ns != time and _digest(file) != digest:
        return None
    return [size, found.st_mtime_ns, digest]


def _facts(file):
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, _digest(file)]


def _digest(file):
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
