"""The sections of the matching benchmark: each is a title, the head of a table and its rows."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import matching_peers as peers
import numpy as np
import real_pairs
from matching_figures import Bench
from measure import cpu

from psflib.preparation.prepare import prepare
from psflib.subtraction import SubtractSettings
from psflib.subtraction.al import AlSettings

FIGURES = ("v1000", "FP", "*30", "*100", "*300", "*1000", "bias", "sky", "src", "usable", "CPU s")
# Figure: least and most, as printed; FP is above the oracle's.
GOALS = {
    "v1000": (0, 1.2), "FP": (0, 2), "*30": (0, 1.1), "*100": (0, 1.1), "*300": (0, 1.1),
    "*1000": (0, 1.2), "bias": (-0.5, 0.5), "sky": (0.98, 1.03), "src": (0.9, 1.1),
    "CPU s": (0, 0.4),
}  # fmt: skip
CROWDED_V1000 = 1.05
DIGITS = {"FP": 1, "sky": 3, "usable": 3}  # of the others: 2
FORCED = {"sparse": "science", "shallow": "science", "reverse": "template"}
PLAIN = ("*30", "*100", "*300", "bias", "sky")  # figures without a goal
PEER_SCENES = ("sparse", "crowded")
SFFT_SIDES = (7, 15)  # px of its kernel: the default, and one that holds most of the true kernel
COST_SCENE, COST_SIZE, COST_ORDERS = "sparse", 1024, (0, 2, 3)
# crowded images of 4096 px take longer to simulate than all else together
LARGE = (("sparse", 2048), ("sparse", 4096), ("crowded", 2048))
MOST_CPU, MOST_PLANES = 6, 12  # the former at 4096 px
SCRIPT = Path(__file__).with_name("matching_cost.py")


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much to run."""

    scenes: tuple[str, ...]
    size: int = 1024
    seeds: tuple[int, ...] = (71, 83)


def measure(bench: Bench):
    """All figures of one scene by psflib, warm, and of the ideal subtraction."""
    bench.subtract()  # compiled, caches warm
    difference, seconds = cpu(bench.subtract)
    found = bench.figures(difference) | {"CPU s": seconds / bench.size**2 * 1e6}
    ideal = {name: found[f"oracle {name}"] for name in ("FP", "*30", "*100", "*300", "*1000")}
    sky, source = bench.noise(bench.oracle, bench.good)
    ideal |= {
        "v1000": bench.virtual(bench.oracle.kernel), "sky": sky, "src": source, "usable": 1.0,
        "bias": 100 * bench.bias(bench.oracle.image),
    }  # fmt: skip
    return found, ideal, difference


def scenes(plan):
    """Every scene and seed, beside the ideal subtraction."""
    head = ["scene", "seed", "subtraction", *FIGURES, "orders", "prepare CPU s"]
    rows = []
    for name in plan.scenes:
        for seed in plan.seeds:
            bench = Bench(name, plan.size, seed)
            found, ideal, difference = measure(bench)
            exposures = [o.exposure for o in (bench.scene.science, bench.scene.template)]
            _, seconds = cpu(lambda pair: [prepare(e) for e in pair], exposures)
            kernel = difference.kernel
            rows.append([name, seed, "oracle", *cells(ideal), "", ""])
            rows.append([
                name, seed, "psflib", *cells(found, name, ideal["FP"]),
                f"{kernel.order}, {kernel.flux_order}", f"{seconds / bench.size**2 * 1e6:.2f}",
            ])  # fmt: skip
    return f"Scenes of {plan.size} x {plan.size}", head, rows


def forced(plan):
    """The broader image convolved, as if a caller wanted it: kernels that have to sharpen."""
    head = ["scene", "seed", "convolved", "broadened by", "flux scale off by", "FP", *PLAIN]
    rows = []
    for name, convolved in FORCED.items():
        for seed in plan.seeds if name in plan.scenes else ():
            bench = Bench(name, plan.size, seed, convolved)
            settings = SubtractSettings(al=AlSettings(convolve=convolved))
            difference = bench.subtract(settings)
            found = bench.figures(difference)
            places = np.linspace(0.1, 0.9, 5) * (plan.size - 1)
            off = [
                difference.kernel.flux_scale(x, y) / bench.scene.scale[round(y), round(x)] - 1
                for x in places for y in places
            ]  # fmt: skip
            scale = f"{100 * np.mean(off):+.2f} ± {100 * np.std(off):.2f} %"
            rows.append([
                name, seed, convolved, f"{difference.meta['broadened']:.2f} px", scale,
                f"{found['FP']:.1f} (oracle {found['oracle FP']:.1f})",
                *(_cell(n, found[n], None, 0) for n in PLAIN),
            ])  # fmt: skip
    return "The broader image convolved", head, rows


