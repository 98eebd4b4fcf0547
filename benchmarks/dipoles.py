"""Dipoles: how well separations of pairs of both signs are known, and what they are taken for.

python benchmarks/dipoles.py                             the table
python benchmarks/dipoles.py --write docs/benchmarks.md  the same, into that file

300 objects among 500 stars on 1000 x 1000 px, each in the science image at one place and in the
template at another; by the whole chain, PSF, kernel and noise as it finds them.
"""

import logging
import os

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from measure import run_sections  # noqa: E402
from scipy import spatial  # noqa: E402

import psflib  # noqa: E402
from psflib.decorrelation.score import reversed_psf  # noqa: E402
from psflib.detection.detect import psf_fwhm  # noqa: E402
from psflib.detection.dipoles import dipoles  # noqa: E402
from psflib.image.exposure import Exposure  # noqa: E402
from psflib.simulation.psf_model import PsfModel  # noqa: E402
from psflib.simulation.scene import Scene, power_law, render  # noqa: E402

SIZE, OBJECTS, STARS = 1000, 300, 500
APART = 20.0  # px between an object and all else
SEPARATIONS = 0.2, 0.5, 1.0, 2.0, 3.0  # px
NOISES, GAIN = (10.0, 6.0), 2.0  # ADU, e-/ADU


def places(rng):
    """Objects (n, 2) and stars, no two nearer than `APART` but for stars among themselves."""
    stars = rng.uniform(0, SIZE, (STARS, 2))
    grid = np.stack(np.meshgrid(*2 * [np.arange(30, SIZE - 30, 26.0)]), -1).reshape(-1, 2)
    grid = rng.permutation(grid + rng.uniform(-2, 2, grid.shape))
    free = spatial.cKDTree(stars).query(grid)[0] > APART
    return grid[free][:OBJECTS], stars


def pair(widths, snr, seed):
    """A science image and a template, the objects' places in both (2, n, 2: x, y), separations."""
    rng = np.random.default_rng(seed)
    middle, stars = places(rng)
    apart = np.resize(SEPARATIONS, len(middle))
    turn = rng.uniform(0, 2 * np.pi, len(middle))
    half = 0.5 * apart[:, None] * np.c_[np.cos(turn), np.sin(turn)]
    ends = np.stack([middle + half, middle - half])
    psfs = [PsfModel(width) for width in widths]
    image = psfs[0].at(50, 50, 41)
    flux = snr * np.hypot(*NOISES) / np.sqrt(np.square(image).sum())
    steady = power_law(rng.uniform(size=STARS), 3e3, 3e5, 1.6)
    images = []
    for psf, noise, place in zip(psfs, NOISES, ends, strict=True):
        light = render(Scene.points(*place.T, flux), psf, (SIZE, SIZE), noise)
        light += render(Scene.points(*stars.T, steady), psf, (SIZE, SIZE), noise)
        variance = noise**2 + light / GAIN
        seen = rng.normal(light, np.sqrt(variance))
        images.append(Exposure(seen, variance, gain=GAIN, sky=0.0, saturation=1e6))
    return *images, ends, apart


def table():
    """Rms of separations, by width, significance and true separation."""
    rows = []
    for widths in ((3.0, 2.4), (3.6, 2.8)):
        for snr in (20, 100):
            science, template, ends, apart = pair(widths, snr, 5)
            clean = psflib.decorrelate(psflib.subtract(science, template))
            x, y = ends[0].T
            found = dipoles(
                clean, clean.variance, reversed_psf(clean), clean.score, y, x, psf_fwhm(clean),
                np.ones(len(x), bool),
            )  # fmt: skip
            for separation in SEPARATIONS:
                use = (apart == separation) & np.isfinite(found.columns["dipole_separation"])
                off = found.columns["dipole_separation"][use] - separation
                error = found.columns["dipole_separation_err"][use]
                rows.append([
                    f"{widths[0]}, {widths[1]}", snr, separation, f"{np.sqrt(np.mean(off**2)):.3f}",
                    f"{np.median(off):+.3f}", f"{np.median(error):.3f}",
                    f"{int(use.sum())} of {int((apart == separation).sum())}",
                    int(found.misplaced[use].sum()), int(found.moved[use].sum()),
                ])  # fmt: skip
    head = [
        "FWHM, px", "S/N of each flux", "separation", "error, rms", "median", "claimed", "fitted",
        "misregistered", "moved",
    ]  # fmt: skip
    return "Separations of dipoles, px (goal: 0.1 rms at S/N 20)", head, rows


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    run_sections(__doc__, {"separations": table}, "dipoles")
