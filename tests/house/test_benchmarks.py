"""Every script that prints figures of the documentation can still be loaded."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_scripts_load():
    """As Python starts them: the scripts find each other by their folder."""
    names = sorted(p.stem for p in FOLDER.glob("*.py"))
    assert len(names) > 10
    done = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(names)}"], cwd=FOLDER, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
