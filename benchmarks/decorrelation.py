"""Decorrelation against known noise, published figures, real pairs and the clock.

python benchmarks/decorrelation.py                             some minutes
python benchmarks/decorrelation.py --only field cost
python benchmarks/decorrelation.py --write docs/benchmarks.md  puts the tables into that file

Real pairs take part if their folder is there ($PSFLIB_DATA or ../shared/data).
"""

import os

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import decorrelation_sections as sections  # noqa: E402
from measure import run_sections  # noqa: E402

if __name__ == "__main__":
    run_sections(__doc__, sections.SECTIONS, "decorrelation")
