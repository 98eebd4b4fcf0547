"""The conda environments, pyproject.toml and the lock say the same."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from rattler import MatchSpec, Version, VersionSpec

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
#: Name on PyPI -> name on conda-forge or bioconda, where they differ.
CONDA_NAMES = {
    "matplotlib": "matplotlib-base",  # without Qt, which nothing here draws with
    "playwright": "playwright-python",
    "snakemake": "snakemake-minimal",  # without plug-ins for cloud storage
}
EXTRAS = {
    "psflib": ("workflow",),
    "development": ("alerts", "asdf", "workflow", "notebooks", "dev"),
}
#: Needed by the editable install that the head of each file describes.
INSTALLERS = {"python", "pip", "setuptools"}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared(extras):
    """conda name -> range, from pyproject.toml."""
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    pairs = [re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", line).groups() for line in lines]
    return {CONDA_NAMES.get(name, name): spec for name, spec in pairs}


def ranges(path):
    """conda name -> range, from a file in envs/."""
    listed = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
    found = [MatchSpec(line) for line in listed]
    return {str(spec.name.normalized): VersionSpec(spec.version or "*") for spec in found}


def locked():
    """conda name -> versions in the lock (several, where Pythons differ)."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    found = {}
    for name, version in re.findall(r"^([a-z0-9_.-]+)==([^ ;\\]+)", text, re.MULTILINE):
        found.setdefault(CONDA_NAMES.get(name, name), []).append(version)
    return found


def test_there_are_environments():
    assert {path.stem for path in ENVIRONMENTS} == set(EXTRAS)


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_agrees_with_the_project(path):
    found = ranges(path)
    wanted = declared(EXTRAS[path.stem])
    assert set(found) == set(wanted) | INSTALLERS
    for name, spec in wanted.items():
        assert found[name] == VersionSpec(spec), name


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_agrees_with_the_lock(path):
    versions = locked()
    for name, spec in ranges(path).items():
        for version in versions.get(name, ()):
            assert spec.matches(Version(version)), f"{name} {version}"
        assert name in versions or name in ("python", "pip")


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_python(path):
    fits = ["3.11.0", "3.12.1", "3.13.5"]
    python = ranges(path)["python"]
    assert [v for v in ("3.10.9", *fits, "3.14.0") if python.matches(Version(v))] == fits
    assert PROJECT["requires-python"] == ">=3.11"


def test_a_malformed_line_is_refused():
    """The probe works: rattler does not accept just anything."""
    with pytest.raises(Exception, match="version"):
        MatchSpec("numpy>=>2")
