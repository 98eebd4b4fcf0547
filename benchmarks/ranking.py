"""Real or bogus: the weights of the ranking, and how well it tells them on scenes it never saw.

python benchmarks/ranking.py                             area under the ROC: held-out scenes, GOTO
python benchmarks/ranking.py --write docs/benchmarks.md  the same, into that file
python benchmarks/ranking.py --learn                     psflib/detection/ranking_prior.py again

Bogus candidates come of what spoils differences (`ranking_scenes`): a third of the science image
out of place, stars wider than the matching knows, cosmic rays and hot pixels that no mask knows,
ringing of resampled defects, spikes of bright stars, rings, the edges of masked holes, columns.
Real are new and variable sources, down to where they are detected.
"""

import logging
import os
import sys
from pathlib import Path

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from astropy.table import QTable, vstack  # noqa: E402
from measure import run_sections  # noqa: E402
from ranking_scenes import DAMAGES, changes, damaged  # noqa: E402
from real_pairs import data_folder  # noqa: E402
from scipy import spatial  # noqa: E402

import psflib  # noqa: E402
from psflib.detection.ranking import FEATURES, Ranking, features, fit, known_ranking  # noqa: E402
from psflib.errors import PsflibError  # noqa: E402
from psflib.judging.metrics import values  # noqa: E402
from psflib.simulation import SCENES, simulate_scene  # noqa: E402

LEARNT, HELD_OUT = range(100, 103), range(200, 202)  # seeds
SIZE = 400  # px
NEAR, AWAY = 1.5, 5.0  # px from a true change: real; farther: bogus; between: not counted
SEEN = 3.0  # S/N of a true change that may be a candidate
SPREAD = 0.5  # by which a run may change a weight, of a feature's own scale
RIDGE = 3.0  # standard deviation of the weights when they are learnt
PRIOR = Path(__file__).parents[1] / "psflib/detection/ranking_prior.py"


def candidates(seeds) -> QTable:
    """Of all scenes with all damages."""
    tables = []
    for name in SCENES:
        for seed in seeds:
            scene = simulate_scene(name, SIZE, seed)
            try:
                raw = psflib.subtract(scene.science.exposure, scene.template.exposure)
            except PsflibError as error:
                sys.stderr.write(f"{name} {seed}: {error}\n")
                continue
            tables += [labelled(raw, scene, damage, seed) for damage in DAMAGES]
    return vstack([table for table in tables if len(table)])


def labelled(raw, scene, damage: str, seed: int) -> QTable:
    """Candidates of a damaged scene with the column `label`: 1 real, 0 bogus."""
    found = psflib.detect(psflib.decorrelate(damaged(raw, scene, damage, seed)))
    at = np.c_[values(found, "x"), values(found, "y")]
    distance = spatial.cKDTree(changes(scene)).query(at)[0] if len(at) else np.zeros(0)
    found["label"] = np.where(distance < NEAR, 1.0, np.where(distance > AWAY, 0.0, np.nan))
    found["damage"] = damage
    found.meta.clear()
    plain = [c for c in found.colnames if getattr(found[c], "dtype", np.dtype("O")).kind in "fi"]
    return found[[*plain, "damage"]][np.isfinite(found["label"])]


def learn(table: QTable) -> Ranking:
    """The weights that these candidates teach."""
    found = features(table)
    names = tuple(FEATURES)
    raw = np.stack([found[name] for name in names], 1)
    centre, scale = np.nanmedian(raw, 0), np.maximum(np.nanstd(raw, 0), 0.05)
    empty = np.zeros(len(names) + 1)
    ranking = Ranking(names, centre.round(3), scale.round(3), empty, empty + RIDGE)
    terms, _ = ranking.terms(table)
    label = np.asarray(table["label"])
    counts = np.array([(label == 0).sum(), label.sum()])
    weight = (counts.min() / counts)[label.astype(int)]
    learnt = fit(terms, label, weight, empty, empty + RIDGE)
    return Ranking(names, ranking.centre, ranking.scale, learnt, np.full(len(learnt), SPREAD))


def write(ranking: Ranking):
    """The module of the weights."""
    rows = [*ranking.names, "constant"]
    centre, scale = np.append(ranking.centre, 0), np.append(ranking.scale, 1)
    lines = [
        f'    "{n}": ({c:.3g}, {s:.3g}, {w:.3g}, {e:.3g}),'
        for n, c, s, w, e in zip(rows, centre, scale, ranking.weight, ranking.spread, strict=True)
    ]
    head = PRIOR.read_text(encoding="utf-8").split("PRIOR = {")[0]
    PRIOR.write_text(head + "PRIOR = {\n" + "\n".join(lines) + "\n}\n", encoding="utf-8")


def area(score, label) -> float:
    """Under the ROC: chance that a real candidate scores higher than a bogus one."""
    known = np.isfinite(score)
    real, bogus = (np.sort(score[known & (label == k)]) for k in (1, 0))
    if not len(real) or not len(bogus):
        return float("nan")
    below = np.searchsorted(bogus, real) + np.searchsorted(bogus, real, "right")
    return float(below.mean() / (2 * len(bogus)))


def held_out():
    """Area under the ROC by what made the bogus candidates."""
    table = candidates(HELD_OUT)
    score, label = known_ranking().score(table), np.asarray(table["label"])
    damage = np.asarray(table["damage"])
    rows = []
    for name in ("all", *DAMAGES):
        rows_of = (label == 1) | (damage == name) | (name == "all")
        found, truth = score[rows_of], label[rows_of]
        kept = (found[truth == 1] > 0.5).mean(), (found[truth == 0] > 0.5).mean()
        rows.append([
            name, int((truth == 1).sum()), int((truth == 0).sum()), f"{area(found, truth):.4f}",
            f"{100 * kept[0]:.1f}", f"{100 * kept[1]:.1f}",
        ])  # fmt: skip
    title = "Area under the ROC on held-out scenes (goal: 0.995)"
    head = ["bogus", "real", "bogus, number", "area", "real above 0.5, %", "bogus above 0.5, %"]
    return title, head, rows


def goto():
    """GOTO's listed sources against all other candidates, flagged ones too."""
    pair = data_folder() / "goto_pair"
    images = (psflib.read(pair / f"goto_virgo_{name}.fits.fz") for name in ("sci", "ref"))
    found = psflib.detect(psflib.decorrelate(psflib.subtract(*images)))
    listed = np.genfromtxt(pair / "goto_extra_sources_measured.csv", delimiter=",", names=True)
    at = np.c_[values(found, "x"), values(found, "y")]
    distance, row = spatial.cKDTree(at).query(np.c_[listed["x"], listed["y"]])
    label = np.zeros(len(found))
    label[row[distance < 2]] = 1
    clean = np.asarray(found["clean"]) | (label == 1)
    score = known_ranking().score(found)
    rows = [
        [
            name,
            int(label[use].sum()),
            int((label[use] == 0).sum()),
            f"{area(score[use], label[use]):.4f}",
        ]
        for name, use in (("all", np.ones(len(found), bool)), ("clean", clean))
    ]
    return (
        "GOTO: listed sources against all others",
        ["others", "listed", "others, number", "area"],
        rows,
    )


def main():
    logging.disable(logging.WARNING)
    if "--learn" in sys.argv:
        write(learn(candidates(LEARNT)))
        return
    run_sections(__doc__, {"scenes": held_out, "goto": goto}, "ranking")


if __name__ == "__main__":
    main()
