"""Streaks: how many are found, what else is taken for one, what the search costs.

python benchmarks/streaks.py                             both sections
python benchmarks/streaks.py --write docs/benchmarks.md  the same, into that file

50 fields of 512 x 512 px: the scenes of `psflib.simulation`, subtracted and decorrelated by the
chain, with what spoils differences put in after the kernel was fitted (`ranking_scenes`): stars out
of place or wider, spikes, rings, edges of masks, columns and rows no mask knows.
"""

import functools
import logging
import os

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from measure import cpu, run_sections  # noqa: E402
from ranking_scenes import damaged  # noqa: E402

import psflib  # noqa: E402
from psflib.decorrelation import streaks  # noqa: E402
from psflib.image.exposure import MaskBit  # noqa: E402
from psflib.settings.decorrelate import DecorrelateSettings  # noqa: E402
from psflib.simulation import SCENES, simulate_scene  # noqa: E402

SIZE = 512  # px
SCENES_OF = [(name, seed) for seed in (300, 301) for name in SCENES][:10]
DAMAGE = "shifted", "widened", "spikes", "rings", "columns"
COVERED = 0.5  # share of a streak that is masked, from which it is found


@functools.cache
def fields():
    """Decorrelated differences without a streak."""
    made = []
    settings = DecorrelateSettings(mask_streaks=False)
    for name, seed in SCENES_OF:
        scene = simulate_scene(name, SIZE, seed)
        raw = psflib.subtract(scene.science.exposure, scene.template.exposure)
        for damage in DAMAGE:
            made.append(psflib.decorrelate(damaged(raw, scene, damage, seed), settings))
    return made


def with_streak(difference, rng, length, peak, width):
    """The field with a streak of `peak` sigma of a pixel, and where its light is (ny, nx)."""
    ny, nx = difference.shape
    angle, x, y = rng.uniform(0, np.pi), *rng.uniform(0.3, 0.7, 2) * (nx, ny)
    row, column = np.indices(difference.shape)
    along = (column - x) * np.cos(angle) + (row - y) * np.sin(angle)
    across = (row - y) * np.cos(angle) - (column - x) * np.sin(angle)
    profile = difference.psf_at(x, y, 41).sum(0)
    light = np.interp(across / width, np.arange(-20, 21), profile / profile.max())
    light *= np.abs(along) < length / 2
    noise = np.sqrt(np.maximum(difference.variance, 0))
    image = difference.image + (peak * light * noise).astype(np.float32)
    return difference.replace(image=image), light > 0.5


def found(difference, truth):
    """Whether the streak is masked, and how many others are."""
    seen, others = False, 0
    for streak in streaks.find_streaks(difference):
        mask = np.zeros(difference.shape, np.uint16)
        streaks.draw(mask, streak)
        hit = ((mask & MaskBit.STREAK) > 0)[truth & difference.usable].mean() > COVERED
        seen, others = seen or hit, others + (not hit)
    return seen, others


def completeness():
    """Streaks found, of each length and brightness, and others."""
    false = [len(streaks.find_streaks(field)) for field in fields()]
    rows = [["none", "", "", "", f"{sum(false)}"]]
    for length, peak, width in (
        (2 * SIZE, 1.0, 1.0), (SIZE, 1.0, 1.0), (SIZE / 2, 1.0, 1.0), (SIZE, 0.5, 1.0),
        (SIZE / 2, 0.7, 1.0), (SIZE, 0.5, 4.0), (SIZE, -1.0, 1.0), (SIZE, 30.0, 1.0),
    ):  # fmt: skip
        results = []
        for k, field in enumerate(fields()):
            rng = np.random.default_rng([k, 5])
            results.append(found(*with_streak(field, rng, length, peak, width)))
        hits, others = np.sum(results, 0)
        name = "across" if length > SIZE else f"{length:.0f} px"
        rows.append([name, peak, width, f"{hits} of {len(results)}", int(others)])
    head = ["length", "S/N of a pixel on its middle", "width, PSFs", "found", "others"]
    return f"Streaks in {len(fields())} fields (goal: 95 %, no others)", head, rows


def cost():
    """CPU seconds of the search on a field of noise, and on one with residuals."""
    rows = []
    for name, field in (("with residuals", fields()[0]), ("with spikes", fields()[2])):
        streaks.find_streaks(field)
        seconds = min(cpu(streaks.find_streaks, field)[1] for _ in range(5))
        rows.append([name, f"{seconds / field.image.size * 1e6:.3f}"])
    return "Cost of the search for streaks (goal: 0.15)", ["field", "CPU s per Mpx"], rows


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    run_sections(__doc__, {"found": completeness, "cost": cost}, "streaks")
