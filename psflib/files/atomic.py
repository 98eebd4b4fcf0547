"""Files appear whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A hidden temporary name beside `path`, renamed to it when the block ends well.

    The temporary keeps the suffixes of `path`, which tell writers the format.  It is made in the
    same folder because a rename is atomic only within one file system, and flushed to the disk
    before the rename, so that not even a power cut leaves a half-written file under the name.
    Missing folders are made; after an error the temporary is removed and `path` is as before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=f".tmp.{path.name}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush(path.parent)


def _flush(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask():
    # mkstemp gives 0600, which would hide products from colleagues; the mask cannot be read
    # without being set.
    mask = os.umask(0)
    os.umask(mask)
    return mask
