"""Proper image subtraction against the truth and the clock, and all methods side by side.

python benchmarks/zogy.py                             the figures of run_zogy
python benchmarks/zogy.py all --write docs/benchmarks.md   every section, into that file

STDPipe's run_zogy takes part where it is installed.
"""

import argparse
import os
from pathlib import Path

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import zogy_sections as sections  # noqa: E402
from measure import markdown, replace_section  # noqa: E402


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sections", nargs="*", default=["zogy"], metavar="SECTION",
        help=f"all, or some of {', '.join(sections.SECTIONS)}",
    )  # fmt: skip
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the tables in a file")
    options = parser.parse_args(arguments)
    unknown = set(options.sections) - {"all", *sections.SECTIONS}
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}")
    names = list(sections.SECTIONS) if "all" in options.sections else options.sections
    for name in names:
        text = markdown(*sections.SECTIONS[name]())
        print(text, flush=True)
        if options.write:
            replace_section(options.write, name, text)


if __name__ == "__main__":
    main()
