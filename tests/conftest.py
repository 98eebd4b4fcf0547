"""What several test files share."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def snakemake():
    """Run Snakemake on this repository's Snakefile, in a folder, and return what it did."""

    def run(folder, *arguments, timeout=300):
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        return subprocess.run(
            [*command, *map(str, arguments)],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip

    return run


def benchmark_script(name):
    """A script of benchmarks/ as a module: tests hold what the documentation prints."""
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def real_pairs():
    return benchmark_script("real_pairs")


@pytest.fixture(scope="session")
def real_psf():
    return benchmark_script("real_psf")