def compare(plan):
    """STDPipe's SFFT and ZOGY on the first seed of two scenes; psflib's rows stand in `scenes`."""
    head = ["scene", "seed", "subtraction", *FIGURES]
    rows = []
    for name in (n for n in plan.scenes if n in PEER_SCENES and peers.available()):
        bench = Bench(name, plan.size, plan.seeds[0])
        label = [name, plan.seeds[0]]
        for side in SFFT_SIDES:
            other, seconds = cpu(lambda k, b: peers.sfft(b, kernel_shape=(k, k)), side, bench)
            figures = bench.figures(other) | {"CPU s": seconds / bench.size**2 * 1e6}
            rows.append([*label, f"SFFT, kernel of {side} px", *cells(figures)])
        planes, seconds = cpu(peers.zogy, bench)
        figures = peers.zogy_figures(bench, planes) | {"CPU s": seconds / bench.size**2 * 1e6}
        rows.append([*label, f"ZOGY, {peers.PIECES} x {peers.PIECES} pieces", *cells(figures)])
    return "STDPipe's SFFT and ZOGY, for comparison with the rows above", head, rows


def cost(plan):
    """Varying against constant kernels, one and two threads, each in a process of its own."""
    head = ["highest order", "order", "threads", "CPU s", "of constant", "wall s", "same bits"]
    rows, first, bits = [], None, {}
    for threads in (1, 2):
        for order in COST_ORDERS:
            one = fresh(COST_SCENE, COST_SIZE, plan.seeds[0], order, threads)
            first = first or one["cpu"]
            same = bits.setdefault(order, one["bits"]) == one["bits"]
            rows.append([
                order, one["order"], threads, f"{one['cpu']:.2f}", f"{one['cpu'] / first:.2f}",
                f"{one['wall']:.2f}", "" if threads == 1 else ("yes" if same else "**no**"),
            ])  # fmt: skip
    return f"Varying kernels and threads ({COST_SCENE}, {COST_SIZE} x {COST_SIZE})", head, rows


def large(plan):
    """CPU seconds and peak memory of large images, each in a fresh process with one thread."""
    head = ["scene", "size", "CPU s", "CPU s per Mpx", "wall s", "peak memory, planes"]
    rows = []
    for name, size in LARGE:
        one = fresh(name, size, plan.seeds[0], 3, 1)
        missed = size == 4096 and one["cpu"] > MOST_CPU, one["planes"] > MOST_PLANES
        texts = [f"{one['cpu']:.1f}", f"{one['planes']:.1f}"]
        seconds, planes = (f"**{t}**" if m else t for t, m in zip(texts, missed, strict=True))
        rate = f"{one['cpu'] / size**2 * 1e6:.2f}"
        rows.append([name, size, seconds, rate, f"{one['wall']:.1f}", planes])
    return "Large images", head, rows


def real(_):
    """Candidates on real pairs, untuned, through the whole chain."""
    folder = real_pairs.data_folder()
    head = ["pair", "figure", "psflib", "goal"]
    if not folder.is_dir():
        return "Real pairs", head, []
    goto, eaba, decam = (f(folder) for f in (real_pairs.goto, real_pairs.eaba, real_pairs.decam))
    others = f"{goto['other positive']} + {goto['other negative']}"
    rows = [
        ["GOTO", "listed sources found", f"{goto['found']} of {goto['listed']}", "36"],
        ["GOTO", "other candidates, positive + negative", others, "≤ 40"],
        *(["EABA", f"{way}, candidates", count, "≤ 4"] for way, count in eaba.items()),
        *(
            ["DECam", f"{way}, significance of the variable; others",
             f"{one['snr']}; {one['others']}", "found"]
            for way, one in decam.items()
        ),
    ]  # fmt: skip
    return "Real pairs", head, rows


def fresh(scene, size, seed, order, threads) -> dict:
    """`matching_cost.py` in a process of its own."""
    environment = os.environ | {
        f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "NUMBA")
    }
    command = [sys.executable, str(SCRIPT), scene, *map(str, (size, seed, order))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def cells(found, scene=None, ideal=None):
    """Figures as text, those that miss their goal bold (only if a scene is named)."""
    return [_cell(name, found.get(name, np.nan), scene, ideal) for name in FIGURES]


def _cell(name, value, scene, ideal):
    if not np.isfinite(value):
        return ""
    text = f"{value:+.2f} %" if name == "bias" else f"{value:.{DIGITS.get(name, 2)}f}"
    if scene is None or name not in GOALS:
        return text
    low, high = GOALS[name]
    high = CROWDED_V1000 if (scene, name) == ("crowded", "v1000") else high
    shown = round(value, DIGITS.get(name, 2)) - (round(ideal, 1) if name == "FP" else 0)
    return text if shown <= high and (name == "FP" or low <= shown) else f"**{text}**"


SECTIONS = {
    "scenes": scenes, "forced": forced, "peers": compare, "cost": cost, "large": large,
    "real": real,
}  # fmt: skip
