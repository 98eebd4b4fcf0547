"""`prepare`: the first guess of the stars' FWHM, units, and cost.

python benchmarks/prepare.py                               every section
python benchmarks/prepare.py --write docs/benchmarks.md    the same, into that file
"""

import itertools
import logging
import os

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from measure import cpu, run_sections  # noqa: E402

import psflib  # noqa: E402
from psflib.image.exposure import MaskBit  # noqa: E402
from psflib.simulation.psf_model import PsfModel  # noqa: E402
from psflib.stars.widths import estimate_fwhm  # noqa: E402

SKY, READ = 300.0, 5.0  # electrons
COUNTS = (5, 20, 100, 1000, 5000)
WIDTHS = (0.9, 1.2, 1.6, 2.05, 3.0, 5.0, 8.0, 12.0)
SEEDS = (1, 2, 3)


def stars(side, count, fwhm, seed):
    """Counts of an image of stars, sky included."""
    rng = np.random.default_rng([seed, count])
    light = np.zeros((side, side))
    faintest = 3.3 if count < 50 else 2.5
    flux = 10 ** rng.uniform(faintest, 5, count) * (max(fwhm, 2) / 3) ** 2
    x, y = rng.uniform(5, side - 5, (2, count))
    PsfModel(fwhm, wing=0.02, shape=light.shape).render(x, y, flux, light)
    return (rng.poisson(light + SKY) + rng.normal(0, READ, light.shape)).astype(np.float32)


def holes(side, share, seed):
    """Boxes without data that take this share of an image."""
    rng, bad = np.random.default_rng(seed), np.zeros((side, side), bool)
    while bad.mean() < share:
        y, x, size = *rng.integers(0, side, 2), rng.integers(5, 60)
        bad[y : y + size, x : x + size] = True
    return bad


def widths():
    """Worst guess over the truth, of all seeds."""
    rows = []
    for fwhm, share in itertools.product(WIDTHS, (0.0, 0.6)):
        row = [fwhm, f"{100 * share:.0f} %"]
        for count in COUNTS:
            ratios = []
            for seed in SEEDS:
                image = stars(512, count, fwhm, seed) - np.float32(SKY)
                mask = np.where(holes(512, share, seed), np.uint16(MaskBit.BAD), np.uint16(0))
                variance = np.full(image.shape, SKY + READ**2, np.float32)
                ratios.append(estimate_fwhm(image, variance, mask) / fwhm)
            row.append(f"{max(ratios, key=lambda r: abs(np.log(r))):.2f}")
        rows.append(row)
    columns = ["FWHM, px", "masked", *(f"{n} stars" for n in COUNTS)]
    title = "First guess of the FWHM over the truth, worst of 3 seeds, 512 x 512 (goal 0.9 to 1.1)"
    return title, columns, rows


def cost():
    """CPU seconds per Mpx of the whole stage, all checks and cosmic rays included."""
    rows = []
    for side in (512, 1024, 2048, 4096):
        image = psflib.Exposure(stars(side, round(1500 * (side / 1024) ** 2), 3.0, 1), gain=1.0)
        psflib.prepare(image)
        best = min(cpu(psflib.prepare, image)[1] for _ in range(3))
        rows.append([side, f"{best:.2f}", f"{best / side**2 * 1e6:.2f}"])
    return "Cost of prepare (goal 0.5, later 0.25)", ["side, px", "CPU s", "CPU s/Mpx"], rows


def units():
    """Pixels times 10^k: what changes against k = 0."""
    image = stars(512, 200, 3.0, 1).astype(float)
    plain = psflib.prepare(psflib.Exposure(image, gain=1.0))
    rows = []
    for k in (-22, -18, -12, -6, -3, 3, 6, 12):
        scale = 10.0**k
        other = psflib.prepare(psflib.Exposure(image * scale, gain=1 / scale))
        unit = other.meta.get("unit", 1.0) / scale
        offset = np.abs(other.image.astype(float) * unit - plain.image).max()
        variance = other.variance.astype(float) * unit**2 / plain.variance - 1
        rows.append(
            [f"10^{k}", f"{offset / plain.meta['sky_rms']:.1e}", f"{np.abs(variance).max():.1e}",
             int((other.mask != plain.mask).sum())]
        )  # fmt: skip
    columns = ["unit", "largest change, sigma", "of the variance, relative", "of the mask, px"]
    return "The same image in other units", columns, rows


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    sections = {"widths": widths, "units": units, "cost": cost}
    run_sections(__doc__, sections, "prepare")
