"""Alard-Lupton subtraction against the truth of the simulated scenes, its peers and the clock.

python benchmarks/matching.py                                the scenes
python benchmarks/matching.py all --write docs/benchmarks.md every section, into that file
python benchmarks/matching.py scenes peers --scenes sparse,equal --seeds 1,2 --size 2048

stdpipe takes part where it is installed.  The columns are explained in docs/benchmarks.md.
"""

import argparse
import os
from pathlib import Path

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import matching_sections as sections  # noqa: E402
from measure import markdown, replace_section  # noqa: E402

from psflib.simulation.simulate import SCENES  # noqa: E402


def main(arguments=None):
    options = _options(arguments)
    plan = sections.Plan(
        tuple(options.scenes.split(",")), options.size, tuple(map(int, options.seeds.split(",")))
    )
    names = list(sections.SECTIONS) if "all" in options.sections else options.sections
    for name in names:
        text = markdown(*sections.SECTIONS[name](plan))
        print(text, flush=True)
        if options.write:
            replace_section(options.write, f"matching-{name}", text)


def _options(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sections", nargs="*", default=["scenes"], metavar="SECTION",
        help=f"all, or some of {', '.join(sections.SECTIONS)}",
    )  # fmt: skip
    parser.add_argument("--scenes", default=",".join(SCENES))
    parser.add_argument("--size", type=int, default=1024, help="px a side")
    parser.add_argument("--seeds", default="71,83")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the tables in a file")
    options = parser.parse_args(arguments)
    unknown = set(options.sections) - {"all", *sections.SECTIONS}
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    main()
