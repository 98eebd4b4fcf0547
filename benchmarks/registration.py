"""Images that lie elsewhere than they say: are they brought together, and what is left?

python benchmarks/registration.py                               every section
python benchmarks/registration.py --write docs/benchmarks.md    the same, into that file
"""

import logging
import os
import time
import warnings

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from measure import run_sections  # noqa: E402

import psflib  # noqa: E402
from psflib.errors import PsflibError  # noqa: E402
from psflib.judging.metrics import values  # noqa: E402
from psflib.registration import locate  # noqa: E402
from psflib.registration.detections import bright_sources  # noqa: E402
from psflib.simulation.moved import Move, simulate_moved  # noqa: E402
from psflib.simulation.psf_model import PsfModel  # noqa: E402
from psflib.subtraction import SubtractSettings  # noqa: E402

SHAPE, SMALL = (700, 700), (400, 400)  # px; the second for the whole chain
SEEDS = (1, 2, 3)
DENSITY = 1000.0  # stars per Mpx
BRIGHT = 30.0  # S/N of the stars that are counted
GOALS = (1.0, 0.02, 0.2)  # false candidates per Mpx, px rms, CPU s per Mpx

MOVES: dict[str, tuple[Move, dict]] = {
    "aligned": (Move(), {}),
    **{f"shift {d} px": (Move((0.8 * d, -0.6 * d)), {}) for d in (0.3, 0.7, 3, 12, 35, 300)},
    **{f"turn {a} degrees": (Move((5, 3), turn=a), {}) for a in (0.1, 1, 10, 45, 90, 135, 180)},
    "mirrored": (Move((5, 3), mirrored=True), {}),
    "mirrored, turned by 70": (Move((5, 3), turn=70, mirrored=True), {}),
    "scale 0.9": (Move(turn=20, scale=0.9), {}),
    "scale 1.1": (Move(turn=20, scale=1.1), {}),
    "distorted by 2 px": (Move(bend=2.0), {}),
    "a fifth in common": (Move((560, 0), turn=3), {}),
    "crowded (20,000), turned": (Move((12, 7), turn=30), {"density": 20000.0}),
    "8 stars, turned": (Move((12, 7), turn=30), {"density": 16.0, "faintest": 5e3}),
    "FWHM 6 and 2 px": (
        Move((12, 7), turn=30), {"psfs": (PsfModel(6.0, 0.1), PsfModel(2.0, -0.1))}
    ),
    "FWHM 1.2 and 1.5 px": (
        Move((12, 7), turn=30), {"psfs": (PsfModel(1.2), PsfModel(1.5, 0.1))}
    ),
    "template 8 times deeper": (Move((12, 7), turn=30), {"noise": (40.0, 5.0)}),
}  # fmt: skip

WHOLE = [
    "shift 0.3 px", "shift 0.7 px", "shift 3 px", "shift 12 px", "shift 35 px", "turn 0.1 degrees",
    "turn 1 degrees", "turn 45 degrees", "turn 180 degrees", "mirrored", "scale 0.9", "scale 1.1",
    "distorted by 2 px",
]  # fmt: skip


def pair(move, seed, shape=SHAPE, **options):
    """Science and template, prepared."""
    made = simulate_moved(move, shape, seed, **{"density": DENSITY, **options})
    return [psflib.prepare(image) for image in made]


def clean_candidates(science, template, **options):
    """Candidates without a flag, and the difference; None if the images are refused."""
    try:
        clean = psflib.decorrelate(psflib.subtract(science, template, **options))
    except PsflibError:
        return None
    return int(np.sum(psflib.detect(clean)["clean"])), clean


def error_of(place, move, shape):
    """px, rms of both axes, by which a place is off where the images overlap."""
    x, y = (a.ravel() for a in np.meshgrid(*(np.arange(0, n, 8.0) for n in shape[::-1])))
    true = np.stack(move(x, y, shape), axis=1)
    seen = ((true > 0) & (true < np.array(shape[::-1]) - 1)).all(axis=1)
    off = place.nodes.at(np.c_[x, y][seen]) - true[seen]
    return float(np.sqrt(np.square(off).sum(axis=1).mean()))


def located(move, options):
    """Of all seeds: error, stars, S/N > 30 among them, CPU s/Mpx; or the reason of the stop."""
    rows = []
    for seed in SEEDS:
        science, template = pair(move, seed, **options)
        begin = time.process_time()
        try:
            place = locate(science, template)
        except PsflibError as error:
            return type(error).__name__
        seconds = (time.process_time() - begin) / science.image.size * 1e6
        bright = int(np.sum(bright_sources(science).snr > BRIGHT))
        off = error_of(place, move, SHAPE)
        rows.append((off, place.facts()["registration_stars"], bright, seconds, place.by))
    return rows


