"""Wings of the PSF against truth, peers, real stars and the clock.

python benchmarks/wings.py                             some minutes
python benchmarks/wings.py --only profile combine
python benchmarks/wings.py --write docs/benchmarks.md  puts the tables into that file

Real stars take part if their folder is there ($PSFLIB_DATA or ../shared/data).
"""

import argparse
import os
from pathlib import Path

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import wings_sections as sections  # noqa: E402
from measure import markdown, replace_section  # noqa: E402


def main():
    options = _options()
    for name in options.only or sections.SECTIONS:
        text = markdown(*sections.SECTIONS[name]())
        print(text, flush=True)
        if options.write:
            replace_section(options.write, f"wings {name}", text)


def _options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(sections.SECTIONS), metavar="SECTION")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the tables in a file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
