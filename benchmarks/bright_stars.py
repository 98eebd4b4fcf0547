"""What is left of bright stars where no kernel follows: survey pairs, trails, rings, hard scenes.

python benchmarks/bright_stars.py                             all pairs, by `al` and `sfft`
python benchmarks/bright_stars.py --pairs GOTO,trail-8        some of them
python benchmarks/bright_stars.py --write docs/benchmarks.md  puts the table into that file

The survey images are those of real_pairs.py.
"""

import argparse
import itertools
import logging
import os
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import real_pairs  # noqa: E402
import verdicts_scenes  # noqa: E402
from matching_figures import Bench  # noqa: E402
from measure import cpu, markdown, replace_section  # noqa: E402

import psflib  # noqa: E402
from psflib.matching import heldout, pixels  # noqa: E402
from psflib.psf.build import build_psf  # noqa: E402
from psflib.simulation.camera import Camera, make_wcs  # noqa: E402
from psflib.simulation.psf_model import PsfModel  # noqa: E402
from psflib.simulation.scene import Scene, power_law  # noqa: E402
from psflib.subtraction import METHODS, SubtractSettings  # noqa: E402
from psflib.subtraction.al import propagated  # noqa: E402

SHAPE, STARS, SCALE = (512, 512), 260, 1.2
HEAD = [
    "pair", "method", "left of all stars, sigma", "of held-out stars", "stars",
    "flux scale off by", "candidates per Mpx", "verdict", "CPU s",
]  # fmt: skip


def survey(science, template):
    """Two survey images, prepared."""

    def make():
        folder = real_pairs.data_folder()
        return [psflib.prepare(psflib.read(folder / name)) for name in (science, template)], None

    return make


def scene(name, seed=71):
    """One of the scenes of matching.py; its variable and new sources are candidates too."""

    def make():
        bench = Bench(name, 1024, seed)
        return [bench.science, bench.template], None

    return make


def moved(steps, seed=1):
    """A round template, and the same stars seen at several places (dx, dy)."""

    def make():
        rng = np.random.default_rng([seed, 21])
        margin = verdicts_scenes.MARGIN
        x, y = rng.uniform(-margin, SHAPE[0] + margin, (2, STARS))
        stars = Scene.points(x, y, power_law(rng.uniform(size=STARS), 1000, 1e6, 1.6))
        none = Scene.points(np.zeros(0), np.zeros(0), np.zeros(0))
        cameras = [
            Camera(PsfModel(fwhm, wing=0.0, shape=SHAPE), scale, 300.0, (0.0, 0.0), 2.0, 6.0,
                   wcs=make_wcs(SHAPE))
            for fwhm, scale in ((3.2, SCALE), (2.8, 1.0))
        ]  # fmt: skip
        plan = verdicts_scenes.Plan(stars, none, *cameras, seed)
        share = 1 / len(steps)
        pair = verdicts_scenes.pair(plan, tuple((dx, dy, share) for dx, dy in steps))
        return [psflib.prepare(one) for one in pair], SCALE

    return make


def trail(length):
    """Places along a line."""
    return [(0.8 * q, 0.6 * q) for q in np.linspace(-length / 2, length / 2, 4 * length + 1)]


