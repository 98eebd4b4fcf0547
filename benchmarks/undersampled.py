"""PSFs narrower than two pixels: the core ePSF beside the floor of its grid.

python benchmarks/undersampled.py                             two minutes
python benchmarks/undersampled.py --write docs/benchmarks.md  puts the table into that file
"""

import argparse
import os
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from measure import cpu, markdown, replace_section  # noqa: E402

from psflib.psf import build_epsf  # noqa: E402
from psflib.simulation.epsf_scores import (  # noqa: E402
    catmull_rom_of,
    held_out_stars,
    relative_l2,
    score_epsf,
    score_floor,
)
from psflib.simulation.star_stamps import EpsfTruth, simulate_stamps  # noqa: E402

FAMILIES = "gaussian", "moffat", "elongated", "hst", "jwst"
CASES = (0.9, 5), (1.1, 5), (1.3, 5), (1.3, 3), (2.0, 3)  # FWHM px, samples per pixel
STARS, SIZE = 300, 25
PLACES = np.arange(-6, 6, 1 / 11) + 0.013  # px, of the comparison between the nodes
HEAD = [
    "family", "FWHM", "os", "relative L2, grid", "relative L2", "flux scatter, truth",
    "flux scatter", "position scatter, grid", "position scatter [px]", "CPU s",
]  # fmt: skip


def between(grid, truth, oversample):
    """Relative error of an ePSF as it is used, interpolated at offsets off the nodes."""
    _, shift = relative_l2(grid, truth, oversample)
    dy, dx = PLACES[:, None], PLACES[None, :]
    values = catmull_rom_of(grid, oversample)(dy, dx)
    model = truth.at(dy - shift[0], dx - shift[1])
    scale = np.sum(values * model) / np.sum(values**2)
    return np.linalg.norm(scale * values - model) / np.linalg.norm(model)


def row(family, fwhm, oversample, seed):
    truth = EpsfTruth(family, fwhm)
    stars, held_out = simulate_stamps(truth, STARS, SIZE, seed=seed), held_out_stars(truth, SIZE)

    def build():
        data, delta = stars.data, stars.delta_init
        return build_epsf(data, delta, oversample, weight=stars.weight, solver="normal")

    made, seconds = cpu(build)
    grid = truth.epsf(SIZE, oversample)
    ours, best = (score_epsf(psi, truth, oversample, held_out) for psi in (made.epsf, grid))
    return [
        family, fwhm, oversample, f"{between(grid, truth, oversample):.4f}",
        f"{between(made.epsf, truth, oversample):.4f}",
        f"{score_floor(truth, held_out).flux_scatter:.4f}", f"{ours.flux_scatter:.4f}",
        f"{best.position_scatter:.4f}", f"{ours.position_scatter:.4f}", f"{seconds:.2f}",
    ]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in a file")
    options = parser.parse_args()
    row("gaussian", 1.3, 3, 1)  # compiles
    rows = [row(family, *case, options.seed) for family in FAMILIES for case in CASES]
    text = markdown("Undersampled PSFs", HEAD, rows)
    print(text)
    if options.write:
        replace_section(options.write, "undersampled", text)


if __name__ == "__main__":
    main()
