"""docs/names.md from docs/names.yaml: their names, ours, what differs, and the test that shows it.

python benchmarks/names.py [--check]
"""

import argparse
import sys
from pathlib import Path

import yaml

DOCS = Path(__file__).parents[1] / "docs"
COLUMNS = ("theirs", "ours", "how", "test")
HEADS = ("{peer}", "psflib", "same, or how it differs", "test")


def page(data) -> str:
    """The page, Markdown."""
    lines = ["# Names: theirs and ours", "", data["intro"].strip(), ""]
    for section in data["sections"]:
        lines += [f"## {section['title']}", ""]
        if section.get("intro"):
            lines += [section["intro"].strip(), ""]
        heads = [head.format(peer=section["title"].split(",")[0]) for head in HEADS]
        lines += [row(heads), row(["---"] * len(heads))]
        lines += [row(cells(entry)) for entry in section["rows"]]
        same = sum(entry.get("how", "same") == "same" for entry in section["rows"])
        lines += ["", f"{len(section['rows'])} rows, {same} of them the same.", ""]
        if section.get("outro"):
            lines += [section["outro"].strip(), ""]
    lines.append(data.get("outro", "").strip())
    return "\n".join(lines).rstrip() + "\n"


def cells(entry) -> list[str]:
    """The four cells of a row; a row without `how` is the same."""
    unknown = set(entry) - set(COLUMNS)
    if unknown:
        raise ValueError(f"unknown column {', '.join(sorted(unknown))} in {entry}")
    test = entry.get("test", "")
    link = f"[{test.removeprefix('tests/')}](../{test.split('::')[0]})" if test else ""
    return [entry["theirs"], entry["ours"], entry.get("how", "same"), link]


def row(values) -> str:
    return "| " + " | ".join(str(v).strip().replace("\n", " ") for v in values) + " |"


def main() -> int:
    """Write the page, or with --check tell whether it is that of the data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it is old")
    text = page(yaml.safe_load((DOCS / "names.yaml").read_text(encoding="utf-8")))
    target = DOCS / "names.md"
    if parser.parse_args().check:
        return int(target.read_text(encoding="utf-8") != text)
    target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
