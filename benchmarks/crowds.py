"""Crowds beyond resolution: transients found, and candidates that are none.

python benchmarks/crowds.py                            the table
python benchmarks/crowds.py --write docs/benchmarks.md  the table, into that file

Pairs of 512 x 512 px, FWHM 3.6 and 2.8 px, PSFs that vary over the field, 36 transients of S/N 25
to 200 in empty sky; stars down to 10 sigma of the noise (100 ADU) or 50.
"""

import argparse
import logging
import os
from pathlib import Path

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from measure import markdown, replace_section  # noqa: E402

import psflib  # noqa: E402
from psflib.errors import PsflibError  # noqa: E402
from psflib.simulation import simulate_pair  # noqa: E402

SIDE, SKIES, GAIN = 512, (200.0, 100.0), 2.0
DENSITIES, FAINTEST, SEEDS = (6000, 20_000, 60_000), (100.0, 500.0), (31, 32)
GIVEN = ("not at all", "true", "of counts")
MPX = SIDE**2 / 1e6


def run(density, faintest, given, seed):
    """(found, of, false, verdict) of one pair."""
    rng = np.random.default_rng(seed + 1000)
    x, y = rng.uniform(30, SIDE - 30, (2, 36))
    flux = rng.permutation(np.geomspace(2500, 20_000, 36))
    pair = simulate_pair(
        (SIDE, SIDE), seed=seed, n_stars=int(density * MPX), scale=1.2, faintest=faintest,
        brightest=1e5, variation=0.1, transients=list(zip(x, y, flux, strict=True)),
    )[:2]  # fmt: skip
    images = []
    for true, sky in zip(pair, SKIES, strict=True):
        image = true.image + np.float32(sky)
        variance = {"true": true.variance, "of counts": np.maximum(image, 1) / GAIN}.get(given)
        images.append(
            psflib.prepare(psflib.Exposure(image, variance=variance, gain=GAIN, saturation=6e4))
        )
    clean = psflib.decorrelate(psflib.subtract(*images))
    found = psflib.detect(clean)
    good = np.asarray(found["clean"])
    distance = np.hypot(found["x"].value[:, None] - x, found["y"].value[:, None] - y)
    hits = (distance[good] < 2).any(axis=0).sum()
    false = (good & ~(distance < 3).any(axis=1)).sum()
    return int(hits), len(x), int(false), found.meta["verdict"]


def table():
    rows = []
    for density in DENSITIES:
        for faintest in FAINTEST:
            for given in GIVEN:
                done, stopped = [], []
                for seed in SEEDS:
                    try:
                        done.append(run(density, faintest, given, seed))
                    except PsflibError as error:
                        stopped.append(type(error).__name__)
                hits, of, false = (sum(d[k] for d in done) for k in range(3))
                words = ", ".join([*(d[3] for d in done), *stopped])
                rows.append((f"{density:,}", f"{faintest:g}", given, f"{hits} of {of}",
                             f"{false / max(len(done), 1) / MPX:.1f}", words))  # fmt: skip
    head = ["stars per Mpx", "faintest [ADU]", "variance given", "transients found (goal 95 %)",
            "false per Mpx (goal 4)", "verdicts"]  # fmt: skip
    return "Crowds beyond resolution (seeds 31, 32)", head, rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in a file")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    text = markdown(*table())
    print(text)
    if options.write:
        replace_section(options.write, "crowds", text)


if __name__ == "__main__":
    main()
