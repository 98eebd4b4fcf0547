"""Differences of pairs of undersampled images, on one pixel grid and on dithered ones.

python benchmarks/undersampled_pairs.py                             ten minutes
python benchmarks/undersampled_pairs.py --write docs/benchmarks.md  puts the table into that file
"""

import argparse
import logging
import os
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from measure import markdown, replace_section  # noqa: E402

import psflib  # noqa: E402
from psflib.simulation.camera import make_wcs  # noqa: E402
from psflib.simulation.scene import power_law  # noqa: E402
from psflib.simulation.star_stamps import EpsfTruth  # noqa: E402

SHAPE, STARS, NEW, HALF = (512, 512), 260, 16, 20
SKY, GAIN, READ, SCALE = 200.0, 1.5, 4.0, 1.2
DITHER = 0.37, 0.61  # px in x and y, of the template's grid
WIDER = 1.15  # FWHM of the science image over the template's
WIDTHS = 0.9, 1.1, 1.3, 2.0
HEAD = [
    "family", "FWHM, template", "grids", "method", "false per Mpx", "found",
    "flux off by (scatter)", "verdict", "notes on sampling",
]  # fmt: skip


def image(truth, x, y, flux, rng, wcs):
    """Stars in a sky, with the noise of photons and of reading."""
    ny, nx = SHAPE
    light = np.zeros((ny + 2 * HALF, nx + 2 * HALF))
    side = np.arange(-HALF, HALF + 1)
    inside = (x > -HALF) & (x < nx + HALF - 1) & (y > -HALF) & (y < ny + HALF - 1)
    for x0, y0, f in zip(x[inside], y[inside], flux[inside], strict=True):
        j, i = round(y0), round(x0)
        if not (0 <= j < ny and 0 <= i < nx):
            continue
        box = np.s_[j : j + 2 * HALF + 1, i : i + 2 * HALF + 1]
        light[box] += f * truth.at((side + j - y0)[:, None], side + i - x0)
    light = light[HALF:-HALF, HALF:-HALF] + SKY
    seen = rng.poisson(np.maximum(light, 0) * GAIN) / GAIN + rng.normal(0, READ, SHAPE)
    return psflib.Exposure(
        seen.astype("f4"), wcs=wcs, gain=GAIN, read_noise=READ * GAIN, saturation=1e7
    )


def pair(family, fwhm, dithered, seed):
    """Science image, template, and the new sources (x, y, flux) of the former."""
    rng = np.random.default_rng([seed, 23])
    x, y = rng.uniform(0, SHAPE[0] - 1, (2, STARS))
    flux = power_law(rng.uniform(size=STARS), 500, 3e5, 1.6)
    new = rng.uniform(30, SHAPE[0] - 30, (2, NEW))
    new_flux = np.geomspace(1500, 1e4, NEW)
    dx, dy = DITHER if dithered else (0.0, 0.0)
    science = image(
        EpsfTruth(family, WIDER * fwhm), np.r_[x, new[0]], np.r_[y, new[1]],
        np.r_[SCALE * flux, new_flux], rng, make_wcs(SHAPE),
    )  # fmt: skip
    template = image(EpsfTruth(family, fwhm), x + dx, y + dy, flux, rng, make_wcs(SHAPE, (dx, dy)))
    return science, template, np.c_[new.T, new_flux]


def row(family, fwhm, dithered, method, seed=1):
    science, template, new = pair(family, fwhm, dithered, seed)
    label = [family, f"{fwhm:g}", "dithered" if dithered else "one", method]
    try:
        raw = psflib.subtract(science, template, method=method)
        found = psflib.detect(psflib.decorrelate(raw))
    except psflib.PsflibError as failure:
        return [*label, "", "", "", type(failure).__name__, ""]
    found = found[found["clean"]]
    at = np.c_[np.asarray(found["x"]), np.asarray(found["y"])]
    flux, taken, ratios = np.asarray(found["flux"]), np.zeros(len(found), bool), []
    for x0, y0, f in new:
        distance = np.hypot(*(at - (x0, y0)).T) if len(at) else np.array([9.0])
        if distance.min() < 2:
            taken[np.argmin(distance)] = True
            ratios.append(flux[np.argmin(distance)] / f)
    off = f"{100 * (np.median(ratios) - 1):+.1f} % ({100 * np.std(ratios):.1f})" if ratios else ""
    notes = [n for n in raw.meta.get("notes", ()) if "sampled" in n]
    return [
        *label, f"{(~taken).sum() / raw.image.size * 1e6:.0f}", f"{len(ratios)} of {NEW}", off,
        found.meta.get("verdict", ""), "; ".join(notes),
    ]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", default="moffat,hst,jwst")
    parser.add_argument("--widths", default=",".join(map(str, WIDTHS)))
    parser.add_argument("--methods", default="al,sfft")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in a file")
    options = parser.parse_args()
    rows = []
    for family in options.families.split(","):
        for fwhm in map(float, options.widths.split(",")):
            for dithered in (False, True):
                for method in options.methods.split(","):
                    rows.append(row(family, fwhm, dithered, method))
                    print(" | ".join(rows[-1]), flush=True)
    text = markdown("Pairs of undersampled images", HEAD, rows)
    if options.write:
        replace_section(options.write, "undersampled-pairs", text)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
