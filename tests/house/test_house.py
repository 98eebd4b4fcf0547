"""Rules of the house, as code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "psflib"
LIBRARY = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_FUNCTION = 80  # lines, docstring not counted
MAX_FILE = 400


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def name(path):
    return str(path.relative_to(ROOT))


def top_imports(path):
    """First words of the names of all modules imported."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def length(function):
    """Lines of a function without its docstring."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function) is not None
    docstring = first.end_lineno - first.lineno + 1 if has_docstring else 0
    return function.end_lineno - function.lineno + 1 - docstring


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_short_functions_in_short_files(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_FILE, f"{lines} lines"
    functions = [n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef)]
    assert {f.name: length(f) for f in functions if length(f) > MAX_FUNCTION} == {}


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_nothing_prints(path):
    calls = [n for n in ast.walk(tree(path)) if isinstance(n, ast.Call)]
    assert "print" not in {getattr(call.func, "id", "") for call in calls}


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_a_module_says_what_it_is(path):
    assert ast.get_docstring(tree(path)), "no docstring"


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_each_import_has_its_place(path):
    imports, folder = top_imports(path), path.relative_to(PACKAGE).parts[0]
    assert "snakemake" not in imports
    if folder != "loops":
        assert "numba" not in imports, "compiled functions stand in psflib/loops"
    if folder != "widgets":
        assert not {"ipywidgets", "IPython"} & imports
    if folder not in ("files", "products") and path.name != "validation.py":
        opened = re.search(r"fits\.open|\.writeto\(|Table\.read\(", path.read_text("utf-8"))
        assert opened is None, "only psflib.files and psflib.products open FITS and ECSV"


@pytest.mark.parametrize("path", [*LIBRARY, *TESTS], ids=name)
def test_random_numbers_are_seeded(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"np\.random\.(?!default_rng\(|Generator)\w+\(", text)
    assert not re.search(r"default_rng\(\s*\)", text)


def test_only_one_decorator_for_loops():
    text = "".join(p.read_text("utf-8") for p in LIBRARY if p.name != "_numba.py")
    assert not re.search(r"\bn?jit\(|@n?jit|@numba", text)


def test_the_lock_names_no_host():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"https?://|--index-url|--find-links", text)
    assert text.count("--hash=sha256:") >= len(re.findall(r"^[a-z]", text, re.MULTILINE))


def test_the_lock_holds_every_dependency():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"]]
    for extra, listed in project["optional-dependencies"].items():
        wanted += listed if extra != "peers" else []  # what `make bench` adds
    names = {re.split(r"[<>=!~\[ ]", line)[0] for line in wanted}
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert names <= set(re.findall(r"^([a-z0-9_.-]+)==", text, re.MULTILINE))


def test_import_is_fast():
    """`import psflib` loads nothing that a user did not ask for."""
    code = "import psflib, sys; print(sorted({'numpy', 'numba', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_face():
    """Each public name can be had, is documented, and type checkers see the same names."""
    import psflib

    block = (PACKAGE / "__init__.py").read_text("utf-8").split("if TYPE_CHECKING:")[1]
    seen = re.findall(r"from (\S+) import (.+)", block.split("\ndef ")[0])
    homes = {n.strip(): home for home, line in seen for n in line.split(",")}
    assert homes == psflib._HOMES
    for public in psflib._HOMES:
        value = getattr(psflib, public)
        assert public == "METHODS" or value.__doc__
    with pytest.raises(AttributeError, match="has no attribute 'subtrakt'"):
        _ = psflib.subtrakt


def test_stages_are_short_and_named_as_their_rules():
    from psflib.config import Settings
    from psflib.stages import CHAINS, STAGES
    from psflib.stages.records import OUTPUTS

    text = "".join(p.read_text("utf-8") for p in (ROOT / "workflow/rules").glob("*.smk"))
    assert set(re.findall(r"^rule (\w+):", text, re.MULTILINE)) == {*STAGES, *CHAINS}
    others = {"fields", "output", "until", "threads", "jobs"}
    assert set(STAGES) - {"page"} == set(Settings.model_fields) - others
    assert set(OUTPUTS) == set(STAGES) >= {name for chain in CHAINS.values() for name in chain}
    for stage in STAGES:
        functions = tree(PACKAGE / f"stages/{stage}.py").body
        assert max(length(f) for f in functions if getattr(f, "name", "") == stage) <= 15, stage


#: Stage -> a module that no job of that stage has any business with.
FOREIGN = {
    "prepare": ("matplotlib", "psflib.subtraction", "psflib.haloes.fit", "psflib.psf.wings.stage"),
    "core_epsf": ("matplotlib", "sep", "psflib.matching.fit", "psflib.psf.wings.stage"),
    "subtract": ("matplotlib", "psflib.subtraction.sfft", "psflib.subtraction.hotpants.run"),
    "inject": ("matplotlib", "psflib.subtraction.hotpants.run", "psflib.haloes.fit"),
    "detect": ("matplotlib", "psflib.matching.fit", "psflib.subtraction.al"),
    "report": ("matplotlib", "psflib.matching.fit", "psflib.figures"),
}
FOR_NOBODY = ("scipy.signal", "scipy.stats", "scipy.optimize", "scipy.interpolate", "pandas",
              "psflib.simulation", "psflib.lsst", "psflib.widgets")  # fmt: skip


@pytest.mark.parametrize("stage", FOREIGN)
def test_a_stage_imports_what_it_calls_and_no_more(stage):
    """By modules: seconds depend on the machine."""
    code = f"import sys, psflib.stages as s; s.stage({stage!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {*FOREIGN[stage], *FOR_NOBODY} & set(done.stdout.split())


def test_the_workflow_is_planned_without_the_stages():
    """What the Snakefile imports, on a cluster in every job."""
    code = "import sys, psflib.config, psflib.stages.plan, psflib.files.fields; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numba", "astropy", "scipy", "matplotlib"} & set(done.stdout.split())


@pytest.mark.parametrize("path", sorted((ROOT / "workflow/rules").glob("*.smk")), ids=name)
def test_rules_say_what_they_do(path):
    text = path.read_text(encoding="utf-8")
    for word in ("# INPUTS", "# OUTPUTS", "# STEPS"):
        assert word in text
    for rule in re.split(r"^rule ", text, flags=re.MULTILINE)[1:]:
        for word in ('"""', "log:", "benchmark:", "threads:", "mem_mb="):
            assert word in rule, f"rule {rule.splitlines()[0]} has no {word}"
