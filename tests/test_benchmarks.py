"""Every script that prints figures of the documentation can still be loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(p.stem for p in FOLDER.glob("*.py")))
def test_loads(script):
    """As Python starts it: the scripts find each other by their folder."""
    code = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import {script}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
