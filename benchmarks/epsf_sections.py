"""The sections of the ePSF benchmark: each is a title, the head of a table and its rows."""

import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path

import epsf_field
import numpy as np
from epsf_tools import available, psflib_builder
from measure import cpu, peak_growth

from psflib.simulation.epsf_scores import held_out_stars, score_epsf, score_floor
from psflib.simulation.star_stamps import EpsfTruth, simulate_stamps

OVERSAMPLE = 3
# (FWHM, N): relative L2, |flux bias|, flux scatter, position scatter [px], CPU s of the build.
GOALS = {
    (1.3, 100): (0.0030, 0.0010, 0.0020, 0.0019, 0.4),
    (1.3, 500): (0.0020, 0.0005, 0.0020, 0.0017, 0.8),
    (1.3, 2000): (0.0015, 0.0005, 0.0019, 0.0017, 2.0),
    (3.0, 100): (0.0025, 0.0010, 0.0020, 0.0034, 0.4),
    (3.0, 500): (0.0014, 0.0005, 0.0020, 0.0034, 0.8),
}
# Decimals of those columns: a figure misses its goal if it does so as printed.
DIGITS = (4, 4, 4, 4, 1)
SCORES = ["relative L2", "flux bias", "flux scatter", "position scatter [px]"]
FLOORS = ["floor, grid: flux", "floor, grid: position"]
PEERS_SLOW_FROM = 1000  # stars: minutes of CPU time


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much to run."""

    solver: str = "normal"
    seeds: tuple[int, ...] = (31, 47, 53)
    peers: bool = True
    quick: bool = False


@functools.lru_cache(maxsize=64)
def reference(truth, size=25):
    """Held-out stars of a truth and the floor that their noise sets."""
    stars = held_out_stars(truth, size)
    return stars, score_floor(truth, stars)


@functools.lru_cache(maxsize=64)
def grid_floor(truth, size):
    """Scores of the true nodes under Catmull-Rom: what no ePSF on this grid can better."""
    return score_epsf(truth.epsf(size, OVERSAMPLE), truth, OVERSAMPLE, reference(truth, size)[0])


@functools.lru_cache(maxsize=32)
def warm_up(build, size=25, dtype="f8"):
    """Compile and import everything that a build needs."""
    build(
        simulate_stamps(EpsfTruth("bench", 2.0), 24, size, seed=1, dtype=np.dtype(dtype)),
        OVERSAMPLE,
    )


def judge(build, truth, stars):
    """Score, CPU seconds and MB of a warm build, and what it built."""
    size = stars.data.shape[1]
    warm_up(build, size, stars.data.dtype.str[1:])
    (built, seconds), memory = peak_growth(cpu, build, stars, OVERSAMPLE)
    held_out, _ = reference(truth, size)
    score = score_epsf(built.grid, truth, OVERSAMPLE, held_out, built.interpolate)
    return score, seconds, memory, built


def goals(plan):
    """The issue's table: every tool, every seed."""
    head = ["FWHM", "N", "tool", "seed", *SCORES, "CPU s", "memory MB"]
    cases = [case for case in GOALS if not plan.quick or case[1] <= 500]
    rows = []
    for fwhm, n in cases:
        truth = EpsfTruth("bench", fwhm)
        _, floor = reference(truth)
        rows.append([fwhm, n, "goal", "", *(f"≤ {goal:g}" for goal in GOALS[fwhm, n]), ""])
        rows.append([fwhm, n, "floor: the truth", "", *_scores(floor), "", ""])
        for name, build in available(plan.solver).items():
            peer = name != "psflib"
            if peer and (not plan.peers or plan.quick or n > PEERS_SLOW_FROM):
                continue
            for seed in plan.seeds[:1] if peer or plan.quick else plan.seeds:
                rows.append(_goal_row(name, build, truth, n, seed))
    return "The goals", head, rows


def _goal_row(name, build, truth, n, seed):
    stars = simulate_stamps(truth, n, seed=seed)
    label = [truth.fwhm, n, name, seed]
    try:
        score, seconds, memory, _ = judge(build, truth, stars)
    except Exception as error:
        return [*label, f"failed: {error}"[:60], *[""] * 5]
    found = [*dataclasses.astuple(score)[:4], seconds]
    values = [*_scores(score), f"{seconds:.2f}", "" if name == "PSFEx" else f"{memory:.0f}"]
    for k, goal in enumerate(GOALS[truth.fwhm, n]):
        if name == "psflib" and round(abs(found[k]), DIGITS[k]) > goal:
            values[k] = f"**{values[k]}**"
    return [*label, *values]


def families(plan):
    """Other shapes and widths of the PSF."""
    head = ["family", "FWHM", "s", "N", *SCORES, *FLOORS, "CPU s", "converged"]
    widths = (1.3, 3.0) if plan.quick else (0.9, 1.3, 2.0, 3.0, 5.0, 8.0)
    names = ("gaussian", "donut", "elongated") + (() if plan.quick else ("moffat", "bench"))
    build, n = psflib_builder(plan.solver), 300
    rows = []
    for truth in (EpsfTruth(name, width) for name in names for width in widths):
        values = _with_floor(build, truth, n, plan.seeds[0])
        rows.append([truth.family, truth.fwhm, _stamp_size(truth), n, *values])
    return "Other shapes", head, rows


