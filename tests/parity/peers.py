"""The peers, if they are installed (`make parity`); else a test skips and says so."""

import os
import shutil
import warnings

import pytest

SEEDS = (1, 2, 3)


def peer(name):
    """A module of a peer; its own warnings at import are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed: make parity")


def hotpants():
    """Path of the C program: $HOTPANTS, or `hotpants` on the path."""
    found = os.environ.get("HOTPANTS") or shutil.which("hotpants")
    if found is None or not os.path.isfile(found):
        pytest.skip("no HOTPANTS: set $HOTPANTS or put `hotpants` on the path")
    return found
