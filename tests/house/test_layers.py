"""A module imports only what stands above it in docs/architecture.md."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "psflib"


def documented_order():
    """Modules and packages in the order of the document's list."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    listing = text.split("## psflib, in import order")[1].split("```")[1]
    names = []
    for line in listing.strip().splitlines():
        while match := re.match(r"(\w+)(?:\.py|/)(?:\s+|$)", line):
            names.append(match[1])
            line = line[match.end() :] if match.end() - match.end(1) < 6 else ""
    return names


def modules():
    """Each module's top-level name and its file; the lazy public face stands outside."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            yield parts[0], path


def imported(path):
    """Top-level names of what a file imports from psflib, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            head, *rest = node.module.split(".")
            if head == "psflib":
                yield from ([rest[0]] if rest else [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                head, *rest = alias.name.split(".")
                if head == "psflib" and rest:
                    yield rest[0]


ORDER = documented_order()


def test_the_list_is_complete():
    assert len(ORDER) == len(set(ORDER))
    assert set(ORDER) == {name for name, _ in modules()}


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: str(value))
def test_imports_only_from_above(name, path):
    above = set(ORDER[: ORDER.index(name) + 1])
    below = sorted(set(imported(path)) - above)
    assert not below, f"{path.relative_to(ROOT)} imports {below}, which stand below it"
