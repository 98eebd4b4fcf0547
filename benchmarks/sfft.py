"""`run_sfft` and the method `sfft` against truth, peers and the clock.

python benchmarks/sfft.py                                the exactness and the scenes
python benchmarks/sfft.py all --write docs/benchmarks.md every section, into that file
python benchmarks/sfft.py scenes --scenes sparse,steep --seeds 1,2

stdpipe takes part where it is installed.  The columns are explained in docs/benchmarks.md.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import matching_peers as peers  # noqa: E402
import numpy as np  # noqa: E402
from matching_figures import Bench  # noqa: E402
from measure import markdown, replace_section  # noqa: E402

from psflib.subtraction.sfft import normal  # noqa: E402
from psflib.subtraction.sfft.fourier import by_transforms  # noqa: E402
from psflib.subtraction.sfft.model import Model  # noqa: E402

FIGURES = ("v1000", "FP", "oracle FP", "*30", "*100", "*300", "*1000", "bias", "sky", "src", "usable")  # fmt: skip  # noqa: E501
COSTS = ((1024, 15, "psflib"), (1024, 7, "psflib"), (1024, 7, "stdpipe"), (4096, 15, "psflib"))
TIMEOUT = 3600  # s


def exactness(_):
    """Normal equations from transforms against the design matrix itself."""
    rng = np.random.default_rng(1)
    rows = []
    for size, side, order in ((192, 7, 1), (256, 7, 1), (192, 9, 2)):
        target, template = rng.normal(0, 1, (2, size, size))
        template += np.where(rng.uniform(size=template.shape) < 0.01, 100, 0)
        use = np.zeros(target.shape, bool)
        use[side // 2 : -(side // 2), side // 2 : -(side // 2)] = True
        use[rng.uniform(size=use.shape) < 0.02] = False
        model = Model(target.shape, (side, side), order, 2, min(order, 1))
        y, x = np.nonzero(use)
        begin = time.process_time()
        brute, vector = normal.exactly(model, template, y, x, np.ones(len(y)), target[use])
        middle = time.process_time()
        matrix, right = by_transforms(model, template, use, target)
        end = time.process_time()
        errors = (np.abs(matrix - brute).max() / np.abs(brute).max(),
                  np.abs(right - vector).max() / np.abs(vector).max())  # fmt: skip
        rows.append([f"{size}²", f"{side}x{side}", order, f"{max(errors):.1e}",
                     f"{middle - begin:.2f}", f"{end - middle:.3f}"])  # fmt: skip
    head = ["image", "kernel", "order", "largest error", "brute force CPU s", "transforms CPU s"]
    return "SFFT: transforms against brute force (goal 1e-12)", head, rows


def scenes(plan):
    """Residuals of the method `sfft` on the scenes of matching."""
    rows = []
    for name in plan.scenes.split(","):
        for seed in map(int, plan.seeds.split(",")):
            bench = Bench(name, plan.size, seed)
            begin = time.process_time()
            difference = bench.subtract(method="sfft")
            seconds = time.process_time() - begin
            rows.append(_row(name, seed, "psflib", bench.figures(difference), f"{seconds:.1f}"))
            if peers.available() and "stdpipe" in plan.sections:
                begin = time.process_time()
                difference = peers.sfft(bench)
                seconds = time.process_time() - begin
                figures = bench.figures(difference)
                rows.append(_row(name, seed, "stdpipe", figures, f"{seconds:.1f}"))
    title = f"SFFT on scenes of {plan.size} x {plan.size} (goals: \\*1000 1.3; sky 0.98 to 1.03)"
    return title, ["scene", "seed", "by", *(f.replace("*", "\\*") for f in FIGURES), "CPU s"], rows


def _row(name, seed, by, figures, seconds):
    return [name, seed, by, *(f"{figures[f]:.2f}" for f in FIGURES), seconds]


def cost(_):
    """CPU seconds and memory, each in a process of its own."""
    rows = []
    script = Path(__file__).with_name("sfft_cost.py")
    for size, kernel, package in COSTS:
        if package == "stdpipe" and not peers.available():
            continue
        command = [sys.executable, str(script), str(size), str(kernel), "2", package]
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        label = [package, f"{size}²", f"{kernel}x{kernel}"]
        if result.returncode:
            rows.append([*label, "failed", "", ""])
            continue
        found = json.loads(result.stdout)
        rows.append([*label, f"{found['cpu']:.1f}", f"{found['memory']:.2f}",
                     f"{found['scatter']:.3f}"])  # fmt: skip
    head = ["by", "image", "kernel", "CPU s", "peak GB", "D / sigma"]
    return "SFFT: weights, masks, order 2 (goals 3 s and 0.6 GB; 60 s at 4096²)", head, rows


SECTIONS = {"exactness": exactness, "scenes": scenes, "cost": cost}


def main(arguments=None):
    plan = _options(arguments)
    names = list(SECTIONS) if "all" in plan.sections else plan.sections
    for name in names:
        if name == "stdpipe":
            continue
        text = markdown(*SECTIONS[name](plan))
        print(text, flush=True)
        if plan.write:
            replace_section(plan.write, f"sfft-{name}", text)


def _options(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sections", nargs="*", default=["exactness", "scenes"], metavar="SECTION",
        help=f"all, or some of {', '.join(SECTIONS)}; stdpipe adds it to the scenes",
    )  # fmt: skip
    parser.add_argument("--scenes", default="sparse,crowded,steep,reverse")
    parser.add_argument("--size", type=int, default=1024, help="px a side")
    parser.add_argument("--seeds", default="71,83")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the tables in a file")
    options = parser.parse_args(arguments)
    unknown = set(options.sections) - {"all", "stdpipe", *SECTIONS}
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    main()
