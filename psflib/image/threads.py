"""How many threads work on the rows and tiles of an image.

Threads share the planes, and NumPy, the transforms and all compiled loops let each other go on
meanwhile.  Pieces are computed as they are by one thread, each to its own place: results are the
same to the bit.  (`numba.prange` would do too, but every such loop takes twice as long to compile.)
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

_threads: ContextVar[int] = ContextVar("threads", default=1)


@contextlib.contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Let what is called within work with this many threads.

    Raises
    ------
    ValueError
        If the count is not positive.
    """
    if count < 1:
        raise ValueError(f"at least one thread must work; got {count}")
    token = _threads.set(count)
    try:
        yield
    finally:
        _threads.reset(token)


def for_each(function: Callable[..., Any], pieces: Iterable[Any]) -> None:
    """Call the function with each piece; pieces write to places of their own."""
    count = _threads.get()
    if count == 1:
        for piece in pieces:
            function(piece)
        return
    with ThreadPoolExecutor(count) as pool:
        for _ in pool.map(function, pieces):  # that an error of one is raised
            pass


def bands(rows: int, step: int = 1) -> list[slice]:
    """Rows shared out among the threads, in whole steps but for the last."""
    count = _threads.get()
    steps = -(-rows // step)
    edges = [step * (k * steps // count) for k in range(count)] + [rows]
    return [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]