def ring(radius):
    """Places on a circle."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return list(zip(radius * np.cos(angle), radius * np.sin(angle), strict=True))


PAIRS = {
    "GOTO": survey("goto_pair/goto_virgo_sci.fits.fz", "goto_pair/goto_virgo_ref.fits.fz"),
    "EABA": survey(*(f"eaba_eso085/aligned_eso085-030-00{n}.fits.fz" for n in (4, 5))),
    "equal": scene("equal"), "crossed": scene("crossed"), "steep": scene("steep"),
    "trail-8": moved(trail(8)), "trail-16": moved(trail(16)), "ring-4": moved(ring(4.0)),
}  # fmt: skip


def left_of_stars(difference):
    """Residuals of the stars in units of the claimed noise of both images, by their brightness.

    Rms within 1 FWHM over the best nine tenths of the stars of a class.
    """
    science, template = difference.science, difference.template
    kernel = difference.kernel
    both = (science, template) if kernel.convolved == "template" else (template, science)
    target, convolved = both
    fwhm, good = target.meta["fwhm"], difference.usable & science.usable & template.usable
    noise = propagated(kernel, convolved.variance) + target.variance
    if kernel.convolved == "science":
        rows, columns = np.indices(good.shape, sparse=True)
        noise /= np.square(kernel.kernel_sum(columns, rows))
    smooth = pixels.smoothed(convolved.image, fwhm / 2.355)
    planes = [(e.image, e.variance) for e in both]
    found = pixels.find_sources(*planes, smooth, good, fwhm)
    snr = np.sqrt(np.pi) * fwhm / 2.355 * pixels.smoothed(target.image, 0.7)[found.y, found.x]
    snr /= np.sqrt(np.median(target.variance[good][::7]))
    z2 = np.square(difference.image) / noise
    half = int(np.ceil(fwhm))
    j, i = np.mgrid[-half : half + 1, -half : half + 1]
    j, i = (a[np.hypot(j, i) <= fwhm] for a in (j, i))
    inside = (np.minimum(found.x, found.y) >= half) & ~found.variable
    inside &= (found.x < good.shape[1] - half) & (found.y < good.shape[0] - half)
    at = found.y[inside, None] + j, found.x[inside, None] + i
    whole = good[at].all(1)
    rms2, snr = z2[at].mean(1)[whole], snr[inside][whole]
    result, counts = [], []
    for low, high in itertools.pairwise((*heldout.CLASSES, np.inf)):
        values = np.sort(rms2[(snr >= low) & (snr < high)])
        best = values[: int(np.ceil(heldout.BEST * len(values)))]
        result.append(float(np.sqrt(best.mean())) if len(best) >= heldout.FEWEST else np.nan)
        counts.append(len(values))
    return result, counts


def row(name, pair, method, scale):
    science, template = pair
    settings = getattr(SubtractSettings(), method)
    psfs = {}

    def psf_of(exposure):
        if id(exposure) not in psfs:
            psfs[id(exposure)] = build_psf(exposure)
        return psfs[id(exposure)]

    METHODS[method](science, template, settings, psf_of)  # compiles, and builds the PSF
    raw, seconds = cpu(METHODS[method], science, template, settings, psf_of)
    residual, counts = left_of_stars(raw)
    middle = [(n - 1) / 2 for n in raw.image.shape]
    off = (
        ""
        if scale is None
        else f"{100 * (raw.kernel.flux_scale(*middle[::-1]) / scale - 1):+.1f} %"
    )
    found = psflib.detect(psflib.decorrelate(raw))
    clean = int(found["clean"].sum())
    return [
        name, method, _classes(residual), _classes(raw.kernel.meta.get("heldout_residual", [])),
        ", ".join(map(str, counts)), off, f"{clean / raw.image.size * 1e6:.0f}",
        found.meta.get("verdict", ""), f"{seconds:.1f}",
    ]  # fmt: skip


def _classes(values):
    return " / ".join("" if np.isnan(v) else f"{v:.2f}" for v in values)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--methods", default="al,sfft")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in a file")
    options = parser.parse_args()
    rows = []
    for name in options.pairs.split(","):
        pair, scale = PAIRS[name]()
        for method in options.methods.split(","):
            rows.append(row(name, pair, method, scale))
            print(" | ".join(rows[-1]), flush=True)
    limits = " / ".join(f"{low:g}" for low in heldout.CLASSES)
    text = markdown(f"Bright stars, signal to noise from {limits} on", HEAD, rows)
    print(text)
    if options.write:
        replace_section(options.write, "bright-stars", text)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
