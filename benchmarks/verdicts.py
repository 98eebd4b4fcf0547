"""Verdicts on good pairs, on broken ones and on real ones.

python benchmarks/verdicts.py                              every table
python benchmarks/verdicts.py --write docs/validation.md   the same into that file
python benchmarks/verdicts.py --only good --pairs 20       a quick look

The survey images are looked for in $PSFLIB_DATA or ../shared/data beside the repository.
"""

import argparse
import os
import sys
import warnings
from collections import Counter
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import verdicts_scenes as scenes  # noqa: E402
from measure import markdown, replace_section  # noqa: E402
from real_pairs import data_folder  # noqa: E402
from real_psf import SDSS_GAIN  # noqa: E402

import psflib  # noqa: E402
from psflib.detection.verdict import CHECKS, WORDS  # noqa: E402
from psflib.errors import PsflibError  # noqa: E402
from psflib.subtraction import SubtractSettings  # noqa: E402

STOPPED = "stopped"
SEEDS = range(500, 502)  # of the broken pairs
FIRST_GOOD = 1000  # seed of the good ones
AS_TOLD = SubtractSettings(register={"method": "none"})


def judge(pair, settings=None) -> tuple[str, list[str], float]:
    """Verdict (or that the chain stopped), reasons, and its largest registration residual."""
    try:
        raw = psflib.subtract(*pair, settings=settings)
        found = psflib.detect(psflib.decorrelate(raw))
    except PsflibError as error:
        return STOPPED, [str(error)], np.nan
    return found.meta["verdict"], found.meta["reasons"], len(found)


def tell(kind, word, reasons):
    """What is found, at once: a run takes its time."""
    sys.stderr.write(f"{kind}: {word}; {'; '.join(reasons)}\n")


def of_good(pairs):
    """Pairs with which nothing is wrong."""
    counts, why = Counter(), Counter()
    for seed in range(FIRST_GOOD, FIRST_GOOD + pairs):
        word, reasons, _ = judge(scenes.good(seed))
        counts[word] += 1
        if word != "good":
            tell(f"good pair {seed}", word, reasons)
            why.update(first_words(reason) for reason in reasons if "measurable" not in reason)
    rows = [[f"{pairs} good pairs", *(counts[word] for word in (*WORDS, STOPPED))]]
    for seed in SEEDS:
        word, reasons, _ = judge(scenes.broken("half the light everywhere", seed))
        tell("half the light everywhere", word, reasons)
        why[word, "half"] += 1
    rows.append(
        ["half the light everywhere (no fault)", *(why[w, "half"] for w in (*WORDS, STOPPED))]
    )
    return "Good pairs", ["pairs", *WORDS, STOPPED], rows


def of_broken(_):
    """Each way of being broken, registered by its stars or taken as it is told."""
    rows = []
    for kind in scenes.BROKEN:
        for name, settings in (("", None), (", `register: none`", AS_TOLD)):
            if settings and kind not in scenes.OF_REGISTRATION:
                continue
            found = [judge(scenes.broken(kind, seed), settings) for seed in SEEDS]
            for word, reasons, _ in found:
                tell(kind + name, word, reasons)
            counts = Counter(word for word, *_ in found)
            first = Counter(first_words(reasons[0]) for _, reasons, _ in found if reasons)
            said = ", ".join(text for text, _ in first.most_common(2))
            rows.append([kind + name, *(counts[w] for w in (*WORDS, STOPPED)), said])
    return "Broken pairs", ["what is wrong", *WORDS, STOPPED, "first reasons"], rows


def of_real(_):
    """Survey images, with all defaults."""
    rows = []
    for name, read in real_pairs(data_folder()):
        word, reasons, count = judge(read())
        tell(name, word, reasons)
        rows.append([name, word, count, "; ".join(reasons)])
    return "Real pairs", ["pair", "verdict", "candidates, all", "reasons"], rows


def real_pairs(folder):
    """(name, function that reads science and template)."""
    goto, eaba, decam = folder / "goto_pair", folder / "eaba_eso085", folder / "decam_stamps"

    def files(*paths):
        return lambda: tuple(psflib.read(path) for path in paths)

    first, second = (eaba / f"aligned_eso085-030-00{n}.fits.fz" for n in (4, 5))
    early, late = (decam / f"DEC-OBS{n}a.mini.fits.fz" for n in ("04", "18"))
    return [
        ("GOTO", files(goto / "goto_virgo_sci.fits.fz", goto / "goto_virgo_ref.fits.fz")),
        ("EABA 004 - 005", files(first, second)),
        ("EABA 005 - 004", files(second, first)),
        ("DECam 04a - 18a", files(early, late)),
        ("DECam 18a - 04a", files(late, early)),
        ("SDSS, a frame's electrons dealt out to two", lambda: dealt_out(folder)),
    ]


def dealt_out(folder):
    """An SDSS frame as two of half the exposure time: their photon noise is independent."""
    frame = psflib.read(folder / "sdss_fpC/fpC-005754-r3-0280.fit.gz", gain=SDSS_GAIN)
    rng = np.random.default_rng(1)
    electrons = np.maximum(np.rint(frame.image * SDSS_GAIN), 0).astype(int)
    one = rng.binomial(electrons, 0.5)
    bits = {"mask": frame.mask, "mask_bits": "psflib", "gain": SDSS_GAIN, "wcs": frame.wcs}
    return tuple(psflib.Exposure(part / SDSS_GAIN, **bits) for part in (one, electrons - one))


def of_checks(_):
    """The table of checks itself."""
    rows = [
        [f"{check.what.rstrip(':')}{f' [{check.unit.strip()}]' if check.unit else ''}",
         *(f"{'<' if check.below else '>'} {v:g}" if np.isfinite(v) else "never"
           for v in (check.suspicious, check.bad)), check.origin]
        for check in CHECKS
    ]  # fmt: skip
    return (
        "What a verdict rests on",
        ["check", "suspicious", "bad", "where the limits are from"],
        rows,
    )


def first_words(reason):
    """A reason without its numbers."""
    words = reason.split(": ")[0].split(",")[0].split()
    return " ".join(word for word in words if not word[:1].isdigit())[:60]


SECTIONS = {"checks": of_checks, "good": of_good, "broken": of_broken, "real": of_real}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--pairs", type=int, default=200, help="good pairs")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the tables in a file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.only:
        text = markdown(*SECTIONS[name](options.pairs))
        print(text, flush=True)
        if options.write:
            replace_section(options.write, f"verdicts {name}", text)


if __name__ == "__main__":
    main()
