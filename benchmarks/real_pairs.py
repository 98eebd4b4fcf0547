"""Real pairs, untuned: what is found, and what else is called a candidate.

    python benchmarks/real_pairs.py [folder with the survey images]

The folder defaults to $PSFLIB_DATA or ../shared/data beside the repository.  Counts are of clean
clean candidates above 5 sigma, both signs together.
"""

import csv
import os
import sys
from pathlib import Path

import numpy as np
from scipy import spatial

import psflib
from psflib.judging.metrics import values


def data_folder(argument=None) -> Path:
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(argument or os.environ.get("PSFLIB_DATA", default))


def candidates(science, template):
    """Clean candidates of the chain with all defaults: QTable, and the difference behind it."""
    clean = psflib.decorrelate(psflib.subtract(science, template))
    found = psflib.detect(clean)
    return found[found["clean"]], clean


def goto(folder: Path) -> dict:
    """GOTO: listed sources found within 2 px, and other candidates."""
    pair = folder / "goto_pair"
    found, _ = candidates(
        psflib.read(pair / "goto_virgo_sci.fits.fz"), psflib.read(pair / "goto_virgo_ref.fits.fz")
    )
    with open(pair / "goto_extra_sources_measured.csv", encoding="utf-8") as table:
        listed = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(table)]
    at = np.c_[values(found, "x"), values(found, "y")]
    distance, nearest = spatial.cKDTree(at).query(listed)
    hits = set(nearest[distance < 2])
    other = np.array([i not in hits for i in range(len(found))], bool)
    positive = values(found, "flux")[other] > 0
    return {
        "listed": len(listed), "found": int((distance < 2).sum()),
        "other positive": int(positive.sum()), "other negative": int((~positive).sum()),
    }  # fmt: skip


def eaba(folder: Path) -> dict:
    """EABA: two exposures 74 s apart, each as template of the other; nothing should be left."""
    first, second = (
        psflib.read(folder / f"eaba_eso085/aligned_eso085-030-00{n}.fits.fz") for n in (4, 5)
    )
    return {
        "004 - 005": len(candidates(first, second)[0]),
        "005 - 004": len(candidates(second, first)[0]),
    }


def decam(folder: Path) -> dict:
    """DECam stamps: the variable source at (129, 128)."""
    first, second = (
        psflib.read(folder / f"decam_stamps/DEC-OBS{n}a.mini.fits.fz") for n in ("04", "18")
    )
    result = {}
    for name, (science, template) in {
        "04a - 18a": (first, second),
        "18a - 04a": (second, first),
    }.items():
        found, _ = candidates(science, template)
        distance = np.hypot(values(found, "x") - 129, values(found, "y") - 128)
        near = distance < 2
        result[name] = {
            "found": bool(near.any()),
            "snr": values(found, "snr")[near].round(1).tolist(),
            "others": int((~near).sum()),
        }
    return result


def main(argument=None):
    folder = data_folder(argument)
    if not folder.is_dir():
        raise SystemExit(f"{folder}: no such folder; name the folder with the survey images")
    for figures in (goto, eaba, decam):
        sys.stdout.write(f"{figures.__name__}: {figures(folder)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:2])
