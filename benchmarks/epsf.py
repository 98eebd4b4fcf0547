"""The core ePSF against the truth, its peers and the clock.

python benchmarks/epsf.py                             everything, many minutes
python benchmarks/epsf.py --quick                     about a minute
python benchmarks/epsf.py --write docs/benchmarks.md  puts the tables into that file

photutils takes part where it is installed, PSFEx where `psfex` is on the path.
"""

import argparse
import os
from pathlib import Path

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import epsf_sections as sections  # noqa: E402
from measure import markdown, replace_section  # noqa: E402


def main():
    options = _options()
    if options.hexadecimal:
        print(sections.hexadecimal(options.hexadecimal, options.solver))
        return
    plan = sections.Plan(options.solver, tuple(options.seeds), not options.no_peers, options.quick)
    for name in options.only or sections.SECTIONS:
        text = markdown(*sections.SECTIONS[name](plan))
        print(text, flush=True)
        if options.write:
            replace_section(options.write, name, text)


def _options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a minute instead of everything")
    parser.add_argument("--seeds", type=int, nargs="+", default=[31, 47, 53], help="of the stars")
    parser.add_argument("--solver", default="normal", help="solver of psflib")
    parser.add_argument("--no-peers", action="store_true", help="psflib only")
    parser.add_argument("--only", nargs="+", choices=list(sections.SECTIONS), metavar="SECTION")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the tables in a file")
    parser.add_argument("--hexadecimal", type=float, metavar="FWHM", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