CONDITIONS = {
    "as the goals": {},
    "clean": {"clean": True},
    "sky ± 50 % between stars": {"sky_spread": 0.5},
    "stars of equal flux, 5e4": {"flux": (5e4, 5e4)},
    "positions known to 0.2 px": {"delta_error": 0.2},
    "weights x 4": {},
    "weights / 4": {},
    "weights of the sky only": {},
}


def conditions(plan):
    """Wrong weights, a sky that varies, equal stars."""
    head = ["condition", "FWHM", "s", "N", *SCORES, *FLOORS, "CPU s", "converged"]
    build, n = psflib_builder(plan.solver), 300
    rows = []
    for fwhm in (1.3, 3.0):
        truth = EpsfTruth("bench", fwhm)
        for name, options in CONDITIONS.items():
            change = functools.partial(_change_weights, name)
            values = _with_floor(build, truth, n, plan.seeds[0], change, **options)
            rows.append([name, fwhm, _stamp_size(truth), n, *values])
    return "Other conditions", head, rows


def _change_weights(name, stars):
    factor = {"weights x 4": 4.0, "weights / 4": 0.25}.get(name, 1.0)
    weight = stars.weight * factor
    if name == "weights of the sky only":
        weight = np.broadcast_to(1 / (stars.sky + 25.0)[:, None, None], weight.shape).copy()
    return dataclasses.replace(stars, weight=weight)


def _stamp_size(truth):
    """25 px, or 5 FWHM where that is more."""
    return max(25, 2 * round(2.5 * truth.fwhm) + 1)


def _with_floor(build, truth, n, seed, change=lambda stars: stars, **options):
    size = _stamp_size(truth)
    _, floor = reference(truth, size)
    stars = change(simulate_stamps(truth, n, size, seed=seed, **options))
    grid = grid_floor(truth, size)
    limits = [
        f"{floor.flux_scatter:.4f}, {grid.flux_scatter:.4f}",
        f"{floor.position_scatter:.4f}, {grid.position_scatter:.4f}",
    ]
    try:
        score, seconds, _, built = judge(build, truth, stars)
    except Exception as error:
        return [f"failed: {error}"[:60], "", "", "", *limits, "", ""]
    return [*_scores(score), *limits, f"{seconds:.2f}", built.converged]


def cost(plan):
    """Time and memory against the number and the size of the stamps."""
    head = ["N", "s", "dtype", "CPU s", "memory MB", "memory / data and weights"]
    build = psflib_builder(plan.solver)
    numbers = (50, 500) if plan.quick else (50, 100, 200, 500, 1000, 2000, 5000)
    cases = [(n, 25, "f8") for n in numbers] + [(500, 25, "f4")]
    if not plan.quick:
        cases += [(5000, 25, "f4")] + [(500, s, "f8") for s in (15, 21, 31, 41, 51, 61)]
    rows = []
    for n, size, dtype in cases:
        truth = EpsfTruth("bench", 2.0)
        stars = simulate_stamps(truth, n, size, seed=plan.seeds[0], dtype=np.dtype(dtype))
        warm_up(build, size, dtype)
        (_, seconds), memory = peak_growth(cpu, build, stars, OVERSAMPLE)
        share = memory * 2**20 / (stars.data.nbytes + stars.weight.nbytes)
        rows.append(
            [n, size, stars.data.dtype.name, f"{seconds:.2f}", f"{memory:.0f}", f"{share:.1f}"]
        )
    return "Cost", head, rows


def repeats(plan):
    """float32 against float64; one thread against two."""
    head = ["FWHM", "N", "float32 - float64, relative L2", "one and two threads"]
    build, n, rows = psflib_builder(plan.solver), 300, []
    for fwhm in (1.3, 3.0):
        made = []
        for dtype in (np.float64, np.float32):
            stars = simulate_stamps(EpsfTruth("bench", fwhm), n, seed=plan.seeds[0], dtype=dtype)
            made.append(build(stars, OVERSAMPLE).grid)
        difference = np.linalg.norm(made[1] - made[0]) / np.linalg.norm(made[0])
        one, two = (_grid_with(threads, fwhm, plan.solver) for threads in (1, 2))
        change = np.abs(two - one).max() / one.max()
        same = f"**differ by {change:.0e} of the peak**" if change else "identical"
        rows.append([fwhm, n, f"{difference:.1e}", same])
    return "The same again", head, rows


def hexadecimal(fwhm, solver):
    """The bytes of an ePSF built here and now, as text."""
    stars = simulate_stamps(EpsfTruth("bench", fwhm), 300, seed=31)
    return psflib_builder(solver)(stars, OVERSAMPLE).grid.astype("<f8").tobytes().hex()


def _grid_with(threads, fwhm, solver):
    """The ePSF of `hexadecimal` from a process of so many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    script = Path(__file__).with_name("epsf.py")
    command = [sys.executable, str(script), "--hexadecimal", str(fwhm), "--solver", solver]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return np.frombuffer(bytes.fromhex(done.stdout.strip()))


def _scores(score):
    return [
        f"{score.relative_l2:.4f}" if score.relative_l2 else "",
        f"{score.flux_bias:+.4f}",
        f"{score.flux_scatter:.4f}",
        f"{score.position_scatter:.4f}",
    ]


SECTIONS = {
    "goals": goals,
    "families": families,
    "conditions": conditions,
    "cost": cost,
    "repeats": repeats,
    "field": epsf_field.field,
    "real": epsf_field.real,
    "sdss": epsf_field.sdss,
}