def marked(value, goal, digits):
    text = f"{value:.{digits}f}"
    return f"**{text}**" if float(text) > goal else text


def places():
    """Error and cost of the place, a row a move."""
    located(Move(turn=10.0), {})  # warms up
    rows = []
    for name, (move, options) in MOVES.items():
        found = located(move, options)
        if isinstance(found, str):
            rows.append([name, f"stopped: {found}", "", "", ""])
            continue
        off, stars, bright, seconds, by = zip(*found, strict=True)
        rms = float(np.sqrt(np.mean(np.square(off))))
        rows.append(
            [name, " ".join(dict.fromkeys(by)), f"{np.mean(stars):.0f} ({np.mean(bright):.0f})",
             f"({rms:.3f})" if set(by) == {"grid"} else marked(rms, GOALS[1], 3),
             marked(float(np.mean(seconds)), GOALS[2], 2)]
        )  # fmt: skip
    head = [
        "template", "by", "stars matched (S/N > 30 in science)", "error, px rms", "CPU s/Mpx"
    ]  # fmt: skip
    return "Places found", head, rows


def per_mpx(pairs, **options):
    """Clean candidates per Mpx of usable pixels, and how many of the pairs were refused."""
    count = pixels = refused = 0
    for science, template in pairs:
        found = clean_candidates(science, template, **options)
        if found is None:
            refused += 1
            continue
        count += found[0]
        pixels += int(found[1].usable.sum())
    return (count / pixels * 1e6 if pixels else np.nan), refused


def candidates():
    """Clean false candidates of the whole chain, a row a move."""
    ideal, _ = per_mpx(pair(Move(), seed, SMALL) for seed in SEEDS)
    rows = []
    trusted = SubtractSettings(register={"method": "none"})
    for name in WHOLE:
        move = MOVES[name][0]
        without, _ = per_mpx((pair(move, s, SMALL) for s in SEEDS[:1]), settings=trusted)
        number, refused = per_mpx(pair(move, seed, SMALL) for seed in SEEDS)
        with_it = marked(number - ideal, GOALS[0], 1) if refused < len(SEEDS) else ""
        rows.append([name, f"{without - ideal:.0f}", with_it, f"{refused} of {len(SEEDS)}"])
    other = [(pair(Move(), s, SMALL)[0], pair(Move(), s + 50, SMALL)[1]) for s in SEEDS]
    without, _ = per_mpx(other[:1], settings=trusted)
    number, refused = per_mpx(other)
    with_it = "" if refused == len(SEEDS) else marked(number - ideal, GOALS[0], 1)
    rows.append(["of another sky", f"{without - ideal:.0f}", with_it, f"{refused} of {len(SEEDS)}"])
    head = ["template", "method: none", "method: auto", "stopped"]
    return "Clean false candidates per Mpx, above the aligned pair's", head, rows


def residual(science, template, settings):
    """Clean candidates, and the rms of D over its sigma within 2 px of bright stars."""
    found = clean_candidates(science, template, settings=settings)
    if found is None:
        return np.nan, np.nan
    number, clean = found
    stars, near = bright_sources(science), np.zeros(clean.shape, bool)
    for x, y in np.rint(stars.xy[stars.snr > BRIGHT]).astype(int):
        near[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = True
    near &= clean.usable
    return number, float(np.sqrt(np.mean(clean.image[near] ** 2 / clean.variance[near])))


def absorbed():
    """What a kernel takes up: no correction, against a correction of whatever is there."""
    none = SubtractSettings(register={"method": "none"})
    all_of_it = SubtractSettings(register={"limit": 1e-4, "constant_limit": 1e-4})
    spread = float(np.hypot(*SMALL)) / np.sqrt(12)  # px, rms distance from the centre
    cases = {
        **{f"shift {d} px": Move((0.8 * d, 0.6 * d)) for d in (0.0, 0.3, 0.7, 1.0, 2.0)},
        **{f"turn, {d} px rms": Move(turn=float(np.rad2deg(d / spread))) for d in (0.1, 0.3, 1.0)},
    }
    rows = []
    for name, move in cases.items():
        row = [name]
        for settings in (none, all_of_it):
            made = [residual(*pair(move, s, SMALL), settings) for s in SEEDS[:2]]
            number, rms = np.mean(made, axis=0)
            row.append(f"{rms:.3f}, {number:.1f}")
        rows.append(row)
    return "What the kernel of al takes up", ["template", "as it is", "corrected"], rows


SECTIONS = {"places": places, "candidates": candidates, "absorbed": absorbed}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    run_sections(__doc__, SECTIONS, "registration")
