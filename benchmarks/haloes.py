"""Haloes of bright stars removed: against the truth, in a difference, and on survey images.

python benchmarks/haloes.py                                  the simulated rows
python benchmarks/haloes.py all --write docs/benchmarks.md   every table, into that file
python benchmarks/haloes.py pictures                         docs/images/halo_*.png

The survey images are looked for in $PSFLIB_DATA or ../shared/data beside the repository.
"""

import argparse
import os
from pathlib import Path

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import haloes_sections as sections  # noqa: E402
from measure import markdown, replace_section  # noqa: E402


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", default="simulated",
                        choices=["simulated", "real", "all", "pictures"])  # fmt: skip
    parser.add_argument("--seeds", default="11,12,13,14", help="of the pairs")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the tables in a file")
    options = parser.parse_args(arguments)
    if options.what == "pictures":
        sections.pictures()
        return
    tables = {}
    if options.what in ("simulated", "all"):
        rows = sections.simulated(tuple(map(int, options.seeds.split(","))))
        tables["haloes"] = ("Haloes", ["figure", "goal", "measured"], rows)
    if options.what in ("real", "all"):
        tables["haloes real"] = sections.real()
    for name, table in tables.items():
        text = markdown(*table)
        print(text, flush=True)
        if options.write:
            replace_section(options.write, name, text)


if __name__ == "__main__":
    main()
