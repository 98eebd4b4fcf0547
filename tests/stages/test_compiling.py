"""One process compiles, the others wait for it and compile nothing."""

import subprocess
import sys

import pytest

from psflib.stages import compiling

CHILD = """
import sys, time, pathlib
from psflib.stages.compiling import one_compiler
with one_compiler("prepare"):
    began = time.monotonic()
    time.sleep(0.5)
    print(began, time.monotonic())
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def spans(count):
    """When each of some processes that start together was at work."""
    command = [sys.executable, "-c", CHILD]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return sorted(tuple(map(float, one.communicate()[0].split())) for one in running)


def test_the_first_works_alone(cache):
    (_, end), *others = spans(3)
    assert all(begin >= end for begin, _ in others)
    assert len(list(cache.glob("psflib-prepare-*.compiled"))) == 1


def test_nobody_waits_where_all_is_compiled(cache):
    compiling._marker("prepare").touch()
    with (cache / "psflib-compiling.lock").open("w") as lock:
        compiling.fcntl.flock(lock, compiling.fcntl.LOCK_EX)
        with compiling.one_compiler("prepare"):
            pass  # would wait for ever


def test_a_stage_that_fails_has_not_compiled_all(cache):
    with pytest.raises(ValueError, match="bad star"), compiling.one_compiler("detect"):
        raise ValueError("bad star")
    assert not list(cache.glob("*.compiled"))


def test_a_lock_that_cannot_be_had_is_no_reason_to_stop(cache, monkeypatch):
    def refuse(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(compiling.fcntl, "flock", refuse)
    with compiling.one_compiler("detect"):
        pass
    assert len(list(cache.glob("psflib-detect-*.compiled"))) == 1


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/nothing")
    with compiling.one_compiler("detect"):
        pass


def test_all_stages_are_compiled_in_order():
    called = []
    compiling.compile_all(lambda name, *_, **__: called.append(name), ("al", "zogy"))
    image = ["prepare", "select_stars", "build_stamps", "core_epsf", "extended_psf"]
    epoch = ["subtract", "decorrelate", "inject", "detect"]
    assert called == ["simulate", *2 * [*image, "subtract_stars"], *2 * epoch]
