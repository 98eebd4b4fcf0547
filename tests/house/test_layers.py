"""Folders import only what stands above them in docs/architecture.md; files go in no circle."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "psflib"
#: Lateness saves start-up here: the command line, the table of stages, and what serves them.
DOORS = ("__init__", "__main__", "lazy", "stages")


def documented_order():
    """Folders and root files in the order of the document's list."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    listing = text.split("## psflib, in import order")[1].split("```")[1]
    return re.findall(r"^(\w+)(?:/|\.py)", listing, re.MULTILINE)


def name_of(path):
    """Dotted name of a module below psflib; a package goes by its own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
ORDER = documented_order()


def imports_of(tree, known=MODULES):
    """Names of the modules of psflib that a syntax tree imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            head, _, module = (node.module or "").partition(".")
            for alias in node.names if head == "psflib" else ():
                inner = f"{module}.{alias.name}".lstrip(".")
                yield inner if inner in known else module or "__init__"
        elif isinstance(node, ast.Import):
            yield from (
                name.removeprefix("psflib.") if "." in name else "__init__"
                for name in (alias.name for alias in node.names)
                if name.split(".")[0] == "psflib"
            )


def tree_of(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def top(name):
    return name.split(".")[0]


def test_the_list_is_complete():
    assert len(ORDER) == len(set(ORDER))
    assert set(ORDER) == {top(name) for name in MODULES} - {"__init__"}


def test_seven_files_stand_at_the_root():
    files = {path.stem for path in PACKAGE.glob("*.py")}
    assert files == {"__init__", "__main__", "version", "errors", "config", "lazy", "words"}


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"__init__"}))
def test_imports_only_from_above(name):
    above = set(ORDER[: ORDER.index(top(name)) + 1])
    below = sorted({i for i in imports_of(tree_of(name)) if top(i) not in above})
    assert not below, f"psflib.{name} imports {below}, which stand below it"


def test_no_circle_of_files():
    graph = {name: set(imports_of(tree_of(name))) - {name} for name in MODULES if name not in DOORS}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, naming the circle


def test_no_circle_of_inner_folders():
    """core and wings of psf, hotpants, sfft and zogy of subtraction: one way only."""
    graph = {}
    for name, path in MODULES.items():
        folder = path.parent.relative_to(PACKAGE)
        if len(folder.parts) == 2:
            others = {i.rpartition(".")[0] for i in imports_of(tree_of(name))}
            inner = {o for o in others if o.count(".") == 1} - {".".join(folder.parts)}
            graph.setdefault(".".join(folder.parts), set()).update(inner)
    tuple(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", sorted(set(MODULES) - set(DOORS)))
def test_nothing_is_imported_late(name):
    """Neither inside a function nor by a module's `__getattr__`: circles would hide there."""
    tree = tree_of(name)
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    # the module's own; a class may have one (it answers for names, `matching.cells.spelling`)
    assert "__getattr__" not in [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
    late = [
        node.lineno
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    text = MODULES[name].read_text(encoding="utf-8")
    assert not late, f"imports inside functions, lines {late}"
    assert "import_module" not in text


def test_the_rule_sees_a_late_import():
    tree = ast.parse("def f():\n    from psflib.image import noise\n    import psflib.files\n")
    assert sorted(imports_of(tree)) == ["files", "image.noise"]
